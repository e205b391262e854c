"""Backups for the controller: set up the backup server, back up now, list archives, delete old ones.

A host reaches its own repository and adds to it (`outpost.onhost.backup`). The backup server itself deletes old archives,
with a key that no host has; no data goes over the network for it (docs/adr/0016).
"""

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, SecretStr, StringConstraints
from typing_extensions import TypedDict

from outpost.errors import OutpostError
from outpost.keys.model import Secrets
from outpost.keys.pairs import ssh_public
from outpost.office.backup import LIB, STATE, BackupView, backup_of
from outpost.office.model import Office
from outpost.office.tables.topology import Host
from outpost.onhost import vault
from outpost.target import ROOT, Target
from outpost.templates import environment
from outpost.transport import answers
from outpost.transport.remote import of_each, run_script

TEMPLATES = ROOT / "templates" / "vault"
PROGRAM = f"python3 -B {LIB}"
PATIENCE = 7 * 86400.0
"""Seconds: a first backup, or a whole mailbox, takes days on a slow line."""
MANIFEST = 512 * 1024**2
"""Most bytes of a manifest: 150 for each of 3.5 million messages. They take 3 GiB of memory here (`answers.VALUES`)."""
KEPT = {"every", "oldest", "hourly", "daily", "weekly", "monthly"}
"""Keys of `[backup]` that the program on the backup server takes."""
REFUSED = ": refused: "
"""How the backup server marks a host of which it deleted nothing."""


def _moment(name: str) -> datetime:
    """An archive's name is the moment of its snapshot: ``2026-11-25T134500Z-123``."""
    return datetime.strptime(name[:18], "%Y-%m-%dT%H%M%SZ").replace(tzinfo=UTC)


def _is_moment(name: str) -> str:
    _moment(name)
    return name


Name = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z(-[0-9]{1,9})?$"),
    AfterValidator(_is_moment),
]
"""The time of an archive's snapshot."""
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**63)]


class Listed(TypedDict):
    """An archive in a host's list."""

    name: Name
    id: Digest


class Made(TypedDict):
    """A host's report about a backup that it made."""

    archive: Name
    id: Digest
    started: datetime
    finished: datetime
    seconds: float
    frozen: float
    files: Count
    size: Count
    added: Count


class Folder(TypedDict):
    """A folder of mail in a host's list: base name → UID, flags and SHA-256 of each message."""

    uidvalidity: int
    next: int
    messages: dict[str, tuple[int, str, Digest]]


class Manifest(TypedDict):
    """A host's list of its mail and its other files."""

    folders: dict[str, Folder]
    files: dict[str, Digest]


class Taken(Made):
    """The result of a backup, with the manifest of the archive."""

    manifest: Manifest


class Checked(TypedDict):
    """The archive up to which a repository was read."""

    checked: Name


class Refused(TypedDict):
    """How many entries were not restored."""

    refused: Count


class Archive(NamedTuple):
    """One backup of one host."""

    host: str
    name: str
    id: str
    when: datetime

    @property
    def age(self) -> float:
        """Its time in seconds."""
        return (datetime.now(UTC) - self.when).total_seconds()


def views(office: Office, hosts: Iterable[Host] = ()) -> tuple[BackupView, ...]:
    found = tuple(view for host in (tuple(hosts) or office.hosts) if (view := backup_of(office, host)))
    if not found:
        raise OutpostError(
            f"{office.domain} has no backup", "declare where it goes: [backup] in docs/reference/office.md"
        )
    return found


def other_end(office: Office, secrets: Secrets) -> str:
    """A shell script for the backup server, to be run there as root; again after each change of hosts or keys."""
    shown, pruning = _with_keys(office, secrets)
    backup, hosts = shown[0].backup, [view.me.name for view in shown]
    settings = {"account": shown[0].account, "hosts": hosts, **backup.model_dump(include=KEPT)}
    template = environment(TEMPLATES).get_template("set-up.sh.j2")
    return template.render(
        office=office,
        backup=backup,
        account=shown[0].account,
        directory=shown[0].directory,
        hosts=[
            (
                view.me.name,
                view.me.fqdn,
                view.path,
                ssh_public(secrets.backup[view.me.name].ssh_key),
                view.quota,
            )
            for view in shown
        ],
        pruning=ssh_public(pruning),
        settings=json.dumps(settings),
        program=Path(vault.__file__).read_text(encoding="utf-8"),
    )


