"""The restore drill: the store lost on paper, rebuilt in throw-away containers, and compared with the one that lives.

What comes back was written by a host that may have been taken over. So what reads it may do nothing (docs/adr/0030):

- ``built``: an empty Debian becomes the store, from the office directory alone. It runs systemd and is privileged. Nothing that a
  host wrote reaches it. It ends as an image, from which the other two start.
- ``line`` reads the archive and passes it on as a stream. It is not root, has no capability and writes to memory only; the
  backup's machine is all that it reaches.
- ``store`` takes the stream and runs Dovecot. It has no network, no device, and Dovecot's capabilities only.

What is compared was written down by the live store from the very snapshot that went into the archive; afterwards the restored
Dovecot is asked itself.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_network
from itertools import count, pairwise
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import tomlkit

from outpost.engine import run
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.office import load
from outpost.office.backup import LIB, SETTINGS, STATE, BackupView
from outpost.office.model import Office
from outpost.office.tables.topology import Host
from outpost.recovery import restore
from outpost.recovery.backup import (
    MANIFEST,
    PATIENCE,
    PROGRAM,
    Checked,
    Folder,
    Manifest,
    Refused,
    Taken,
    archives,
    views,
)
from outpost.recovery.drills import Drill, keep
from outpost.target import LAB, Target
from outpost.transport import answers
from outpost.transport.remote import run_script
from roles.store import MAIL, OWN

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

Tell = Callable[[str], None]
FLAGS = {"S": "\\Seen", "R": "\\Answered", "F": "\\Flagged", "T": "\\Deleted", "D": "\\Draft"}
"""Maildir's letters for IMAP's flags."""
INVENTORY = """\
from pathlib import Path as _Path

from outpost.hosts import docker as _docker

