"""`outpost report` and `judge`: the page of evidence, the same on paper, and what other people's scanners find."""

from pathlib import Path

from rich.markup import escape

from outpost.cli.console import err, out, say_json
from outpost.cli.options import App, At
from outpost.errors import OutpostError
from outpost.evidence import opinions
from outpost.evidence.controls import catalogue, measured
from outpost.evidence.effect import Line, in_effect
from outpost.evidence.report import Evidence, page, print_page
from outpost.office import Host
from outpost.recovery.restore import held
from outpost.target import shown
from outpost.transport.remote import of_each
from outpost.verification import history
from outpost_lab import judges

app = App()


@app.of_office("report")
def report_office(at: At, html: Path | None = None, pdf: Path | None = None) -> None:
    target = at.target
    kept = history.runs(target)
    if not kept:
        problem = f"{target.title} has not been verified yet"
        raise OutpostError(problem, f"./outpost verify {target.typed}")
    lab = target.instance is not None
    evidence = Evidence(at.office, catalogue(), kept, _lines(at), measured(), held(target), lab=lab)
    file = html or Path(f"{target.name}-evidence.html")
    file.write_text(page(evidence), encoding="utf-8")
    out.print(f"wrote {escape(shown(file.resolve()))} ({file.stat().st_size // 1024} KiB)")
    if pdf:
        print_page(page(evidence, paper=True), pdf)
        out.print(f"wrote {escape(shown(pdf.resolve()))} ({pdf.stat().st_size // 1024} KiB)")


def _lines(at: At) -> dict[str, list[Line]]:
    """Lines in effect, of the hosts that answer; all are asked side by side."""
    found: dict[str, list[Line]] = {}

    def one(host: Host) -> list[tuple[set[str], Line]]:
        try:
            return list(in_effect(at.target, at.office, host, at.via))
        except OutpostError as error:
            err.print(f"[yellow]the lines of {escape(host.name)} are missing[/]: {escape(error.message)}")
            return []

    for answer in of_each(at.office.hosts, one).values():
        for controls, line in answer:
            for control in controls:
                found.setdefault(control, []).append(line)
    return found


@app.of_office("judge")
def judge_office(at: At, only: list[str] | None = None, record: bool = False, as_json: bool = False) -> int:
    if unknown := sorted(set(only or ()) - set(opinions.TOOLS)):
        remedy = f"choose one of: {', '.join(opinions.TOOLS)}"
        raise OutpostError(f"{', '.join(unknown)}: no such tool", remedy)
    judged: list[opinions.Opinion] = []
    for opinion in judges.opinions(at.target, at.office, tuple(only or ()), at.via):
        judged.append(opinion)
        left = f" [dim]({escape(', '.join(opinion.findings))})[/]" if opinion.findings else ""
        result = f"[bold]{escape(opinion.result)}[/]{left}"
        err.print(f"{opinion.tool} {opinion.host}, {escape(opinion.what)}: {result}")
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
