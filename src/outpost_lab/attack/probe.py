"""What honest users notice while an attack runs: greeting and delivery times, the queue, the daemons' health.

Bounds are those that the design of the office promises (``BOUNDS``); percentiles are over the samples of a window.
The lab runs on a small machine with other programs. So each run first measures without an attack (``idle``). If three times
that is more than the bound, it is the bound. It grows with the load of the window, which is recorded. Above
a certain load times are only recorded (outpost_lab.pace); everything else is judged at any load.
"""

import asyncio
import contextlib
import smtplib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from imaplib import IMAP4
from typing import Any

from imap_tools import AND, BaseMailBox
from imap_tools.errors import MailboxUidsError

from outpost.office import ports
from outpost.office.role import role_of
from outpost.office.size import size_of
from outpost_lab import pace
from outpost_lab.attack.ground import Ground
from outpost_lab.attack.wire import SILENT, Session, meanwhile
from outpost_lab.post import OfficeUser, compose

BOUNDS = {"submission": 1.0, "peer": 2.0, "delivery": 5.0}
IDLE_SECONDS = 8.0
NAMES = {
    "submission": "a user's submission greeting",
    "peer": "a peer's greeting",
    "delivery": "local delivery",
}
DEATHS = r"killed by signal|exited on signal|segfault|general protection|Out of memory|oom-kill|oom_reaper|core dumped"
AUTHOR, READER = "alice", "bob"


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at most this share of all samples exceeds; NaN without samples."""
    if not samples:
        return float("nan")
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass
class Window:
    """The measurements while something ran.

    Attributes:
        unanswered: Greetings that were refused, in the words of the daemon or the kernel.
        loads: Samples of the number of processes for each processor.
        refused: Honest messages that were refused, or could not be searched for, in the words of the daemon.
        outage: The attack itself stops what all mail needs: refusals are reported, but break no bound.
    """

    outage: bool = False
    unanswered: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in BOUNDS})
    refused: list[str] = field(default_factory=list)
    queue_before: int = 0
    queue_peak: int = 0
    queue_after: int = 0
    deaths: list[str] = field(default_factory=list)
    restarts: list[str] = field(default_factory=list)
    seconds: float = 0.0
    idle: dict[str, float] = field(default_factory=dict)

    @property
    def busy(self) -> float:
        """The load of the window for judging times: 95 % of the samples were below it."""
        return percentile(self.loads, 0.95) if self.loads else 1.0

    def allowed(self, name: str) -> float:
        """Seconds that something may take at the 95th percentile."""
        return pace.allowed(BOUNDS[name], self.idle.get(name, 0.0), self.busy)

    def slow(self) -> list[str]:
        """Times beyond the allowed ones, in words."""
        return [
            f"{NAMES[name]} took {percentile(samples, 0.95):.1f} s (p95), allowed are {self.allowed(name):.1f} s "
            f"(idle {self.idle.get(name, 0.0):.2f} s, {pace.described(self.busy)})"
            for name, samples in self.samples.items()
            if samples and percentile(samples, 0.95) >= self.allowed(name)
        ]

    def broken(self) -> list[str]:
        """Bounds that were exceeded, in words; times only if the machine was free enough to judge them."""
        problems = self.slow() if self.busy < pace.BUSY else []
        greetings = len(self.samples["submission"]) + len(self.samples["peer"])
        if self.unanswered and len(self.unanswered) >= 0.05 * greetings:
            problems.append(f"{len(self.unanswered)} of {greetings} not greeted: {self.unanswered[0]}")
        if self.refused and not self.outage:
            problems.append(f"{len(self.refused)} honest messages were refused: {self.refused[0]}")
        if self.queue_after > self.queue_before:
            problems.append(f"the queue did not return to {self.queue_before}: {self.queue_after} messages")
        problems += [f"a daemon died: {line}" for line in self.deaths[:3]]
        problems += [f"restarted unasked: {unit}" for unit in self.restarts]
        return problems

    def as_data(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 1),
            **{
                name: {"n": len(samples), "p50": _rounded(samples, 0.5), "p95": _rounded(samples, 0.95)}
                for name, samples in self.samples.items()
            },
            "refused": len(self.refused),
            "unanswered": len(self.unanswered),
            "load": round(self.busy, 1),
            "idle p95": {name: round(seconds, 3) for name, seconds in self.idle.items()},
            "queue": {"before": self.queue_before, "peak": self.queue_peak, "after": self.queue_after},
            "deaths": self.deaths,
            "restarts": self.restarts,
        }

    def brief(self) -> str:
        times = [
            f"{name} {percentile(samples, 0.5):.2f}/{percentile(samples, 0.95):.2f} s"
            + (f" (idle {self.idle[name]:.2f})" if name in self.idle else "")
            for name, samples in self.samples.items()
            if samples
        ]
        return f"honest users meanwhile (p50/p95): {', '.join(times) or 'not measured'}; queue peak {self.queue_peak}; {pace.described(self.busy)}"


def _rounded(samples: list[float], share: float) -> float | None:
    return round(percentile(samples, share), 3) if samples else None


@asynccontextmanager
async def _measuring(ground: Ground, window: Window) -> AsyncIterator[None]:
    """Measure while the block runs, and until there is one measurement of each kind."""
    greetings = [_greetings(ground, window, kind) for kind in ("submission", "peer")]
    work = [*greetings, _deliveries(ground, window), _queue(ground, window), _load(window)]
    async with meanwhile(*work) as workers:
        yield
        wait = pace.Patience(30)
        while wait.left and not any(worker.done() for worker in workers):
            empty = [name for name, samples in window.samples.items() if not samples]
            if not empty or (empty == ["delivery"] and window.refused):
                break
            await asyncio.sleep(0.25)


async def idle(ground: Ground) -> dict[str, float]:
    """The 95th percentile of each time while nothing happens."""
    window = Window()
    async with _measuring(ground, window):
        await asyncio.sleep(IDLE_SECONDS)
    return {name: percentile(samples, 0.95) for name, samples in window.samples.items() if samples}


@asynccontextmanager
async def watching(
    ground: Ground, *, restarts_expected: bool = False, outage: bool = False
) -> AsyncIterator[Window]:
    """Measure while the block runs, and then until the queue has settled."""
    window = Window(idle=ground.idle, outage=outage)
    started, began = time.monotonic(), time.time()
    window.queue_before = await ground.queue_length()
    counts = await _restart_counts(ground)
    try:
        async with _measuring(ground, window):
            yield window
    finally:
        window.queue_after = await _settled(ground, window.queue_before)
        window.seconds = time.monotonic() - started
        window.deaths = await _deaths(ground, began)
        if not restarts_expected:
            after = await _restart_counts(ground)
            window.restarts = [unit for unit, count in after.items() if count != counts.get(unit, count)]


async def _greetings(ground: Ground, window: Window, kind: str) -> None:
    peer = ground.office.peers[0] if ground.office.peers else None
    while True:
        started = time.monotonic()
        try:
            if kind == "submission":
                session = Session(await ground.lan.connect(ground.store, ports.SUBMISSIONS))
                await session.start_tls(ground.role("store").fqdn, ground.trust)
            elif peer is not None:
                session = Session(await ground.peer.connect(ground.edge, peer.listen))
            else:
                return
            answer = await session.reply()
            session.close()
            if answer.code not in (220, SILENT):
                window.unanswered.append(f"{NAMES[kind]}: {answer.brief}")
        except TimeoutError:
            pass  # the waiting time is its duration
        except OSError as error:
            window.unanswered.append(f"{NAMES[kind]}: {error}")
        window.samples[kind].append(time.monotonic() - started)
        await asyncio.sleep(0.7)


async def _deliveries(ground: Ground, window: Window) -> None:
    """Alice writes to Bob, who has his mailbox open, again and again."""
    author, reader = ground.user(AUTHOR), ground.user(READER)
    box = await asyncio.to_thread(reader.mailbox)
    try:
        while True:
            started = time.monotonic()
            try:
                window.samples["delivery"].append(await asyncio.to_thread(_delivery, author, reader, box))
            except TimeoutError:
                window.samples["delivery"].append(time.monotonic() - started)
            except (OSError, smtplib.SMTPException, IMAP4.error, MailboxUidsError) as error:
                window.refused.append(" ".join(str(error).split())[:120])
            await asyncio.sleep(1.5)
    finally:
        with contextlib.suppress(Exception):
            box.logout()


def _delivery(author: OfficeUser, reader: OfficeUser, box: BaseMailBox) -> float:
    message, mark = compose(author.address, [reader.address])
    started = time.monotonic()
    author.send(message, [reader.address])
    wait = pace.Patience(30)
    while wait.left:
        if found := box.uids(AND(subject=mark)):
            took = time.monotonic() - started
            box.delete(found)
            return took
        time.sleep(0.1)
    return time.monotonic() - started


async def _queue(ground: Ground, window: Window) -> None:
    while True:
        window.queue_peak = max(window.queue_peak, await ground.queue_length())
        await asyncio.sleep(2)


async def _load(window: Window) -> None:
    while True:
        window.loads.append(pace.load())
        await asyncio.sleep(0.5)


async def _settled(ground: Ground, wanted: int) -> int:
    """Number of messages in the queue after Postfix has tried each once more: it does so after ``minimal_backoff_time``, at a ``queue_run_delay``."""
    wait = pace.Patience(90)
    while (length := await ground.queue_length()) > wanted and wait.left:
        await asyncio.sleep(0.5)
    return length


async def _restart_counts(ground: Ground) -> dict[str, str]:
    """How often each unit has been restarted."""
    counts: dict[str, str] = {}
    for host in ground.office.hosts:
        units = role_of(host).limits(size_of(ground.office))
        output = await ground.on(host.name, f"systemctl show -p Id,NRestarts {' '.join(units)}")
        for shown in output.strip().split("\n\n"):
            unit = dict(line.split("=", 1) for line in shown.splitlines())
            counts[f"{host.name}: {unit.get('Id', '')}"] = unit.get("NRestarts", "")
    return counts


async def _deaths(ground: Ground, began: float) -> list[str]:
    """Journal entries about processes that a signal ended."""
    found = []
    for host in ground.office.hosts:
        journal = f"journalctl --quiet --no-pager --output=cat --since=@{int(began)}"
        output = await ground.on(host.name, f"{journal} --grep='{DEATHS}' --case-sensitive=no")
        found += [f"{host.name}: {line}" for line in output.splitlines() if "signal 15" not in line]
    return found
