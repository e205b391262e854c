"""Every attack of the catalogue, against the lab: withstood, and honest people noticed nothing.

Each was seen to succeed on a host without its defence (``-m slow -k without``); the quickest of these positive controls
run in the default suite, so that a probe that has gone blind is noticed at once.
"""

from __future__ import annotations

import pytest

from outpost.attack.registry import attacks
from outpost.controls import AttackPlan
from tests.attacks.conftest import READY, Campaign, told

QUICK_CONTROLS = ("1c", "2a", "4a", "4f", "7a", "9a")


def plans(*, slow: bool) -> list[AttackPlan]:
    return [plan for plan in READY if plan.slow is slow]


def switches(*, quick: bool) -> list[AttackPlan]:
    known = attacks()
    return [plan for plan in READY if known[plan.id].without and (plan.id in QUICK_CONTROLS) is quick]


def name(plan: AttackPlan) -> str:
    return f"{plan.id} {plan.title}"


@pytest.mark.parametrize("plan", plans(slow=False), ids=name)
def test_the_office_withstands(campaign: Campaign, plan: AttackPlan) -> None:
    result = campaign.result(plan)
    assert result.verdict == "defended", told(result)


def test_honest_people_notice_nothing_of_the_gentle_attacks(campaign: Campaign) -> None:
    """Greetings, deliveries, the queue and the daemons' health stay within bounds while they run together."""
    if not campaign.wanted:
        pytest.skip("none of the gentle attacks was chosen")
    assert campaign.result(campaign.wanted[0]).broken == []


@pytest.mark.slow
@pytest.mark.parametrize("plan", plans(slow=True), ids=name)
def test_the_office_withstands_at_length(campaign: Campaign, plan: AttackPlan) -> None:
    result = campaign.result(plan)
    assert result.verdict == "defended", told(result)


@pytest.mark.parametrize("plan", switches(quick=True), ids=name)
def test_without_the_defence_it_succeeds(campaign: Campaign, plan: AttackPlan) -> None:
    succeeded, seen = campaign.without(plan).without or (False, "not tried")
    assert succeeded, f"without {plan.controls} the attack still fails, so it proves nothing: {seen}"


@pytest.mark.slow
@pytest.mark.parametrize("plan", switches(quick=False), ids=name)
def test_without_any_defence_it_succeeds(campaign: Campaign, plan: AttackPlan) -> None:
    succeeded, seen = campaign.without(plan).without or (False, "not tried")
    assert succeeded, f"without {plan.controls} the attack still fails, so it proves nothing: {seen}"
