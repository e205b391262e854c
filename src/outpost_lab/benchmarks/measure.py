"""Measurements and their verdicts, as data."""

import json
import os
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from outpost.target import ROOT
from outpost.templates import environment, render

Sense = Literal["at most", "times faster"]
RESULTS, PAGE = ROOT / "docs" / "benchmarks.json", ROOT / "docs" / "measurements.md"
BEGIN, END = "<!-- measured, by `./outpost bench --keep` -->", "<!-- end of what is measured -->"


class Figures(NamedTuple):
    """What was measured in one session."""

    ours: float
    peer: float
    samples: dict[str, list[float]]
    notes: dict[str, Any]


@dataclass(frozen=True)
class Measurement:
    """One row: what was measured, beside which peer, in the same session.

    Attributes:
        sense: How the ratio is meant: `at most` (ours / peer) or `times faster` (peer / ours).
        reach: The ratio to reach.
        load: The machine's load before it; above 1.5 the machine did other work, too.
    """

    row: str
    what: str
    against: str
    unit: str
    ours: float
    peer: float
    sense: Sense
    reach: float
    samples: dict[str, list[float]]
    notes: dict[str, Any]
    load: float

    @property
    def ratio(self) -> float:
        """The ratio in the direction of `sense`."""
        return self.peer / self.ours if self.sense == "times faster" else self.ours / self.peer

    @property
    def reached(self) -> bool:
        return self.ratio >= self.reach if self.sense == "times faster" else self.ratio <= self.reach

    def as_data(self) -> dict[str, Any]:
        data = asdict(self)
        for name in ("ours", "peer"):
            data[name] = round(data[name], 4)
        data["samples"] = {who: [round(each, 4) for each in values] for who, values in self.samples.items()}
        return data | {"ratio": round(self.ratio, 2), "reached": self.reached}


def of_samples(samples: dict[str, list[float]], notes: dict[str, Any] | None = None) -> Figures:
    """Compare samples by their medians."""
    return Figures(median(samples["ours"]), median(samples["peer"]), samples, notes or {})


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def keep(found: Sequence[Measurement], file: Path = RESULTS, page: Path = PAGE) -> None:
    """Write them to the file of results and the table of a page; rows that were not measured now stay."""
    known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    machine = {
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "processors": os.cpu_count(), "processor": _processor(),
        "python": platform.python_version(),
    }  # fmt: skip
    known |= {each.row: each.as_data() | {"measured": machine} for each in found}
    file.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    table = render(environment(Path(__file__).parent), "results.md.j2", {"rows": list(known.values())})
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    page.write_text(f"{before}{BEGIN}{table}{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def _processor() -> str:
    """The machine's description of itself."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    return found[1] if found else platform.machine()
