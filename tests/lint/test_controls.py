"""The catalogue is complete: fault → control → line → check → attack, in both directions, without false claims."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from outpost.evidence.controls import AttackPlan, Catalogue, Control, Fault, Waiver, catalogue, load, named
from outpost_lab.attack.catalogue import attacks
from outpost_lab.attack.weakness import switches

ROOT = Path(__file__).resolve().parents[2]
LINES = (
    "templates",
    "roles",
    "src/outpost/office",
    "src/outpost/converge",
)  # where a control's configuration is

whole = catalogue()


@cache
def lines() -> dict[str, set[str]]:
    """Control → files with a line that names it."""
    found: dict[str, set[str]] = {}
    for top in LINES:
        for file in sorted((ROOT / top).rglob("*")):
            if file.is_file() and file.suffix in (".j2", ".py"):
                for control in named(file.read_text(encoding="utf-8")):
                    found.setdefault(control, set()).add(str(file.relative_to(ROOT)))
    return found


@cache
def checks() -> dict[str, set[str]]:
    """Control → tests that are marked with it."""
    found: dict[str, set[str]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.control"):
                for argument in node.args:
                    if isinstance(argument, ast.Constant):
                        found.setdefault(str(argument.value), set()).add(file.name)
    return found


def orphans(data: Catalogue) -> Iterator[str]:
    """Links that are missing in the chain."""
    for fault in data.faults:
        if not data.controls_of(fault):
            yield f"{fault}: no control meets it"
        if (
            not data.attacks_of(fault)
            and not any(control.status != "planned" for control in data.controls_of(fault))
            and not all(control.waits_for for control in data.controls_of(fault))
        ):
            yield f"{fault}: neither attack nor deployed control, and nothing is planned"
    for control in data.controls.values():
        yield from (f"{control.id}: no fault {fault}" for fault in control.faults if fault not in data.faults)
    for plan in data.attacks.values():
        yield from (
            f"attack {plan.id}: no fault {fault}" for fault in plan.faults if fault not in data.faults
        )
        yield from (
            f"attack {plan.id}: no control {name}" for name in plan.controls if name not in data.controls
        )
        met = {
            fault for name in plan.controls if name in data.controls for fault in data.controls[name].faults
        }
        yield from (
            f"attack {plan.id}: none of its controls meets {fault}"
            for fault in plan.faults
            if fault not in met
        )
    for waiver in data.waivers:
        if waiver.control not in data.controls:
            yield f"waiver: no control {waiver.control}"


def waived(data: Catalogue, control: str, lacks: str) -> bool:
    """Whether a waiver accepts, for a time, that a control lacks this."""
    today = datetime.now(tz=UTC).date()
    return any(
        waiver.control == control and waiver.lacks == lacks and waiver.expires >= today
        for waiver in data.waivers
    )


def unfounded(data: Catalogue) -> Iterator[str]:
    """Claims without a line, a check or an attack; and reservations that are no longer needed."""
    tried = {name for plan in data.attacks.values() for name in plan.controls}
    for control in data.controls.values():
        line, proof = control.id in lines(), control.id in checks() or control.id in tried
        if control.status == "deployed":
            if not line and not waived(data, control.id, "line"):
                yield f"{control.id} is deployed, and no line in {', '.join(LINES)} names it"
            if not proof and not waived(data, control.id, "check"):
                yield f"{control.id} is deployed, and neither check nor attack tries it"
        elif control.status == "unproven":
            if not line:
                yield f"{control.id} is unproven, but not even a line names it: planned"
            if proof:
                yield f"{control.id} is proven by now: deployed"
        elif not control.waits_for:
            yield f"{control.id} is planned, and nothing says what it waits for"


def test_no_end_of_the_chain_hangs_loose() -> None:
    assert list(orphans(whole)) == []


def test_nothing_is_claimed_that_is_not_there() -> None:
    assert list(unfounded(whole)) == []


def test_lines_and_checks_name_controls_that_exist() -> None:
    unknown = {
        name: sorted(files) for name, files in {**lines(), **checks()}.items() if name not in whole.controls
    }
    assert unknown == {}


def test_every_attack_is_carried_out() -> None:
    assert attacks().keys() == whole.attacks.keys()


def test_every_attack_has_a_positive_control_or_says_why_not() -> None:
    known = attacks()
    odd = [
        plan.id
        for plan in whole.attacks.values()
        if plan.id in known and (plan.id not in switches()) != bool(plan.no_switch)
    ]
    assert odd == []


@pytest.mark.parametrize("waiver", whole.waivers, ids=lambda waiver: f"{waiver.control} {waiver.lacks}")
def test_a_waiver_has_not_expired(waiver: Waiver) -> None:
    today = datetime.now(tz=UTC).date()
    assert waiver.expires >= today, f"{waiver.control}: prove it, or argue again ({waiver.reason})"
    assert (waiver.expires - today).days <= 400, "a waiver lasts a year at most"


def test_a_waiver_is_needed() -> None:
    bare = whole.model_copy(update={"waivers": ()})
    problems = " ".join(unfounded(bare))
    assert [waiver.control for waiver in whole.waivers if f"{waiver.control} is" not in problems] == []


# The lint can fail ----------------------------------------------------------------------------------------------

FAULT = Fault.model_validate(
    {
        "id": "F99", "title": "A fault", "origin": ["design"], "failure": ["late"], "signalled": True, "severity": 1,
        "hurts": ["availability"], "sections": ["1.0"], "means": {},
    }
)  # fmt: skip
CLAIM = Control(
    id="XXX-99", title="A claim", rationale="Without it nothing.", faults=("F99",), where=("mta",)
)
PLAN = AttackPlan(
    id="0z", title="An attack", family="DSN", faults=("F98",), controls=("XXX-98",), vantage="lan",
    expectation="nothing", bound="1 session",
)  # fmt: skip


def test_orphans_and_claims_are_found() -> None:
    broken = Catalogue(faults={"F99": FAULT}, controls={}, attacks={"0z": PLAN}, waivers=())
    problems = list(orphans(broken))
    assert "F99: no control meets it" in problems
    assert "attack 0z: no fault F98" in problems
    assert "attack 0z: no control XXX-98" in problems
    claimed = Catalogue(faults={"F99": FAULT}, controls={"XXX-99": CLAIM}, attacks={}, waivers=())
    assert len(list(unfounded(claimed))) == 2


def test_unknown_keys_in_the_data_are_refused(tmp_path: Path) -> None:
    for name in ("faults", "controls", "attacks", "waivers"):
        (tmp_path / f"{name}.toml").write_text((ROOT / "controls" / f"{name}.toml").read_text())
    (tmp_path / "waivers.toml").write_text(
        '[[waiver]]\ncontrol = "DSN-01"\nlacks = "check"\nreason = ""\nexpires = 2030-01-01\n'
    )
    with pytest.raises(ValueError, match="reason"):
        load(tmp_path)
