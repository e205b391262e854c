"""A first-boot seed for each host: cloud-init's NoCloud data source, read by every hypervisor and cloud that boots Debian's image.

It gives a machine its names, its addresses, the administrators' account and SSH keys, and its own SSH host key. That key is
made here, so the controller knows it before the machine exists: no fingerprint is compared by hand. Nothing else in a seed is
secret.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.keys.model import Secrets
from outpost.keys.pairs import new_ssh_key, ssh_public
from outpost.office.model import Office
from outpost.office.tables.topology import Host
from outpost.target import Target, shown
from outpost.tools import run
from outpost.transport.ssh import target

VOLUME = "CIDATA"
"""The file system's label by which cloud-init finds a seed."""
FORGET = (
    "rm -rf /var/lib/cloud/seed /run/cloud-init/combined-cloud-config.json; touch /etc/cloud/cloud-init.disabled; "
    "find /var/lib/cloud/instances -type f '(' -name 'user-data*' -o -name cloud-config.txt -o -name obj.pkl ')' -delete"
)
"""The last step of the first boot: remove copies of the seed, so that no later medium can reconfigure the host."""


@dataclass(frozen=True)
class Seed:
    """The three files of a seed (docs.cloud-init.io, *NoCloud*), by name. JSON is valid YAML and needs no quoting."""

    host: str
    files: dict[str, str]


def mac(office: Office, host: Host, zone: str) -> str:
    """The hardware address of a host's card in a zone: declared, else a locally administered one made from the names."""
    if declared := host.macs.get(zone):
        return declared
    digest = hashlib.sha256(f"{office.domain} {host.name} {zone}".encode()).hexdigest()
    return ":".join(("02", *(digest[at : at + 2] for at in range(0, 10, 2))))


def seed(office: Office, host: Host, key: SecretStr) -> Seed:
    """What the first boot of a host needs.

    Args:
        key: Its SSH host key, Ed25519 in OpenSSH's format.

    Raises:
        OutpostError: The office file names no administrator's key, so nobody could log in.
    """
    if not office.ssh.authorized_keys:
        raise OutpostError(
            "ssh.authorized_keys is empty: nobody could log in to the new machines",
            "write your SSH public key into `authorized_keys` below [ssh] in office.toml",
        )
    keys = list(office.ssh.authorized_keys)
    account: dict[str, Any] = {"name": office.ssh.user, "lock_passwd": True, "ssh_authorized_keys": keys}
    if office.ssh.user != "root":
        account |= {"shell": "/bin/bash", "sudo": "ALL=(ALL:ALL) NOPASSWD: ALL"}
    user_data = {
        "hostname": host.name, "fqdn": host.fqdn, "manage_etc_hosts": "localhost",
        "disable_root": office.ssh.user != "root", "ssh_pwauth": False, "users": [account],
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": key.get_secret_value(), "ed25519_public": f"{ssh_public(key)} {host.name}"},
        "runcmd": [FORGET],
    }  # fmt: skip
    files = {
        "user-data": "#cloud-config\n" + _json(user_data),
        "meta-data": _json({"instance-id": f"{host.fqdn}-1", "local-hostname": host.name}),
        "network-config": _json({"version": 2, "ethernets": _cards(office, host)}),
    }
    return Seed(host.name, files)


def _cards(office: Office, host: Host) -> dict[str, Any]:
    """One card for each zone, matched by its hardware address; default routes through the zone nearest to the Internet."""
    order = ("internet", "servers", "management", "users", "partner")
    routed: set[int] = set()
    cards: dict[str, Any] = {}
    for zone in sorted(host.addresses, key=lambda name: order.index(office.zones[name].kind)):
        gateways = [each for each in office.zones[zone].gateways if each.version not in routed]
        routed |= {each.version for each in gateways}
        cards[zone] = {
            "match": {"macaddress": mac(office, host, zone)}, "dhcp4": False, "dhcp6": False, "accept-ra": False,
            "addresses": [str(each) for each in office.interfaces(host, zone)],
            "routes": [{"to": "0.0.0.0/0" if each.version == 4 else "::/0", "via": str(each)} for each in gateways],
        }  # fmt: skip
    first = next(iter(cards.values()))
    routers = tuple(gateway for zone in office.zones.values() for gateway in zone.gateways)
    # until its first apply
    first["nameservers"] = {"addresses": [str(each) for each in office.resolver.forwarders or routers]}
    return cards


def _json(data: object) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def write(seeds: list[Seed], directory: Path) -> list[Path]:
    """Write one directory and one ISO image for each host, readable by their owner only; returns the images' paths.

    Raises:
        OutpostError: ``xorriso`` is missing or failed, or a place cannot be written.
    """
    images = []
    for each in seeds:
        place = directory / each.host
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, content in each.files.items():
                path = place / name
                # otherwise the key would be as readable as an existing file, or be written where a link leads
                path.unlink(missing_ok=True)
                path.touch(mode=0o600, exist_ok=False)
                path.write_text(content, encoding="utf-8")
        except OSError as error:
            problem = f"{place} cannot be written ({error.strerror})"
            raise OutpostError(problem, "choose another --output") from None
        image = directory / f"{each.host}.iso"
        image.unlink(missing_ok=True)
        image.touch(mode=0o600, exist_ok=False)
        run(
            "xorriso", "-as", "genisoimage", "-quiet", "-volid", VOLUME, "-joliet", "-rational-rock",
            "-output", str(image), str(place),
        )  # fmt: skip
        images.append(image)
    return images


def pins(office: Office, keys: dict[str, SecretStr]) -> dict[str, str]:
    """Host name → its line of ``known_hosts``: every address and name for a login."""
    lines = {}
    for name, key in keys.items():
        host = office.host(name)
        _, place, port = target(office, host)
        # sshd listens on 22; a router forwards any other port to it
        names = dict.fromkeys(
            (place if port == 22 else f"[{place}]:{port}", host.fqdn, *map(str, host.all_addresses))
        )
        lines[name] = f"{','.join(names)} {ssh_public(key)}"
    return lines


def kept(where: Target, office: Office, secrets: Secrets, hosts: Sequence[Host]) -> list[Seed]:
    """The hosts' seeds; the keys in them are kept and pinned."""
    keys = {host.name: secrets.ssh_hosts.get(host.name) or new_ssh_key() for host in hosts}
    for host in hosts:
        known = set(office.ssh.host_keys.get(host.name, ()))
        if known - {ssh_public(keys[host.name])}:
            raise OutpostError(
                f"{host.name} is in known_hosts with a key of its own: its machine exists already",
                f"remove its lines from {shown(where.data / 'known_hosts')} if you replace it, or choose other hosts with --limit",
            )
    made = [seed(office, host, keys[host.name]) for host in hosts]
    if {host.name for host in hosts} - set(secrets.ssh_hosts):
        secrets = secrets.model_copy(update={"ssh_hosts": {**secrets.ssh_hosts, **keys}})
        secrets_file.write(where.data, secrets, office.secrets.recipients)
    if made:
        _pin(where.data / "known_hosts", pins(office, keys))
    return made


def _pin(file: Path, lines: dict[str, str]) -> None:
    """Add missing lines to ``known_hosts``."""
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    new = [line for line in lines.values() if line not in before.splitlines()]
    if before and not before.endswith("\n"):
        before += "\n"
    file.write_text(before + "".join(f"{line}\n" for line in new), encoding="utf-8")
