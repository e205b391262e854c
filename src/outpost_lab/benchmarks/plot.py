"""The results as a picture (a bar for us, one for the peer, on a logarithmic scale, an SVG of our own making) and as a table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from outpost.target import ROOT
from outpost_lab.benchmarks.measure import RESULTS

PICTURE = RESULTS.with_suffix(".svg")
PAGE = ROOT / "docs" / "measurements.md"
BEGIN, END = "<!-- measured, by `./outpost bench --keep --plot` -->", "<!-- end of what is measured -->"
WIDTH, LEFT, RIGHT, ROW = 860, 330, 150, 46
OURS, PEER, TEXT = "#2a6f97", "#b8c4cc", "#1f2933"


def write(results: Path = RESULTS, picture: Path = PICTURE, page: Path = PAGE) -> tuple[Path, Path]:
    """Draw what has been measured in seconds, and write the table of docs/measurements.md."""
    rows = list(json.loads(results.read_text(encoding="utf-8")).values())
    picture.write_text(_drawn([row for row in rows if row["unit"] == "s"]), encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END, 1)
    page.write_text(f"{before}{BEGIN}{_table(rows)}{END}{after}", encoding="utf-8")
    return picture, page


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| Row | What | Against | Ours | Theirs | Ratio | To reach | Measured | Load before |",
        "|" + "---|" * 9,
    ]
    for row in rows:
        sign = {"at most": "≤", "times faster": "≥", "reported": ""}[row["sense"]]
        cells = (
            row["row"], row["what"], row["against"], *(f"{_number(row[whose])} {row['unit']}" for whose in ("ours", "peer")),
            f"{row['ratio']:g}", f"{sign} {row['reach']:g}" if row["reach"] else "–", row["measured"]["when"], f"{row['load']:g}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    machine = rows[-1]["measured"]
    where = f"{machine['processors']} processors ({machine['processor']}), Python {machine['python']}"
    picture = f"![Seconds, ours and theirs]({PICTURE.name})"
    return "\n".join(["", *lines, "", f"On {where}.", "", picture, ""])


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _drawn(rows: list[dict[str, Any]]) -> str:
    longest = max(max(row["ours"], row["peer"]) for row in rows)
    least = min(min(row["ours"], row["peer"]) for row in rows) / 1.5
    height = 34 + ROW * len(rows)

    def length(seconds: float) -> float:
        return (WIDTH - LEFT - RIGHT) * math.log(seconds / least) / math.log(longest / least)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="20" fill="{TEXT}" font-weight="bold">Seconds, logarithmic: Outpost (blue) and its peer (grey)</text>',
    ]
    for number, row in enumerate(rows):
        top = 34 + number * ROW
        against = escape(row["against"].replace("`", ""))
        parts.append(f'<text x="10" y="{top + 14}" fill="{TEXT}">{escape(row["what"])}</text>')
        parts.append(f'<text x="10" y="{top + 30}" fill="#66727c">against {against}</text>')
        for offset, colour, value in ((2, OURS, row["ours"]), (18, PEER, row["peer"])):
            long = length(value)
            bar = f'y="{top + offset}" width="{long:.0f}" height="13"'
            parts.append(f'<rect x="{LEFT}" {bar} fill="{colour}"/>')
            faster = " faster" if row["sense"] == "times faster" else ""
            label = f"{_number(value)} s" + (f" ({row['ratio']:g} ×{faster})" if colour == OURS else "")
            where = f'x="{LEFT + long + 6:.0f}" y="{top + offset + 11}"'
            parts.append(f'<text {where} fill="{TEXT}">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])
