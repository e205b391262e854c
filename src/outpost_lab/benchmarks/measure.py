"""Measurements and their verdicts, as data."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from outpost.target import ROOT

RESULTS = ROOT / "docs" / "benchmarks.json"


@dataclass(frozen=True)
class Measurement:
    """One row: what was measured, against whom, in the same session.

    Attributes:
        sense: How the ratio is meant: `at most` (ours / peer) or `times faster` (peer / ours).
        reach: The ratio to reach; None where a row only reports.
        load: The machine's load before it; above 1.5 something else was going on.
    """

    row: str
    what: str
    against: str
    unit: str
    ours: float
    peer: float
    sense: Literal["at most", "times faster", "reported"]
    reach: float | None = None
    samples: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    load: float = 0.0

    @property
    def ratio(self) -> float:
        """As `sense` reads it."""
        return self.peer / self.ours if self.sense == "times faster" else self.ours / self.peer

    @property
    def reached(self) -> bool | None:
        """Whether the ratio is what it should be."""
        if self.reach is None:
            return None
        return self.ratio >= self.reach if self.sense == "times faster" else self.ratio <= self.reach

    def as_data(self) -> dict[str, Any]:
        data = asdict(self)
        for name in ("ours", "peer"):
            data[name] = round(data[name], 4)
        data["samples"] = {who: [round(each, 4) for each in values] for who, values in self.samples.items()}
        return data | {"ratio": round(self.ratio, 2), "reached": self.reached}


def of_samples(
    row: str,
    what: str,
    against: str,
    reach: float,
    samples: dict[str, list[float]],
    notes: dict[str, Any] | None = None,
) -> Measurement:
    """Seconds, by their medians, of which ours may be this many times the peer's."""
    ours, peer = median(samples["ours"]), median(samples["peer"])
    return Measurement(row, what, against, "s", ours, peer, "at most", reach, samples, notes or {})


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def keep(found: Sequence[Measurement], file: Path = RESULTS) -> None:
    """Into the file of results; rows that were not measured now stay as they are."""
    known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    machine = {
        "when": when, "processors": os.cpu_count(), "processor": _processor(), "python": platform.python_version()
    }  # fmt: skip
    known |= {each.row: each.as_data() | {"measured": machine} for each in found}
    file.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def _processor() -> str:
    """What the machine says it is."""
    said = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^model name\s*: (.*)$", said, re.MULTILINE)
    return found[1] if found else platform.machine()
