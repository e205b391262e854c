"""Files of a machine before it starts: configuration, names, keys."""

import uuid
from typing import Any, NamedTuple

from outpost.office import peering
from outpost.office.peering import OtherEnd
from outpost_lab import dnszones, keys, world
from outpost_lab.instance import Instance
from outpost_lab.world import WORLD, Machine

WANTED = "/etc/systemd/system/multi-user.target.wants"


class File(NamedTuple):
    """A file of root's to put into a container; with ``target``, a symbolic link."""

    path: str
    content: bytes = b""
    mode: int = 0o644
    target: str = ""


def files(instance: Instance, machine: Machine) -> list[File]:
    """All files that the lab puts into a machine before its first start."""
    host_key = instance.directory / "hosts" / machine.name
    public = keys.ssh_key(host_key, machine.fqdn)
    result = [
        File("/etc/hostname", f"{machine.fqdn}\n".encode()),
        File("/etc/machine-id", f"{uuid.uuid5(uuid.NAMESPACE_DNS, public).hex}\n".encode(), 0o444),
        File("/etc/ssh/ssh_host_ed25519_key", host_key.read_bytes(), 0o600),
        File("/etc/ssh/ssh_host_ed25519_key.pub", f"{public}\n".encode()),
        File("/root/.ssh/authorized_keys", f"{keys.ssh_key(instance.ssh_key, 'outpost')}\n".encode(), 0o600),
        *(File(f"{WANTED}/{unit}", target=f"/usr/lib/systemd/system/{unit}") for unit in machine.units),
        *_templates(instance, machine, "any"),
    ]
    if machine.office:
        return result
    result += _templates(instance, machine, machine.name) + trust(instance)
    if machine.domain or machine.role in ("acme", "collector"):
        key, certificate = instance.credentials(machine)
        # readable by the mail server's account, whose number is not known here; it protects only the lab
        result += [
            File("/etc/outpost/host.pem", certificate),
            File("/etc/outpost/host.key", key.read_bytes()),
        ]
    if machine.role == "root":
        result += [File(path, content) for path, content in dnszones.files(instance)]
    return result


def trust(instance: Instance) -> list[File]:
    """The authorities that a machine of the test environment trusts: the environment's, the ACME issuer, the office's once it has one."""
    result = []
    authorities = {"world": instance.world_ca, "acme": instance.acme_ca, "office": instance.office_ca}
    for name, path in authorities.items():
        if path.exists():
            result.append(File(f"/etc/outpost/{name}-ca.pem", path.read_bytes()))
            result.append(File(f"/usr/local/share/ca-certificates/outpost-{name}-ca.crt", path.read_bytes()))
    return result


def _templates(instance: Instance, machine: Machine, directory: str) -> list[File]:
    """Rendered templates of a directory with the container's layout; ``dnszones`` makes zone data."""
    made = world.environment()
    context = {
        "me": _me(instance, machine),
        "networks": [network for zone in world.ZONES for network in world.network(zone, instance.slot)],
        "root": _me(instance, instance.machine("root")),
        "zones": dnszones.zones(instance),
        "children": dnszones.children(instance),
        "registry": dnszones.REGISTRY,
        "storage": dnszones.STORAGE,
        "trust_anchor": dnszones.trust_anchor(instance),
        "office": _office(instance, machine),
    }
    top, result = WORLD / directory, []
    for template in sorted(top.rglob("*.j2")):
        if template.suffixes[-2:] != [".zone", ".j2"]:
            text = made.get_template(str(template.relative_to(WORLD))).render(context)
            result.append(File(f"/{template.relative_to(top)}".removesuffix(".j2"), text.encode()))
    return result


def _me(instance: Instance, machine: Machine) -> dict[str, Any]:
    """What a machine's templates know about it; addresses are text."""
    gateway, addresses = instance.machine("gw"), machine.addresses
    shared = next(zone for zone in gateway.addresses if zone in addresses)
    servers = instance.office.with_role("mta") if machine.role == "clientsite" else ()
    return vars(machine) | {
        "machine": machine,
        "outside_name": machine.outside_name,
        "addresses": [item for pair in addresses.values() for item in pair],
        "resolver": "127.0.0.1" if machine.name == "gw" else gateway.addresses[shared][0],
        "known_hosts": [(str(item), mta.fqdn) for mta in servers for item in mta.in_zone("client")],
        **{zone: addresses.get(zone) for zone in ("wan", "client")},
    }


def _office(instance: Instance, machine: Machine) -> dict[str, Any]:
    """The office for one of the mail servers around it, with the output of `outpost peer` for it."""
    office = instance.office
    servers = office.with_role("mta")
    ends = [OtherEnd(office, peer) for peer in office.peers if machine.domain in peer.domains]
    return {
        "domain": office.domain,
        "mtas": [server.fqdn for server in office.mail_servers],
        "port": ends[0].peer.listen if ends else 25,
        "client_senders": [str(item) for server in servers for item in server.in_zone("client")],
        "main_cf": peering.rendered("main.cf.j2", ends[0]) if ends else "",
        "master_cf": peering.rendered("master.cf.j2", ends[0]) if ends else "",
        "hosts": [host.fqdn for host in office.hosts],
    }
