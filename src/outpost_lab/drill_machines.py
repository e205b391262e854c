"""The throw-away machines of a restore drill.

A host that may be compromised wrote the archive. So the containers that read it have no rights (docs/adr/0030):

- ``built``: an empty Debian becomes the store, from the office directory alone. It runs systemd and is privileged. Nothing that a
  host wrote reaches it. It ends as an image, from which the other two start.
- ``line`` reads the archive and passes it on as a stream. It is not root, has no capability and writes to memory only; the
  backup's machine is all that it reaches.
- ``store`` takes the stream and runs Dovecot. It has no network, no device, and Dovecot's capabilities only.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import count
from pathlib import Path
from shlex import quote
from typing import Any

import docker
import tomlkit
from docker.errors import APIError
from docker.models.containers import Container

from outpost.engine import run
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.office import load
from outpost.office.backup import LIB, SETTINGS, STATE, BackupView
from outpost.office.model import Office
from outpost.office.tables.topology import Host
from outpost.recovery import restore
from outpost.recovery.backup import PATIENCE, PROGRAM, Refused, views
from outpost.target import Target
from outpost.transport import answers
from outpost.transport.remote import run_script
from outpost_lab import aptcache, engine, images
from outpost_lab.containers import BOOTED, SYSTEMD
from outpost_lab.instance import VAULT
from roles.base.backup import files
from roles.store import MAIL, OWN

INVENTORY = """\
from pathlib import Path as _Path

from outpost.hosts import docker as _docker

office = _docker(_Path(__file__).resolve().parent, {instance!r})
"""
CONFINED: dict[str, Any] = {
    "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"], "pids_limit": 512, "mem_limit": "2g", "init": True,
    "command": ["sleep", "infinity"],
}  # fmt: skip
"""Privileges of a container that holds data from a host (BKP-02): none."""
NOBODY = 65534
DOVECOTS = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT")
"""Dovecot's capabilities, as in its unit, without SYS_RESOURCE."""
ONLY_THE_BACKUP = """nft -f - <<'END'
table inet drill {{
    chain out {{ type filter hook output priority 0; policy drop; {family} daddr {server} tcp dport {port} accept; }}
    chain in {{ type filter hook input priority 0; policy drop; {family} saddr {server} tcp sport {port} accept; }}
}}
END"""


