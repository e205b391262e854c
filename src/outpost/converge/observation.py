"""One scan of a host for everything its roles declare.

Links to offices are slow, so the number of questions matters. The first operation that asks sends one command for the
whole declaration; all others use its answer. Any change to the host discards the answer, and so does the step from
planning to executing: an answer is never older than the state it is compared with.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec
from weakref import WeakKeyDictionary

from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import FactProcessError, OperationError, PyinfraError
from pyinfra.api.facts import FactBase
from pyinfra.api.host import Host
from pyinfra.api.operation import operation as pyinfra_operation
from pyinfra.context import ctx_host, host, state
from typing_extensions import override

from outpost.converge.declaration import Declaration
from outpost.converge.files import APPLIED, LOCK, PACKAGES
from outpost.drift.findings import BLIND, Beside
from outpost.errors import OutpostError
from outpost.keys.model import Secrets
from outpost.office import Office
from outpost.onhost.observe import KEY, OBSERVER
from outpost.onhost.observe.asking import SURVEYED
from outpost.onhost.observe.declared import KNOWN
from outpost.transport import answers, ssh
from outpost.transport.remote import failure, typeable

P = ParamSpec("P")
PACKAGES_BEFORE = f"cat {PACKAGES}"
END = "outpost-observation-complete"
"""Last line of every answer. An answer without it was cut off, and must not be read as "nothing there"."""

PART = "outpost-observation-part"
"""Line before each part of an answer."""

PATIENCE = 900
"""Seconds for an answer; otherwise a compromised host would keep all others waiting."""
ATTEMPTS = 3
"""How often a host is asked if its answer is missing or incomplete."""

Status = tuple[str, str, str, str]
"""Mode, owner, group; then the SHA-256 of a file, or ``directory``, or `LINK`."""
LINK = "symbolic link"


@dataclass(repr=False)
class Asking:
    """The questions to a host.

    Attributes:
        questions: Shell that only reads → whether its answer stays the same as long as no file changes.
        beside: Files that the questions read, where the observer does not watch.
        local: The host's local files, for the observer; None without it.
    """

    paths: dict[str, None] = field(default_factory=dict)
    units: dict[str, None] = field(default_factory=dict)
    questions: dict[str, bool] = field(default_factory=dict)
    beside: dict[str, None] = field(default_factory=dict)
    local: tuple[str, ...] | None = None

    def ordered(self) -> list[str]:
        """The questions in their order: those about files first."""
        return sorted(self.questions, key=lambda question: not self.questions[question])


@dataclass(frozen=True)
class Answer:
    """The state of a host at one moment.

    Attributes:
        files: Path to status, of what exists.
        records: Name to lines of the record of the last successful run.
        units: Unit to (ActiveState, UnitFileState), systemctl(1).
        lines: Question to the lines it was answered with.
        observed: The observer's output; empty if there is none.
        executing: Whether the question was asked while executing, not while planning.
        digest: SHA-256 of the raw answer.
    """

    files: dict[str, Status]
    records: dict[str, tuple[str, ...]]
    units: dict[str, tuple[str, str]]
    lines: dict[str, tuple[str, ...]]
    observed: str
    executing: bool
    digest: str


@dataclass(repr=False)
class Run:
    """A host in this run of pyinfra.

    Attributes:
        local: The host's local files, for the observer; None once it is asked separately.
        answer: The host's last answer; None after a change.
        vital: Whether the host's run ends if the present operation fails.
        attended: Units that an operation starts or reloads in this run: other findings about them are consequences.
        before: The observation before this run changed anything.
        drift: What appeared on the host, by an observer that this run replaced.
        began: The answer that its execution began with.
    """

    known: Declaration
    local: tuple[str, ...] | None = None
    answer: Answer | None = None
    vital: bool = False
    attended: set[str] = field(default_factory=set)
    before: Beside | None = None
    drift: frozenset[str] = frozenset()
    began: Answer | None = None

    @property
    def asking(self) -> Asking:
        items = [item for item in self.known.titles.values() if item.question]
        of_items = {item.question: item.beside is not None for item in items}
        return Asking(
            dict.fromkeys((*self.known.content, *self.known.directories)),
            dict.fromkeys(self.known.units),
            of_items | {self.known.are_installed: True, PACKAGES_BEFORE: True},
            dict.fromkeys(path for item in items for path in item.beside or ()),
            self.local,
        )


_runs: WeakKeyDictionary[Host, Run] = WeakKeyDictionary()


def begin(known: Declaration, *, local: Iterable[str] | None = None) -> None:
    """Set the declaration of the current host."""
    _runs[ctx_host.get()] = Run(known, None if local is None else tuple(local))  # type: ignore[no-untyped-call]


def run() -> Run:
    return _runs[ctx_host.get()]  # type: ignore[no-untyped-call]  # the host itself: its proxy is one for all


def operation(function: Callable[P, Generator[Any, None, None]]) -> Callable[..., Any]:
    """pyinfra's decorator, for operations that read what a host answers.

    SYS-08: without it an unexpected answer of one compromised host ends the apply of every host in the middle.
    """

    @wraps(function)
    def contained(*arguments: P.args, **options: P.kwargs) -> Generator[Any, None, None]:
        try:
            yield from function(*arguments, **options)
        except OutpostError:
            raise  # about the office's own files
        except Exception as error:
            if not state.is_executing:
                raise  # `outpost.converge.failures.contained` handles it
            yield StringCommand(f"echo {shlex.quote(unread(error))} >&2; false")

    return pyinfra_operation()(contained)


class NoAnswerError(OperationError):
    """A host does not answer at all; its text is ours, and may have a remedy."""


def unread(error: Exception) -> str:
    """Why an answer could not be read, as a clause."""
    if isinstance(error, NoAnswerError):
        return str(error)
    if isinstance(error, PyinfraError):
        return answers.line(str(error), 500)
    return answers.line(f"it gave an answer that cannot be read ({type(error).__name__}: {error})", 500)


def observe() -> Answer:
    """The answer about all that is declared; it is current at this point of the run."""
    known = run()
    if known.answer is None or known.answer.executing != state.is_executing:
        asking = known.asking
        known.answer = _asked(asking)
        _note(Survey().command(asking), known.answer)
    return known.answer


def _asked(asking: Asking) -> Answer:
    """The host's answer to one command.

    An answer can get lost although the host is well (a slow line; an engine that did not start the command):
    the only consequence is to ask again.
    """
    for _ in range(ATTEMPTS):
        key = sealing()
        answer: Answer | None = host.get_fact(
            Survey, asking=asking, sealed=bool(key), _stdin=key, _ignore_errors=True, _timeout=PATIENCE
        )
        if answer is not None:
            return answer
    raise NoAnswerError(
        _why_not()
        or f"the host did not answer {ATTEMPTS} times, so nothing was compared: run the command again"
    )


def _why_not() -> str:
    """Why the host carries out no command at all, with the remedy; empty if it does. None of it is the host's own text."""
    _, output = host.run_shell_command("true\ntrue", _sudo=bool(host.data.get("_sudo")))
    known = failure("", output.stderr)
    if known is None:
        return ""
    if config := host.data.get("openssh_config"):
        ssh.stop(config, host.name)  # what is corrected now shows in a new connection
    office: Office = host.data.office
    remedy = typeable(known.remedy, office, office.host(host.data.machine))
    return f"{known.message.removeprefix(': ')}. Remedy: {remedy}"


