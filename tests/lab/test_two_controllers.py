"""Two administrators apply at the same moment, and one is interrupted: the next apply finishes everything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from outpost.target import ROOT
from outpost_lab.instance import Instance
from tests.lab.conftest import Pyinfra
from tests.lab.test_broken_off import finished_by_the_next, spoil

pytestmark = [pytest.mark.slow, pytest.mark.control("SYS-08")]
HOSTS = ("ns2", "webmail")
APPLY = ("apply", "lab", "--yes", "--no-verify")


def started(lab: Instance, *words: str) -> subprocess.Popen[str]:
    """A command that runs beside the test, in its own process group, as in a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "outpost", *words, "--name", lab.name],
        cwd=ROOT, start_new_session=True, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        # children of a shell in the background ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def until(process: subprocess.Popen[str], words: str) -> str:
    """The command's output up to a line with these words."""
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if words in line:
            return printed
    raise AssertionError(f"ended with {process.wait()} and never said {words!r}:\n{printed}")


@pytest.fixture
def spoilt(lab: Instance) -> Iterator[Instance]:
    """The lab, with something to repair on two hosts."""
    for host in HOSTS:
        spoil(lab, host)
    yield lab
    with started(lab, *APPLY) as process:
        output = process.communicate()[0]
    assert process.returncode == 0, output


def test_of_two_applies_at_once_one_is_refused_and_changes_nothing(
    spoilt: Instance, pyinfra: Pyinfra
) -> None:
    with started(spoilt, *APPLY) as first, started(spoilt, *APPLY) as second:
        outputs = {process: process.communicate()[0] for process in (first, second)}
    refused = [process for process in outputs if process.returncode]
    assert len(refused) == 1, outputs
    assert "is being changed by" in outputs[refused[0]]
    assert "this command changed nothing" in outputs[refused[0]]
    assert "Traceback" not in "".join(outputs.values())
    assert pyinfra("--dry", "--json").changes == {}


def test_an_interrupted_apply_says_so_and_the_next_finishes_it(spoilt: Instance, pyinfra: Pyinfra) -> None:
    with started(spoilt, *APPLY) as process:
        printed = until(process, ": changed on")
        os.killpg(process.pid, signal.SIGINT)
        printed += process.communicate()[0]
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    assert "interrupted" in printed.splitlines()[-1]
    for host in HOSTS:
        finished_by_the_next(spoilt, pyinfra, host)