@dataclass
class Rooms:
    """The containers of a drill, and the office with their addresses."""

    client: docker.DockerClient
    name: str
    network: str
    there: Target
    office: Office
    view: BackupView  # for ``line``: how it reaches the backup
    image: str = ""  # the image that ``built`` became

    @property
    def machine(self) -> Host:
        """The store."""
        return self.office.host(self.view.me.name)

    def say(self, script: str, most: int = answers.MOST) -> str:
        """Run a script in the store's current container; returns its output."""
        return run_script(self.there, self.office, self.machine, script, patience=PATIENCE, most=most)

    def start(self, what: str, **options: Any) -> Container:
        """Start a container that reads data from a host."""
        name, labels = f"outpost-{self.name}-{what}", {"outpost.drill": self.name}
        container = self.client.containers.create(self.image, name=name, labels=labels, **CONFINED, **options)
        container.start()
        return container

    def build(self, watcher: run.Watcher) -> None:
        """Make the empty Debian the store, without its data, and keep it as an image."""
        keys = secrets_file.read(self.there.data)
        outcome = run.apply(self.there, limit=(self.machine.name,), watcher=watcher)
        outcome.expect_success("run ./outpost check OFFICE", "the drill's store could not be built:")
        steps = [
            "set -eu; umask 077",
            "systemctl stop dovecot.socket dovecot.service outpost-accounts.service || true",
            f"find {MAIL} {OWN} -mindepth 1 -delete",
            restore.borg(self.office),
            *restore.placed(files(office=self.view.office, me=self.view.me, secrets=keys)),
            f"chown -R {NOBODY} {SETTINGS}; chmod 755 {LIB}",
        ]
        self.say("\n".join(steps))
        built = self.client.containers.get(f"outpost-{self.name}-{self.machine.name}")
        self.image = str(built.commit(changes=f"LABEL outpost.drill={self.name}").id)
        built.remove(force=True, v=True)

    def bring_back(self, archive: str) -> int:
        """Pass the archive's sources from ``line`` to ``store``; returns how many entries were refused.

        A source larger than half of the free space here is not restored.
        """
        memory = dict.fromkeys((STATE, "/tmp"), f"uid={NOBODY},mode=0700,nosuid,nodev,noexec")  # noqa: S108
        line = self.start("line", network=self.network, user=str(NOBODY), read_only=True, tmpfs=memory)
        backup = self.view.backup
        family = {4: "ip", 6: "ip6"}[backup.server.version]
        self._prepared(line, ONLY_THE_BACKUP.format(family=family, server=backup.server, port=backup.port))
        store = self.start(
            self.machine.name,
            network_mode="none",
            hostname=self.machine.fqdn,
            cap_add=list(DOVECOTS),
            tmpfs={"/run": "mode=755,nosuid,nodev,noexec", "/tmp": "mode=1777,nosuid,nodev,noexec"},  # noqa: S108
        )
        self._prepared(store, _loopback(self.machine, self.office))
        free = self.say(f"rm {SETTINGS}/key {SETTINGS}/passphrase; df -B1 --output=avail {MAIL} | tail -1")
        refused = 0
        for source in self.view.sources:
            path = quote(source["path"])
            pipe = (
                f"docker exec {line.name} {PROGRAM} export {quote(archive)} {path} | head -c {int(free) // 2} | "
                f"docker exec --interactive {store.name} {PROGRAM} unpack {path}"
            )
            done = answers.exchange(["bash", "-o", "pipefail", "-c", pipe], patience=PATIENCE)
            if done.status:
                errors = done.errors.decode(errors="replace").strip().splitlines() or ["no message"]
                # messages of borg, and of the program that got nothing from it
                why = dict.fromkeys((errors[0], errors[-1]))
                problem = f"{path} did not come back: {'; '.join(map(answers.line, why))}"
                raise OutpostError(problem, "run ./outpost backup OFFICE to list the archives")
            refused += answers.parsed(done.out.decode(errors="replace"), Refused, store.name)["refused"]
        return refused

    def serve(self) -> None:
        """Start Dovecot as its unit does, but without systemd, and wait for its answer."""
        self.say(
            f"set -eu; chown -R outpost-accounts:dovecot {OWN}; /usr/sbin/dovecot\n"
            "for turn in $(seq 300); do doveadm user '*' >/dev/null 2>&1 && exit 0; sleep 0.2; done; doveadm user '*'"
        )

    def _prepared(self, container: Container, script: str) -> None:
        """Set up a container's network from outside: the container has no right to do it."""
        self.client.containers.run(
            self.image, ["sh", "-ec", script], network_mode=f"container:{container.id}", cap_drop=["ALL"],
            cap_add=["NET_ADMIN"], security_opt=["no-new-privileges"], remove=True,
        )  # fmt: skip


@contextmanager
def rooms_of(target: Target, office: Office, host: Host) -> Iterator[Rooms]:
    """An empty Debian in a container, in a network of its own, and the office with its addresses; removed afterwards."""
    client = engine.connect()
    images.build(client, ("base",))
    name = f"drill-{target.instance or target.name}"
    _remove(client, name)
    network = client.networks.create(f"outpost-{name}", driver="bridge", labels={"outpost.drill": name})
    try:
        network.reload()
        subnet = next(pool["Subnet"] for pool in network.attrs["IPAM"]["Config"] if "." in pool["Subnet"])
        container = client.containers.create(
            images.tag("base"), name=f"outpost-{name}-{host.name}", hostname=host.fqdn, labels={"outpost.drill": name},
            network=network.name, **SYSTEMD,
        )  # fmt: skip
        container.start()
        container.reload()
        address = container.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]
        reached = _lab_services(client, target, network) if target.instance else {}
        with tempfile.TemporaryDirectory(prefix="outpost-drill-") as directory:
            there = Target("drill", Path(directory), Path(directory), name)
            view = _write_office(target, office, host, there, address, subnet, reached)
            rooms = Rooms(client, name, network.name, there, load(there.data), view)
            rooms.say(f"({BOOTED}) || true\n{_loopback(rooms.machine, office)}")
            yield rooms
    finally:
        _remove(client, name)