def run_now(
    target: Target, office: Office, hosts: Iterable[Host] = (), via: str | None = None
) -> dict[str, dict[str, Any]]:
    """Host → the result of its backup; side by side, each by the unit that the timer starts."""

    def one(host: Host) -> dict[str, Any]:
        script = (
            "systemctl start outpost-backup.service || { journalctl --unit outpost-backup.service --lines 5 --output cat "
            f"--no-pager >&2; exit 1; }}; cat {STATE}/last.json"
        )
        output = run_script(target, office, host, script, via, patience=PATIENCE)
        return dict(answers.parsed(output, Made, host.name))

    return of_each((view.me for view in views(office, hosts)), one)


def archives(
    target: Target, office: Office, hosts: Iterable[Host] = (), via: str | None = None
) -> tuple[Archive, ...]:
    """The archives of each host in its repository; the oldest first."""

    def one(host: Host) -> list[Archive]:
        output = run_script(target, office, host, f"{PROGRAM} list", via, patience=PATIENCE)
        listed = answers.parsed(output, list[Listed], host.name)
        return [Archive(host.name, entry["name"], entry["id"], _moment(entry["name"])) for entry in listed]

    found = of_each((view.me for view in views(office, hosts)), one)
    return tuple(archive for archives in found.values() for archive in archives)


def thin_out(office: Office, secrets: Secrets) -> list[str]:
    """Let the backup server examine new archives and delete old ones; returns its report, a line for each host.

    Raises:
        OutpostError: A key is missing, it cannot be reached, or a repository is not as an honest host and an intact disk leave it.
    """
    shown, pruning = _with_keys(office, secrets)
    passphrases = "".join(
        f"{view.me.name} {secrets.backup[view.me.name].passphrase.get_secret_value()}\n" for view in shown
    )
    try:
        with _ssh(shown[0], pruning) as command:
            done = answers.exchange(command, passphrases.encode(), patience=PATIENCE)
    except (TimeoutError, answers.TooMuchError):
        remedy = "check the machine that keeps the backups"
        raise OutpostError("the backup server's answer is too long, or a week late", remedy) from None
    # an error of borg's may contain text that a host wrote
    output = [answers.line(each) for each in done.out.decode(errors="replace").split("\n") if each]
    if refused := [line for line in output if REFUSED in line]:
        remedy = "examine these hosts (none of their archives was deleted), then follow docs/how-to/back-up-and-restore.md"
        raise OutpostError("; ".join(refused), remedy)
    if done.status:
        last = (done.errors.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        remedy = "set it up again with what `./outpost backup OFFICE --other-end` prints"
        raise OutpostError(f"the backup server failed: {answers.line(last)}", remedy)
    return output


def _with_keys(office: Office, secrets: Secrets) -> tuple[tuple[BackupView, ...], SecretStr]:
    """The backups of all hosts, each with its keys, and the key that deletes old archives."""
    shown = views(office)
    missing = [view.me.name for view in shown if view.me.name not in secrets.backup]
    if missing or secrets.backup_pruning is None:
        remedy = "./outpost secrets init OFFICE"
        raise OutpostError(f"no keys yet for the backup of {', '.join(missing) or office.domain}", remedy)
    return shown, secrets.backup_pruning


@contextmanager
def _ssh(view: BackupView, key: SecretStr) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory(prefix="outpost-backup-") as directory:
        identity, known = Path(directory) / "key", Path(directory) / "known_hosts"
        identity.touch(mode=0o600)
        identity.write_text(key.get_secret_value(), encoding="ascii")
        known.write_text(view.known_hosts, encoding="ascii")
        yield [
            "ssh", "-F", "none", "-i", str(identity), "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={known}",
            "-o", "GlobalKnownHostsFile=/dev/null",
            "-o", f"HostKeyAlias={view.known_name}", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes",
            "-o", "ConnectTimeout=30", "-p", str(view.backup.port), f"{view.account}@{view.backup.server}",
        ]  # fmt: skip
