"""The one shape of change that every role uses: render, check, install, activate, remember.

A role declares what a host should hold; these operations compare it with one observation of the host and act
on the difference. The order makes two promises: a file lands only after the daemon's own checker has accepted
it, and a daemon that has not loaded its files yet is restarted by the next run, whatever broke this one off.

How the check works: in a private mount namespace an overlay lays the new files over the live directories, so
the checker (`postfix check`, `nginx -t`) sees the file system exactly as it would be, and the host does not
(docs/adr/0006). How nothing is forgotten: ``/var/lib/outpost/applied/NAME`` names the files of the last
successful run and the digest that the daemon loaded. It is emptied before files change and written after the
daemon has come up; a file named there and no longer declared is removed.
"""

from __future__ import annotations

import hashlib
import io
import re
import shlex
import tarfile
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import unified_diff
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from weakref import WeakKeyDictionary

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pyinfra import logger
from pyinfra.api.command import FileUploadCommand, StringCommand
from pyinfra.api.exceptions import FactProcessError, OperationError
from pyinfra.api.facts import FactBase
from pyinfra.api.host import Host
from pyinfra.api.operation import operation
from pyinfra.context import ctx_host, host, state
from pyinfra.operations import files as stock_files
from pyinfra.operations import server as stock_server
from typing_extensions import override

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
STATE = "/var/lib/outpost"
APPLIED = f"{STATE}/applied"
STAGE = "/run/outpost/stage"
END = "outpost-observation-complete"
"""Last line of every observation. Without it the answer was cut off and must not be read as "nothing there"."""

Command = str | StringCommand | FileUploadCommand


@dataclass(frozen=True)
class File:
    """A file that a host should hold.

    Attributes:
        path: Absolute path on the host.
        content: Its bytes; text is encoded as UTF-8.
        mode: Octal permissions as text.
        secret: Its content is never shown in a diff.
    """

    path: str
    content: bytes = field(repr=False)
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"
    secret: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def fingerprint(self) -> tuple[str, str, str, str]:
        return (self.mode.lstrip("0") or "0", self.owner, self.group, self.sha256)


def text(
    path: str,
    content: str,
    *,
    mode: str = "0644",
    owner: str = "root",
    group: str = "root",
    secret: bool = False,
) -> File:
    """A file with the given text."""
    return File(path, content.encode(), mode, owner, group, secret)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (configuration files; the two HTML pages escape by themselves)
    )


def rendered(
    role: str,
    path: str,
    *,
    template: str | None = None,
    mode: str = "0644",
    owner: str = "root",
    group: str = "root",
    secret: bool = False,
    **context: Any,
) -> File:
    """The file at `path` from ``templates/<role><path>.j2`` (or the `template` named, relative to the role).

    Raises:
        jinja2.UndefinedError: The template names something that the context lacks.
    """
    source = f"{role}/{(template or path).lstrip('/')}.j2"
    return text(
        path,
        _environment().get_template(source).render(context),
        mode=mode,
        owner=owner,
        group=group,
        secret=secret,
    )


