"""`outpost bench`: the promises of speed, measured against their peers."""

from collections.abc import Sequence
from typing import Annotated

import typer

from outpost.cli.console import Table, err, out, say_json
from outpost.cli.options import JsonOption, NameOption
from outpost.cli.progress import Lines
from outpost.target import LAB, find
from outpost_lab.benchmarks import measure, run

app = typer.Typer()


@app.command(
    "bench",
    epilog="Examples: `./outpost bench --list`, `./outpost bench reapply-cold verify --name two`; `./outpost bench --keep` "
    "measures everything (half an hour and more). Exit code 0: every ratio reached, 1: a ratio missed.",
)
def bench(
    rows: Annotated[list[str] | None, typer.Argument(metavar="[ROW…]", help="Only these rows.")] = None,
    name: NameOption = None,
    listed: Annotated[bool, typer.Option("--list", help="List the rows, and measure nothing.")] = False,
    as_json: JsonOption = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Write docs/benchmarks.json and the table in docs/measurements.md.")
    ] = False,
) -> int:
    """Measure speed beside SSH, pyinfra, Ansible and apt-get.

    It needs a lab that is up.

    A slow line is put in front of the hosts. Nothing else should run on the machine meanwhile.
    """
    if listed:
        table = Table("row", "what")
        for name_, row in run.ROWS.items():
            table.add_row(name_, f"{row.what}; against: {row.against}")
        out.print(table)
        return 0
    target = find(LAB, name)
    found = []
    for measurement in run.measured(target, rows or (), Lines()):
        found.append(measurement)
        err.print(
            f"{measurement.row}: {measurement.ours:.2f} {measurement.unit} against {measurement.peer:.2f} "
            f"{measurement.unit} ({measurement.ratio:.2f} ×)",
            markup=False,
        )
        if keep:
            measure.keep([measurement])
    if as_json:
        say_json([measurement.as_data() for measurement in found])
    else:
        _show(found)
    return 0 if all(measurement.reached for measurement in found) else 1


def _show(found: Sequence[measure.Measurement]) -> None:
    table = Table("what", "against", "ours", "theirs", "ratio", "to reach")
    for each in found:
        sign = {"at most": "≤", "times faster": "≥"}[each.sense]
        style = "green" if each.reached else "red"
        table.add_row(
            each.what, each.against, f"{each.ours:.2f} {each.unit}", f"{each.peer:.2f} {each.unit}",
            f"[{style}]{each.ratio:.2f} ×[/]", f"{sign} {each.reach} ×",
        )  # fmt: skip
    out.print(table)
