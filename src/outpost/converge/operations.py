"""The operations behind the shapes: each compares what is declared with one scan of the host, and acts on the difference.

How files are checked: in a private mount namespace an overlay lays the new files over the live directories. The checker
(`postfix check`, `nginx -t`) sees the future file system; the host does not (docs/adr/0006).

How removals are found: ``/var/lib/outpost/applied/NAME`` names the files of the last successful run, and the digest
that the daemon loaded. It is emptied before files change, and written after the daemon has started. A file that is named
there and no longer declared is removed.
"""

import hashlib
import io
import shlex
import tarfile
import time
from collections.abc import Generator, Sequence
from pathlib import PurePosixPath

from pyinfra.api.command import FileUploadCommand, FunctionCommand, StringCommand
from pyinfra.context import state
from pyinfra.operations import server as stock_server

from outpost.converge import guard
from outpost.converge.declaration import AUTOMATIC, Account, Change, Directory, Group, Once, Packages
from outpost.converge.files import APPLIED, ARMED, LOCK, NOLOGIN, PACKAGES, RUN, STATE, File, shell
from outpost.converge.observation import (
    LINK,
    PACKAGES_BEFORE,
    Status,
    answer_to,
    observe,
    operation,
    read_now,
    run,
    sealing,
    void,
)
from outpost.converge.reporting import differs, file_finding, report
from outpost.drift.repairs import ASIDE, reload_for
from outpost.onhost.observe import KEY

STAGE = f"{RUN}/stage"
PATIENCE = 300
"""Seconds that a change waits for another one to end."""
HELD = (
    f"another apply has been changing this host for {PATIENCE} s: nothing was done; run the command again when it has "
    f"ended (lslocks on the host shows which process holds {LOCK})"
)
RUNNING = ("active", "reloading")
"""States of a unit that does its work. `reloading` is one of them: a unit may just be reading its new certificate (systemctl(1))."""
UPGRADES_WAIT = (
    "exec 8>/var/lib/apt/daily_lock; flock --wait 1800 8 || "
    "{ echo 'the host has been installing upgrades for half an hour: journalctl --unit=apt-daily-upgrade' >&2; exit 1; }"
)
"""Shell that waits until the host's own upgrades are over, and makes them wait until this ends (apt.systemd.daily): apt-get
waits for no lock of the package lists."""
APT = (
    "apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "
    "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
)
ENABLED = ("enabled", "static", "alias", "generated", "indirect")
"""States of a unit file with which the unit starts at boot, or needs nothing for it (systemctl(1), is-enabled)."""

Command = str | StringCommand | FileUploadCommand | FunctionCommand