# What a host shows ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """One observation of a host.

    Attributes:
        files: Path to (mode, owner, group, SHA-256) of what exists.
        applied: Lines of the record of the last successful run.
        active: ``systemctl is-active`` of the unit; empty without one.
        enabled: ``systemctl is-enabled`` of the unit.
    """

    files: dict[str, tuple[str, str, str, str]]
    applied: tuple[str, ...]
    active: str
    enabled: str

    @property
    def digest(self) -> str:
        return next((line.removeprefix("digest ") for line in self.applied if line.startswith("digest ")), "")

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(line.removeprefix("path ") for line in self.applied if line.startswith("path "))


class Observation(FactBase[Seen]):
    """Files, record and unit in one command."""

    @override
    def command(self, key: str, paths: tuple[str, ...], unit: str) -> str:
        listed = " ".join(map(shlex.quote, paths))
        record = shlex.quote(f"{APPLIED}/{key}")
        parts = [f"sed 's/^/A /' {record} 2>/dev/null"]
        if paths:
            parts.append(f"stat -c 'S %a %U %G %n' -- {listed} 2>/dev/null")
            parts.append(f"sha256sum -- {listed} 2>/dev/null | sed 's/^/H /'")
        if unit:
            quoted = shlex.quote(unit)
            parts.append(
                f"echo U $(systemctl is-active {quoted} 2>/dev/null) $(systemctl is-enabled {quoted} 2>/dev/null)"
            )
        return "; ".join([*parts, f"echo {END}"])

    @override
    def process(self, output: Iterable[str]) -> Seen:
        lines = complete(output)
        status: dict[str, tuple[str, str, str]] = {}
        digests: dict[str, str] = {}
        active = enabled = ""
        for line in lines:
            kind, _, rest = line.partition(" ")
            if kind == "S":
                mode, owner, group, path = rest.split(" ", 3)
                status[path] = (mode, owner, group)
            elif kind == "H":
                digest, _, path = rest.partition("  ")
                digests[path] = digest
            elif kind == "U":
                active, enabled = (*rest.split(), "", "")[:2]
        files = {path: (*found, digests.get(path, "")) for path, found in status.items()}
        applied = tuple(line.removeprefix("A ") for line in lines if line.startswith("A "))
        return Seen(files, applied, active, enabled)


class Lines(FactBase[tuple[str, ...]]):
    """Standard output of a command that only looks."""

    @override
    def command(self, look: str) -> str:
        return f"{look}; echo {END}"

    @override
    def process(self, output: Iterable[str]) -> tuple[str, ...]:
        return complete(output)


def complete(output: Iterable[str]) -> tuple[str, ...]:
    """The lines of an observation, once it is known to be whole.

    Raises:
        FactProcessError: The marker at its end is missing.
    """
    lines = tuple(output)
    if not lines or lines[-1] != END:
        raise FactProcessError("the host's answer was cut off; nothing is concluded from it: run again")
    return lines[:-1]


# What a role declares -------------------------------------------------------------------------------------------


@dataclass
class Declared:
    """Everything the roles have declared for one host in this run; what is on the host beyond it must go."""

    records: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    packages: set[str] = field(default_factory=set)
    changing: set[str] = field(default_factory=set)


_declared: WeakKeyDictionary[Host, Declared] = WeakKeyDictionary()


def declared() -> Declared:
    """The declarations for the current host so far."""
    current: Host = ctx_host.get()  # type: ignore[no-untyped-call]  # the host itself: its proxy is one for all
    return _declared.setdefault(current, Declared())


def service(
    *,
    name: str,
    unit: str,
    files: Sequence[File] = (),
    watches: Sequence[File] = (),
    check: str | None = None,
    on_change: Literal["restart", "reload"] = "restart",
) -> None:
    """A daemon and its files: checked, installed, enabled, running, restarted when what it loaded differs.

    Args:
        name: The daemon, as people call it; also the name of its record on the host.
        unit: Its systemd unit.
        files: Its configuration.
        watches: Files that another shape installs and this daemon loads (certificates).
        check: Command that accepts or refuses the future configuration.
        on_change: ``reload`` for daemons that lose nothing by it and pick up everything.
    """
    key = _note(name, files)
    verb = "reload-or-restart" if on_change == "reload" else "restart"
    # A daemon gets 90 s by default; the evidence of a failed start belongs to the error, not to a later look.
    activate = (
        f"systemctl reset-failed {unit} 2>/dev/null || true; systemctl enable --quiet {unit} && systemctl {verb} {unit} "
        f"&& systemctl is-active --quiet {unit} || {{ journalctl --unit={unit} --lines=25 --no-pager >&2; exit 1; }}"
    )
    _converge(
        name=name,
        key=key,
        files=tuple(files),
        watches=tuple(watches),
        check=check,
        activate=activate,
        unit=unit,
    )


def settings(
    *, name: str, files: Sequence[File], check: str | None = None, activate: str | None = None
) -> None:
    """Files without a daemon of their own, and the command that puts a change into effect.

    Args:
        activate: Run after a change (``sysctl --system``); run again by the next run if it failed.
    """
    key = _note(name, files)
    _converge(name=name, key=key, files=tuple(files), watches=(), check=check, activate=activate, unit="")


def packages(name: str, names: Sequence[str], *, preseed: Sequence[str] = ()) -> None:
    """Debian packages in one apt run, without recommends; no daemon starts before it is configured.

    Args:
        preseed: ``debconf-set-selections`` lines, loaded only when something is installed.
    """
    declared().packages.update(names)
    _packages(name=name, names=tuple(names), preseed=tuple(preseed))


def directory(path: str, *, owner: str = "root", group: str = "root", mode: str = "0755") -> None:
    """A directory with its owner and permissions."""
    stock_files.directory(name=path, path=path, user=owner, group=group, mode=mode)


def account(
    name: str,
    *,
    home: str | None = None,
    shell: str = "/usr/sbin/nologin",
    groups: Sequence[str] = (),
    create_home: bool = False,
) -> None:
    """A system account and its group of the same name."""
    stock_server.group(name=f"group {name}", group=name, system=True)
    stock_server.user(
        name=f"account {name}",
        user=name,
        group=name,
        groups=list(groups),
        append=True,
        home=home,
        shell=shell,
        system=True,
        ensure_home=create_home,
    )


def group(name: str) -> None:
    """A system group."""
    stock_server.group(name=f"group {name}", group=name, system=True)


def absent(name: str, paths: Sequence[str]) -> None:
    """Files of a package that must not be there (a default site, a sample)."""
    _absent(name=name, paths=tuple(paths))


def once(name: str, *, unless: str, command: str) -> None:
    """A command for what only the host can make (a database schema), run while `unless` fails.

    Args:
        unless: Shell test without side effects; true means there is nothing to do.
        command: Idempotent by itself, because a run may break off behind it.
    """
    _once(name=name, unless=unless, command=command)


def retire_undeclared() -> None:
    """Remove what earlier runs installed and no role declares any more: files, units, packages. Call it last."""
    _retire(name="what is no longer declared")


def _note(name: str, files: Sequence[File]) -> str:
    """Enter a declaration; gives the file name of its record on the host."""
    key = re.sub(r"[^\w.-]+", "-", name)
    known = declared()
    known.records.add(key)
    known.paths.update(file.path for file in files)
    return key


# Operations -----------------------------------------------------------------------------------------------------


@operation()
def _converge(
    key: str,
    files: tuple[File, ...],
    watches: tuple[File, ...],
    check: str | None,
    activate: str | None,
    unit: str,
) -> Generator[Command, None, None]:
    seen = _observe(key, tuple(file.path for file in files), unit)
    wanted = {file.path for file in files}
    gone = tuple(path for path in seen.paths if path not in wanted and path not in declared().paths)
    changed = tuple(file for file in files if seen.files.get(file.path) != file.fingerprint)
    digest = _digest(files + watches)
    loaded = seen.digest == digest
    running = not unit or (
        seen.active == "active" and seen.enabled in ("enabled", "static", "alias", "generated", "indirect")
    )
    if state.config.DIFF:
        _show(changed, gone, seen)
    if changed or gone:
        archive = f"{STATE}/{key}.tar"
        yield StringCommand("mkdir", "-p", "-m", "0700", STATE)
        yield FileUploadCommand(_tar(changed), archive)
        yield StringCommand(_install_script(key, archive, changed, gone, check))
    if changed or gone or not loaded or not running:
        steps = ["set -eu"]
        if any(path.startswith("/etc/systemd/") for path in (*wanted, *gone)):
            steps.append("systemctl daemon-reload")
        if activate:
            steps.append(f"( {activate} )")
        record = (
            [f"unit {unit}"] * bool(unit) + [f"path {path}" for path in sorted(wanted)] + [f"digest {digest}"]
        )
        target = shlex.quote(f"{APPLIED}/{key}")
        steps.append(f"mkdir -p {APPLIED}")
        steps.append(
            f"printf '%s\\n' {' '.join(map(shlex.quote, record))} > {target}.new && mv {target}.new {target}"
        )
        yield StringCommand("\n".join(steps))


def _observe(key: str, paths: tuple[str, ...], unit: str) -> Seen:
    seen: Seen | None = host.get_fact(Observation, key=key, paths=paths, unit=unit)
    if seen is None:
        raise OperationError("the host did not answer; nothing is concluded from it: run again")
    return seen


def _look(command: str) -> tuple[str, ...]:
    lines: tuple[str, ...] | None = host.get_fact(Lines, look=command)
    if lines is None:
        raise OperationError("the host did not answer; nothing is concluded from it: run again")
    return lines


def _digest(files: Sequence[File]) -> str:
    lines = sorted(" ".join((file.path, *file.fingerprint)) for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _tar(files: Sequence[File]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in files:
            member = tarfile.TarInfo(file.path.lstrip("/"))
            member.size, member.mode = len(file.content), int(file.mode, 8)
            member.uname, member.gname = file.owner, file.group
            archive.addfile(member, io.BytesIO(file.content))
    buffer.seek(0)
    return buffer


def _install_script(
    key: str, archive: str, changed: Sequence[File], gone: Sequence[str], check: str | None
) -> str:
    """Unpack aside, check in an overlay of the future file system, then move each file into place."""
    stage = f"{STAGE}/{key}"
    lines = [
        "set -eu",
        f"trap 'rm -rf {stage} {stage}.log {archive}' EXIT",
        f"rm -rf {stage}; mkdir -p -m 0700 {stage}",
        f"tar --extract --preserve-permissions --same-owner --file={archive} --directory={stage}",
    ]
    for path in gone:  # a character device 0:0 is how an overlay hides a file of the layer below
        hidden = shlex.quote(f"{stage}{path}")
        lines.append(f"mkdir -p {shlex.quote(str(PurePosixPath(stage + path).parent))}; mknod {hidden} c 0 0")
    if check:
        tops = sorted({_top(path) for path in (*(file.path for file in changed), *gone)})
        mounts = "".join(
            f"mkdir -p {top}; mount -t overlay overlay -o ro,lowerdir={stage}{top}:{top} {top}; "
            for top in tops
        )
        lines.append(
            f"unshare --mount sh -euc {shlex.quote(mounts + check)} >{stage}.log 2>&1 || {{ cat {stage}.log >&2; exit 1; }}"
        )
    lines.append(f"[ ! -e {APPLIED}/{key} ] || sed -i '/^digest /d' {APPLIED}/{key}")
    for file in changed:
        path, new = shlex.quote(file.path), shlex.quote(f"{file.path}.outpost-new")
        lines.append(f"mkdir -p {shlex.quote(str(PurePosixPath(file.path).parent))}")
        lines.append(
            f"cp --archive --no-dereference {shlex.quote(stage + file.path)} {new} && mv -fT {new} {path}"
        )
    lines.extend(f"rm -f -- {shlex.quote(path)}" for path in gone)
    return "\n".join(lines)


def _top(path: str) -> str:
    """The directory to overlay for a path: small enough not to hide mounts that a checker needs."""
    parts = PurePosixPath(path).parts
    return "/" + "/".join(parts[1:2] if parts[1] in ("etc", "usr") else parts[1:3])


def _show(changed: Sequence[File], gone: Sequence[str], seen: Seen) -> None:
    for file in changed:
        before = seen.files.get(file.path)
        logger.info("%s%s", host.print_prefix, f"{'changes' if before else 'creates'} {file.path}")
        if before and before[:3] != file.fingerprint[:3]:
            logger.info("    %s -> %s", " ".join(before[:3]), " ".join(file.fingerprint[:3]))
        if file.secret:
            logger.info("    (secret: content not shown)")
            continue
        old = _look(f"cat {shlex.quote(file.path)} 2>/dev/null; echo") if before else ()
        new = file.content.decode(errors="replace").splitlines()
        for line in unified_diff(
            [*old][:-1] if old and not old[-1] else [*old], new, "on the host", "declared", lineterm="", n=1
        ):
            logger.info("    %s", line)
    for path in gone:
        logger.info("%s%s", host.print_prefix, f"removes {path}")


@operation()
def _packages(names: tuple[str, ...], preseed: tuple[str, ...]) -> Generator[Command, None, None]:
    listed = " ".join(map(shlex.quote, names))
    lines = _look(
        f"dpkg-query --show --showformat '${{db:Status-Abbrev}}|${{Package}}\\n' {listed} 2>/dev/null"
    )
    installed = {line.split("|")[1] for line in lines if line.startswith("ii")}
    missing = [name for name in names if name not in installed]
    if not missing:
        return
    steps = ["set -eu", "export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8"]
    # A policy that refuses starts lives only as long as this run: later upgrades must restart their daemons.
    steps.append(
        "if [ ! -e /usr/sbin/policy-rc.d ]; then trap 'rm -f /usr/sbin/policy-rc.d' EXIT; "
        "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; fi"
    )
    steps.append("dpkg --configure -a")
    if preseed:
        steps.append(f"printf '%s\\n' {' '.join(map(shlex.quote, preseed))} | debconf-set-selections")
    steps.append("apt-get -qq -o DPkg::Lock::Timeout=300 update")
    steps.append(
        "apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "
        f"-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install {' '.join(map(shlex.quote, missing))} "
        "</dev/null"
    )
    yield StringCommand("\n".join(steps))


@operation()
def _absent(paths: tuple[str, ...]) -> Generator[Command, None, None]:
    listed = " ".join(map(shlex.quote, paths))
    present = _look(f'for path in {listed}; do [ ! -e "$path" ] && [ ! -L "$path" ] || echo "$path"; done')
    if present:
        yield StringCommand("rm", "-rf", "--", *map(shlex.quote, present))


@operation()
def _once(unless: str, command: str) -> Generator[Command, None, None]:
    if "met" not in _look(f"if ( {unless} ) >/dev/null 2>&1; then echo met; fi"):
        yield StringCommand(f"set -eu\n{command}")


@operation()
def _retire() -> Generator[Command, None, None]:
    known = declared()
    lines = _look(f"cd {APPLIED} 2>/dev/null && grep -H . -- * 2>/dev/null")
    stale: dict[str, list[str]] = {}
    for line in lines:
        record, _, entry = line.partition(":")
        if record not in known.records and not record.endswith(".new"):
            stale.setdefault(record, []).append(entry)
    for record, entries in stale.items():
        units = [entry.removeprefix("unit ") for entry in entries if entry.startswith("unit ")]
        paths = [entry.removeprefix("path ") for entry in entries if entry.startswith("path ")]
        steps = [
            "set -eu",
            *(f"systemctl disable --now --quiet {shlex.quote(unit)} || true" for unit in units),
        ]
        steps += [f"rm -f -- {shlex.quote(path)}" for path in paths if path not in known.paths]
        steps += ["systemctl daemon-reload", f"rm -f {shlex.quote(f'{APPLIED}/{record}')}"]
        yield StringCommand("\n".join(steps))
    yield from _retire_packages(known)


def _retire_packages(known: Declared) -> Generator[Command, None, None]:
    """Packages that a role asked for once; they are removed, not purged: their data stays for a human to judge."""
    record = f"{STATE}/packages"
    before = _look(f"cat {record} 2>/dev/null")
    extra = sorted(set(before) - known.packages)
    if extra:
        listed = " ".join(map(shlex.quote, extra))
        yield StringCommand(
            f"DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 remove {listed} </dev/null"
        )
    if set(before) != known.packages:
        listed = " ".join(map(shlex.quote, sorted(known.packages)))
        yield StringCommand(
            f"mkdir -p -m 0700 {STATE}; printf '%s\\n' {listed} > {record}.new && mv {record}.new {record}"
        )
