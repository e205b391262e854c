"""What plan and apply found and did, shown host by host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from outpost.cli.console import Table, count, out, say_error, say_line
from outpost.engine.run import Change, Outcome
from outpost.office import Office, load
from outpost.target import Target

if TYPE_CHECKING:
    from outpost.engine.rollout import Rollout

FIRST = frozenset(
    {
        "declared, not on the host yet", "not as declared", "permissions declared differently", "not there", "not installed",
        "not done on the host yet", "inactive, not-found", "inactive, disabled",
    }
)  # fmt: skip
"""Causes that only say that no apply has run yet; any other cause on a new host is shown in full."""


def _summarise(host: str, findings: Sequence[Mapping[str, Any]]) -> None:
    """Print what the first apply of a host writes, and which present files it replaces."""
    kinds = Counter(str(finding["kind"]) for finding in findings)
    counted = ", ".join(count(number, kind) for kind, number in kinds.most_common())
    present = (each for each in findings if each["cause"] != "declared, not on the host yet")
    replaced = [each["thing"] for each in present if each["kind"] == "file"]
    new = f"[bold]{escape(host)}[/] is new: nothing was applied to it yet"
    out.print(f"{new}. The first apply creates {counted}")
    if replaced:
        out.print("    and replaces these files of the machine:")
        for thing in replaced:
            out.print(f"    {thing}", markup=False)


def _alike(findings: Iterable[Mapping[str, Any]]) -> list[tuple[list[str], Mapping[str, Any]]]:
    """The same finding of several hosts becomes one; its remedy then says HOST instead of their names."""
    groups: dict[tuple[object, ...], tuple[list[str], Mapping[str, Any]]] = {}
    for finding in findings:
        host = finding["host"]
        shown = {**finding, "consequence": finding["consequence"].replace(f"hosts.{host}.", "hosts.HOST.")}
        key = (shown["kind"], shown["thing"], shown["cause"], shown["consequence"], *shown["diff"])
        groups.setdefault(key, ([], shown))[0].append(host)
    return list(groups.values())


def _show_findings(outcome: Outcome, target: Target, new: Collection[str] = ()) -> None:
    """The drift report: per host and thing the cause, the consequence and the difference."""
    for host in outcome.hosts:
        if host in new:
            ordinary = [each for each in outcome.findings if each["host"] == host and each["cause"] in FIRST]
            _summarise(host, ordinary)
    shown_all = [each for each in outcome.findings if each["host"] not in new or each["cause"] not in FIRST]
    every = {host.name for host in load(target.data).hosts} if outcome.findings else set()
    for hosts, finding in _alike(sorted(shown_all, key=lambda each: outcome.hosts.index(each["host"]))):
        controls = f" \\[{', '.join(finding['controls'])}]" if finding["controls"] else ""
        consequence = finding["consequence"]
        if len(hosts) == 1:
            consequence = consequence.replace("hosts.HOST.", f"hosts.{hosts[0]}.")
        elif set(hosts) == every:
            consequence = consequence.replace("hosts.HOST.accepted", "maintenance.accepted")
        out.print(
            f"[bold]{escape(', '.join(hosts))}[/] {escape(finding['kind'])} [bold]{escape(finding['thing'])}[/]: "
            f"[yellow]{escape(finding['cause'])}[/]"
        )
        out.print(f"    consequence: {escape(consequence)}{controls}", highlight=False)
        for line in finding["diff"]:
            say_line(line, indent=4)
    if new:
        out.print(f"    all lines: ./outpost plan {target.typed} --all", markup=False)
    if outcome.findings:
        out.print()


def _by_host(outcome: Outcome) -> dict[str, list[Change]]:
    return {host: [change for change in outcome.changes if change.host == host] for host in outcome.hosts}


def show_plan(outcome: Outcome, target: Target, new: Collection[str]) -> None:
    """Print what would change; a summary for hosts that are new to the office."""
    _show_findings(outcome, target, new)
    for host, changes in _by_host(outcome).items():
        if host in outcome.failed:
            out.print(f"[bold]{escape(host)}[/]: [red]failed[/]: {escape(outcome.failed[host])}")
        elif changes:
            out.print(f"[bold]{escape(host)}[/]: [yellow]{count(len(changes), 'change')}[/]")
            roles = Counter(change.operation.partition(" | ")[0] for change in changes)
            if host in new:
                counted = ", ".join(f"{role} {number}" for role, number in roles.items())
                out.print(f"    {counted}", markup=False)
            for change in () if host in new else changes:
                condition = " (if what it depends on changes)" if change.conditional else ""
                out.print(f"    {change.operation}{condition}", markup=False)
        elif open_ones := [each for each in outcome.findings if each["host"] == host]:
            out.print(f"[bold]{escape(host)}[/]: [yellow]as declared, and {len(open_ones)} to decide[/]")
        else:
            out.print(f"[bold]{escape(host)}[/]: [green]as declared[/]")
    verdict = "[green]nothing to change[/]"
    if outcome.failed:
        verdict = f"[red]could not compare {count(len(outcome.failed), 'host')}[/]"
    elif outcome.changes:
        verdict = f"[yellow]{count(len(outcome.changes), 'change')} to make[/]"
    elif outcome.findings:
        verdict = f"[yellow]nothing to change, {len(outcome.findings)} to decide[/]"
    out.print(f"{escape(target.title)}: {verdict} ({outcome.seconds:.1f} s)")
    _show_accepted(load(target.data), outcome.hosts)


def _show_accepted(office: Office, hosts: Iterable[str]) -> None:
    every = {host: office.host(host).accepted for host in hosts} | {"every host": office.maintenance.accepted}
    for where, accepted in every.items():
        if accepted:
            out.print(f"accepted on {where}: {', '.join(accepted)}", markup=False, style="dim")


def _show_apply(outcome: Outcome, target: Target, waiting: Collection[str]) -> None:
    table = Table(show_header=False)
    for host, changes in _by_host(outcome).items():
        failed = outcome.failed.get(host)
        good = "[yellow]waits: not as declared yet[/]" if host in waiting else "[green]as declared[/]"
        state = f"[red]failed[/] {escape(failed)}" if failed else good
        table.add_row(f"[bold]{escape(host)}[/]", f"{len(changes)} changed", state)
    out.print(table)
    if outcome.failed:
        left = dict.fromkeys((*outcome.failed, *waiting))
        again = f"./outpost apply {target.typed} {' '.join(f'--limit {host}' for host in left)}"
        remedy = f"follow the remedies above, then run `{again}`; it goes on where it stopped"
        say_error(f"{count(len(outcome.failed), 'host')} failed", remedy)
    else:
        made = f"{count(len(outcome.changes), 'change')} ({outcome.seconds:.1f} s)"
        out.print(f"{escape(target.title)}: [green]applied[/], {made}")


def show_rollout(done: Rollout, target: Target) -> None:
    """Print what an apply found, changed and verified, and the consequence of a failed check."""
    from outpost.cli.verify import show_verdict  # it imports pytest, which a plan does not need

    _show_findings(done.outcome, target)
    _show_apply(done.outcome, target, done.waiting)
    for verdict in done.verdicts:
        show_verdict(verdict, target, out, brief=True)
    if done.went_back:
        remedy = "correct what the failed checks name, then run apply again; --no-rollback keeps a change that fails"
        say_error(f"the previous files were restored on {', '.join(done.went_back)}", remedy)
    if done.waiting:
        say_error(f"not reached: {', '.join(done.waiting)}; the rollout stopped before them")