office = _docker(_Path(__file__).resolve().parent, {instance!r})
"""


def hold(target: Target, *, via: str | None = None, watcher: run.Watcher | None = None, tell: Tell) -> Drill:
    """Carry out a drill, and keep what it came to.

    Raises:
        OutpostError: No backup, a damaged one, no Docker here, or the restore itself failed.
    """
    office = load(target.data)
    store = office.with_role("store")[0]
    views(office, (store,))
    began = datetime.now(UTC)
    kept = archives(target, office, (store,), via)
    if not kept:
        raise OutpostError(f"nothing of {store.name} is kept yet", f"outpost backup {target.typed} --now")
    rpo, gaps = (
        kept[-1].age,
        [(b.when - a.when).total_seconds() for a, b in pairwise(kept) if b.age < 7 * 86400],
    )
    said = run_script(
        target, office, store, f"{PROGRAM} run --manifest", via, patience=PATIENCE, most=MANIFEST
    )
    taken = answers.parsed(said, Taken, store.name)
    tell(f"{store.name}: archive {taken['archive']}, {taken['files']} files")
    said = run_script(target, office, store, f"{PROGRAM} check", via, patience=PATIENCE)
    checked = answers.parsed(said, Checked, store.name)
    tell(f"{store.name}: all that is kept is undamaged, up to {checked['checked']}")
    with _rooms(target, office, store) as rooms:
        started = time.monotonic()
        rooms.build(watcher or run.Silent())
        built = time.monotonic()
        tell(f"{store.name}: built from the office directory alone ({built - started:.0f} s)")
        refused = rooms.bring_back(taken["archive"])
        there = time.monotonic()
        tell(f"{store.name}: what it had at {taken['archive']} is there ({there - built:.0f} s)")
        differences = [f"{refused} entries of the archive were refused"] if refused else []
        differences += _files_compared(rooms, taken["manifest"])
        serving = time.monotonic()
        rooms.serve()
        back = there - started + time.monotonic() - serving
        differences += _mail_compared(rooms, taken["manifest"])
        logins, shut_out = _logins(target, rooms)
    expected = taken["manifest"]["folders"]
    done = Drill(
        when=began.isoformat(timespec="seconds"),
        host=store.name,
        archive=taken["archive"],
        rpo=round(rpo, 1),
        worst_gap=round(max(gaps, default=rpo), 1),
        rto=round(back, 1),
        data=round(there - built, 1),
        folders=len(expected),
        messages=sum(len(folder["messages"]) for folder in expected.values()),
        files=len(taken["manifest"]["files"]),
        logins=logins,
        differences=tuple(differences + shut_out),
    )
    keep(target, done)
    return done


# Comparing --------------------------------------------------------------------------------------------------------


def _files_compared(rooms: _Rooms, wanted: Manifest) -> Iterator[str]:
    """Files, before anybody opens a mailbox."""
    said = rooms.say(f"{PROGRAM} manifest --mail {MAIL}", most=MANIFEST)
    yield from different(wanted, answers.parsed(said, Manifest, rooms.machine.name))
    rest = {
        path.removeprefix("rest"): digest
        for path, digest in wanted["files"].items()
        if path.startswith("rest/") and "\n" not in path  # else it would be a line of the script
    }
    if rest:
        listed = "\n".join(f"{digest}  {path}" for path, digest in rest.items())
        checked = rooms.say(f"sha256sum --check --quiet <<'END' 2>/dev/null || true\n{listed}\nEND")
        yield from checked.splitlines()


def _mail_compared(rooms: _Rooms, wanted: Manifest) -> Iterator[str]:
    """What Dovecot says."""
    for user in rooms.office.users:
        local = user.address.partition("@")[0]
        folders = {
            path: folder for path, folder in wanted["folders"].items() if path.startswith(f"{local}/Maildir")
        }
        yield from _asked(rooms, user.address, folders)


def different(wanted: Manifest, found: Manifest) -> Iterator[str]:
    """What two manifests of the mail disagree on."""
    for path, folder in wanted["folders"].items():
        other = found["folders"].get(path)
        if other is None:
            yield f"folder {path} is missing"
            continue
        for key in ("uidvalidity", "next"):
            if folder[key] != other[key]:
                yield f"{path}: {key} is {other[key]}, was {folder[key]}"
        mine, theirs = folder["messages"], other["messages"]
        if lost := set(mine) - set(theirs):
            yield f"{path}: {len(lost)} messages are missing"
        if more := set(theirs) - set(mine):
            yield f"{path}: {len(more)} messages more"
        for index, what in enumerate(("UID", "flags", "content")):
            if changed := [
                name for name in set(mine) & set(theirs) if mine[name][index] != theirs[name][index]
            ]:
                yield f"{path}: another {what} in {len(changed)} messages"
    for path, digest in wanted["files"].items():
        if path.startswith("mail/") and found["files"].get(path) != digest:
            yield f"{path} is {'different' if path in found['files'] else 'missing'}"


def _asked(rooms: _Rooms, address: str, folders: dict[str, Folder]) -> Iterator[str]:
    """What the restored Dovecot says of one user's mail: numbers and UIDVALIDITY of folders, flags of messages."""
    said = rooms.say(
        f"doveadm -f tab mailbox status -u {address} 'messages uidvalidity' '*' | tail -n +2; echo; "
        f"doveadm -f tab fetch -u {address} flags all | tail -n +2"
    )
    status, _, flags = said.partition("\n\n")
    rows = [line.split("\t") for line in status.splitlines() if line]
    shown = Counter((row[1], row[2]) for row in rows)
    wanted = Counter(
        (str(len(folder["messages"])), str(folder["uidvalidity"]))
        for folder in folders.values()
        if folder["uidvalidity"]
    )
    if missing := wanted - shown:
        yield f"{address}: Dovecot shows no folder with (messages, UIDVALIDITY) {sorted(missing)}"
    letters = Counter(
        letter
        for folder in folders.values()
        for _, found, _ in folder["messages"].values()
        for letter in found
    )
    for letter, name in FLAGS.items():
        counted = sum(name in line.split() for line in flags.splitlines())
        if counted != letters[letter]:
            yield f"{address}: {counted} messages are {name}, were {letters[letter]}"


LOGIN = """\
import imaplib, json, ssl, sys
trust = ssl.create_default_context(cafile="/etc/outpost/tls/ca.pem")
trust.check_hostname = False
refused = []
for user, password in json.loads({passwords!r}).items():
    try:
        with imaplib.IMAP4_SSL({address!r}, ssl_context=trust, timeout=30) as box:
            box.login(user, password)
            box.select("INBOX", readonly=True)
    except Exception as error:
        refused.append(user + ": " + str(error))
print(json.dumps(refused))
"""