@operation
def converge(item: Change) -> Generator[Command, None, None]:
    key, files, unit = item.key, item.files, item.unit
    answer = observe()
    record = answer.records.get(key, ())
    guarded = item.guarded and bool(record)
    run().vital = item.guarded and not record
    wanted = {file.path for file in files}
    before = _named("path", record)
    gone = tuple(path for path in before if path not in wanted and path not in run().known.files)
    changed = differing(files)
    digest = _digest(files + item.watches)
    loaded = f"digest {digest}" in record
    active, enabled = answer.units.get(unit, ("", ""))
    running = not unit or (active in RUNNING and enabled in ENABLED)
    if not state.is_executing:
        installed = {
            path for each in answer.records.values() for path in _named("path", each)
        }  # under any name
        _report(key, changed, gone, answer.files, known=installed, by_hand=loaded)
        if unit and not running:
            cause = f"{active or 'not there'}, {enabled or 'not enabled'}"
            differs("unit", unit, cause, "its service is missing on the host", "AVL-01")
        if record and not loaded and not changed:
            cause = "its daemon has not loaded the current files: an apply was interrupted, or a certificate is new"
            differs("daemon", unit or key, cause, "the daemon still runs with the previous files")
        elif answer.records and not record and not changed:
            differs(
                "daemon", unit or key, "not applied under this name yet", "an apply loads its files again"
            )
    if not (changed or gone) and loaded and running:
        return
    run().attended.add(unit)
    steps: list[str] = []
    if changed or gone:
        archive = yield from _uploaded(key, changed, into_place=not answer.records)
        arrange = guard.keep_previous(
            key,
            [file.path for file in changed],
            gone,
            activate=item.activate,
            live=item.live and f"STAGE={STAGE}/{key}; {item.live}",
            first=not record,
        )
        if guarded:
            arrange += guard.arm(key)
        steps.append(_install_script(key, archive, changed, gone, item.check, arrange))
        if guarded:
            yield alone(steps.pop(), seal=sealing())
    steps.append("set -eu")
    if guarded and not (changed or gone):
        # a change that an interrupted run has left armed: the timer gets all of its time again
        steps += [f"if [ -e {ARMED}/{key} ]; then", *guard.arm(key), "fi"]
    if any(path.startswith("/etc/systemd/") for path in (*wanted, *gone)):
        steps.append("systemctl daemon-reload")
    if item.activate:
        steps.append(f"( {item.activate} )")
    if guarded:
        yield alone("\n".join(steps))
        yield guard.confirmation(key, armed=bool(changed or gone))
        steps = ["set -eu"]
    steps += guard.keep_declared(key, files)
    entries = [f"path {path}" for path in sorted(wanted)] + [f"digest {digest}"]
    if unit:
        entries.insert(0, f"unit {unit}")
    target = shlex.quote(f"{APPLIED}/{key}")
    steps.append(f"mkdir -p {APPLIED}")
    steps.append(
        f"printf '%s\\n' {' '.join(map(shlex.quote, entries))} > {target}.new && mv {target}.new {target}"
    )
    yield alone("\n".join(steps), seal=sealing())
    void()


def alone(script: str, *, seal: str = "") -> StringCommand:
    """A script that changes the host while nothing else does.

    What a controller started before it died continues; the next controller scans when that has ended (`observation.Survey`).

    Args:
        seal: The office's secret for this host, as a shell variable that no program inherits; it comes by standard input.
    """
    whole = f"mkdir -p -m 0700 {RUN}; exec 9>{LOCK}; flock --wait {PATIENCE} 9 || {{ echo '{HELD}' >&2; exit 1; }}\n{script}"
    return StringCommand(f"read -r {KEY}; {whole}", _stdin=seal) if seal else StringCommand(whole)


def _named(kind: str, record: Sequence[str]) -> list[str]:
    """The units or paths of a record."""
    return [entry.removeprefix(f"{kind} ") for entry in record if entry.startswith(f"{kind} ")]


