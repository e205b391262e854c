"""What an honest user waits for while somebody floods the office, against the same with nothing going on."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from outpost.errors import OutpostError
from outpost.evidence.controls import catalogue
from outpost.target import LAB, ROOT, Target
from outpost_lab.attack.probe import NAMES as KINDS
from outpost_lab.benchmarks.measure import Figures


def flood_p95(target: Target) -> Figures:
    """Honest users under each flood of the catalogue of attacks: the worst delivery, p95; all else as notes."""
    floods = [plan.id for plan in catalogue().attacks.values() if plan.family == "DOS" and plan.alone]
    done = subprocess.run(
        [sys.executable, "-m", "outpost", "attack", LAB, "--name", target.instance or LAB, "--only", ",".join(floods), "--json"],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        results: list[dict[str, Any]] = json.loads(done.stdout)["attacks"]
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise OutpostError(f"the floods did not run: {last}", "./outpost attack lab --only A-DOS") from None
    measured = {f"{each['id']} {each['title']}": each for each in results if each["measured"]}
    times = {title: each["measured"] for title, each in measured.items()}
    p95 = {title: {KINDS[kind]: each[kind]["p95"] for kind in KINDS} for title, each in times.items()}
    idle = next(iter(measured.values()))["measured"]["idle p95"]
    worst = [each["delivery"]["p95"] for each in times.values() if each["delivery"]["p95"] is not None]
    notes = {
        "p95 under each, s": p95,
        "idle p95, s": {KINDS[kind]: seconds for kind, seconds in idle.items()},
        "not withstood": {
            title: each["bounds broken"] for title, each in measured.items() if each["verdict"] != "defended"
        },
    }
    return Figures(max(worst), idle["delivery"], {"ours": worst, "peer": [idle["delivery"]]}, notes)
