"""Reports of other scanners about an office, and our reasons for what stays: stored in ``controls/``, shown in the documentation.

`outpost_lab.judges` runs the tools.
"""

import json
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from outpost.target import ROOT

TOOLS = ("ssh-audit", "lynis", "testssl", "sslyze", "systemd-analyze")
RECORDED = ROOT / "controls" / "judged.json"
REASONS = ROOT / "controls" / "opinions.toml"


@dataclass(frozen=True)
class Opinion:
    """The result of one tool for one host.

    Attributes:
        what: What was examined: a policy, a port.
        findings: What the tool criticises, by its own ids or words.
    """

    tool: str
    version: str
    day: str
    role: str
    host: str
    what: str
    result: str
    findings: tuple[str, ...] = ()


def record(new: list[Opinion], path: Path = RECORDED) -> None:
    """Keep results, in place of earlier ones of the same tools."""
    tools = {opinion.tool for opinion in new}
    kept = [opinion for opinion in recorded(path) if opinion.tool not in tools]
    entries = [asdict(opinion) for opinion in sorted((*kept, *new), key=lambda each: TOOLS.index(each.tool))]
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def recorded(path: Path = RECORDED) -> tuple[Opinion, ...]:
    return TypeAdapter(tuple[Opinion, ...]).validate_json(path.read_bytes()) if path.exists() else ()


def reasons() -> dict[str, dict[str, str]]:
    """Tool → finding → why it stays."""
    found: dict[str, dict[str, str]] = tomllib.loads(REASONS.read_text(encoding="utf-8"))
    return found


def unexplained(judged: tuple[Opinion, ...], known: dict[str, dict[str, str]]) -> list[str]:
    found = {(each.tool, finding) for each in judged for finding in each.findings}
    return sorted(f"{tool}: {finding}" for tool, finding in found if finding not in known.get(tool, {}))


def table(judged: tuple[Opinion, ...]) -> str:
    """The results as Markdown, a line for each tool and role."""
    rows: dict[tuple[str, str, str, str, str], list[Opinion]] = {}
    for each in judged:
        rows.setdefault((each.tool, each.version, each.day, each.role, each.what), []).append(each)
    lines = ["| Tool | Seen | Role | What | Result | Left |", "|---|---|---|---|---|---|"]
    for (tool, version, day, role, what), same in rows.items():
        results = ", ".join(dict.fromkeys(each.result for each in same))
        open_ends = len(dict.fromkeys(finding for each in same for finding in each.findings))
        lines.append(f"| {tool} {version} | {day} | {role} | {what} | {results} | {open_ends or 'nothing'} |")
    return "\n".join(lines) + "\n"


def left(judged: tuple[Opinion, ...], known: dict[str, dict[str, str]]) -> str:
    """What the tools would change, with the reason why it stays, as Markdown."""
    tools = []
    for tool in dict.fromkeys(each.tool for each in judged if each.findings):
        findings = sorted({finding for each in judged if each.tool == tool for finding in each.findings})
        why = known.get(tool, {})
        listed = (f"- **{finding}**: {why.get(finding, 'not explained yet')}\n" for finding in findings)
        heading = f"What {tool} recommends otherwise, and why the office keeps its setting:\n\n"
        tools.append(heading + "".join(listed))
    return "\n".join(tools) or "\n"
