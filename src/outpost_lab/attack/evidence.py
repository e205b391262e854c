"""What an attack expects, what it observed, and the transcript that proves it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from outpost_lab import pace
from outpost_lab.attack.wire import SILENT, Reply

KEPT = 400  # lines of a transcript; a flood repeats the same line a thousand times


class Finding(NamedTuple):
    """Whether one expectation held, and what was observed.

    Attributes:
        refused: It did not hold, and nothing was accepted either (451 instead of 554, out of order, no answer).
        late: Only the time was wrong: no answer yet, or a slow one.
    """

    held: bool
    observed: str
    refused: bool = False
    late: bool = False


@dataclass
class Evidence:
    """Collected while an attack runs."""

    findings: list[Finding] = field(default_factory=list)
    transcript: list[str] = field(default_factory=list)
    dropped: int = 0
    sessions: int = 0

    def note(self, line: str) -> None:
        if len(self.transcript) < KEPT:
            self.transcript.append(line)
        else:
            self.dropped += 1

    def session(self) -> Callable[[str], None]:
        """A function that records the lines of another session, with its number, because several may run at once."""
        self.sessions += 1
        number = self.sessions
        return lambda line: self.note(f"{number} {line}")

    def check(
        self, held: bool, observed: object, otherwise: str | None = None, *, late: bool = False
    ) -> bool:
        """Record whether an expectation held; `otherwise` is the observation if it did not; `late`: only the time was wrong."""
        text = str(observed) if held or otherwise is None else otherwise
        self.findings.append(Finding(bool(held), text, late=late))
        return bool(held)

    def expect(self, reply: Reply, *beginnings: str) -> bool:
        """The reply must begin with one of these (``554 5.7.1``), or the connection must be ``closed``."""
        return self.expect_all([("", reply)], *beginnings)

    def expect_all(self, replies: Sequence[tuple[str, Reply]], *beginnings: str) -> bool:
        """The same for many named replies; a finding for each exception."""
        odd = [(name, reply) for name, reply in replies if not reply.begins(*beginnings)]
        for name, reply in odd:
            refused = not (reply.good or reply.begins("500"))  # 500: the command was tried
            seen = f"{name}: {reply.brief}" if name else reply.brief
            self.findings.append(Finding(False, seen, refused, late=reply.code == SILENT))
        if odd:
            return False
        return self.check(
            bool(replies), replies[0][1].brief if len(replies) == 1 else f"{len(replies)} times"
        )

    def in_time(self, took: float, promised: float, idle: float, what: str) -> bool:
        """Whether something took no longer than promised, in proportion to its idle value and to the load."""
        busy = pace.load()
        bound = pace.allowed(promised, idle, busy)
        note = f"{what} {took:.1f} s (idle {idle:.1f} s, {pace.described(busy)})"
        return self.check(took < bound, note, late=True)

    @property
    def defended(self) -> bool:
        """Whether every expectation held, and there was at least one."""
        return bool(self.findings) and all(finding.held for finding in self.findings)

    @property
    def only_late(self) -> bool:
        """Whether only times were exceeded."""
        broken = [finding for finding in self.findings if not finding.held]
        return bool(broken) and all(finding.late for finding in broken)

    @property
    def succeeded(self) -> bool:
        """Whether the attack succeeded: a refusal of another kind than expected is no success."""
        return any(not finding.held and not finding.refused for finding in self.findings)

    @property
    def observed(self) -> str:
        """The observations, worst first, in one line."""
        broken = [finding for finding in self.findings if not finding.held]
        seen = list(dict.fromkeys(finding.observed for finding in broken or self.findings))
        return "; ".join(seen[:4]) + (f"; and {len(seen) - 4} more" if len(seen) > 4 else "")