def _logins(target: Target, rooms: _Rooms) -> tuple[int, list[str]]:
    """The lab's users log in; nobody else's passwords are known here, and their hashes were compared with the files."""
    known, office = target.data / "passwords.json", rooms.office
    if target.name != LAB or not known.exists():
        return 0, []
    passwords = json.loads(known.read_text(encoding="utf-8"))
    here = {user.address: passwords[user.address] for user in office.users if user.address in passwords}
    address = next(
        str(one) for zone in office.zones_of_kind("users") for one in rooms.machine.in_zone(zone.name)
    )
    script = LOGIN.format(passwords=json.dumps(here), address=address)
    refused = answers.parsed(rooms.say(f"python3 - <<'END'\n{script}\nEND"), list[str], rooms.machine.name)
    return len(here) - len(refused), [f"login of {one}" for one in refused]


# The throw-away machines ----------------------------------------------------------------------------------------------

BOOTED = "until [ -S /run/systemd/private ]; do sleep 0.1; done; systemctl is-system-running --wait || true"
CONFINED: dict[str, Any] = {
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "pids_limit": 512,
    "mem_limit": "2g",
    "init": True,
    "command": ["sleep", "infinity"],
}
"""What a container may that holds what a host wrote (BKP-02)."""
NOBODY = 65534
DOVECOTS = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT")
"""Dovecot's capabilities, as its unit has them, but for SYS_RESOURCE."""
ONLY_THE_BACKUP = """nft -f - <<'END'
table inet drill {{
    chain out {{ type filter hook output priority 0; policy drop; {family} daddr {server} tcp dport {port} accept; }}
    chain in {{ type filter hook input priority 0; policy drop; {family} saddr {server} tcp sport {port} accept; }}
}}
END"""


@dataclass
class _Rooms:
    """The containers of a drill, and the office as they see it.

    Attributes:
        view: The backup as ``line`` reaches it.
        image: What ``built`` became.
    """

    client: docker.DockerClient
    name: str
    network: str
    there: Target
    office: Office
    view: BackupView
    keys: secrets_file.Secrets
    image: str = ""

    @property
    def machine(self) -> Host:
        """The store."""
        return self.office.host(self.view.me.name)

    def say(self, script: str, most: int = answers.MOST) -> str:
        """Run a script in the container that is the store now; gives what it printed."""
        return run_script(self.there, self.office, self.machine, script, patience=PATIENCE, most=most)

    def start(self, what: str, **options: Any) -> Container:
        """Start a container that reads what a host wrote."""
        container = self.client.containers.create(
            self.image,
            name=f"outpost-{self.name}-{what}",
            labels={"outpost.drill": self.name},
            **CONFINED,
            **options,
        )
        container.start()
        return container

    def build(self, watcher: run.Watcher) -> None:
        """Make the empty Debian the store, without its data, and keep it as an image."""
        from roles.base.backup import files

        outcome = run.apply(self.there, limit=(self.machine.name,), watcher=watcher)
        if outcome.failed:
            said = "; ".join(f"{who}: {why}" for who, why in outcome.failed.items())
            raise OutpostError(f"the drill's store could not be built: {said}", "outpost check OFFICE")
        means = files(office=self.view.office, me=self.view.me, secrets=self.keys)
        self.say(
            "\n".join(
                [
                    "set -eu; umask 077",
                    "systemctl stop dovecot.socket dovecot.service outpost-accounts.service || true",
                    f"find {MAIL} {OWN} -mindepth 1 -delete",
                    restore.borg(self.office),
                    *restore.placed(means),
                    f"chown -R {NOBODY} {SETTINGS}; chmod 755 {LIB}",
                ]
            )
        )
        built = self.client.containers.get(f"outpost-{self.name}-{self.machine.name}")
        self.image = str(built.commit(changes=f"LABEL outpost.drill={self.name}").id)
        built.remove(force=True, v=True)

    def bring_back(self, archive: str) -> int:
        """Pass the archive's sources from ``line`` to ``store``; gives how many entries were refused.

        Raises:
            OutpostError: One cannot be read, or is larger than half of what is free here.
        """
        memory = dict.fromkeys((STATE, "/tmp"), f"uid={NOBODY},mode=0700,nosuid,nodev,noexec")  # noqa: S108
        line = self.start("line", network=self.network, user=str(NOBODY), read_only=True, tmpfs=memory)
        backup = self.view.backup
        self._prepared(
            line,
            ONLY_THE_BACKUP.format(
                family={4: "ip", 6: "ip6"}[backup.server.version], server=backup.server, port=backup.port
            ),
        )
        store = self.start(
            self.machine.name, network_mode="none", hostname=self.machine.fqdn, cap_add=list(DOVECOTS),
            tmpfs={"/run": "mode=755,nosuid,nodev,noexec", "/tmp": "mode=1777,nosuid,nodev,noexec"},  # noqa: S108
        )  # fmt: skip
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
                said = done.errors.decode(errors="replace").strip().splitlines() or ["no message"]
                why = dict.fromkeys(
                    (said[0], said[-1])
                )  # of borg, and of the program that got nothing from it
                raise OutpostError(
                    f"{path} did not come back: {'; '.join(map(answers.line, why))}",
                    "outpost backup OFFICE lists what is kept",
                )
            refused += answers.parsed(done.out.decode(errors="replace"), Refused, store.name)["refused"]
        return refused

    def serve(self) -> None:
        """Start Dovecot as its unit does, but without systemd, and wait for its answer."""
        self.say(
            f"set -eu; chown -R outpost-accounts:dovecot {OWN}; /usr/sbin/dovecot\n"
            "for turn in $(seq 300); do doveadm user '*' >/dev/null 2>&1 && exit 0; sleep 0.2; done; doveadm user '*'"
        )

    def _prepared(self, container: Container, script: str) -> None:
        """Set up a container's network from outside: it has no right to do it."""
        self.client.containers.run(
            self.image, ["sh", "-ec", script], network_mode=f"container:{container.id}", cap_drop=["ALL"],
            cap_add=["NET_ADMIN"], security_opt=["no-new-privileges"], remove=True,
        )  # fmt: skip


