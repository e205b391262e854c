"""`outpost judge`: outside opinions, shown and kept."""

from __future__ import annotations

from rich.markup import escape

from outpost import judges
from outpost.cli.console import err, out, say_json
from outpost.office import load
from outpost.target import find


def judge_office(
    office: str, name: str | None, only: tuple[str, ...], via: str | None, *, record: bool, as_json: bool
) -> int:
    """Let the tools look, one host after the other; 0 where everything they find has a reason."""
    target = find(office, name)
    said: list[judges.Opinion] = []
    for opinion in judges.opinions(target, load(target.data), only, via):
        said.append(opinion)
        left = f" [dim]({escape(', '.join(opinion.findings))})[/]" if opinion.findings else ""
        err.print(
            f"{opinion.tool} {opinion.host}, {escape(opinion.what)}: [bold]{escape(opinion.result)}[/]{left}"
        )
    known = judges.reasons()
    open_ends = judges.unexplained(tuple(said), known)
    if as_json:
        say_json([vars(each) | {"findings": list(each.findings)} for each in said])
    else:
        out.print(judges.table(tuple(said)) + "\n" + judges.left(tuple(said), known), markup=False)
    for finding in open_ends:
        err.print(f"[red]no reason given in controls/opinions.toml[/]: {escape(finding)}")
    if record:
        judges.record(said)
        err.print("kept in controls/judged.json; `./outpost reference` puts it into the documentation")
    return 1 if open_ends else 0
