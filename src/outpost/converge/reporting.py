"""Report differences as findings: in pyinfra's own output, and in the file that `outpost plan` reads."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any

from pyinfra import logger
from pyinfra.context import host, state

from outpost.converge.files import File
from outpost.converge.observation import LINK, Status
from outpost.drift.differences import Finding

CONTROL = re.compile(r"\b([A-Z]{3,4}-\d\d)\b")


def report(finding: Finding, *, while_executing: bool = False) -> None:
    """Report one difference while planning.

    Args:
        while_executing: Report it in an apply as well, if only an apply can find it.
    """
    if state.is_executing and not while_executing:
        return
    if path := os.environ.get("OUTPOST_FINDINGS"):
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(finding.as_data(str(host.data.machine))) + "\n")
    if state.config.DIFF:
        logger.info("%s%s %s: %s", host.print_prefix, finding.kind, finding.thing, finding.cause)
        for line in finding.diff:
            logger.info("    %s", line)


def differs(kind: str, thing: str, cause: str, consequence: str, *controls: str, **more: Any) -> None:
    """Report a difference of a thing that an item declares."""
    report(Finding(kind, thing, cause, consequence, controls, **more))


def file_finding(
    file: File, found: Status | None, before: Sequence[str] | None, *, owner: str, known: bool, by_hand: bool
) -> Finding:
    """The finding for a declared file.

    Args:
        found: What is in its place.
        before: Its lines on the host; None where they are not shown.
        owner: The daemon or subject it belongs to.
        known: Whether the last apply installed it.
        by_hand: Whether the declaration is still that of the last apply; if so, the host has changed.
    """
    after = () if before is None else file.content.decode(errors="replace").splitlines()
    diff = [*unified_diff(before or (), after, "on the host", "declared", lineterm="", n=1)]
    secret = file.secret and found is not None and found[3] != file.sha256
    if found is None:
        cause = "removed by hand" if known else "declared, not on the host yet"
    elif found[3] == LINK:
        cause = "a symbolic link has taken its place"
    elif diff or secret:
        declared = "declared differently since the last apply" if known else "not as declared"
        cause = "edited by hand" if by_hand else declared
    else:
        cause = "permissions or owner changed by hand" if by_hand else "permissions declared differently"
    controls, why = _control(after, diff)
    if secret:
        diff = ["(secret: content not shown)"]
    if found and found[3] != LINK and found[:3] != file.fingerprint[:3]:
        rest = [] if cause.startswith("permissions") else diff
        diff = [f"-{' '.join(found[:3])}", f"+{' '.join(file.fingerprint[:3])}", *rest]
    former = cause == "declared differently since the last apply"
    works = "works as declared before, until an apply" if former else "does not work as the office declares"
    return Finding("file", file.path, cause, why or f"{owner} {works}", controls, diff=tuple(diff))


def _control(lines: Sequence[str], diff: Iterable[str]) -> tuple[tuple[str, ...], str]:
    """The control that the comment above the first difference names, and the consequence that it gives."""
    start = next((int(match[1]) for line in diff if (match := re.match(r"@@ -\S+ \+(\d+)", line))), None)
    if start is None:
        return (), ""
    for number in range(min(start + 1, len(lines) - 1), -1, -1):
        line = lines[number].strip()
        if not line and number < start - 1:
            break
        if line[:1] in ("#", ";", "/") and (ids := CONTROL.findall(line)):
            words = line.lstrip("#;/ ").partition(":")[2].strip()
            following = number + 1
            while words and following < len(lines) and lines[following].strip()[:1] in ("#", ";", "/"):
                words += " " + lines[following].strip().lstrip("#;/ ")
                following += 1
            return tuple(dict.fromkeys(ids)), words
    return (), ""
