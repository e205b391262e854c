"""Who changes a host now, and which version applied it. The host stores both, so that every controller sees them (docs/adr/0029).

A claim is a lock that a process on the host holds for as long as its connection to the controller is open: it ends with
the controller and needs no clock. The record is one line of JSON that the last apply left. Both are
hostile input, because the host prints them: bounded, typed, shown without control characters.
"""

import hashlib
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from outpost import __version__
from outpost.errors import OutpostError, of_hosts
from outpost.office import Office, load
from outpost.target import ROOT, Target, written
from outpost.transport.answers import Pool
from outpost.transport.remote import (
    ANSWER,
    QUIET,
    TALKATIVE,
    failure,
    of_each,
    run_script,
    shell_command,
    typeable,
)
from outpost.verification import history

RECORD = "/var/lib/outpost/converged.json"
LOCK = "/run/outpost-changing"
LONGEST = 2000
"""Most bytes of a record; a longer one is ignored."""
BUSY = 75
SCRIPT = f"""
umask 077
exec 9>>{LOCK} || exit 1
if ! flock -w 5 9; then echo "busy $(head -c {LONGEST} {LOCK} | tr '\\n' ' ')"; exit {BUSY}; fi
printf '%s\\n' "$who" >{LOCK}
echo "held $(head -c {LONGEST} {RECORD} 2>/dev/null | tr '\\n' ' ')"
if IFS= read -r record; then
  mkdir -p -m 0755 {Path(RECORD).parent} && printf '%s\\n' "$record" >{RECORD}.new && mv {RECORD}.new {RECORD}
  echo kept
fi
: >{LOCK}
"""
"""It reads the record, or the end, from its own input stream. A lock of a controller that has just
died is free within five seconds."""

Plain = Annotated[str, Field(pattern=r"^[ -~]{0,120}$")]


class Record(BaseModel):
    """Who applied a host, or changes it now, and with which version."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    by: Plain
    when: Annotated[str, Field(pattern=r"^[0-9T:+-]{10,30}$")]
    version: Plain
    commit: Annotated[str, Field(pattern=r"^([0-9a-f]{7,40}\+?)?$")] = ""
    office_file: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @classmethod
    def parse(cls, text: str) -> "Record | None":
        """Parse what a host prints; None if it is no record."""
        try:
            return cls.model_validate_json(text[:LONGEST])
        except ValidationError:
            return None

    @property
    def shown(self) -> str:
        at = f" at commit {self.commit}" if self.commit else ""
        return f"{self.by}, {self.when}, with Outpost {self.version}{at}"


def mine(target: Target, by: str = "") -> Record:
    """The record of this controller; an account may have several clones.

    Args:
        by: Who claimed the hosts, where the office file is a text beside the office's own.
    """
    described = history.described_by(target)
    clone = f"{described.pop('by')}:{target.directory.resolve()}"
    by = by or clone.encode("ascii", "replace").decode()[:120]
    return Record(version=__version__, by=by, **described)


class _BusyError(OutpostError):
    """Another controller holds a host's lock."""


class _SilentError(OutpostError):
    """A host that cannot be reached."""


@dataclass
class _Held:
    """A host's lock, held by an open shell."""

    process: subprocess.Popen[str]
    record: Record | None

    def end(self, record: Record | None) -> None:
        """Release the lock; with a record, the host stores that first. Its output is not read, so a pipe bounds it."""
        with self.process:  # closes its streams
            try:
                with self.process.stdin as stdin:  # type: ignore[union-attr]
                    stdin.write(f"{record.model_dump_json()}\n" if record else "")
                self.process.wait(ANSWER)
            except (subprocess.TimeoutExpired, OSError, ValueError):
                self.process.kill()


