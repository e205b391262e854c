"""`outpost upgrade`: an office's hosts from the version that converged them to this one."""

import re
import subprocess
from contextlib import suppress
from typing import Annotated

import typer
from packaging.version import InvalidVersion, Version
from rich.markup import escape

from outpost import __version__
from outpost.cli.apply import change_hosts
from outpost.cli.console import Table, err, out
from outpost.cli.options import App, At, JsonOption, YesOption
from outpost.engine import claim
from outpost.target import ROOT

app = App()

CHANGELOG, UNRELEASED = "CHANGELOG.md", "Unreleased"
STEP = re.compile(r"\*\*((?:[^*]|\*(?!\*))+)\*\*")


@app.of_office(
    "upgrade",
    epilog="Example: `git pull`, then `./outpost upgrade po`. Exit code 0: all hosts have this version, 1: declined, or a host failed.",
)
def upgrade_office(
    at: At,
    yes: YesOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Allow an older version, and a read-only day.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Bring an office to this version of Outpost.

    Shows which version each host has, what you must do, and the plan; asks; applies. An older version than a host's is refused.
    """
    shown = err if as_json else out
    records = claim.records(at.target, at.office, at.via, anyway=force)
    table = Table("host", "version", "commit", "applied", "by")
    for host, record in records.items():
        cells = (record.version, record.commit or "-", record.when, record.by) if record else ("none yet",)
        table.add_row(host, *map(escape, cells))
    shown.print(table)
    shown.print(f"This is Outpost {__version__} {claim.mine(at.target).commit}".rstrip(), markup=False)
    known = {(record.version, record.commit.removesuffix("+")) for record in records.values() if record}
    todo = {
        step: section for version, commit in known for step, section in steps_since(version, commit).items()
    }
    for step, section in todo.items():
        shown.print(f"To do ({section}): {step}", markup=False)
    if todo:
        shown.print(f"All changes: {CHANGELOG}", markup=False)
    return change_hosts(at, None, yes=yes, as_json=as_json, force=force, note_version=True)


def steps_since(version: str, commit: str) -> dict[str, str]:
    """What an administrator must do since a version (or since a commit of it that git knows) → section of the changelog."""
    now = steps((ROOT / CHANGELOG).read_text(encoding="utf-8"))
    if commit:
        show = ["git", "-C", str(ROOT), "show", f"{commit}:{CHANGELOG}"]
        former = subprocess.run(show, capture_output=True, text=True, check=False)
        if former.returncode == 0:
            return {step: section for step, section in now.items() if step not in steps(former.stdout)}
    with suppress(InvalidVersion):  # a host may report any text
        known = Version(version)
        return {step: at for step, at in now.items() if at == UNRELEASED or Version(at) > known}
    return now


def steps(changelog: str) -> dict[str, str]:
    """The sentences in bold → the section that they belong to."""
    sections = re.split(r"^## \[", changelog, flags=re.MULTILINE)[1:]
    return {
        " ".join(step.split()): section.partition("]")[0]
        for section in reversed(sections)
        for step in STEP.findall(section)
    }
