"""`outpost judge`: runs other people's scanners; shows and keeps their results."""

from typing import Annotated

import typer
from rich.markup import escape

from outpost.cli.console import err, out, say_json
from outpost.cli.options import App, At, JsonOption
from outpost.errors import OutpostError
from outpost.evidence import opinions
from outpost_lab import judges

app = App()


@app.of_office(
    "judge",
    epilog="Example: `./outpost judge lab --only ssh-audit --record`. Exit code 0: each finding has a reason, 1: one has none.",
)
def judge_office(
    at: At,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="TOOL", help="ssh-audit, lynis, testssl or sslyze; may be repeated."),
    ] = None,
    record: Annotated[
        bool,
        typer.Option("--record", help="Keep the results in controls/judged.json, for the documentation."),
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Scan with ssh-audit, lynis, testssl.sh and sslyze.

    Each finding has a reason in controls/opinions.toml, or is an error.
    """
    if unknown := sorted(set(only or ()) - set(opinions.TOOLS)):
        raise OutpostError(
            f"{', '.join(unknown)}: no such tool", f"choose one of: {', '.join(opinions.TOOLS)}"
        )
    judged: list[opinions.Opinion] = []
    for opinion in judges.opinions(at.target, at.office, tuple(only or ()), at.via):
        judged.append(opinion)
        left = f" [dim]({escape(', '.join(opinion.findings))})[/]" if opinion.findings else ""
        err.print(
            f"{opinion.tool} {opinion.host}, {escape(opinion.what)}: [bold]{escape(opinion.result)}[/]{left}"
        )
    known = opinions.reasons()
    open_ends = opinions.unexplained(tuple(judged), known)
    if as_json:
        say_json([vars(each) | {"findings": list(each.findings)} for each in judged])
    else:
        out.print(opinions.table(tuple(judged)) + "\n" + opinions.left(tuple(judged), known), markup=False)
    for finding in open_ends:
        err.print(f"[red]no reason given in controls/opinions.toml[/]: {escape(finding)}")
    if record:
        opinions.record(judged)
        err.print("kept in controls/judged.json; `./outpost reference` puts it into the documentation")
    return 1 if open_ends else 0
