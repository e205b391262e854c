"""What a second apply does on hosts that are as declared: nothing, whoever asks."""

from __future__ import annotations

import json
import subprocess
import sys

from outpost import run
from outpost.office import Office
from outpost.target import ROOT, Target


def test_second_apply_changes_nothing_on_any_host(target: Target, office: Office) -> None:
    outcome = run.apply(target, watcher=run.Silent())
    assert outcome.failed == {}
    assert outcome.changes == ()
    assert set(outcome.hosts) == {host.name for host in office.hosts}


def test_raw_pyinfra_plans_no_change(target: Target) -> None:
    planned = subprocess.run(
        [sys.executable, "-m", "pyinfra", "inventory/lab/docker.py", "deploy.py", "--dry", "--json"],
        cwd=ROOT,
        env=target.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    operations = json.loads(planned.stdout)["plan"]
    assert operations
    for key in ("hosts_with_change", "hosts_with_conditional_change"):
        assert {operation["name"]: operation[key] for operation in operations if operation[key]} == {}


def test_ssh_reaches_the_same_hosts_in_the_same_state(target: Target, office: Office) -> None:
    outcome = run.plan(target, connector="ssh", watcher=run.Silent())
    assert outcome.failed == {}
    assert outcome.changes == ()
    assert set(outcome.hosts) == {host.name for host in office.hosts}
