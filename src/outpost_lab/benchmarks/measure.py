"""Measurements and their verdicts, as data."""

import json
import os
import platform
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

from outpost.target import ROOT, Target
from outpost.templates import environment, render

RESULTS, PAGE = ROOT / "docs" / "benchmarks.json", ROOT / "docs" / "measurements.md"
BEGIN, END = "<!-- measured, by `./outpost bench --keep` -->", "<!-- end of what is measured -->"


class Figures(NamedTuple):
    """What was measured in one session."""

    ours: float
    peer: float
    samples: dict[str, list[float]]
    notes: dict[str, Any]


class Row(NamedTuple):
    """What a row measures, and beside which peer.

    Attributes:
        reach: The ratio to reach.
        sense: How the ratio is meant: `at most` (ours / peer) or `times faster` (peer / ours).
    """

    measure: Callable[[Target], Figures]
    what: str
    against: str
    reach: float = 1.0
    sense: Literal["at most", "times faster"] = "at most"
    unit: str = "s"


class Measurement(NamedTuple):
    """A row by its name, and what was measured in one session.

    Attributes:
        load: The machine's load before it; above 1.5 the machine did other work, too.
    """

    name: str
    row: Row
    figures: Figures
    load: float

    @property
    def ratio(self) -> float:
        """The ratio in the direction of the row's `sense`."""
        ours, peer = self.figures[:2]
        return peer / ours if self.row.sense == "times faster" else ours / peer

    @property
    def reached(self) -> bool:
        reach = self.row.reach
        return self.ratio >= reach if self.row.sense == "times faster" else self.ratio <= reach

    def as_data(self) -> dict[str, Any]:
        row, (ours, peer, samples, notes) = self.row, self.figures
        return {
            "row": self.name, "what": row.what, "against": row.against, "unit": row.unit, "ours": round(ours, 4),
            "peer": round(peer, 4), "sense": row.sense, "reach": row.reach,
            "samples": {who: [round(each, 4) for each in values] for who, values in samples.items()}, "notes": notes,
            "load": self.load, "ratio": round(self.ratio, 2), "reached": self.reached,
        }  # fmt: skip


def of_samples(samples: dict[str, list[float]], notes: dict[str, Any] | None = None) -> Figures:
    """Compare samples by their medians."""
    return Figures(median(samples["ours"]), median(samples["peer"]), samples, notes or {})


def keep(found: Measurement) -> None:
    """Write it to the file of results and the table of a page; rows that were not measured now stay."""
    known: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    machine = {
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "processors": os.cpu_count(), "processor": _processor(),
        "python": platform.python_version(),
    }  # fmt: skip
    known[found.name] = found.as_data() | {"measured": machine}
    RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    table = render(environment(Path(__file__).parent), "results.md.j2", {"rows": list(known.values())})
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table}{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def _processor() -> str:
    """The machine's description of itself."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    return found[1] if found else platform.machine()
