"""A controller that dies in the middle of an apply (kill -9) leaves nothing that the next apply does not finish."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from outpost.lab.instance import Instance
from outpost.target import ROOT, Target
from roles import guard
from tests.lab.conftest import INVENTORY, Pyinfra
from tests.lab.test_reapply import on

SPOIL = """
for record in /var/lib/outpost/applied/*; do
  sed -n 's/^path //p' "$record" | while read -r path; do [ ! -f "$path" ] || echo '# spoilt' >> "$path"; done
done
"""
SEED = 20261124


def spoil(lab: Instance, machine: str) -> None:
    """Give an apply something to do in every one of its operations that hold files."""
    on(lab, machine, SPOIL)


def killed_at(lab: Instance, target: Target, machine: str, number: int, delay: float) -> str | None:
    """Start an apply, kill it at its n-th operation; the operation's name, None where it has fewer."""
    command = [
        sys.executable,
        "-m",
        "pyinfra",
        INVENTORY,
        "deploy.py",
        "-y",
        "--limit",
        f"@docker/{lab.container_name(machine)}",
    ]
    with subprocess.Popen(
        command, cwd=ROOT, env=target.environment | {"PYINFRA_PROGRESS": "off"}, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        told: list[str] = []
        for count, name in enumerate(_operations(process.stderr, told), start=1):
            if count == number:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(delay)  # into the operation, not only between two
                os.killpg(process.pid, signal.SIGKILL)
                return name
    assert process.returncode == 0, "".join(told)  # it must have had fewer, not have failed earlier
    return None


def _operations(lines: Iterator[str], told: list[str]) -> Iterator[str]:
    for line in lines:
        told.append(line)
        if line.startswith("--> Starting"):
            yield line.strip()


def finished_by_the_next(lab: Instance, pyinfra: Pyinfra, machine: str) -> None:
    """The next apply succeeds, nothing is left to do, and every daemon runs with the files that are there."""
    only = ("--limit", f"@docker/{lab.container_name(machine)}")
    run = pyinfra("-y", "--json", *only)
    assert run.code == 0, run.log
    assert pyinfra("--dry", "--json", *only).changes == {}
    seen = json.loads(on(lab, machine, "/usr/local/lib/outpost/observe"))
    assert seen["faults"] == []
    assert on(lab, machine, "grep -rl '# spoilt' /etc /usr/local | head -3; true") == ""
    units = on(
        lab, machine, "sed -n 's/^unit //p' /var/lib/outpost/applied/* | xargs systemctl is-active"
    ).split()
    assert set(units) == {"active"}


@pytest.mark.slow  # once in six runs, right behind a cold start, the apply itself stopped early: not understood yet
@pytest.mark.parametrize(("machine", "number"), [("ns2", 17), ("webmail", 31)])
def test_an_apply_that_was_killed_is_finished_by_the_next(
    lab: Instance, pyinfra: Pyinfra, target: Target, machine: str, number: int
) -> None:
    spoil(lab, machine)
    delay = random.Random(f"{SEED}{machine}{number}").uniform(0, 0.4)  # noqa: S311 (no secret)
    assert killed_at(lab, target, machine, number, delay)
    finished_by_the_next(lab, pyinfra, machine)


@pytest.mark.control("SYS-08")
def test_what_a_killed_apply_left_armed_is_confirmed_by_the_next(lab: Instance, pyinfra: Pyinfra) -> None:
    """Killed between a guarded change and its confirmation: the host would go back behind the next apply's back."""
    spoil(lab, "ns2")
    assert pyinfra("-y", "--json", "--limit", f"@docker/{lab.container_name('ns2')}").code == 0
    on(lab, "ns2", "\n".join(["sed -i '/^digest /d' /var/lib/outpost/applied/sysctl", *guard.arm("sysctl")]))
    finished_by_the_next(lab, pyinfra, "ns2")
    assert (
        on(lab, "ns2", f"systemctl list-timers --all --no-legend '{guard.unit('*')}'; ls {guard.ARMED}") == ""
    )


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["ns1", "mta", "store", "webmail"])
def test_an_apply_killed_at_any_of_its_operations_is_finished_by_the_next(
    lab: Instance, pyinfra: Pyinfra, target: Target, machine: str
) -> None:
    number = 1
    while True:
        spoil(lab, machine)
        delay = random.Random(f"{SEED}{machine}{number}").uniform(0, 0.4)  # noqa: S311 (no secret)
        name = killed_at(lab, target, machine, number, delay)
        finished_by_the_next(lab, pyinfra, machine)
        if name is None:
            break
        number += 1
    assert number > 10
