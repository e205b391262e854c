"""The results as a picture: one bar for us, one for the peer, on a logarithmic scale, as an SVG of our own making."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.measure import RESULTS

PICTURE = RESULTS.with_suffix(".svg")
WIDTH, LEFT, RIGHT, ROW = 860, 330, 150, 46
OURS, PEER, TEXT = "#2a6f97", "#b8c4cc", "#1f2933"


def write(results: Path = RESULTS, picture: Path = PICTURE) -> Path:
    """Draw what has been measured in seconds."""
    rows = [row for row in json.loads(results.read_text(encoding="utf-8")).values() if row["unit"] == "s"]
    picture.write_text(_drawn(rows), encoding="utf-8")
    return picture


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
        parts.append(f'<text x="10" y="{top + 14}" fill="{TEXT}">{escape(row["what"])}</text>')
        parts.append(
            f'<text x="10" y="{top + 30}" fill="#66727c">against {escape(row["against"].replace("`", ""))}</text>'
        )
        for offset, colour, value in ((2, OURS, row["ours"]), (18, PEER, row["peer"])):
            long = length(value)
            parts.append(
                f'<rect x="{LEFT}" y="{top + offset}" width="{long:.0f}" height="13" fill="{colour}"/>'
            )
            label = f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
            if colour == OURS:
                label += (
                    f" ({row['ratio']:g} × {'faster' if row['sense'] == 'times faster' else ''})".replace(
                        " )", ")"
                    )
                )
            parts.append(
                f'<text x="{LEFT + long + 6:.0f}" y="{top + offset + 11}" fill="{TEXT}">{label}</text>'
            )
    return "\n".join([*parts, "</svg>", ""])