@dataclass
class Claim:
    """The hosts that this process may change.

    Attributes:
        own: This checkout and office file when the claim's last apply began; later edits are not applied.
        text: That office file. It is kept with the hosts' records, even if the apply found nothing to change.
        converged: Hosts that are as declared now; they keep a record of it when the claim ends.
        silent: Hosts that do not answer, each with the reason; nothing waits for them again.
    """

    own: Record
    text: bytes
    held: dict[str, _Held]
    converged: set[str] = field(default_factory=set)
    silent: dict[str, OutpostError] = field(default_factory=dict)

    @property
    def streams(self) -> tuple[int, ...]:
        """Open files that hold the locks. A process that inherits them keeps the locks: an apply whose command line was killed continues."""
        streams = (each.process.stdin for each in self.held.values())
        return tuple(stream.fileno() for stream in streams if stream is not None)

    def reached(self, limit: tuple[str, ...]) -> tuple[str, ...]:
        """These hosts, or all for none, without those that do not answer."""
        return tuple(name for name in limit or self.held if name in self.held) if self.silent else limit

    @property
    def unreached(self) -> dict[str, str]:
        """Host that does not answer → why, and the remedy."""
        return {name: str(why).removeprefix(f"{name}: ") for name, why in self.silent.items()}

    def converged_from(self, office_file: str) -> bool:
        """Whether every host of the claim was last converged from the office file with this SHA-256."""
        return all(each.record and each.record.office_file == office_file for each in self.held.values())

    def base(self, target: Target) -> str | None:
        """The office file that every host of the claim was last converged from, if this controller kept its text."""
        file = history.folder(target).with_name("converged.toml")
        text = file.read_bytes() if file.exists() else b""
        return text.decode() if self.converged_from(hashlib.sha256(text).hexdigest()) else None

    @contextmanager
    def beside(self, target: Target, text: str) -> Iterator[Target]:
        """The same office with another text of its file, in a temporary directory; the claim holds for it, too."""
        # always the same place: ssh's file is named after it
        place = history.folder(target).with_name("converged") / target.name
        shutil.rmtree(place, ignore_errors=True)
        try:
            shutil.copytree(target.directory, place, ignore=shutil.ignore_patterns(".*"))
            (place / target.office_file.name).write_text(text, encoding="utf-8")
            _claims[place] = self
            yield target._replace(directory=place, data=place)
        finally:
            _claims.pop(place, None)
            shutil.rmtree(place, ignore_errors=True)


def remember(target: Target, text: bytes) -> None:
    """Keep the office file that hosts were converged from: a later change of one user starts from it."""
    # the home cannot be written: the later change needs an apply of everything first
    with suppress(OSError):
        written(history.folder(target).with_name("converged.toml"), text)


_claims: dict[Path, Claim] = {}
"""Office → claim: the same process does not claim twice."""


@contextmanager
def changing(
    target: Target, names: Iterable[str] = (), via: str | None = None, *, anyway: bool = False,
    urgent: bool = False, partly: bool = False,
) -> Iterator[Claim]:  # fmt: skip
    """Claim the hosts for this controller while the block runs.

    Args:
        names: Hosts; empty means all.
        anyway: Also hosts that a later version has converged.
        urgent: Also with an office file that lacks changes of others: an account whose password was stolen does not wait.
        partly: Also if some hosts do not answer: the others do not wait for them.

    Raises:
        OutpostError: Another controller changes one, or this checkout is older than what converged it. Nothing has changed.
    """
    if known := _claims.get(target.data):
        yield known
        return
    office = load(target.data)
    wanted = tuple(names) or tuple(office.hosts_by_name)
    own = mine(target)
    claim = Claim(own, target.office_file.read_bytes(), {})
    try:
        with Pool(len(wanted)) as pool:
            asked = pool.map(lambda name: _claim(target, office, name, via, own), wanted)
            found = dict(zip(wanted, asked, strict=True))
        if any(isinstance(each, _BusyError) for each in found.values()):
            # two controllers may each have locked some: if both try again in the same order, one of them gets all
            for each in found.values():
                if isinstance(each, _Held):
                    each.end(None)
            found = {}
            for name in sorted(wanted):
                found[name] = _claim(target, office, name, via, own)
                if isinstance(found[name], _BusyError):
                    break
        claim.held.update({name: each for name, each in found.items() if isinstance(each, _Held)})
        claim.silent = {name: each for name, each in found.items() if isinstance(each, _SilentError)}
        for each in found.values():
            if isinstance(each, OutpostError) and not isinstance(each, _SilentError):
                raise each
        if claim.silent and not (partly and claim.held):
            raise of_hosts(claim.unreached)
        if not anyway:
            for name, held in claim.held.items():
                _not_older(target, name, held.record)
                if not urgent:
                    _office_file_known(target, name, held.record, own)
        _claims[target.data] = claim
        yield claim
    finally:
        _claims.pop(target.data, None)
        if claim.converged:
            remember(target, claim.text)
        with ThreadPoolExecutor(max(1, len(claim.held))) as pool:
            keeps = [claim.own if name in claim.converged else None for name in claim.held]
            list(pool.map(_Held.end, claim.held.values(), keeps))


