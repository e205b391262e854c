"""Runs attacks: gentle ones together, each of the others alone; meanwhile it measures what honest users notice."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from outpost.errors import OutpostError
from outpost.evidence.controls import AttackPlan
from outpost_lab import pace
from outpost_lab.attack.catalogue import Work, attacks
from outpost_lab.attack.evidence import Evidence, Finding
from outpost_lab.attack.ground import HELLO, Ground
from outpost_lab.attack.probe import Window, idle, watching
from outpost_lab.attack.weakness import Weakness, switches, weakened

TOGETHER = 6  # gentle attacks at a time
LONGEST = 1800.0  # seconds; no attack may take longer

PLANNED = {"id", "family", "title", "controls", "faults", "vantage", "expectation"}
"""Fields of the plan that a result repeats."""
Verdict = Literal["defended", "BREACHED", "not judged", "not run"]


@dataclass
class Result:
    """The result of an attack.

    Attributes:
        verdict: `defended` when every expectation and every bound held; `not judged` where only a time limit was missed,
            on a machine that is busy with something else.
        reason: Why it did not run, or was not judged.
        without: With the defence turned off: whether it succeeded, and the observation; None: not tried.
    """

    plan: AttackPlan
    verdict: Verdict
    observed: str = ""
    reason: str = ""
    broken: list[str] = field(default_factory=list)
    transcript: list[str] = field(default_factory=list)
    window: Window | None = None
    seconds: float = 0.0
    weakness: str = ""
    without: tuple[bool, str] | None = None

    def as_data(self) -> dict[str, Any]:
        return {
            **self.plan.model_dump(include=PLANNED),
            **{key: getattr(self, key) for key in ("verdict", "observed", "reason", "transcript")},
            "bounds broken": self.broken,
            "seconds": round(self.seconds, 1),
            "measured": self.window.as_data() if self.window else None,
            "without": self.without
            and {"turned off": self.weakness, "succeeded": self.without[0], "observed": self.without[1]},
        }


async def run(
    ground: Ground,
    plans: Sequence[AttackPlan],
    *,
    positive: bool = False,
    on_result: Callable[[Result], None] = lambda _result: None,
    probe: bool = True,
) -> list[Result]:
    """Run attacks; `on_result` is called with each result.

    Args:
        positive: Afterwards turn each attack's defence off and see it succeed (lab only).
        probe: Whether honest users' experience is measured (lab only).
    """
    known = attacks()
    lab = bool(ground.info)
    results = {
        plan.id: Result(plan, "not run", reason=why) for plan in plans if (why := _obstacle(plan, lab=lab))
    }
    for result in results.values():
        on_result(result)
    ready = [(plan, known[plan.id]) for plan in plans if plan.id not in results]
    gentle = [pair for pair in ready if not pair[0].alone]
    for wave in filter(None, [gentle, *([pair] for pair in ready if pair[0].alone)]):
        for result in await _wave(ground, wave, probe=probe and lab):
            results[result.plan.id] = result
            if not positive or result.plan.id not in switches():
                on_result(result)
    if positive and lab:
        for plan, work in ready:
            if weakness := switches().get(plan.id):
                await _without(ground, work, weakness, results[plan.id])
                on_result(results[plan.id])
    return [results[plan.id] for plan in plans]


def _obstacle(plan: AttackPlan, *, lab: bool) -> str:
    if not lab and plan.destructive:
        return "destructive: only in the lab"
    if not lab and plan.vantage != "internet":
        return "needs a machine inside"
    return ""


async def _wave(ground: Ground, wave: list[tuple[AttackPlan, Work]], *, probe: bool) -> list[Result]:
    if not probe:
        return await _together(ground, wave)
    ours = any(plan.destructive for plan, _ in wave)
    if len(wave) == 1:
        await ground.quiet()
    ground.idle = ground.idle or await idle(ground)
    outage = any(plan.outage for plan, _ in wave)
    async with watching(ground, restarts_expected=ours, outage=outage) as window:
        results = await _together(ground, wave)
    broken = window.broken()
    for result in results:
        result.window = window
        # if several ran, a broken bound counts for all of them: `--only` shows which one it is
        result.broken = broken
        if broken and len(wave) == 1 and result.verdict == "defended":
            result.verdict = "BREACHED"
    return results


async def _together(ground: Ground, wave: list[tuple[AttackPlan, Work]]) -> list[Result]:
    turn = asyncio.Semaphore(TOGETHER)

    async def one(plan: AttackPlan, work: Work) -> Result:
        async with turn:
            return await _one(ground, plan, work)

    return list(await asyncio.gather(*(one(*pair) for pair in wave)))


async def _one(ground: Ground, plan: AttackPlan, work: Work) -> Result:
    seen = Evidence()
    started = time.monotonic()
    busy = pace.load()
    await _attempt(ground, work, seen)
    busy = max(busy, pace.load())
    if seen.dropped:
        seen.transcript.append(f"({seen.dropped} more lines)")
    late = seen.only_late and busy >= pace.BUSY
    verdict: Verdict = "defended" if seen.defended else "not judged" if late else "BREACHED"
    reason = f"only a time limit was missed, and the machine is busy: {pace.described(busy)}" if late else ""
    seconds = time.monotonic() - started
    return Result(plan, verdict, seen.observed, reason, transcript=seen.transcript, seconds=seconds)


async def _attempt(ground: Ground, work: Work, seen: Evidence) -> None:
    try:
        async with asyncio.timeout(LONGEST * pace.load()) as limit:
            await work(ground, seen)
    except TimeoutError:
        what = f"no end after {LONGEST:.0f} s and more" if limit.expired() else "no answer in time"
        seen.findings.append(Finding(False, what, refused=True, late=True))
    except (OSError, OutpostError) as error:
        seen.findings.append(Finding(False, f"{type(error).__name__}: {error}", refused=True))


async def _without(ground: Ground, work: Work, weakness: Weakness, result: Result) -> None:
    """The same attack on a host without the defence: it must succeed, or the attack proves nothing."""
    seen = Evidence()
    result.weakness = weakness.what
    try:
        await ground.quiet()
        async with weakened(ground, weakness):
            await _attempt(ground, work, seen)
    except OutpostError as error:
        result.without = (False, f"the defence could not be turned off: {error}")
        return
    await ground.drop_mail_to(HELLO)  # notifications to an attacker who accepts none
    result.without = (seen.succeeded, seen.observed)
    result.transcript += ["", f"--- without the defence ({weakness.what})", *seen.transcript[:60]]
