"""One look at a host for everything its roles declare.

Office links are slow, so what counts is the number of questions. The roles run twice: first they only declare
(``declaring``), then their operations ask. The first operation that asks sends one command for all of them; the
others are answered from it. Any change to the host voids the answer, and so does the step from planning to
executing: an answer is never older than the state it is compared with.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

from pyinfra.api.exceptions import FactProcessError, OperationError
from pyinfra.api.facts import FactBase
from pyinfra.api.host import Host
from pyinfra.context import ctx_host, host, state
from typing_extensions import override

STATE = "/var/lib/outpost"
APPLIED = f"{STATE}/applied"
RUN = "/run/outpost"
LOCK = f"{RUN}/lock"
"""Held by whatever changes the host (`shapes.alone`)."""
END = "outpost-observation-complete"
"""Last line of every answer. Without it the answer was cut off and must not be read as "nothing there"."""

PART = "outpost-observation-part"
"""Line before each part of an answer."""

ATTEMPTS = 3
"""How often a host is asked that answers nothing, or not all."""

Status = tuple[str, str, str, str]
"""Mode, owner, group; then the SHA-256 of a file, or ``directory``."""


@dataclass(frozen=True)
class Answer:
    """What a host showed at one moment.

    Attributes:
        files: Path to status, of what exists.
        records: Name to lines of the record of the last successful run.
        units: Unit to (ActiveState, UnitFileState), systemctl(1).
        lines: Question to the lines it was answered with.
        asked: Paths, units and questions that it covers.
        executing: Whether it was asked while executing, not while planning.
        digest: SHA-256 of the answer as it came.
    """

    files: dict[str, Status]
    records: dict[str, tuple[str, ...]]
    units: dict[str, tuple[str, str]]
    lines: dict[str, tuple[str, ...]]
    asked: frozenset[str]
    executing: bool
    digest: str


@dataclass
class Declared:
    """Everything the roles declare for one host in this run; what is on the host beyond it must go.

    Attributes:
        packages: In groups, as the roles name them → the group's answers for debconf.
    """

    records: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    packages: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)
    paths: dict[str, None] = field(default_factory=dict)
    units: dict[str, None] = field(default_factory=dict)
    questions: dict[str, None] = field(default_factory=dict)
    collecting: bool = False
    answer: Answer | None = None


_declared: WeakKeyDictionary[Host, Declared] = WeakKeyDictionary()


def declared() -> Declared:
    """The declarations for the current host so far."""
    current: Host = ctx_host.get()  # type: ignore[no-untyped-call]  # the host itself: its proxy is one for all
    return _declared.setdefault(current, Declared())


@contextmanager
def declaring() -> Iterator[None]:
    """Within it, shapes only note what they will ask, and do nothing else."""
    known = declared()
    known.collecting = True
    try:
        yield
    finally:
        known.collecting = False


def will_ask(*, paths: Iterable[str] = (), unit: str = "", question: str = "") -> bool:
    """Note what an operation will ask; whether that is all for now, because the roles are only declaring."""
    known = declared()
    known.paths.update(dict.fromkeys(paths))
    if unit:
        known.units[unit] = None
    if question:
        known.questions[question] = None
    return known.collecting


def observe(*, paths: Sequence[str] = (), unit: str = "", question: str = "") -> Answer:
    """An answer that covers these, as true as any other at this point of the run.

    Raises:
        OperationError: The host did not answer, or its answer was cut off.
    """
    will_ask(paths=paths, unit=unit, question=question)
    known = declared()
    needed = {*paths, *filter(None, (unit, question))}
    answer = known.answer
    if answer is None or answer.executing != state.is_executing or not needed <= answer.asked:
        questions, units = tuple(known.questions), tuple(known.units)
        answer = known.answer = _asked(tuple(known.paths), units, questions)
        _note(Survey().command(tuple(known.paths), units, questions), answer)
    return answer


def _asked(paths: tuple[str, ...], units: tuple[str, ...], questions: tuple[str, ...]) -> Answer:
    """The host's answer to one command.

    An answer can get lost on its way while the host is well (a slow line; an engine that did not start the command):
    nothing is concluded from that but to ask once more.

    Raises:
        OperationError: There is none, or only pieces, as often as it was asked.
    """
    for _ in range(ATTEMPTS):
        answer: Answer | None = host.get_fact(
            Survey, paths=paths, units=units, questions=questions, _ignore_errors=True
        )
        if answer is not None:
            return answer
    raise OperationError(f"the host did not answer {ATTEMPTS} times; nothing is concluded from it: run again")


def _note(command: str, answer: Answer) -> None:
    """Tell who asked for the plan what the host was asked and answered (`outpost.unchanged`)."""
    path = os.environ.get("OUTPOST_SURVEYS")
    if path and not state.is_executing:
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([str(host.data.machine), command, answer.digest]) + "\n")


def look(question: str) -> tuple[str, ...]:
    """Lines that a shell command, which only looks, prints on the host."""
    return observe(question=question).lines[question]


def read_now(question: str) -> tuple[str, ...]:
    """Lines that a shell command prints, asked on its own: for what no later operation will ask again."""
    return _asked((), (), (question,)).lines[question]


def void() -> None:
    """Forget the answer: the host has been changed."""
    declared().answer = None


class Survey(FactBase[Answer]):
    """Everything in one command, which starts as few programs as it can: on a quick line they are what takes time.

    The answer comes in parts: records, status and digests of files, units, then a part to each question.

    It waits for the end of what a controller that was killed has left running: an answer from the midst of it would be
    true no longer when it is acted upon.
    """

    @override
    def command(self, paths: tuple[str, ...], units: tuple[str, ...], questions: tuple[str, ...]) -> str:
        self.asked = (paths, units, questions)
        files, services = " ".join(map(shlex.quote, paths)), " ".join(map(shlex.quote, units))
        asked = (
            f"cd {APPLIED} && grep -H . -- *",
            f"stat -c '%a %U %G %F|%n' -- {files}" if paths else "",
            f"sha256sum -- {files}" if paths else "",
            f"systemctl show -P ActiveState -P UnitFileState -- {services}" if units else "",
            *questions,
        )
        # what ends with a line of its own is followed by an empty one; what does not gets its end of line
        parts = (f"echo {PART}; ( {each or ':'}\n) 2>/dev/null; echo" for each in asked)
        return "; ".join([f"flock --shared --wait 300 {LOCK} true 2>/dev/null; cd /", *parts, f"echo {END}"])

    @override
    def process(self, output: Iterable[str]) -> Answer:
        lines = tuple(output)
        paths, units, questions = self.asked
        parts = _parts(lines)
        if lines[-1:] != (END,) or len(parts) != 4 + len(questions):
            raise FactProcessError("the host's answer was cut off; nothing is concluded from it: run again")
        kept, described, hashed, states, *replies = parts
        records: dict[str, list[str]] = {}
        for line in kept:
            record, _, entry = line.partition(":")
            records.setdefault(record, []).append(entry)
        digests = {path: digest for digest, _, path in (line.partition("  ") for line in hashed)}
        status = {path: words.split(" ", 3) for words, _, path in (line.partition("|") for line in described)}
        return Answer(
            files={path: _status(found, digests.get(path, "")) for path, found in status.items()},
            records={record: tuple(entries) for record, entries in records.items()},
            units=_by_unit(units, states),
            lines=dict(zip(questions, replies, strict=True)),
            asked=frozenset((*paths, *units, *questions)),
            executing=state.is_executing,
            digest=hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest(),
        )


def _parts(lines: Sequence[str]) -> list[tuple[str, ...]]:
    """The lines of each part, without the empty one at its end."""
    starts = [number for number, line in enumerate(lines) if line == PART]
    ends = [*starts[1:], len(lines) - 1]
    parts = (tuple(lines[start + 1 : end]) for start, end in zip(starts, ends, strict=False))
    return [part[:-1] if part[-1:] == ("",) else part for part in parts]


def _status(described: Sequence[str], digest: str) -> Status:
    mode, owner, group, kind = described
    return (mode, owner, group, "directory" if kind == "directory" else digest)


def _by_unit(units: tuple[str, ...], states: Sequence[str]) -> dict[str, tuple[str, str]]:
    """`systemctl show -P` prints each unit's values in the order asked, an empty line between units."""
    blocks: list[list[str]] = [[]]
    for line in states:
        if line == "" and len(blocks[-1]) == 2:
            blocks.append([])
        else:
            blocks[-1].append(line)
    if units and len(blocks) != len(units):
        raise FactProcessError("systemd's answer does not match what it was asked: run again")
    return {unit: (block[0], block[1]) for unit, block in zip(units, blocks, strict=False)}