def _claim(
    target: Target, office: Office, name: str, via: str | None, own: Record
) -> _Held | OutpostError | None:
    """A host's lock, or why not; None if it does not answer: the apply itself reports that."""
    process = subprocess.Popen(
        shell_command(target, office, office.host(name), via),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    alarm, began = threading.Timer(ANSWER, process.kill), time.monotonic()
    alarm.start()
    try:
        process.stdin.write(f"who={shlex.quote(own.model_dump_json())}\n{SCRIPT}")
        process.stdin.flush()
        word, _, text = process.stdout.readline(2 * LONGEST).strip().partition(" ")
    except BrokenPipeError:
        word, text = "", ""
    finally:
        alarm.cancel()
    if word == "held":
        return _Held(process, Record.parse(text))
    process.kill()
    _, errors = process.communicate()
    if word and word != "busy":  # no lock, and no other answer that could be read
        return OutpostError(f"{name}: {TALKATIVE}", typeable(QUIET, office, office.host(name)))
    if not word:
        why = failure(name, errors)
        if not why and time.monotonic() - began >= ANSWER:
            why = OutpostError(f"{name}: it did not answer within {ANSWER:.0f} s", "check its console")
        return why and _SilentError(why.message, why.remedy)
    other = Record.parse(text)
    return _BusyError(
        f"{name} is being changed by {other.shown if other else 'another controller'}; this command changed nothing",
        "wait until it has finished, then run plan again",
    )


def records(
    target: Target, office: Office, via: str | None = None, *, anyway: bool = False
) -> dict[str, Record | None]:
    """Host → the version that converged it; None if no apply has run.

    Args:
        anyway: Also if a later version has converged one.
    """
    script = f"head -c {LONGEST} {RECORD} 2>/dev/null || true\n"
    texts = of_each(office.hosts, lambda host: run_script(target, office, host, script, via, patience=ANSWER))
    found = {name: Record.parse(text) for name, text in texts.items()}
    for name, record in found.items() if not anyway else ():
        _not_older(target, name, record)
    return found


def _not_older(target: Target, host: str, record: Record | None) -> None:
    """Refuse a checkout that lacks the commit that converged a host."""
    if record is None:
        return
    commit = record.commit.removesuffix("+")
    head = history.commit()
    if not head or not commit:  # one side is a wheel: only its version is known
        with suppress(InvalidVersion):
            if Version(record.version) > Version(__version__):
                raise OutpostError(
                    f"{host} was last changed by {record.shown}, and this is Outpost {__version__}: it would undo newer "
                    "changes; nothing was changed",
                    f"install Outpost {record.version} or newer; use `apply --force` to go back to this version on purpose",
                )
        return
    if head.removesuffix("+") == commit:
        return
    ancestor = ["git", "-C", str(ROOT), "merge-base", "--is-ancestor"]
    contained, older = (
        subprocess.run([*ancestor, *pair], capture_output=True, check=False).returncode
        for pair in ((commit, "HEAD"), ("HEAD", commit))
    )
    if contained == 0:
        return
    if target.instance and contained == 1 and older == 1:
        return  # a lab belongs to its developer: another branch is no older clone
    raise OutpostError(
        f"{host} was last changed by {record.shown}, and this checkout (at {head}) does not have that commit: it would "
        "undo newer changes; nothing was changed",
        "git pull, then run plan again; use `apply --force` to go back to this version on purpose",
    )


def _office_file_known(target: Target, host: str, record: Record | None, own: Record) -> None:
    """Refuse an office file that lacks what another administrator applied: it would remove their users and peers."""
    if record is None or target.instance or record.office_file == own.office_file:
        return
    if record.by in (own.by, own.by.partition(":")[0]):  # until 1.1.0 without the clone
        return
    git = ["git", "-C", str(target.data)]
    name = target.office_file.name
    log = ["log", "-n", "500", "-m", "--full-history", "--format=", "--raw", "--no-abbrev", "--", name]
    prefix, changes = (
        subprocess.run([*git, *words], capture_output=True, text=True, check=False).stdout
        for words in (["rev-parse", "--show-prefix"], log)
    )
    versions = {line.split()[3] for line in changes.splitlines() if line.startswith(":")}
    # as git keeps it, and as its filters write it here (gitattributes(5))
    for how in (["blob"], ["--filters", f"--path={prefix.strip()}{name}"]):
        for version in versions:
            text = subprocess.run([*git, "cat-file", *how, version], capture_output=True, check=False).stdout
            if hashlib.sha256(text).hexdigest() == record.office_file:
                return
    if versions:  # nothing can be compared without a history
        raise OutpostError(
            f"{host} was last changed by {record.shown}, with an office file that this checkout has never had: it may undo "
            "what they changed; nothing was changed",
            "git pull, or have them commit office.toml, then run plan again; use `apply --force` to go on without their changes",
        )