def _loopback(host: Host, office: Office) -> str:
    """The host's own addresses, so that its daemons can listen there."""
    management = {zone.name for zone in office.zones_of_kind("management")}
    lines = [
        f"ip address add {one}/{one.max_prefixlen} dev lo" + (" nodad" if one.version == 6 else "")
        for zone in host.addresses
        if zone not in management
        for one in host.in_zone(zone)
    ]
    return "\n".join(["sysctl -qw net.ipv6.conf.lo.disable_ipv6=0 || true", *lines])


def _lab_services(client: docker.DockerClient, target: Target, network: Any) -> dict[str, str]:
    """The lab's networks have no way out, so the container gets what it needs: the package archive and the vault."""
    found = {}
    for what, name in (("archive", aptcache.NAME), ("backup", f"outpost-{target.instance}-{VAULT}")):
        container = client.containers.get(name)
        network.connect(container)
        container.reload()
        found[what] = str(container.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"])
    return found


def _write_office(
    target: Target,
    office: Office,
    host: Host,
    there: Target,
    address: str,
    subnet: str,
    reached: dict[str, str],
) -> BackupView:
    """The office directory with another management network, and certificates of the office's own authority.

    The host built from it has no backup: its timer would add an archive of an empty store. Returns the backup as it is reached.
    """
    for file in target.data.iterdir():
        if file.suffix in (".pem", ".age") or file.name in ("identity.txt", "known_hosts", "ssh_key"):
            shutil.copy2(file, there.data / file.name)
    document: Any = tomlkit.parse(target.office_file.read_text(encoding="utf-8"))
    for zone in office.zones_of_kind("management"):
        document["zones"][zone.name]["networks"] = [subnet]
        free = (str(ip_network(subnet)[-place]) for place in count(2))  # Docker counts from the other end
        for one in office.hosts:
            if zone.name in one.addresses:
                mine = address if one.name == host.name else next(free)
                document["hosts"][one.name]["addresses"][zone.name] = [mine]
    for one in document["hosts"].values():
        one.pop("certificates", None)
    for talks in ("alarms", "logs"):  # a drill sends no alarm, and does not write the store's log
        document.pop(talks, None)
    document["platform"] = "docker"
    document["tls"]["certificates"] = "office"
    if "archive" in reached:
        document["archive"]["proxy"] = f"http://{reached['archive']}:3142"
    if "backup" in reached:
        document["backup"]["server"] = reached["backup"]
    there.office_file.write_text(tomlkit.dumps(document), encoding="utf-8")
    (view,) = views(load(there.data), (host,))
    document.pop("backup")
    there.office_file.write_text(tomlkit.dumps(document), encoding="utf-8")
    (there.data / "docker.py").write_text(INVENTORY.format(instance=there.instance), encoding="utf-8")
    return view


def _remove(client: docker.DockerClient, name: str) -> None:
    for container in client.containers.list(all=True, filters={"label": f"outpost.drill={name}"}):
        container.remove(force=True, v=True)
    for image in client.images.list(filters={"label": f"outpost.drill={name}"}):
        client.images.remove(image.id, force=True)
    for network in client.networks.list(filters={"label": f"outpost.drill={name}"}):
        network.reload()
        for member in network.attrs.get("Containers") or {}:
            with suppress(APIError):
                network.disconnect(member, force=True)
        network.remove()