def _digest(files: Sequence[File]) -> str:
    lines = sorted(" ".join((file.path, *file.fingerprint)) for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def differing(files: Sequence[File]) -> tuple[File, ...]:
    """The declared files from which those on the host differ."""
    found = observe().files
    return tuple(file for file in files if found.get(file.path) != file.fingerprint)


def _tar(files: Sequence[File]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in files:
            member = tarfile.TarInfo(file.path.lstrip("/"))
            member.size, member.mode = len(file.content), int(file.mode, 8)
            member.uname, member.gname = file.owner, file.group
            member.mtime = time.time()  # web servers derive entity tags from it
            archive.addfile(member, io.BytesIO(file.content))
    buffer.seek(0)
    return buffer


def _uploaded(name: str, files: Sequence[File], *, into_place: bool = True) -> Generator[Command, None, str]:
    """Upload files in an archive and return its path; its directory may have to be made."""
    archive = f"{STATE}/{name}.tar"
    if into_place:
        yield StringCommand("mkdir", "-p", "-m", "0700", STATE)
    yield FileUploadCommand(_tar(files), archive)
    return archive


def unpacked(name: str, files: Sequence[File]) -> Generator[Command, None, None]:
    """Unpack files without check or record: for what must exist before the first scan.

    If something is in their way, they stay missing until their own operation moves it aside.
    """
    archive = yield from _uploaded(name, files)
    yield alone(
        f"set -eu\ntar --extract --preserve-permissions --same-owner --file={archive} --directory=/ || true; rm -f {archive}"
    )


def _install_script(
    key: str,
    archive: str,
    changed: Sequence[File],
    gone: Sequence[str],
    check: str | None,
    arrange: Sequence[str] = (),
) -> str:
    """Unpack into a separate directory, check in an overlay of the future file system, then move each file into place."""
    paths = [file.path for file in changed]
    return shell(
        "install", key=key, archive=archive, stage=f"{STAGE}/{key}", changed=changed, gone=gone, check=check, arrange=arrange,
        tops=sorted({_top(path) for path in (*paths, *gone)}), removals=[_removal(path) for path in gone], ASIDE=ASIDE,
    )  # fmt: skip


def _removal(path: str) -> str:
    """Shell that removes a file, and the daemon's compiled form of it (Sieve)."""
    made = [f"{path.removesuffix('.sieve')}.svbin"] if path.endswith(".sieve") else []
    return f"rm -f -- {' '.join(map(shlex.quote, [path, *made]))}"


def _top(path: str) -> str:
    """The directory to overlay for a path: small enough to hide no mount that a checker needs."""
    parts = PurePosixPath(path).parts
    return "/" + "/".join(parts[1:2] if parts[1] in ("etc", "usr") else parts[1:3])


def _report(
    key: str,
    changed: Sequence[File],
    gone: Sequence[str],
    seen: dict[str, Status],
    *,
    known: set[str],
    by_hand: bool,
) -> None:
    for file in changed:
        found, path = seen.get(file.path), shlex.quote(file.path)
        # a link may lead to a file that nobody should read here
        shows = state.config.DIFF and found and found[3] != LINK and not file.secret
        before = read_now(f"[ ! -f {path} ] || head -c 1M {path}") if shows else None
        report(file_finding(file, found, before, owner=key, known=file.path in known, by_hand=by_hand))
    for path in gone:
        differs("file", path, "no longer declared", "an apply removes it; nothing reads it any more")


@operation
def install(item: Packages) -> Generator[Command, None, None]:  # noqa: ARG001 (all of the host's at once)
    known = run().known
    listed = answer_to(known.are_installed)
    # the second letter is the state; for packages on hold the first one differs, which is reported separately
    installed = {line.split("|")[1] for line in listed if line[1:2] == "i"}
    automatic = sorted(line.removeprefix(AUTOMATIC) for line in listed if line.startswith(AUTOMATIC))
    for each in automatic:
        consequence = "an upgrade removes it when no other package needs it"
        differs("package", each, "marked as installed automatically", consequence, "SYS-04")
    missing = sorted(known.package_names - installed)
    for each in missing:
        differs("package", each, "not installed", "its role does not work without it", "SYS-04")
    if automatic:  # a plan ends with the first command: everything is reported before
        yield alone(f"apt-mark manual {shlex.join(automatic)} >/dev/null")
        void()
    if not missing:
        return
    run().vital = not observe().records.keys() - {"apt"}  # apt's own settings come before
    preseed = [line for lines in known.packages.values() for line in lines]
    yield alone(shell("packages", missing=missing, preseed=preseed, UPGRADES_WAIT=UPGRADES_WAIT, APT=APT))
    void()


@operation
def directory(item: Directory) -> Generator[Command, None, None]:
    wanted = (item.mode.lstrip("0"), item.owner, item.group, "directory")
    seen = observe().files.get(item.name)
    if seen != wanted:
        cause = "not as declared" if seen else "not there"
        consequence = "other accounts may read or replace it, or its owner cannot"
        diff = (*([f"-{' '.join(seen[:3])}"] if seen else []), f"+{' '.join(wanted[:3])}")
        differs("directory", item.name, cause, consequence, "SYS-09", diff=diff)
        yield alone(made(item))
        void()


def made(item: Directory) -> str:
    """Shell after which a directory is there with its owner and mode.

    SYS-01: not by pyinfra's operation, which follows a link: the owner of the directory above may put one there meanwhile.
    """
    quoted = shlex.quote(item.name)
    return (
        f"set -eu\nmkdir -p -- {quoted}\nchown -h {item.owner}:{item.group} {quoted}\nchmod -h {item.mode} {quoted}\n"
        f"[ ! -L {quoted} ] || {{ echo {quoted} is a link >&2; exit 1; }}"
    )


@operation
def group(item: Group) -> Generator[Command, None, None]:
    if not answer_to(item.question):
        yield from stock_server.group._inner(group=item.group, system=True)
        void()


@operation
def account(item: Account) -> Generator[Command, None, None]:
    seen = answer_to(item.question)
    entry = seen[0].split(":") if seen else []
    if (
        entry
        and entry[6] == NOLOGIN
        and entry[5] == (item.home or entry[5])
        and item.group in " ".join(seen[1:2]).split()
    ):
        return
    yield from stock_server.group._inner(group=item.group, system=True)
    yield from stock_server.user._inner(
        user=item.group, group=item.group, home=item.home, shell=NOLOGIN, system=True, ensure_home=False
    )
    void()


@operation
def once(item: Once) -> Generator[Command, None, None]:
    if "met" in answer_to(item.question):
        return
    report(item.finding)
    command = item.command
    if item.files:
        archive = yield from _uploaded(item.key, item.files)
        stage = f"{STAGE}/{item.key}"
        command = (
            f"trap 'rm -rf {stage} {archive}' EXIT\nSTAGE={stage}\nrm -rf $STAGE; mkdir -p -m 0700 $STAGE\n"
            f"tar --extract --preserve-permissions --file={archive} --directory=$STAGE\n{command}"
        )
    yield alone(f"set -eu\n{command}")
    void()


@operation
def retire() -> Generator[Command, None, None]:
    """Remove what earlier runs installed and nobody declares any more: files, units, packages.

    A record that only has a new name loses neither its unit nor its files.
    """
    known = run().known
    commands: list[Command] = []  # a plan ends with the first one: everything is reported before
    for record, entries in observe().records.items():
        if record in known.changes or record.endswith(".new"):
            continue
        units = [unit for unit in _named("unit", entries) if unit not in known.units]
        leaving = [path for path in _named("path", entries) if path not in known.files]
        for kind, thing in (*(("unit", unit) for unit in units), *(("file", path) for path in leaving)):
            differs(kind, thing, "no longer declared", "an apply removes it; nothing needs it any more")
        removals = map(_removal, leaving)
        reloads = dict.fromkeys(filter(None, map(reload_for, leaving)))
        commands.append(
            alone(shell("retire", record=record, units=units, removals=removals, reloads=reloads))
        )
    commands += _retire_packages(known.package_names)
    yield from commands
    void()


def _retire_packages(wanted: frozenset[str]) -> Generator[Command, None, None]:
    """Remove packages that a role once asked for. They are not purged: a person decides about their data."""
    before = set(answer_to(PACKAGES_BEFORE))
    if extra := sorted(before - wanted):
        for each in extra:
            differs("package", each, "no longer declared", "an apply removes it; its data stays", "SYS-04")
        listed = " ".join(map(shlex.quote, extra))
        yield alone(
            f"{UPGRADES_WAIT}\nDEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 --auto-remove remove {listed} </dev/null"
        )
    if before != wanted:
        listed = " ".join(map(shlex.quote, sorted(wanted)))
        yield StringCommand(
            f"mkdir -p -m 0700 {STATE}; printf '%s\\n' {listed} > {PACKAGES}.new && mv {PACKAGES}.new {PACKAGES}"
        )
