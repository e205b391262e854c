"""An apply that makes things worse is taken back, and stops before it reaches the next host."""

from __future__ import annotations

import pytest

from outpost import rollout
from outpost.lab.instance import Instance
from outpost.office import Office
from outpost.run import Silent
from outpost.target import Target
from outpost.verification import Result, Verdict
from tests.lab.conftest import Pyinfra
from tests.lab.test_reapply import on

FILE = "/etc/chrony/chrony.conf"


def failing(*_: object, **__: object) -> Verdict:
    """A verification that finds ns1's clock broken."""
    result = Result("clock", "ns1", "clock follows its sources", ("TIM-01",), "failed", "no source", 0.1)
    return Verdict((result,), 0.1, "")


def test_a_failed_check_puts_the_previous_files_back_and_ends_the_rollout(
    lab: Instance, pyinfra: Pyinfra, target: Target, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    for machine in ("ns1", "ns2"):
        on(lab, machine, f"echo '# worked before' >> {FILE}")
    started = on(lab, "ns2", "systemctl show -P InvocationID chrony")
    monkeypatch.setattr(rollout, "verify", failing)
    done = rollout.roll_out(target, office, limit=("ns1", "ns2"), connector="docker", watcher=Silent)
    assert not done.good
    assert done.went_back == ("ns1",)
    assert done.waiting == ("ns2",)
    assert on(lab, "ns1", f"tail -1 {FILE}; systemctl is-active chrony").splitlines() == [
        "# worked before",
        "active",
    ]
    assert on(lab, "ns2", "systemctl show -P InvocationID chrony") == started
    monkeypatch.undo()
    repaired = rollout.roll_out(
        target, office, limit=("ns1", "ns2"), connector="docker", watcher=Silent, checked=False
    )
    assert repaired.good
    only = [word for name in ("ns1", "ns2") for word in ("--limit", f"@container/{lab.container_name(name)}")]
    assert pyinfra("--dry", "--json", *only).changes == {}
