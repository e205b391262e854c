"""The restore drill: the store lost on paper, rebuilt in a throw-away container, and compared with the one that lives.

It goes the way of a real loss (`outpost.restore`): an empty Debian, the office directory, the backup, nothing from the live
store. Where the container stands differs: it is alone in a network of its own, with the store's addresses on its loopback
only, so nobody mistakes it for the store, and no mail leaves it. What is compared was written down by the live store from the
very snapshot that went into the archive; afterwards the restored Dovecot is asked itself.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit

from outpost import answers, history, restore, run, secrets
from outpost.backup import MANIFEST, PATIENCE, PROGRAM, archives, views
from outpost.errors import OutpostError
from outpost.office import load
from outpost.office.backup import MAIL
from outpost.office.model import Office
from outpost.office.tables.topology import Host
from outpost.remote import run_script
from outpost.target import LAB, Target

if TYPE_CHECKING:
    import docker

Tell = Callable[[str], None]
FLAGS = {"S": "\\Seen", "R": "\\Answered", "F": "\\Flagged", "T": "\\Deleted", "D": "\\Draft"}
"""Maildir's letters for IMAP's flags."""
INVENTORY = """\
from pathlib import Path as _Path

from outpost.hosts import docker as _docker

office = _docker(_Path(__file__).resolve().parent, {instance!r})
"""


@dataclass(frozen=True)
class Drill:
    """What a drill came to.

    Attributes:
        when: Its begin, UTC (ISO 8601).
        archive: What was restored.
        rpo: Seconds of mail that would have been lost, had the store been lost at its begin.
        worst_gap: Most seconds between two archives of the last week.
        rto: Seconds from the empty machine to a store that answers.
        data: How many of them until the data was there.
        logins: Users who were seen to log in to the restored store.
        differences: What is not as it was; empty is what is wanted.
    """

    when: str
    host: str
    archive: str
    rpo: float
    worst_gap: float
    rto: float
    data: float
    folders: int
    messages: int
    files: int
    logins: int
    differences: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether everything came back the same."""
        return not self.differences


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
        raise OutpostError(f"nothing of {store.name} is kept yet", f"outpost backup {target.name} --now")
    rpo, gaps = (
        kept[-1].age,
        [(b.when - a.when).total_seconds() for a, b in pairwise(kept) if b.age < 7 * 86400],
    )
    said = run_script(
        target, office, store, f"{PROGRAM} run --manifest", via, patience=PATIENCE, most=MANIFEST
    )
    taken = answers.parsed(said, dict[str, Any], store.name)
    tell(f"{store.name}: archive {taken['archive']}, {taken['files']} files")
    said = run_script(target, office, store, f"{PROGRAM} check", via, patience=PATIENCE)
    checked = answers.parsed(said, dict[str, Any], store.name)
    tell(f"{store.name}: all that is kept is undamaged, up to {checked['checked']}")
    with _machine(target, office, store) as (there, its_office):
        machine = its_office.host(store.name)
        back = restore.host(
            there, its_office, secrets.read(there.data), machine,
            archive=taken["archive"], watcher=watcher, tell=tell,
        )  # fmt: skip
        run_script(there, its_office, machine, "systemctl stop outpost-backup.timer")
        differences = list(_compared(there, its_office, machine, taken["manifest"]))
        logins, refused = _logins(target, there, its_office, machine)
    expected = taken["manifest"]["folders"]
    done = Drill(
        when=began.isoformat(timespec="seconds"),
        host=store.name,
        archive=back.archive,
        rpo=round(rpo, 1),
        worst_gap=round(max(gaps, default=rpo), 1),
        rto=round(back.seconds, 1),
        data=round(back.data, 1),
        folders=len(expected),
        messages=sum(len(folder["messages"]) for folder in expected.values()),
        files=len(taken["manifest"]["files"]),
        logins=logins,
        differences=tuple(differences + refused),
    )
    _keep(target, done)
    return done


def held(target: Target) -> tuple[Drill, ...]:
    """The drills that were kept, the latest first."""
    found = []
    for file in sorted(_folder(target).glob("*.json"), reverse=True):
        data = json.loads(file.read_text(encoding="utf-8"))
        found.append(Drill(**data | {"differences": tuple(data["differences"])}))
    return tuple(found)


def _keep(target: Target, done: Drill) -> None:
    folder = _folder(target)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = folder / f"{done.when.replace(':', '').replace('+0000', 'Z')}.json"
    file.write_text(json.dumps(asdict(done), indent=1) + "\n", encoding="utf-8")


def _folder(target: Target) -> Path:
    return history.folder(target).with_name("drills")


# Comparing --------------------------------------------------------------------------------------------------------


