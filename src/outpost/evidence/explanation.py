"""The threat model: each fault, the controls that meet it, and the files of the configuration that name them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from outpost.evidence.controls import Catalogue
from outpost.target import ROOT

CONFIGURATION = ("templates", "roles", "src/outpost/office", "src/outpost/converge")
LEVELS = {1: "a nuisance", 2: "troublesome", 3: "grave", 4: "disastrous"}
_INTRODUCTION = """# Threats, and where they are met

The faults of the case study, worst first. Each has the controls that meet it, the reason for each control, and the files of the
configuration that name it. Why the hosts are split: [0001](adr/0001-split-hosts-and-an-edge-without-credentials.md). What was
tried and measured: [appendices](appendices.md). The checks of a control: `grep -rn 'control("REL-01"' tests`.

Trusted: the controller, everybody who holds an age identity of the office, the office's certificate authority, Debian's archive.
Not trusted: the Internet, the client's network, the content of mail, what a user types, and each host beyond its role.

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
            places = ", ".join(f"[{Path(file).name}](../{file})" for file in files(control.id))
            parts.append(f"- **{control.id}** {control.title}: {control.rationale} {places}\n")
        parts.append("\n" if controls else "Nothing is claimed against it yet.\n\n")
    return "".join(parts).rstrip() + "\n"


def files(control: str) -> list[str]:
    """Files of the configuration that name a control."""
    return [file for name, file in _named() if name == control]


@cache
def _named() -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, str(file.relative_to(ROOT)))
        for top in CONFIGURATION
        for file in sorted((ROOT / top).rglob("*"))
        if file.suffix in (".j2", ".py") and file.is_file()
        for name in sorted(set(re.findall(r"\b[A-Z]{3,4}-\d{2}\b", file.read_text(encoding="utf-8"))))
    )
