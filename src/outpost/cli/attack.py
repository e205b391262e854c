"""`outpost attack`: the case study's weaknesses, tried against an office that agrees to it."""

import asyncio
import datetime
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rich.markup import escape

from outpost.cli.console import Table, err, out, say_json
from outpost.cli.options import App, At
from outpost.errors import OutpostError
from outpost.evidence.controls import FAMILIES, MEASURED, AttackPlan, catalogue, measured
from outpost.office import Office
from outpost.target import Target

app = App()


@app.of_office("attack", asks_hosts=False)
def attack_office(
    at: At,
    only: list[str] | None = None,
    listed: bool = False,
    slow: bool = False,
    positive: bool = False,
    record: bool = False,
    transcripts: bool = False,
    as_json: bool = False,
) -> int:
    plans = _chosen(only or [], slow=slow)
    if listed:
        _list(plans, as_json=as_json)
        return 0
    target, loaded = at.target, at.office
    _agreed(target, loaded, positive=positive)

    def on_result(result: Any) -> None:
        if record:  # one by one, so that an interrupted run keeps its results
            _record(result)
        if as_json:  # JSON comes at the end; a line on standard error shows that something happens
            err.print(f"{result.plan.id}: {result.verdict}", markup=False)
        else:
            _show(result, transcripts=transcripts)

    results = asyncio.run(_run(target, loaded, plans, on_result, positive=positive))
    if as_json:
        attacks = [result.as_data() for result in results]
        say_json({"office": target.name, "instance": target.instance, "attacks": attacks})
    else:
        _verdict(target, results)
    failed = any(
        result.verdict == "BREACHED" or result.broken or (result.without and not result.without[0])
        for result in results
    )
    return 1 if failed or all(result.verdict in ("not run", "not judged") for result in results) else 0


def _chosen(only: list[str], *, slow: bool) -> tuple[AttackPlan, ...]:
    wanted = tuple(part.strip() for entry in only for part in entry.split(",") if part.strip())
    try:
        plans = catalogue().chosen(wanted)
    except KeyError as error:
        remedy = "choose an id, family, control or fault from: ./outpost attack OFFICE --list"
        raise OutpostError(f"--only {error.args[0]} matches no attack", remedy) from None
    return tuple(plan for plan in plans if wanted or slow or not plan.slow)


def _list(plans: tuple[AttackPlan, ...], *, as_json: bool) -> None:
    if as_json:
        say_json([plan.model_dump() for plan in plans])
        return
    table = Table("id", "family", "attack", "from", "tries", "must answer", "at most")
    for plan in plans:
        notes = [word for word in ("destructive", "slow") if getattr(plan, word)]
        title = plan.title + (f" ({', '.join(notes)})" if notes else "")
        tries = ", ".join(plan.controls)
        row = (plan.id, FAMILIES[plan.family], title, plan.vantage, tries, plan.expectation, plan.bound)
        table.add_row(*map(escape, row))
    out.print(table)


def _agreed(target: Target, office: Office, *, positive: bool) -> None:
    """The lab may always be attacked; any other office must agree in its file, and a person must confirm."""
    if target.instance is not None:
        return
    if positive:
        remedy = "./outpost attack lab --with-positive-control"
        raise OutpostError("--with-positive-control turns defences off, and runs against a lab only", remedy)
    today = datetime.datetime.now(tz=datetime.UTC).date()
    until = office.attack.consent_until
    if until is None or until < today:
        ended = f" (its consent ended on {until})" if until else ""
        line = f"[attack] consent_until = {today + datetime.timedelta(days=7)}"
        remedy = f"write `{line}` into {target.office_file}, or attack the lab"
        raise OutpostError(f"{target.name} has not consented to attacks{ended}", remedy)
    if not sys.stdin.isatty():
        message = "an attack on a real office asks for a confirmation, and standard input is not a terminal"
        raise OutpostError(message, "run it on a terminal")
    question = f"This attacks {office.domain}. Type the office's name ({office.name}) to go on: "
    if err.input(question).strip() != office.name:
        raise OutpostError("the name does not match; nothing was attacked", f"type {office.name}")