def _note(command: str, answer: Answer) -> None:
    """Write the question and the answer down for the command that asked for the plan (`outpost.engine.unchanged`)."""
    path = os.environ.get("OUTPOST_SURVEYS")
    if path and not state.is_executing:
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([str(host.data.machine), command, answer.digest, sealing()]) + "\n")


def sealing() -> str:
    """The secret that seals this host's cached state."""
    secrets: Secrets = host.data.secrets
    return secrets.seal_of(str(host.data.machine))


def answer_to(question: str) -> tuple[str, ...]:
    """Lines that a read-only shell command prints on the host."""
    return observe().lines[question]


def read_now(question: str) -> tuple[str, ...]:
    """Lines that a shell command prints, asked separately: for questions that no later operation repeats."""
    return _asked(Asking(questions={question: False})).lines[question]


def void() -> None:
    """Discard the answer, because the host was changed."""
    run().answer = None


class Survey(FactBase[Answer]):
    """Everything in one command that starts as few programs as possible: on a fast line their start takes most of the time.

    The answer comes in parts: what the observer says and the states of units; records, status and digests of files,
    which units are enabled; then a part for each question. The observer answers what depends on files alone from an
    earlier survey as long as no file changed (docs/adr/0014).

    It waits until commands of a killed controller have ended: an answer before that would be outdated when it is used.
    """

    @override
    def command(self, asking: Asking, *, sealed: bool = False) -> str:
        """The shell command for all of it.

        Args:
            sealed: The secret that seals the host's cached answers (`sealing`) comes by standard input, because sudo writes
                each command into the host's journal. It is never part of the stored question.
        """
        self.asking = asking
        files, services = " ".join(map(shlex.quote, asking.paths)), " ".join(map(shlex.quote, asking.units))
        of_files = (
            f"cd {APPLIED} && grep -H . -- *",
            f"stat -c '%a %U %G %F|%n' -- {files}" if files else "",
            # a FIFO in place of a file would block for ever, a sparse file for hours
            f"find {files} -maxdepth 0 -type f -size -64M -exec sha256sum -- {{}} +" if files else "",
            f"systemctl is-enabled -- {services}" if services else "",
            *(question for question in asking.ordered() if asking.questions[question]),
        )
        live = (question for question in asking.ordered() if not asking.questions[question])
        states = f"systemctl is-active -- {services} 2>/dev/null" if services else ":"
        plain = f'flock --shared --wait 300 {LOCK} true 2>/dev/null; {states}; echo; eval "$files"'
        steps = [
            *([f"read -r {KEY}; export {KEY}"] if sealed else []),
            "cd /",
            f"files={shlex.quote('; '.join(map(_part, of_files)))}",
            f"echo {PART}",
            f"echo; {plain}" if asking.local is None else _observed(asking, plain),
            *map(_part, live),
            f"echo {END}",
        ]
        return "\n".join(steps)

    @override
    def process(self, output: Iterable[str]) -> Answer:
        lines = tuple(output)
        parts = _parts(lines)
        asking = self.asking
        if lines[-1:] != (END,) or len(parts) != 5 + len(asking.questions):
            raise FactProcessError(
                "the host's answer was cut off, so nothing was compared: run the command again"
            )
        (observed, *active), kept, described, hashed, enabled, *replies = parts
        if not len(active) == len(enabled) == len(asking.units):
            raise FactProcessError("systemd's answer does not match the question: run the command again")
        records: dict[str, list[str]] = {}
        for line in kept:
            record, _, entry = line.partition(":")
            records.setdefault(record, []).append(entry)
        digests = {path: digest for digest, _, path in (line.partition("  ") for line in hashed)}
        status = {path: words.split(" ", 3) for words, _, path in (line.partition("|") for line in described)}
        return Answer(
            files={path: _status(found, digests.get(path, "")) for path, found in status.items()},
            records={record: tuple(entries) for record, entries in records.items()},
            units=dict(zip(asking.units, zip(active, enabled, strict=True), strict=True)),
            lines=dict(zip(asking.ordered(), replies, strict=True)),
            observed=observed,
            executing=state.is_executing,
            digest=hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest(),
        )


