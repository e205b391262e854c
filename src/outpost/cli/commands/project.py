"""`outpost test`, `bench`: the project itself."""

from __future__ import annotations

from typing import Annotated

import typer

from outpost.cli.options import JsonOption, NameOption, YesOption
from outpost.target import expect_checkout

app = typer.Typer()


@app.command("test", epilog="Example: `./outpost test --fast`. Exit code 0: all passed, 1: something failed.")
def suite(
    yes: YesOption = False,
    fast: Annotated[bool, typer.Option("--fast", help="Only what needs no Docker.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab instance `test` running.")] = False,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- PYTEST…]", help="Passed on to pytest.")
    ] = None,
) -> None:
    """Run the project's whole suite: lint, unit tests, then a cold lab with live checks and journeys."""
    from outpost.cli.suite import run_suite

    expect_checkout()
    raise typer.Exit(run_suite(yes=yes, fast=fast, keep=keep, arguments=arguments or []))


@app.command(
    epilog="Examples: `./outpost bench --list`, `./outpost bench reapply-cold verify --name two`; `./outpost bench --keep --plot` "
    "measures everything (half an hour and more). Exit code 0: every ratio reached, 1: not so."
)
def bench(
    rows: Annotated[list[str] | None, typer.Argument(metavar="[ROW…]", help="Only these rows.")] = None,
    name: NameOption = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the rows and measure none.")] = False,
    json: JsonOption = False,
    plot: Annotated[
        bool, typer.Option("--plot", help="Write docs/benchmarks.svg and the table in docs/measurements.md.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the results in docs/benchmarks.json.")] = False,
) -> None:
    """Measure speed against its peers on a lab that is up: bare SSH, stock pyinfra, Ansible, plain apt-get.

    A slow line is put in front of the hosts. Nothing else should run on the machine meanwhile.
    """
    expect_checkout()
    from outpost.cli import bench as benchmark

    if listed:
        raise typer.Exit(benchmark.list_rows())
    raise typer.Exit(benchmark.bench(name, rows or [], as_json=json, draw=plot, keep=keep))