async def _run(
    target: Target,
    office: Office,
    plans: Sequence[AttackPlan],
    on_result: Callable[[Any], None],
    *,
    positive: bool,
) -> list[Any]:
    from outpost_lab.attack import runner, weakness
    from outpost_lab.attack.ground import leave, stand

    ground = await stand(target, office)
    try:
        if ground.info:
            for host in await weakness.restore_interrupted(ground):
                what = "an interrupted run had left a defence off; it is on again"
                err.print(f"[yellow]{escape(host)}[/]: {what}")
        return list(await runner.run(ground, plans, positive=positive, on_result=on_result))
    finally:
        await leave(ground)


def _show(result: Any, *, transcripts: bool) -> None:
    style = {"defended": "green", "BREACHED": "bold red"}.get(result.verdict, "yellow")
    plan = result.plan
    out.print(
        f"[{style}]{result.verdict:10}[/] [bold]A-{plan.family} {plan.id}[/] {escape(plan.title)} "
        f"[dim]({plan.vantage}; {', '.join(plan.controls)}; {result.seconds:.1f} s)[/]"
    )
    if result.reason:
        out.print(f"         {escape(result.reason)}")
    if result.verdict == "not run":
        return
    out.print(f"         expected: {escape(plan.expectation)}")
    out.print(f"         observed: {escape(result.observed)}")
    for line in result.broken if plan.alone else ():
        out.print(f"         [red]meanwhile: {escape(line)}[/]")
    if result.window and plan.alone:
        out.print(f"         [dim]{escape(result.window.brief())}[/]")
    if result.without is not None:
        word = "[green]succeeded[/]" if result.without[0] else "[bold red]did not succeed[/]"
        without = f"without the defence ({escape(result.weakness)})"
        out.print(f"         {without}: {word}: {escape(result.without[1])}")
    if transcripts or result.verdict == "BREACHED":
        shown = result.transcript if transcripts else result.transcript[-20:]
        for line in shown:
            out.print(f"           [dim]{escape(line)}[/]")


def _verdict(target: Target, results: list[Any]) -> None:
    verdicts = Counter(result.verdict for result in results)
    counts = {word: verdicts[word] for word in ("defended", "BREACHED", "not judged", "not run")}
    tried = [result for result in results if result.without is not None]
    weak = [result.plan.id for result in tried if not result.without[0]]
    windows = [result.window for result in results if result.window]
    if windows:
        from outpost_lab.attack.probe import BOUNDS, percentile

        once = {id(window): window for window in windows}.values()  # attacks that ran together share theirs
        for kind in BOUNDS:
            samples = [sample for window in once for sample in window.samples[kind]]
            times = f"p50 {percentile(samples, 0.5):.2f} s, p95 {percentile(samples, 0.95):.2f} s"
            out.print(f"{kind}: {times} ({len(samples)} samples)")
    if tried:
        others = f"; not {', '.join(weak)}" if weak else ""
        succeed = f"{len(tried) - len(weak)} of {len(tried)} attacks succeed without their defence"
        out.print(f"positive controls: {succeed}{others}")
    noticed = sorted({line for result in results for line in result.broken})
    for line in noticed:
        out.print(f"[red]honest mail was disturbed: {escape(line)}[/]")
    breached = bool(counts["BREACHED"] or noticed)
    verdict = "[bold red]BREACHED[/]" if breached else "[bold green]DEFENDED[/]"
    counted = ", ".join(f"{count} {name}" for name, count in counts.items())
    out.print(f"{escape(target.title)}: {verdict} ({counted})")


def _record(result: Any) -> None:
    """Write the committed file that appendix II is made from; attacks that did not run keep their last measurement."""
    if result.verdict in ("not run", "not judged"):
        return
    data = result.as_data()
    known = measured() | {
        result.plan.id: {
            "with": {"verdict": result.verdict, "observed": result.observed},
            "without": data["without"],
            "measured": data["measured"] if result.plan.alone else None,
        }
    }
    text = json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False)
    MEASURED.write_text(text + "\n", encoding="utf-8")
