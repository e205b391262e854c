"""Attacks on a running lab: the light ones run together once, and each test checks one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from outpost.evidence.controls import AttackPlan, catalogue
from outpost.office import Office
from outpost.target import Target
from outpost_lab.attack import runner, weakness
from outpost_lab.attack.ground import Ground, leave, stand
from outpost_lab.attack.runner import Result

READY = tuple(catalogue().attacks.values())


@dataclass
class Campaign:
    """Attacks on one ground, each carried out at most once."""

    ground: Ground
    loop: asyncio.AbstractEventLoop
    wanted: tuple[AttackPlan, ...]
    results: dict[str, Result] = field(default_factory=dict)

    def result(self, plan: AttackPlan) -> Result:
        """What an attack came to."""
        if plan.id not in self.results:
            together = (plan,) if plan.alone or plan.slow else self.wanted
            for result in self.loop.run_until_complete(runner.run(self.ground, together)):
                self.results[result.plan.id] = result
        return self.results[plan.id]

    def without(self, plan: AttackPlan) -> Result:
        """The same attack on the office without its defence."""
        found = self.loop.run_until_complete(runner.run(self.ground, (plan,), positive=True, probe=False))
        return found[0]


@pytest.fixture(scope="session")
def campaign(target: Target, office: Office, request: pytest.FixtureRequest) -> Iterator[Campaign]:
    """The lab that --name selects, put back as it was afterwards."""
    chosen = {
        item.callspec.params["plan"].id
        for item in request.session.items
        if hasattr(item, "callspec") and "plan" in item.callspec.params
    }
    gentle = tuple(plan for plan in READY if plan.id in chosen and not plan.alone and not plan.slow)
    loop = asyncio.new_event_loop()
    ground = loop.run_until_complete(stand(target, office))
    loop.run_until_complete(weakness.restore_interrupted(ground))
    try:
        yield Campaign(ground, loop, gentle)
    finally:
        loop.run_until_complete(leave(ground))
        loop.close()


def printed(result: Result) -> str:
    """A failure's message: what was expected, what was seen, and the dialogue that proves it."""
    lines = [f"expected: {result.plan.expectation}", f"observed: {result.observed}"]
    lines += [f"meanwhile: {line}" for line in result.broken]
    return "\n".join([*lines, *result.transcript[-40:]])
