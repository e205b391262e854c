"""`outpost report` and `judge`: the page of evidence, the same on paper, and what other people's scanners find."""

from pathlib import Path
from typing import Annotated

from rich.markup import escape

from outpost.cli.console import err, out, say_json
from outpost.cli.options import App, At, JsonOption, Option
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


@app.of_office(
    "report",
    epilog="Example: `./outpost report lab --html evidence.html --pdf evidence.pdf`. Exit code 0: written, 1: nothing to report.",
)
def report_office(
    at: At,
    html: Annotated[
        Path | None, Option("--html FILE", "Path of the page (default: OFFICE-evidence.html).")
    ] = None,
    pdf: Annotated[Path | None, Option("--pdf FILE", "Write a PDF, too (needs Debian's Chromium).")] = None,
) -> int:
    """Write the evidence for an auditor as one page.

    From the latest results: fault, control, line in effect, check, attack, host, result.
    """
    target = at.target
    kept = history.runs(target)
    if not kept:
        problem = f"nothing of {target.title} has been verified yet"
        raise OutpostError(problem, f"./outpost verify {target.typed}")
    lab = target.instance is not None
    evidence = Evidence(at.office, catalogue(), kept, _lines(at), measured(), held(target), lab=lab)
    file = html or Path(f"{target.name}-evidence.html")
    file.write_text(page(evidence), encoding="utf-8")
    out.print(f"wrote {escape(shown(file.resolve()))} ({file.stat().st_size // 1024} KiB)")
    if pdf:
        print_page(page(evidence, paper=True), pdf)
        out.print(f"wrote {escape(shown(pdf.resolve()))} ({pdf.stat().st_size // 1024} KiB)")
    return 0


def _lines(at: At) -> dict[str, list[Line]]:
    """Lines in effect, of the hosts that answer; all are asked side by side."""
    found: dict[str, list[Line]] = {}

    def one(host: Host) -> dict[str, list[Line]]:
        try:
            return in_effect(at.target, at.office, [host], at.via)
        except OutpostError as error:
            err.print(f"[yellow]without the lines of {escape(host.name)}[/]: {escape(error.message)}")
            return {}

    for answer in of_each(at.office.hosts, one).values():
        for control, lines in answer.items():
            found.setdefault(control, []).extend(lines)
    return found


@app.of_office(
    "judge",
    epilog="Example: `./outpost judge lab --only ssh-audit --record`. Exit code 0: each finding has a reason, 1: one has none.",
)
def judge_office(
    at: At,
    only: Annotated[
        list[str] | None, Option("--only TOOL", "ssh-audit, lynis, testssl or sslyze; may be repeated.")
    ] = None,
    record: Annotated[
        bool, Option("--record", "Keep the results in controls/judged.json, for the documentation.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Scan with ssh-audit, lynis, testssl.sh and sslyze.

    Each finding has a reason in controls/opinions.toml, or is an error.
    """
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
