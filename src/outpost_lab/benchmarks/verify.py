"""Verification over a slow line: checks that only read the hosts, beside a bare login to each."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from outpost.target import LAB, Target
from outpost.verification.live import LEAN, SIDE_BY_SIDE, WHITE_BOX
from outpost_lab import office
from outpost_lab.benchmarks.measure import Figures, of_samples
from outpost_lab.benchmarks.place import Place, behind
from outpost_lab.benchmarks.reapply import RTT, RUNS
from outpost_lab.instance import Instance


def white_box(target: Target) -> Figures:
    """White-box checks of all hosts, cold, beside bare logins; their commands have been learnt without the line."""
    office.came_up(
        Instance.load(target.instance or LAB)
    )  # what journals say about earlier measurements does not count
    with behind(target, rtt=0.0) as near, tempfile.TemporaryDirectory() as temporary:
        listed = Path(temporary) / "asked"
        _checks(near, listed, *SIDE_BY_SIDE)()
        with behind(target, rtt=RTT) as place:
            return of_samples(place.paired(_checks(place, listed), RUNS))


def _checks(place: Place, listed: Path, *options: str) -> Callable[[], float]:
    command = [
        sys.executable, "-m", "pytest", "tests/live", "-m", WHITE_BOX, "-q", *LEAN,
        "-p", "outpost.verification.ahead", f"--ahead={listed}", "--office", str(place.directory), "--via", "ssh", *options,
    ]  # fmt: skip
    return lambda: place.timed(command)
