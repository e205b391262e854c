"""Positive controls: each sabotage turns its checks red, and without it they are green again.

    .venv/bin/python -m pytest tests/sabotage -m slow --name LAB -n 5

Only the aimed checks run, on the host that is sabotaged; the summary names every check that no sabotage has turned red.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Host, Office
from outpost.target import Target
from outpost_lab import pace
from outpost_lab.attack.weakness import RESTORES, RESTORES_LEFT
from tests.live.conftest import reach
from tests.sabotage.breaking import Sabotage
from tests.sabotage.conftest import RED, Listed, seen_of

pytestmark = pytest.mark.slow
RECOVERY = 120.0  # seconds; a clock needs a while to choose a source


@pytest.fixture
def machine(
    target: Target, office: Office, victim: Host, pytestconfig: pytest.Config
) -> Iterator[TestinfraHost]:
    """The host, repaired if an earlier run was interrupted."""
    host = reach(target, office, victim, pytestconfig)
    host.run(RESTORES_LEFT)
    yield host
    host.run(RESTORES_LEFT)


def test_sabotage_is_noticed(
    sabotage: Sabotage,
    victim: Host,
    machine: TestinfraHost,
    office: Office,
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> None:
    looked_at = next(
        host.name for host in office.hosts if (sabotage.looked_at or victim.name) in (host.name, host.role)
    )
    saved = machine.run(sabotage.switch.saves)
    assert saved.rc == 0, f"nothing was saved, so nothing was done: {saved.stderr}"
    done = machine.run(sabotage.switch.turns_off)
    results = Listed(looked_at, sabotage.red)
    try:
        assert done.rc == 0, f"the sabotage failed: {done.stderr or done.stdout}"
        outcomes = seen_of(results, pytestconfig).outcomes
    finally:
        restored = machine.run(RESTORES)
    record_property(RED, sorted(check for check, outcome in outcomes.items() if outcome == "failed"))
    assert restored.rc == 0, restored.stderr
    unnoticed = {check: outcome for check, outcome in outcomes.items() if outcome != "failed"}
    assert outcomes, "no such check on this host"
    assert not unnoticed, (
        f"{sabotage.what}: not noticed, or not by an assertion: {unnoticed} {results.failures}"
    )
    assert _green(sabotage, looked_at, pytestconfig) == []


def _green(sabotage: Sabotage, host: str, config: pytest.Config) -> list[str]:
    """Checks that are still red after the repair; daemons get time to start."""
    wait = pace.Patience(RECOVERY)
    aims = sabotage.red
    while True:
        results = seen_of(Listed(host, aims), config)
        aims = tuple(check for check, outcome in results.outcomes.items() if outcome in ("failed", "crashed"))
        if not aims or not wait.left:
            return results.failures
