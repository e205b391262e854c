"""Restore a lost host on an empty machine, or one mailbox beside the live one; results of restore drills (`outpost_lab.drill`).

A host is the office directory (configuration, keys) and its backup (what only it had). Its data come first, so that no daemon
ever runs without them: a store whose mailboxes are empty for a minute would show every mail program new UIDVALIDITYs,
and accept mail that the restored mailboxes then lack. So the empty machine gets accounts, borg and its data, then the role.
"""

import base64
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from pydantic import TypeAdapter

from outpost.converge.files import File, shell
from outpost.engine import run
from outpost.errors import OutpostError
from outpost.keys.model import Secrets
from outpost.office.backup import LIB, SETTINGS, BackupView
from outpost.office.model import Office
from outpost.office.role import role_of, serving
from outpost.office.tables.topology import Host
from outpost.recovery.backup import PATIENCE, PROGRAM, Count, Name, archives, views
from outpost.target import Target
from outpost.transport import answers
from outpost.transport.remote import run_script
from outpost.verification import history
from roles.base.backup import files

Report = Callable[[str], None]
ASIDE = "/run/outpost-restore"
"""In memory, and removed before the apply: otherwise the plan would report it."""
APT = "apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"


class Restored(NamedTuple):
    """A restored host.

    Attributes:
        archive: The time of the archive.
        data: Seconds until the data was restored.
        seconds: Seconds until the host worked again.
    """

    host: str
    archive: str
    data: float
    seconds: float


def host(
    target: Target,
    office: Office,
    secrets: Secrets,
    lost: Host,
    *,
    archive: str = "latest",
    via: str | None = None,
    watcher: run.Watcher | None = None,
    report: Report = lambda _text: None,
) -> Restored:
    """Make an empty machine the host that was lost.

    Raises:
        OutpostError: It is not empty, the backup cannot be reached, or the apply failed; the same command continues from there.
    """
    (view,) = views(office, (lost,))
    began = time.monotonic()
    output = run_script(target, office, lost, _before(view, office, secrets, archive), via, patience=PATIENCE)
    try:
        *refused, answer, key = output.strip().split("\n")
    except ValueError:
        raise answers.unexpected(lost.name) from None
    name = answers.parsed(answer, Name, lost.name)
    for line in refused:
        report(f"{lost.name}: {line!r}")
    if target.inventory(via).stem != "docker":
        _pinned(target, lost, " ".join(key.split()[:2]))
    data = time.monotonic() - began
    report(f"{lost.name}: the data of archive {name} is restored ({data:.0f} s)")
    outcome = run.apply(target, limit=(lost.name,), connector=via, watcher=watcher or run.Silent())
    outcome.expect_success(f"run ./outpost apply {target.typed} --limit {lost.name}")
    run_script(target, office, lost, "\n".join(["set -eu", *_after(view)]), via, patience=PATIENCE)
    return Restored(lost.name, name, data, time.monotonic() - began)


def _pinned(target: Target, lost: Host, key: str) -> None:
    """Restart SSH with the host's own key, which was just restored: otherwise the next connection would be refused."""
    if not re.fullmatch(r"ssh-ed25519 [A-Za-z0-9+/=]{1,200}", key):
        remedy = f"./outpost apply {target.typed} --limit {lost.name}"
        raise OutpostError(f"{lost.name}: its restored SSH host key is not a key", remedy)
    if key not in (target.data / "known_hosts").read_text(encoding="utf-8"):
        message = f"{lost.name}: known_hosts does not have the SSH host key that was restored"
        remedy = f"compare with the old line; add `{lost.all_addresses[0]} {key}` to known_hosts; then run the same command again"
        raise OutpostError(message, remedy)


def borg(office: Office) -> str:
    """The command that installs borg if it is missing."""
    apt = f"{APT} -o Acquire::http::Proxy={quote(office.archive.proxy)}" if office.archive.proxy else APT
    return f"command -v borg >/dev/null || {{ {apt} update && {apt} install borgbackup openssh-client </dev/null; }} >&2"


