"""`outpost verify`: the live checks, their results, what changed since the last run, and its report."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

from rich.markup import escape

from outpost.cli import console
from outpost.cli.console import Console, Table, err, out, say_error, say_json
from outpost.cli.options import App, At, chosen_hosts
from outpost.cli.progress import checks_progress, watcher
from outpost.engine import run
from outpost.errors import OutpostError
from outpost.evidence.controls import catalogue
from outpost.office import load
from outpost.onhost import tell as telling
from outpost.onhost.tell import News
from outpost.target import ROOT, Target
from outpost.transport.remote import of_each, run_script
from outpost.verification import history, live
from outpost.verification.live import Result, Verdict

app = App()

PROVEN, FAILED = 0, 1


@app.of_office("verify")
def verify_office(
    at: At,
    limit: list[str] | None = None,
    controls: list[str] | None = None,
    since: Path | None = None,
    changes: bool = False,
    notify: list[str] | None = None,
    white_box: bool = False,
    sabotage: bool = False,
    as_json: bool = False,
    junit: Path | None = None,
) -> int:
    console.unchanged = not sabotage
    target, hosts = at.target, chosen_hosts(at.office, limit)
    if sabotage:
        return sabotage_office(at, hosts)
    _known(controls)
    before = (history.read(since),) if since else history.runs(target)
    with checks_progress(quiet=changes) as on_result:
        verdict = live.verify(
            target, hosts=hosts, controls=tuple(controls or ()), connector=at.via, junit=junit, on_result=on_result,
            white_box=white_box, ahead=None if controls else history.folder(target) / f"asked{'-white-box' * white_box}",
        )  # fmt: skip
    selection = " ".join([*hosts, *(controls or ()), *(("white-box",) if white_box else ())])
    by, seconds = history.described_by(target), round(verdict.seconds, 1)
    now = history.Run(**by, selection=selection, seconds=seconds, results=verdict.results)
    history.keep(target, now)
    difference = history.difference(now, before)
    if as_json:
        say_json(asdict(now) | verdict.as_data(target) | {"difference": difference.as_data()})
    elif changes and difference.is_news:
        out.print(_news(difference, target), markup=False, highlight=False, soft_wrap=True)
    elif not changes:
        show_verdict(verdict, target, out)
        _show_difference(difference)
    if difference.is_news:
        _notify(notify or (), difference, target)
    return PROVEN if verdict.proven else FAILED


def _known(controls: Sequence[str] | None) -> None:
    known = catalogue().controls
    for control in controls or ():
        if control not in known:
            close = get_close_matches(control, known, n=3, cutoff=0.5) or ["docs/reference/controls.md"]
            raise OutpostError(f"there is no control {control}", f"see {', '.join(close)}")


def show_verdict(verdict: Verdict, target: Target, out: Console, *, brief: bool = False) -> None:
    """Print the verdict, failures with expectation, observation and remedy, and the proven controls of each host."""
    passed, failed, skipped = (verdict.with_outcome(outcome) for outcome in ("passed", "failed", "skipped"))
    word = "[bold green]PROVEN[/]" if verdict.proven else "[bold red]NOT PROVEN[/]"
    waiting = [result for result in skipped if result.pending]
    skipped = tuple(result for result in skipped if not result.pending)
    others = _counts({"pending": len(waiting), "skipped": len(skipped)})
    counts = f"{len(passed)} passed, {len(failed)} failed" + (f", {others}" if others else "")
    out.print(f"{escape(target.title)}: {word} ({counts}, {verdict.seconds:.1f} s)")
    for result in failed:
        controls = f" \\[{', '.join(result.controls)}]" if result.controls else ""
        out.print(f"\n[red]✗[/] [bold]{escape(result.host or target.name)}[/]{controls}")
        out.print(_account(result), markup=False)
        out.print(f"    [dim]{escape(result.id)}[/]")
    _show_pending(verdict, out)
    if not brief:
        _show_skipped(skipped, target, out)
        _show_evidence(passed, out)


def _show_pending(verdict: Verdict, out: Console) -> None:
    """Print what others have to do before the office is complete, with the exact records."""
    if verdict.pending:
        todo = "nothing is wrong on the hosts. Do this outside Outpost, in this order"
        out.print(f"\n[bold yellow]pending[/]: {todo}")
    for number, (what, results) in enumerate(verdict.pending.items(), 1):
        out.print(f"{number}. {escape(what)}".replace("\n", "\n    "), highlight=False, soft_wrap=True)
        if len(results) > 1:
            out.print(f"    [dim]({len(results)} checks wait for this)[/]")


def _show_skipped(skipped: Sequence[Result], target: Target, out: Console) -> None:
    """Print each check that could not be made, once for all hosts that have the same reason."""
    hosts: dict[tuple[str, str], list[str]] = {}
    for result in skipped:
        hosts.setdefault((result.promise, result.seen), []).append(result.host or target.name)
    for (promise, seen), names in hosts.items():
        reason = escape(seen.removeprefix("Skipped: "))
        out.print(f"[yellow]- skipped[/] on {', '.join(sorted(names))}: {escape(promise)}\n    {reason}")


def _show_evidence(passed: Sequence[Result], out: Console) -> None:
    """Print for each host how many checks passed, and of how many controls; the report names them."""
    table = Table("host", "checks passed", "of controls")
    for host in sorted({result.host for result in passed}):
        held = [result for result in passed if result.host == host]
        controls = {control for result in held for control in result.controls}
        table.add_row(host or "whole office", str(len(held)), str(len(controls)))
    out.print(table)


def _show_difference(difference: history.Difference) -> None:
    """Print what changed since the last run: counts and names."""
    if not difference.since:
        return
    counts = _counts({
        "newly failed": len(difference.broken), "repaired": len(difference.mended), "still failing": len(difference.still),
        "new": difference.added, "gone": len(difference.gone),
    })  # fmt: skip
    out.print(f"since {difference.since}: {counts or 'no difference'}")
    for result in difference.mended:
        out.print(f"[green]✓ repaired[/] {escape(result.host)} {escape(result.promise)}")


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {word}" for word, number in numbers.items() if number)


def _account(result: Result) -> str:
    """The expectation, the observation, and the remedy."""
    observed = "\n              ".join(result.seen.strip().splitlines()[:12] or ["(nothing)"])
    lines = [f"    expected: {result.promise}", f"    observed: {observed}"]
    return "\n".join([*lines, f"    remedy:   {result.mended_by}"] if result.mended_by else lines)


def _news(difference: history.Difference, target: Target) -> str:
    """The changes, as a message for somebody who did not run it."""
    text = StringIO()
    plain = Console(file=text, no_color=True, highlight=False, soft_wrap=True)
    for word, results in (("FAILED", difference.broken), ("STILL FAILING", difference.still)):
        for result in results:
            controls = f" ({', '.join(result.controls)})" if result.controls else ""
            plain.print(f"{word} {result.host or target.name}{controls}\n{_account(result)}", markup=False)
    for result in difference.mended:
        plain.print(f"REPAIRED {result.host} {result.promise}", markup=False)
    return text.getvalue()


def _notify(paths: Sequence[str], difference: history.Difference, target: Target) -> None:
    counts = _counts({
        "failed": len(difference.broken), "still failing": len(difference.still), "repaired": len(difference.mended),
    })  # fmt: skip
    news = News(f"{load(target.data).domain}: {counts}", _news(difference, target), difference.as_data())
    for path in paths:
        send(path, news)


def send(path: str, news: News) -> None:
    """Report a change over a path other than the mail system that it is about (``outpost.onhost.tell``)."""
    try:
        telling.tell(path, news)
    except ValueError as error:
        remedy = "write smtp://relay.example/?to=admin@example&from=outpost@example"
        raise OutpostError(f"--notify {error}", remedy) from None
    except telling.TROUBLES as error:
        where = urlsplit(path).hostname or shlex.split(path)[0]
        remedy = "try --notify with `cat` to see what would be sent"
        raise OutpostError(f"{where} did not accept the message: {error}", remedy) from None


def sabotage_office(at: At, hosts: Sequence[str]) -> int:
    """Run every check's sabotage in a lab. Afterwards the apply and the plan must find nothing of it. However it ends, what it
    broke is restored. pytest has a session of its own, so that Ctrl-C does not reach it.
    """
    target = at.target
    if not target.instance:
        remedy = "run ./outpost verify lab --sabotage"
        raise OutpostError(f"--sabotage runs against a lab only, and {target.name} is not a lab", remedy)
    _restore(at)
    arguments = [
        sys.executable, "-m", "pytest", "tests/sabotage", "-m", "slow", "--name", target.instance, "-q", "-n", "5",
        *(("-k", " or ".join(f"{host}:" for host in hosts)) if hosts else ()),
    ]  # fmt: skip
    process = subprocess.Popen(arguments, cwd=ROOT, env=target.environment, start_new_session=True)
    try:
        status = process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _restore(at)
    run.apply(target, watcher=watcher())  # daemons load their restored files again
    left = run.plan(target, watcher=watcher())
    if left.changes or left.failed:
        remedy = f"run ./outpost plan {target.typed} --name {target.instance}"
        say_error("the sabotage left changes behind", remedy)
    return FAILED if status or left.changes or left.failed else PROVEN


def _restore(at: At) -> None:
    """Undo the sabotages that are in effect, and name their hosts."""
    from outpost_lab.attack.weakness import RESTORES_LEFT

    for name, answer in of_each(
        at.office.hosts, lambda host: run_script(at.target, at.office, host, RESTORES_LEFT, at.via)
    ).items():
        if "restored" in answer:
            err.print(f"[yellow]{escape(name)}[/]: a sabotage was in effect; it is undone", highlight=False)
