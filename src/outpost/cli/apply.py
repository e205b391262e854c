"""`outpost plan`, `apply`, `upgrade`: the hosts as the office file declares them.

A no-op takes as long as the command line takes to load. So this module imports little, asks the hosts first whether anything
has changed, and loads the rest while they answer.
"""

import re
import subprocess
import sys
import time
from contextlib import suppress

from outpost import __version__
from outpost.cli.options import App, At, chosen_hosts
from outpost.engine import unchanged
from outpost.errors import OutpostError
from outpost.target import ROOT

app = App()

CLEAN, FAILED, DRIFT = 0, 1, 2


@app.of_office("plan")
def plan_office(
    at: At,
    limit: list[str] | None = None,
    as_json: bool = False,
    refresh: bool = False,
    everything: bool = False,
) -> int:
    if not refresh and _as_declared(at, limit, as_json=as_json):
        return CLEAN
    from outpost.cli import outcomes
    from outpost.cli.console import say_json
    from outpost.cli.progress import watcher
    from outpost.engine import run

    hosts = chosen_hosts(at.office, limit)
    outcome = run.plan(at.target, limit=hosts, connector=at.via, watcher=watcher())
    if as_json:
        say_json(outcome.as_data(at.target))
    else:
        outcomes.show_plan(outcome, at.target, frozenset() if everything else outcome.new_hosts)
    return FAILED if outcome.failed else DRIFT if outcome.changes or outcome.findings else CLEAN


@app.of_office("apply")
def apply_office(
    at: At,
    limit: list[str] | None = None,
    yes: bool = False,
    as_json: bool = False,
    force: bool = False,
    verify: bool = True,
    rollback: bool = True,
    refresh: bool = False,
) -> int:
    if not refresh and _as_declared(at, limit, as_json=as_json):
        return CLEAN
    return change_hosts(at, limit, yes=yes, as_json=as_json, force=force, checked=verify, back=rollback)


def change_hosts(
    at: At,
    limit: list[str] | None,
    *,
    yes: bool,
    as_json: bool,
    force: bool,
    checked: bool = True,
    back: bool = True,
    note_version: bool = False,
) -> int:
    """Bring the hosts to what is declared; without `yes` after a question. With `note_version` hosts record the version in any case."""
    from outpost.cli import console, outcomes
    from outpost.cli.console import agreed, err, say_json
    from outpost.cli.progress import checks_progress, watcher
    from outpost.engine import rollout, run
    from outpost.engine.claim import changing
    from outpost.keys.rotation import aftermath

    console.unchanged = True
    target, loaded, via = at.target, at.office, at.via
    hosts = chosen_hosts(loaded, limit)
    if rollout.is_read_only(loaded) and not force:
        days = ", ".join(loaded.maintenance.read_only)
        message = f"today is a read-only day of {loaded.domain} (maintenance.read_only: {days}); nothing was changed"
        raise OutpostError(message, "wait for another day, or use --force")
    proposed = None
    if not yes:
        if not sys.stdin.isatty() or as_json:
            message = "apply asks before it changes hosts, and standard input is not a terminal"
            raise OutpostError(message, "add -y to apply without a question")
        proposed = run.plan(target, limit=hosts, connector=via, watcher=watcher())
        outcomes.show_plan(proposed, target, proposed.new_hosts)
        if proposed.failed or not (proposed.changes or note_version):
            return FAILED if proposed.failed else CLEAN
        if proposed.changes and not agreed("Apply?"):
            return FAILED
    console.unchanged = False
    with changing(target, hosts, via, anyway=force) as claim:
        done = rollout.roll_out(
            target, loaded, limit=hosts, connector=via, watcher=watcher, progress=checks_progress, checked=checked, back=back,
            proposed=proposed,
        )  # fmt: skip
        claim.converged.difference_update(done.went_back)
        if done.good:
            claim.converged.update(done.outcome.hosts)
    if as_json:
        verified = [verdict.as_data(target) for verdict in done.verdicts]
        more = {"waiting": done.waiting, "went_back": done.went_back, "verified": verified}
        say_json(done.outcome.as_data(target) | more)
    else:
        outcomes.show_rollout(done, target)
    if not done.outcome.failed:
        aftermath.keep(target, done.outcome.hosts, lambda text: err.print(text, markup=False), via)
    return CLEAN if done.good else FAILED


def _as_declared(at: At, limit: list[str] | None, *, as_json: bool) -> bool:
    """Whether every host is unchanged since it was last found as declared; if so, print that result."""
    started = time.monotonic()
    if (answers := unchanged.ask(at.target, at.via, limit or ())) is None:
        return False
    from rich.markup import escape  # while the hosts answer

    from outpost.cli.console import err, out, say_json

    with err.status("asking the hosts"):
        if not err.is_terminal:
            err.print("  asking the hosts")
        hosts = answers.as_declared()
    if hosts is None:
        return False
    seconds = time.monotonic() - started
    if as_json:
        from outpost.engine.run import Outcome

        say_json(Outcome(hosts, (), {}, (), seconds).as_data(at.target))
        return True
    for host in hosts:
        out.print(f"[bold]{escape(host)}[/]: [green]as declared[/]")
    out.print(f"{escape(at.target.title)}: [green]nothing to change[/] ({seconds:.1f} s)", highlight=False)
    return True


CHANGELOG, UNRELEASED = "CHANGELOG.md", "Unreleased"
STEP = re.compile(r"\*\*((?:[^*]|\*(?!\*))+)\*\*")


@app.of_office("upgrade")
def upgrade_office(at: At, yes: bool = False, force: bool = False, as_json: bool = False) -> int:
    from rich.markup import escape

    from outpost.cli.console import Table, err, out
    from outpost.engine import claim

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
    from packaging.version import InvalidVersion, Version

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
