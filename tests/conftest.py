"""Options that choose the office of the live checks; shared by tests/live, tests/lab and tests/journeys."""

from __future__ import annotations

import random

import pytest

from outpost.office import Office
from outpost.target import Target
from outpost.verification.live import chosen_office, chosen_target


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest tests/live --office lab --name two --host mta` works without ./outpost, too."""
    group = parser.getgroup("outpost", "which office to check")
    group.addoption("--office", default="lab", metavar="OFFICE", help="a name below inventory/, or a path")
    group.addoption("--name", default=None, metavar="NAME", help="the lab instance (default: lab)")
    group.addoption("--via", default=None, metavar="CONNECTOR", help="docker or ssh: how to reach the hosts")
    group.addoption(
        "--seed", type=int, default=0, help="what a rehearsal's chance begins with (default: by chance)"
    )
    group.addoption(
        "--messages", type=int, default=200, help="how many messages a rehearsal sends (default: 200)"
    )
    group.addoption("--record", action="store_true", help="write the ledger's table in docs/measurements.md")
    group.addoption(
        "--host", action="append", default=[], metavar="HOST", help="only this host; may be repeated"
    )
    group.addoption(
        "--control",
        action="append",
        default=[],
        metavar="ID",
        help="only what proves this control; may be repeated",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out checks that prove none of the wanted controls."""
    wanted = set(config.getoption("--control"))
    if not wanted:
        return
    proving = [
        item
        for item in items
        if wanted & {name for mark in item.iter_markers("control") for name in mark.args}
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in proving])
    items[:] = proving


def pytest_configure(config: pytest.Config) -> None:
    """The marks of checks; testinfra's own ``--hosts=docker://NAME,…`` also chooses the connection to the hosts."""
    schemes = {spec.rpartition("://")[0] for spec in (config.getoption("--hosts") or "").split(",")} - {""}
    if len(schemes) > 1:
        raise pytest.UsageError(f"--hosts by one connector at a time, not by {' and '.join(sorted(schemes))}")
    config.option.via = config.option.via or config.getoption("--connection") or next(iter(schemes), None)
    config.addinivalue_line("markers", "role(*names): runs on each host of these roles (default: all)")
    config.addinivalue_line("markers", "slow: a long rehearsal; left out unless asked for with -m slow")
    config.addinivalue_line("markers", "control(*ids): the controls that the check proves")
    config.addinivalue_line(
        "markers", "looks: asks the same each time and changes nothing: may be asked ahead"
    )
    config.addinivalue_line(
        "markers", "live: acts, waits, or looks at what it did, among others that only look"
    )
    config.addinivalue_line(
        "markers",
        "probe: converses with a daemon or another machine, or makes the host work; not a mere look",
    )
    config.addinivalue_line("markers", "remedy(text): what mends it, where an apply does not")
    config.addinivalue_line("markers", "daemons(*units): whose journal says more where it fails")


@pytest.fixture(scope="session")
def target(pytestconfig: pytest.Config) -> Target:
    """The office that the options name."""
    return chosen_target(pytestconfig)


@pytest.fixture(scope="session")
def office(pytestconfig: pytest.Config) -> Office:
    """Its model."""
    return chosen_office(pytestconfig)


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """Another one each time, unless --seed says which."""
    return pytestconfig.getoption("--seed") or random.SystemRandom().randrange(10_000, 99_999)