def _part(question: str) -> str:
    """A part that ends with a line feed is followed by an empty line; any other gets its line feed."""
    return f"echo {PART}; ( {question or ':'}\n) 2>/dev/null; echo"


def _observed(asking: Asking, plain: str) -> str:
    """Shell in which the observer answers, or the host without it if there is none yet or an older one.

    Args:
        plain: Shell for the observer's answers besides its scan.
    """
    settings = json.dumps(
        {
            "local": asking.local,
            "units": [*asking.units],
            "beside": (*asking.paths, *asking.beside),
        }
    )
    return (
        f'answer=$({OBSERVER} view {shlex.quote(settings)} "$files" 2>/dev/null)\n'
        f'case "$answer" in *{SURVEYED}) printf %s "${{answer%{SURVEYED}}}";; *) '
        f'if [ "$answer" ]; then printf "%s\\\\n" "$answer"; elif [ -e {KNOWN} ]; then echo {BLIND}; else echo; fi; {plain};; esac'
    )


def _parts(lines: Sequence[str]) -> list[tuple[str, ...]]:
    """The lines of each part, without the empty line at its end."""
    starts = [number for number, line in enumerate(lines) if line == PART]
    ends = [*starts[1:], len(lines) - 1]
    parts = (tuple(lines[start + 1 : end]) for start, end in zip(starts, ends, strict=False))
    return [part[:-1] if part[-1:] == ("",) else part for part in parts]


def _status(described: Sequence[str], digest: str) -> Status:
    mode, owner, group, kind = described
    return (mode, owner, group, kind if kind in ("directory", LINK) else digest)
