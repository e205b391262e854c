"""The results as a picture (a bar for us, one for the peer, on a logarithmic scale) and as a table, from the templates beside this."""

import json
import math
from pathlib import Path
from typing import Any

from outpost.target import ROOT
from outpost.templates import environment, render
from outpost_lab.benchmarks.measure import RESULTS

PICTURE = RESULTS.with_suffix(".svg")
PAGE = ROOT / "docs" / "measurements.md"
BEGIN, END = "<!-- measured, by `./outpost bench --keep --plot` -->", "<!-- end of what is measured -->"


def write(results: Path = RESULTS, picture: Path = PICTURE, page: Path = PAGE) -> tuple[Path, Path]:
    """Draw what has been measured in seconds, and write the table of docs/measurements.md."""
    rows = list(json.loads(results.read_text(encoding="utf-8")).values())
    picture.write_text(_made("results.svg", [row for row in rows if row["unit"] == "s"]), encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END, 1)
    page.write_text(f"{before}{BEGIN}{_made('results.md', rows)}{END}{after}", encoding="utf-8")
    return picture, page


def _made(name: str, rows: list[dict[str, Any]]) -> str:
    values = [row[whose] for row in rows for whose in ("ours", "peer")]
    longest, least = max(values), min(values) / 1.5

    def share(seconds: float) -> float:
        """Of the longest bar."""
        return math.log(seconds / least) / math.log(longest / least)

    context = {"rows": rows, "picture": PICTURE.name, "share": share, "number": _number}
    return render(environment(Path(__file__).parent), f"{name}.j2", context)


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