@contextmanager
def _rooms(target: Target, office: Office, host: Host) -> Iterator[_Rooms]:
    """An empty Debian in a container, in a network of its own, and the office as it is seen from there; gone afterwards."""
    from outpost_lab import engine, images

    client = engine.connect()
    images.build(client, ("base",))
    name = f"drill-{target.instance or target.name}"
    _remove(client, name)
    network = client.networks.create(f"outpost-{name}", driver="bridge", labels={"outpost.drill": name})
    try:
        network.reload()
        subnet = next(pool["Subnet"] for pool in network.attrs["IPAM"]["Config"] if "." in pool["Subnet"])
        container = client.containers.create(
            images.tag("base"),
            name=f"outpost-{name}-{host.name}",
            hostname=host.fqdn,
            labels={"outpost.drill": name},
            privileged=True,
            cgroupns="host",
            volumes={"/sys/fs/cgroup": {"bind": "/sys/fs/cgroup", "mode": "rw"}},
            tmpfs={"/run": "mode=755", "/tmp": "exec,mode=1777"},  # noqa: S108
            network=network.name,
        )
        container.start()
        container.reload()
        address = container.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]
        reached = _lab_services(client, target, network) if target.instance else {}
        with tempfile.TemporaryDirectory(prefix="outpost-drill-") as directory:
            there = Target("drill", Path(directory), Path(directory), name)
            view = _write_office(target, office, host, there, address, subnet, reached)
            rooms = _Rooms(
                client, name, network.name, there, load(there.data), view, secrets_file.read(there.data)
            )
            rooms.say(f"{BOOTED}\n{_loopback(rooms.machine, office)}")
            yield rooms
    finally:
        _remove(client, name)


def _loopback(host: Host, office: Office) -> str:
    """The host's own addresses, so that its daemons can listen there."""
    management = {zone.name for zone in office.zones_of_kind("management")}
    lines = [
        f"ip address add {one}/{one.max_prefixlen} dev lo" + (" nodad" if one.version == 6 else "")
        for zone in host.addresses if zone not in management for one in host.in_zone(zone)
    ]  # fmt: skip
    return "\n".join(["sysctl -qw net.ipv6.conf.lo.disable_ipv6=0 || true", *lines])


def _lab_services(client: docker.DockerClient, target: Target, network: Any) -> dict[str, str]:
    """The lab's networks lead nowhere, so what the container needs comes to it: the archive of packages and the vault."""
    from outpost_lab import aptcache
    from outpost_lab.instance import VAULT

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
    """The office directory with another management network, and certificates that nobody has to be asked for.

    What is built from it has no backup: a timer would add an archive of an empty store. Gives the backup as it is reached.
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
    for talks in ("alarms", "logs"):  # a drill is no alarm, and not the store's log
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
    from docker.errors import APIError

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
