"""Pages made from the catalogue (``controls/``): faults, controls, attacks, and the four appendices of the case study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from outpost.evidence.controls import FAMILIES, AttackPlan, Catalogue, Control, Fault

ATTRIBUTES = ("availability", "reliability", "integrity", "confidentiality", "authenticity", "accountability")
ORIGINS = ("design", "interaction", "physical", "operation")
MEANS = ("prevention", "tolerance", "removal", "forecasting")
FAILURES = ("content", "late", "halt", "erratic")
SEVERITY = {1: "minor", 2: "noticeable", 3: "grave", 4: "disastrous"}
STATUS = {"deployed": "deployed", "unproven": "configured, not proven yet", "planned": "planned"}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _means(fault: Fault) -> str:
    return "; ".join(f"{name}: {text}" for name in MEANS if (text := getattr(fault.means, name)))


def _state(control: Control) -> str:
    return STATUS[control.status] + (f" ({control.waits_for})" if control.waits_for else "")


def faults_page(data: Catalogue) -> str:
    """Every fault with what meets it."""
    rows = [
        (
            fault.id, fault.title, ", ".join(fault.origin), f"{', '.join(fault.failure)}; {_signalled(fault)}",
            _severity(fault), ", ".join(fault.hurts), _essay(fault), _means(fault), ", ".join(control.id for control in data.controls_of(fault.id)),
            ", ".join(plan.id for plan in data.attacks_of(fault.id)) or "–",
        )
        for fault in data.faults.values()
    ]  # fmt: skip
    head = (
        "Fault",
        "What",
        "Origin",
        "Failure",
        "Severity",
        "Hurts",
        "Essay",
        "Means",
        "Controls",
        "Attacks",
    )
    return (
        "# Faults\n\nThe faults of Internet mail in the case study, in the classes of Avizienis, Laprie, Randell and\n"
        "Landwehr (2004). Sections are the essay's; controls and attacks are on the pages beside this one.\n\n"
        + _table(head, rows)
    )


def controls_page(data: Catalogue) -> str:
    """Every control, with what it is for, where it is and what tries it."""
    count = Counter(control.status for control in data.controls.values())
    rows = [
        (
            control.id, control.title, control.rationale, "; ".join(control.sources) or "–", ", ".join(control.where) or "the project",
            ", ".join(control.faults), ", ".join(plan.id for plan in data.attacks_on(control.id)) or "–", _state(control),
        )
        for control in data.controls.values()
    ]  # fmt: skip
    head = ("Control", "What", "Why", "Source", "Where", "Faults", "Attacks", "State")
    missing = [control for control in data.controls.values() if control.status != "deployed"]
    listed = "".join(f"- {control.id} {control.title}: {_state(control)}\n" for control in missing)
    return (
        "# Controls\n\n"
        f"{count['deployed']} are deployed (a line of the configuration names them, a check or an attack tries them), {count['unproven']} are\n"
        f"configured and nothing tries them yet, {count['planned']} are planned.\n\n"
        + _table(head, rows)
        + f"\n## Not claimed\n\n{listed}"
    )


def attacks_page(data: Catalogue) -> str:
    """Every attack, family by family."""
    parts = [
        "# Attacks\n\n`./outpost attack lab` carries them out; `--list` shows them, `--only ID` chooses (an id, a family, a control, a\n"
        "fault), `--slow` adds floods and the long fuzzing, `--with-positive-control` turns each defence off afterwards and must\n"
        "see the same attack succeed. Every attack is bounded in count and time; those marked destructive never leave the lab.\n"
    ]
    for family, title in FAMILIES.items():
        plans = [plan for plan in data.attacks.values() if plan.family == family]
        rows = [
            (
                plan.id, plan.title + _notes(plan), plan.vantage, plan.expectation, plan.bound, ", ".join(plan.controls),
                ", ".join(plan.faults), f"none: {plan.no_switch}" if plan.no_switch else "–" if plan.status == "planned" else "yes",
            )
            for plan in plans
        ]  # fmt: skip
        head = ("Attack", "What", "From", "Must answer", "At most", "Controls", "Faults", "Positive control")
        parts.append(f"## A-{family}: {title}\n\n{_table(head, rows)}")
    return "\n".join(parts)


def appendices(data: Catalogue, measured: Mapping[str, Any]) -> str:
    """The four appendices of the case study."""
    parts = (_viewpoints(data), _effects(data, measured), _fault_classes(data), _failure_classes(data))
    return "\n".join(("# Appendices of the case study\n", *parts))


def _viewpoints(data: Catalogue) -> str:
    """I: the taxonomy's viewpoints, and which fault is seen from which."""

    viewpoints: tuple[tuple[str, Sequence[str], Callable[[Fault, str], bool]], ...] = (
        ("attribute", ATTRIBUTES, lambda fault, name: name in fault.hurts),
        ("threat: origin of the fault", ORIGINS, lambda fault, name: name in fault.origin),
        ("threat: way of failing", FAILURES, lambda fault, name: name in fault.failure),
        ("means", MEANS, lambda fault, name: bool(getattr(fault.means, name))),
    )
    rows = [
        (title, name, ", ".join(fault.id for fault in data.faults.values() if seen_from(fault, name)) or "–")
        for title, names, seen_from in viewpoints
        for name in names
    ]
    return f"## I. Viewpoints of the taxonomy\n\n{_table(('Viewpoint', 'Value', 'Faults'), rows)}"


