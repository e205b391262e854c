"""Many offices from one controller: their hosts are simulated, and answer as a lab's hosts answered once.

Simulated is `ssh`, the program: first every question to the lab's hosts is noted with its answer, then each office, a copy
of the lab's, is answered from these notes. So the controller does all its work, and the hosts none.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from outpost.errors import OutpostError
from outpost.office import load
from outpost.target import ROOT, Target
from outpost.transport import ssh
from outpost_lab.benchmarks.measure import Figures, median, of_samples
from outpost_lab.benchmarks.place import FAR, INVENTORY

OFFICES = 100
JOBS = 4
RUNS = 5  # of one office
SSH = Path(__file__).with_name("simulated-ssh.sh")


@dataclass(frozen=True)
class Cost:
    """What a command took: time on the clock, of the processors, and memory of all its processes together at its peak."""

    seconds: float
    processor: float
    megabytes: float


def fleet(target: Target) -> Figures:
    """Plans of many offices with simulated hosts against one; whole comparisons, those from memory as a note."""
    jobs = ["--jobs", str(JOBS)]
    with _offices(target, OFFICES) as (offices, environment):
        one = [_cost(["plan", offices[0], "--refresh"], environment) for _ in range(RUNS)]
        few = _cost(["each", "plan", *offices[:JOBS], "--refresh", *jobs], environment)
        many = _cost(["each", "plan", *offices, "--refresh", *jobs], environment)
        again = [_cost(["plan", offices[0]], environment) for _ in range(RUNS)]
        many_again = _cost(["each", "plan", *offices, *jobs], environment)
    return of_samples(
        {"peer": [cost.seconds for cost in one], "ours": [many.seconds / OFFICES]},
        {
            "offices at a time": JOBS,
            "processor seconds per office": {
                "one": round(median([cost.processor for cost in one]), 2),
                f"of {OFFICES}": round(many.processor / OFFICES, 2),
            },
            "peak memory, MB": {
                "one": round(max(cost.megabytes for cost in one)),
                f"{JOBS}": round(few.megabytes),
                f"{OFFICES}": round(many.megabytes),
            },
            "nothing changed since the last plan, s per office": {
                "one": round(median([cost.seconds for cost in again]), 2),
                f"of {OFFICES}": round(many_again.seconds / OFFICES, 3),
            },
        },
    )


@contextlib.contextmanager
def _offices(target: Target, count: int) -> Iterator[tuple[list[str], dict[str, str]]]:
    """So many copies of the lab's office, and the environment in which their hosts are simulated."""
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
        for _ in range(2):  # the second asks only whether all is as the first found it
            _cost(["plan", str(offices[0])], environment | learning)
        yield [str(office) for office in offices], environment


def _cost(arguments: Sequence[str], environment: dict[str, str]) -> Cost:
    before, started = _processor(), time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "outpost", *arguments], cwd=ROOT, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    peak = [0.0]
    watch = threading.Thread(target=_watch, args=(process, peak))
    watch.start()
    output, _ = process.communicate()
    seconds = time.monotonic() - started
    watch.join()
    if process.returncode:
        last = "\n".join(output.strip().splitlines()[-15:])
        raise OutpostError(
            f"outpost {' '.join(arguments[:3])} ended with {process.returncode}:\n{last}",
            "run ./outpost apply lab -y first: the lab's hosts must be as declared",
        )
    return Cost(seconds, _processor() - before, peak[0])


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watch(process: subprocess.Popen[str], peak: list[float]) -> None:
    """The most that a process and all below it hold at once, each shared page counted once (PSS)."""
    while process.poll() is None:
        peak[0] = max(peak[0], sum(map(_held, _below(process.pid))))
        time.sleep(0.25)


def _below(pid: int) -> list[int]:
    try:
        started = [file.read_text(encoding="ascii") for file in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [pid, *(deeper for child in " ".join(started).split() for deeper in _below(int(child)))]


def _held(pid: int) -> float:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0.0)
