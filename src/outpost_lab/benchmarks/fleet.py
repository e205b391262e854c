"""Many offices from one controller: their hosts are simulated, with answers recorded from a lab's hosts.

Simulated is `ssh`, the program: first every question to the lab's hosts is noted with its answer, then each office, a copy
of the lab's, is answered from these notes. So the controller does all its work, and the hosts none.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from outpost.office import load
from outpost.target import ROOT, Target
from outpost.transport import ssh
from outpost_lab import engine
from outpost_lab.benchmarks.measure import Figures, median, of_samples
from outpost_lab.benchmarks.place import FAR, INVENTORY

OFFICES = 100
JOBS = 4
RUNS = 5  # for each office
SSH = Path(__file__).with_name("simulated-ssh.sh")


def fleet(target: Target) -> Figures:
    """Plans of many offices with simulated hosts against one; whole comparisons, those from memory as a note."""
    jobs = ["--jobs", str(JOBS)]
    with _offices(target, OFFICES) as (offices, environment):
        one = [_plan(environment, "plan", offices[0], "--refresh") for _ in range(RUNS)]
        many = _plan(environment, "each", "plan", *offices, "--refresh", *jobs)
        again = [_plan(environment, "plan", offices[0]) for _ in range(RUNS)]
        many_again = _plan(environment, "each", "plan", *offices, *jobs)
    known = {"one": round(median(again), 2), f"of {OFFICES}": round(many_again / OFFICES, 3)}
    notes = {"offices at a time": JOBS, "nothing changed since the last plan, s per office": known}
    return of_samples({"peer": one, "ours": [many / OFFICES]}, notes)


@contextlib.contextmanager
def _offices(target: Target, count: int) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Copies of the lab's office, and the environment in which their hosts are simulated."""
    with tempfile.TemporaryDirectory(prefix="outpost-fleet-") as temporary:
        top = Path(temporary)
        offices = [top / f"office-{number:03}" for number in range(count)]
        for office in offices:
            shutil.copytree(target.data, office, ignore=shutil.ignore_patterns(*FAR))
            shutil.copy(INVENTORY, office / "ssh.py")
        program = top / "bin" / "ssh"
        program.parent.mkdir()
        shutil.copy(SSH, program)
        program.chmod(0o700)
        (top / "answers").mkdir()
        environment = os.environ | {
            "PATH": f"{program.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ANSWERS": str(top / "answers"),
            "XDG_CACHE_HOME": str(top / "cache"),
            "PYINFRA_PROGRESS": "off",
        }
        configuration = ssh.configuration(load(target.data), target.data)
        learning = {"REAL": shutil.which("ssh") or "ssh", "CONFIGURATION": str(configuration)}
        for _ in range(2):  # the second plan asks only whether everything is unchanged
            _plan(environment | learning, "plan", str(offices[0]))
        yield [str(office) for office in offices], environment


def _plan(environment: dict[str, str], *words: str) -> float:
    """Seconds that a command takes."""
    started = time.monotonic()
    remedy = "run ./outpost apply lab -y first: the lab's hosts must be as declared"
    engine.run(sys.executable, "-m", "outpost", *words, lines=15, remedy=remedy, cwd=ROOT, env=environment)
    return time.monotonic() - started
