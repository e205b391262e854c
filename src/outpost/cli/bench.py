"""`outpost bench`: the promises of speed, measured against their peers."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import measure, plot, run
from outpost.cli.console import Table, err, out, say_json
from outpost.target import LAB, find, shown


def bench(name: str | None, rows: Sequence[str], *, as_json: bool, draw: bool, keep: bool) -> int:
    """Measure rows, show them, and keep them in docs/."""
    target = find(LAB, name)
    found = []
    for measurement in run.measured(target, rows):
        found.append(measurement)
        err.print(
            f"{measurement.row}: {measurement.ours:.2f} {measurement.unit} against {measurement.peer:.2f} "
            f"{measurement.unit} ({measurement.ratio:.2f} ×)",
            markup=False,
        )
        if keep:
            measure.keep([measurement])
    if draw:
        out.print(f"wrote {' and '.join(map(shown, plot.write()))}")
    if as_json:
        say_json([measurement.as_data() for measurement in found])
    else:
        _show(found)
    return 0 if all(measurement.reached is not False for measurement in found) else 1


def list_rows() -> int:
    table = Table("row", "what", box=None, padding=(0, 2, 0, 0))
    for name, row in run.ROWS.items():
        table.add_row(name, (row.__doc__ or "").strip().splitlines()[0])
    out.print(table)
    return 0


def _show(found: Sequence[measure.Measurement]) -> None:
    table = Table("what", "against", "ours", "theirs", "ratio", "to reach", box=None, padding=(0, 2, 0, 0))
    for each in found:
        sign = {"at most": "≤", "times faster": "≥", "reported": ""}[each.sense]
        style = {True: "green", False: "red", None: "default"}[each.reached]
        table.add_row(
            each.what, each.against, f"{each.ours:.2f} {each.unit}", f"{each.peer:.2f} {each.unit}",
            f"[{style}]{each.ratio:.2f} ×[/]", f"{sign} {each.reach} ×" if each.reach else "-",
        )  # fmt: skip
    out.print(table)
