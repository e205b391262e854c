"""The threat model with links to lines: each fault, what meets it, and where that stands in the configuration.

Line numbers move with every edit above them; `without_lines` lets the check of made pages overlook that until the page
is made again, and `tests/lint/test_documentation.py` insists that a linked file names its control.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from outpost.evidence.controls import Catalogue
from outpost.target import ROOT

CONFIGURATION = ("templates", "roles", "src/outpost/office", "src/outpost/converge")
LEVELS = {1: "a nuisance", 2: "troublesome", 3: "grave", 4: "disastrous"}
_INTRODUCTION = """# Threats, and where they are met

A mail system for a site office is attacked by strangers, used by people in a hurry, and kept by somebody with other things to
do. What follows is every fault the case study knows, worst first; what is done about it, how, and the line that does it. Why
the hosts are split as they are: [0001](adr/0001-split-hosts-and-an-edge-without-credentials.md). What is tried and measured:
[appendices](appendices.md). Each control's check bears its name: `grep -rn 'control("REL-01"' tests`.

What is trusted: the controller and anybody who holds the age identity; the office's authority; Debian's archive. What is not:
everybody beyond the Internet's zone, the client's network, a mail's content, what a user types, and each of the office's own
hosts beyond its role.

"""


def page(data: Catalogue) -> str:
    faults = sorted(data.faults.values(), key=lambda fault: (-fault.severity, fault.id))
    parts = [_INTRODUCTION]
    for fault in faults:
        parts.append(f"## {fault.id}: {fault.title}\n\n")
        means = [f"{name}: {text}" for name, text in fault.means if text]
        parts.append(
            f"{LEVELS[fault.severity].capitalize()}, for {', '.join(fault.hurts)}. {'; '.join(means)}.\n\n"
        )
        controls = [control for control in data.controls_of(fault.id) if control.status != "planned"]
        for control in controls:
            places = ", ".join(f"[{Path(file).name}](../{file}#L{line})" for file, line in lines(control.id))
            parts.append(f"- **{control.id}** {control.title}: {control.rationale} {places}\n")
        parts.append("\n" if controls else "Nothing is claimed against it yet.\n\n")
    return "".join(parts).rstrip() + "\n"


def lines(control: str) -> list[tuple[str, int]]:
    """Files and the first line in each that names a control."""
    return [(file, number) for name, file, number in _named() if name == control]


def without_lines(text: str) -> str:
    """The page without the line numbers of its links."""
    return re.sub(r"#L\d+\)", ")", text)


@cache
def _named() -> tuple[tuple[str, str, int], ...]:
    found: dict[tuple[str, str], int] = {}
    for top in CONFIGURATION:
        for file in sorted((ROOT / top).rglob("*")):
            if not file.is_file() or file.suffix not in (".j2", ".py"):
                continue
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                for name in re.findall(r"\b[A-Z]{3,4}-\d{2}\b", line):
                    found.setdefault((name, str(file.relative_to(ROOT))), number)
    return tuple((name, file, number) for (name, file), number in found.items())
