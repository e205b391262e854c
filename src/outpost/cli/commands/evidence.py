"""`outpost report`, `judge`, `attack`: what an office withstands, for others to read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from outpost.cli.options import JsonOption, NameOption, OfficeArgument, ViaOption
from outpost.errors import OutpostError

app = typer.Typer()


@app.command(
    epilog="Example: `./outpost report lab --html evidence.html --pdf evidence.pdf`. Exit code 0: written, 1: nothing to report."
)
def report(
    office: OfficeArgument,
    name: NameOption = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Where the page goes (default: OFFICE-evidence.html)."),
    ] = None,
    pdf: Annotated[
        Path | None, typer.Option("--pdf", metavar="FILE", help="On paper, too, by Debian's Chromium.")
    ] = None,
    via: ViaOption = None,
) -> None:
    """Write one page of evidence from the latest results: fault, control, line in effect, check, attack, host, result."""
    from outpost.cli.report import report_office

    raise typer.Exit(report_office(office, name, html, pdf, via))


@app.command(
    epilog="Example: `./outpost judge lab --only ssh-audit --record`. Exit code 0: all that is left has a reason, 1: not so."
)
def judge(
    office: OfficeArgument,
    name: NameOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="TOOL", help="ssh-audit, lynis, testssl or sslyze; may be repeated."),
    ] = None,
    record: Annotated[
        bool,
        typer.Option("--record", help="Keep the results in controls/judged.json, for the documentation."),
    ] = False,
    via: ViaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask others' tools: ssh-audit, lynis, testssl.sh, sslyze; each finding has a reason or is an error."""
    from outpost.cli.judge import judge_office
    from outpost.judges import TOOLS

    if unknown := sorted(set(only or ()) - set(TOOLS)):
        raise OutpostError(f"{', '.join(unknown)}: no such tool", f"one of {', '.join(TOOLS)}")
    raise typer.Exit(judge_office(office, name, tuple(only or ()), via, record=record, as_json=as_json))


@app.command(
    epilog="Examples: `./outpost attack lab --list`, `./outpost attack lab --only 2g --only REL --transcript`. Exit code 0: "
    "withstood, 1: breached."
)
def attack(
    office: OfficeArgument,
    name: NameOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="ID", help="An attack, a family (A-DSN), a control or a fault; may be repeated."
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the attacks and carry out none.")] = False,
    slow: Annotated[bool, typer.Option("--slow", help="Floods and the long fuzzing, too.")] = False,
    positive: Annotated[
        bool,
        typer.Option(
            "--with-positive-control",
            help="In the lab: turn each defence off afterwards and see the same attack succeed; then turn it on again.",
        ),
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the results in controls/measured.json (appendix II).")
    ] = False,
    transcript: Annotated[bool, typer.Option("--transcript", help="Show every dialogue.")] = False,
    json: JsonOption = False,
) -> None:
    """Attack an office as the case study fears, bounded in count and time, and measure what honest people notice.

    The lab, or an office whose file agrees to it for a time (`[attack] consent_until`), with somebody at the terminal.
    """
    from outpost.cli.attack import attack_office

    raise typer.Exit(
        attack_office(
            office,
            name,
            only,
            listed=listed,
            slow=slow,
            positive=positive,
            record=record,
            transcripts=transcript,
            as_json=json,
        )
    )