def _effects(data: Catalogue, measured: Mapping[str, Any]) -> str:
    """II: each attack with the defence on and off, as last recorded."""
    rows = []
    for plan in data.attacks.values():
        result = measured.get(plan.id)
        if result is None:
            continue
        without = result["without"]
        if without:
            off = f"{'succeeds' if without['succeeded'] else 'does not succeed'}: {without['observed']}"
            switch = f"`{without['turned off']}`"
        else:
            off, switch = f"not tried: {plan.no_switch or 'no switch'}", "–"
        window = result.get("measured")
        times = _times(window) if window else "–"
        seen = f"{result['with']['verdict']}: {result['with']['observed']}"
        rows.append((f"{plan.id} {plan.title}", ", ".join(plan.controls), seen, switch, off, times))
    tried = [result["without"] for result in measured.values() if result["without"]]
    won = sum(bool(without["succeeded"]) for without in tried)
    defended = sum(result["with"]["verdict"] == "defended" for result in measured.values())
    times = "Honest users meanwhile (p50/p95)"
    head = ("Attack", "Controls", "With the defence", "Turned off", "Without it", times)
    return (
        "## II. Effect of the defences, measured\n\n"
        "Recorded by `./outpost attack lab --slow --with-positive-control --record` (controls/measured.json), on the lab.\n"
        f"{defended} of {len(measured)} attacks are withstood; {won} of {len(tried)} succeed once their defence is turned off.\n\n"
        + _table(head, rows)
    )


def _times(window: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{kind} {window[kind]['p50']:.2f}/{window[kind]['p95']:.2f} s"
        for kind in ("submission", "peer", "delivery")
        if window[kind]["n"]
    )


def _fault_classes(data: Catalogue) -> str:
    """III: faults by origin."""
    parts = ["## III. Classification of faults\n"]
    for origin in ORIGINS:
        rows = [
            (fault.id, fault.title, _essay(fault), _means(fault))
            for fault in data.faults.values()
            if origin in fault.origin
        ]
        parts.append(f"### {origin.capitalize()}\n\n{_table(('Fault', 'What', 'Essay', 'Means'), rows)}")
    return "\n".join(parts)


def _failure_classes(data: Catalogue) -> str:
    """IV: failures by domain, detectability and consequence."""
    parts = ["## IV. Classification of failures\n"]
    for failure in FAILURES:
        rows = [
            (fault.id, fault.title, _signalled(fault), _severity(fault), ", ".join(fault.hurts))
            for fault in sorted(data.faults.values(), key=lambda fault: -fault.severity)
            if failure in fault.failure
        ]
        head = ("Fault", "What", "Detectability", "Severity", "Hurts")
        parts.append(f"### {failure.capitalize()}\n\n{_table(head, rows)}")
    return "\n".join(parts)


def _signalled(fault: Fault) -> str:
    return "signalled" if fault.signalled else "unsignalled"


def _severity(fault: Fault) -> str:
    return f"{fault.severity} {SEVERITY[fault.severity]}"


def _essay(fault: Fault) -> str:
    return ", ".join(f"§{part}" for part in fault.sections)


def _notes(plan: AttackPlan) -> str:
    notes = [word for word in ("destructive", "slow") if getattr(plan, word)]
    notes += [f"planned: {plan.waits_for}"] if plan.status == "planned" else []
    return f" ({', '.join(notes)})" if notes else ""
