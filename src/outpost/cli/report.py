"""`outpost report`: the page of evidence, and the same on paper."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from outpost.cli.console import err, out
from outpost.cli.options import App, At
from outpost.errors import OutpostError
from outpost.evidence.controls import catalogue, measured
from outpost.evidence.effect import Line, in_effect
from outpost.evidence.report import Evidence, page, print_page
from outpost.office import Host
from outpost.recovery.drills import held
from outpost.target import shown
from outpost.verification import history

app = App()


@app.of_office(
    "report",
    epilog="Example: `./outpost report lab --html evidence.html --pdf evidence.pdf`. Exit code 0: written, 1: nothing to report.",
)
def report_office(
    at: At,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Path of the page (default: OFFICE-evidence.html)."),
    ] = None,
    pdf: Annotated[
        Path | None, typer.Option("--pdf", metavar="FILE", help="Write a PDF, too (needs Debian's Chromium).")
    ] = None,
) -> int:
    """Write the evidence for an auditor as one page.

    From the latest results: fault, control, line in effect, check, attack, host, result.
    """
    target = at.target
    kept = history.runs(target)
    if not kept:
        raise OutpostError(
            f"nothing of {target.title} has been verified yet", f"./outpost verify {target.typed}"
        )
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

    with ThreadPoolExecutor(len(at.office.hosts)) as pool:
        for answer in pool.map(one, at.office.hosts):
            for control, lines in answer.items():
                found.setdefault(control, []).extend(lines)
    return found
