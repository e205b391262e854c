"""An apply that makes things worse is taken back, and stops before it reaches the next host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tomlkit

from outpost.engine import rollout
from outpost.engine.run import Silent
from outpost.office import Office
from outpost.target import Target
from outpost.verification.live import Result, Verdict
from outpost_lab.instance import Instance
from tests.lab.conftest import Pyinfra
from tests.lab.test_reapply import on

FILE = "/etc/chrony/chrony.conf"
LOCAL = "/etc/chrony/local.d/log.conf"


def verdicts() -> Iterator[Verdict]:
    """Two verifications: before the wave nothing fails, after it the clock of ns1."""
    result = Result("clock", "ns1", "clock follows its sources", ("TIM-01",), "failed", "no source", 0.1)
    yield Verdict((), 0.1, "")
    yield Verdict((result,), 0.1, "")


@pytest.fixture
def declared(lab: Instance, pyinfra: Pyinfra) -> Iterator[None]:
    """Both name servers get another configuration of chrony, and somebody has edited the previous one by hand."""
    before = lab.office_file.read_text()
    document = tomlkit.parse(before)
    for name in ("ns1", "ns2"):
        on(
            lab,
            name,
            f"mkdir -p $(dirname {LOCAL}); echo 'log statistics' > {LOCAL}; echo '# by hand' >> {FILE}",
        )
        document["hosts"][name]["local"] = [LOCAL]
    lab.office_file.write_text(tomlkit.dumps(document))
    yield
    lab.office_file.write_text(before)
    only = [word for name in ("ns1", "ns2") for word in ("--limit", f"@container/{lab.container_name(name)}")]
    assert pyinfra("-y", "--json", *only).code == 0
    assert pyinfra("--dry", "--json", *only).changes == {}


@pytest.mark.usefixtures("declared")
def test_a_check_that_newly_fails_brings_the_previous_declaration_back_and_ends_the_rollout(
    lab: Instance, target: Target, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = on(lab, "ns2", "systemctl show -P InvocationID chrony")
    both = verdicts()
    monkeypatch.setattr(rollout, "verify", lambda *_, **__: next(both))
    done = rollout.roll_out(target, office, limit=("ns1", "ns2"), connector="docker", watcher=Silent)
    assert not done.good
    assert done.went_back == ("ns1",)
    assert done.waiting == ("ns2",)
    there = on(lab, "ns1", f"cat {FILE}")
    assert LOCAL not in there, "the new declaration stayed"
    assert "# by hand" not in there, "the edit by hand came back"
    assert "server " in there or "pool " in there
    assert on(lab, "ns1", "systemctl is-active chrony").strip() == "active"
    assert "# by hand" in on(lab, "ns2", f"cat {FILE}")
    assert on(lab, "ns2", "systemctl show -P InvocationID chrony") == started