def _compared(there: Target, office: Office, machine: Host, wanted: dict[str, Any]) -> Iterator[str]:
    """Files first, before anybody opens a mailbox; then what Dovecot says of them."""
    said = run_script(
        there, office, machine, f"{PROGRAM} manifest --mail {MAIL}", patience=PATIENCE, most=MANIFEST
    )
    yield from different(wanted, answers.parsed(said, dict[str, Any], machine.name))
    rest = {
        path.removeprefix("rest"): digest
        for path, digest in wanted["files"].items()
        if path.startswith("rest/") and "\n" not in f"{path}{digest}"  # else it would be a line of the script
    }
    if rest:
        listed = "\n".join(f"{digest}  {path}" for path, digest in rest.items())
        checked = run_script(
            there, office, machine, f"sha256sum --check --quiet <<'END' 2>/dev/null || true\n{listed}\nEND"
        )
        yield from checked.splitlines()
    for user in office.users:
        local = user.address.partition("@")[0]
        folders = {
            path: folder for path, folder in wanted["folders"].items() if path.startswith(f"{local}/Maildir")
        }
        yield from _asked(there, office, machine, user.address, folders)


def different(wanted: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
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


def _asked(
    there: Target, office: Office, machine: Host, address: str, folders: dict[str, Any]
) -> Iterator[str]:
    """What the restored Dovecot says of one user's mail: numbers and UIDVALIDITY of folders, flags of messages."""
    said = run_script(
        there,
        office,
        machine,
        f"doveadm -f tab mailbox status -u {address} 'messages uidvalidity' '*' | tail -n +2; echo; "
        f"doveadm -f tab fetch -u {address} flags all | tail -n +2",
        patience=PATIENCE,
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


def _logins(target: Target, there: Target, office: Office, machine: Host) -> tuple[int, list[str]]:
    """The lab's users log in; nobody else's passwords are known here, and their hashes were compared with the files."""
    known = target.data / "passwords.json"
    if target.name != LAB or not known.exists():
        return 0, []
    passwords = json.loads(known.read_text(encoding="utf-8"))
    here = {user.address: passwords[user.address] for user in office.users if user.address in passwords}
    address = next(str(one) for zone in office.zones_of_kind("users") for one in machine.in_zone(zone.name))
    script = LOGIN.format(passwords=json.dumps(here), address=address)
    said = run_script(there, office, machine, f"python3 - <<'END'\n{script}\nEND")
    refused = answers.parsed(said, list[str], machine.name)
    return len(here) - len(refused), [f"login of {one}" for one in refused]


# The throw-away machine -----------------------------------------------------------------------------------------------


@contextmanager
def _machine(target: Target, office: Office, host: Host) -> Iterator[tuple[Target, Office]]:
    """An empty Debian in a container, in a network of its own, and the office as it is seen from there; gone afterwards."""
    from outpost.lab import engine, images

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
            _write_office(target, office, host, there, address, subnet, reached)
            its_office = load(there.data)
            run_script(there, its_office, its_office.host(host.name), _loopback(host, office))
            yield there, its_office
    finally:
        _remove(client, name)


def _loopback(host: Host, office: Office) -> str:
    """The host's own addresses, so that its daemons can listen there; and it has booted."""
    management = {zone.name for zone in office.zones_of_kind("management")}
    lines = [
        "until [ -S /run/systemd/private ]; do sleep 0.1; done",
        "systemctl is-system-running --wait || true",
    ]
    lines += [
        f"ip address add {one}/{one.max_prefixlen} dev lo" + (" nodad" if one.version == 6 else "")
        for zone in host.addresses if zone not in management for one in host.in_zone(zone)
    ]  # fmt: skip
    return "\n".join(["sysctl -qw net.ipv6.conf.lo.disable_ipv6=0 || true", *lines])


def _lab_services(client: docker.DockerClient, target: Target, network: Any) -> dict[str, str]:
    """The lab's networks lead nowhere, so what the container needs comes to it: the archive of packages and the vault."""
    from outpost.lab import aptcache
    from outpost.lab.instance import VAULT

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
) -> None:
    """The office directory with another management network, and certificates that nobody has to be asked for."""
    for file in target.data.iterdir():
        if file.suffix in (".pem", ".age") or file.name in ("identity.txt", "known_hosts", "ssh_key"):
            shutil.copy2(file, there.data / file.name)
    document: Any = tomlkit.parse(target.office_file.read_text(encoding="utf-8"))
    for zone in office.zones_of_kind("management"):
        document["zones"][zone.name]["networks"] = [subnet]
        free = (str(one) for one in ip_network(subnet).hosts())
        for one in office.hosts:
            if zone.name in one.addresses:
                mine = address if one.name == host.name else next(a for a in free if a != address)
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
    (there.data / "office.toml").write_text(tomlkit.dumps(document), encoding="utf-8")
    (there.data / "docker.py").write_text(INVENTORY.format(instance=there.instance), encoding="utf-8")


def _remove(client: docker.DockerClient, name: str) -> None:
    from docker.errors import APIError

    for container in client.containers.list(all=True, filters={"label": f"outpost.drill={name}"}):
        container.remove(force=True, v=True)
    for network in client.networks.list(filters={"label": f"outpost.drill={name}"}):
        network.reload()
        for member in network.attrs.get("Containers") or {}:
            with suppress(APIError):
                network.disconnect(member, force=True)
        network.remove()