def placed(files: Iterable[File], below: str = "") -> Iterator[str]:
    """The commands that write files below a directory; the umask sets their modes."""
    for file in files:
        yield f"mkdir -p $(dirname {below}{file.path})"
        yield f"base64 -d > {below}{file.path} <<'END'\n{base64.b64encode(file.content).decode()}\nEND"


def _before(view: BackupView, office: Office, secrets: Secrets, archive: str) -> str:
    """On the empty machine: accounts, borg, the data."""
    return shell(
        "restore-host", view=view, archive=archive, data=role_of(view.me).data, borg=borg(office), ASIDE=ASIDE, LIB=LIB,
        SETTINGS=SETTINGS, placed=placed(files(office=office, me=view.me, secrets=secrets), ASIDE),
    )  # fmt: skip


def _after(view: BackupView) -> Iterator[str]:
    """After the role's apply: owners that its packages created, keys that its daemon takes over, SSH's own keys."""
    yield from role_of(view.me).restored(view.office, view.me)
    yield "systemctl try-reload-or-restart ssh.service"
    # until its authority has answered it shows the office's own certificate, which users' programs may not know
    yield "[ ! -e /etc/systemd/system/outpost-certificate.service ] || systemctl start outpost-certificate.service || true"
    # earlier messages in the journal (a name server without keys) are settled: verify reads only later ones
    yield "touch /var/lib/outpost/applied"


def mailbox(
    target: Target,
    office: Office,
    address: str,
    *,
    folder: str = "",
    archive: str = "latest",
    via: str | None = None,
) -> tuple[str, int]:
    """Restore a mailbox, or one folder of it, beside the live one; returns the folder that it is below, and the number of messages.

    Messages keep their flags and dates; the present content of the mailbox is not changed. The owner's quota does not count them.
    """
    if address not in {user.address for user in office.users}:
        remedy = "add the user first (./outpost user add OFFICE ADDRESS); a shared mailbox comes back with its host only"
        raise OutpostError(f"{address} is not a user of {office.domain}", remedy)
    store = serving(office, "mailboxes")[0]
    (mail,) = role_of(store).data
    if archive != "latest" and archive not in {one.name for one in archives(target, office, (store,), via)}:
        raise OutpostError(
            f"there is no archive {archive}", f"list them with ./outpost backup {target.typed} --json"
        )
    now = datetime.now(UTC)
    into = f"Restored/{now:%Y-%m-%d %H.%M.%S}"
    script = shell(
        "restore-mailbox", mail=mail, place=f"{mail}/.restored-{now:%Y%m%d%H%M%S}", owner=address,
        local=address.partition("@")[0], folder=folder, archive=archive, into=into, PROGRAM=PROGRAM,
    )  # fmt: skip
    done = run_script(target, office, store, script, via, patience=PATIENCE)
    fields = (line.rpartition("\t")[2] for line in done.splitlines()[1:])
    counts = answers.parsed_lines(fields, Count, store.name)
    if not counts:
        message = f"{address} had no folder {folder}" if folder else f"{address} had no mail then"
        raise OutpostError(message, "leave out --folder to restore all its folders")
    return into, sum(counts)


@dataclass(frozen=True)
class Drill:
    """The result of a drill.

    Attributes:
        when: Its start, UTC (ISO 8601).
        archive: What was restored.
        rpo: Seconds of mail that would have been lost if the store had been lost at its start.
        worst_gap: Most seconds between two archives of the last week.
        rto: Seconds from the empty machine to a store that answers.
        data: Seconds until its data was restored.
        logins: Number of users who could log in to the restored store.
        differences: Differences from the live store; none is the goal.
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
        return not self.differences


def held(target: Target) -> tuple[Drill, ...]:
    """The stored drills, the latest first."""
    files = sorted(_folder(target).glob("*.json"), reverse=True)
    return tuple(TypeAdapter(Drill).validate_json(file.read_bytes()) for file in files)


def keep(target: Target, done: Drill) -> None:
    """Store the result of a drill beside earlier ones."""
    history.write(_folder(target), done.when, json.dumps(asdict(done), indent=1) + "\n")


def _folder(target: Target) -> Path:
    return history.folder(target).with_name("drills")
