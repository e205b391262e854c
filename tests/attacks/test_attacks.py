"""Every attack of the catalogue fails against the lab, and honest users notice nothing.

Each was seen to succeed on a host without its defence (``-m slow -k without``); the quickest of these positive controls
run in the default suite, so that a probe that has gone blind is noticed at once.
"""

from __future__ import annotations

import re

import pytest

from outpost.evidence.controls import AttackPlan
from outpost_lab.attack import weakness
from outpost_lab.attack.runner import Result
from tests.attacks.conftest import READY, Campaign, printed

QUICK_CONTROLS = ("1c", "2a", "4a", "4f", "7a", "9a")


def plans(*, slow: bool) -> list[AttackPlan]:
    return [plan for plan in READY if plan.slow is slow]


def switches(*, quick: bool) -> list[AttackPlan]:
    switched = weakness.switches()
    return [plan for plan in READY if plan.id in switched and (plan.id in QUICK_CONTROLS) is quick]


def name(plan: AttackPlan) -> str:
    return f"{plan.id} {plan.title}"


def withstood(result: Result) -> None:
    if result.verdict == "not judged":
        pytest.skip(result.reason)
    assert result.verdict == "defended", printed(result)


@pytest.mark.parametrize("plan", plans(slow=False), ids=name)
def test_the_office_withstands(campaign: Campaign, plan: AttackPlan) -> None:
    withstood(campaign.result(plan))


def test_honest_people_notice_nothing_of_the_gentle_attacks(campaign: Campaign) -> None:
    """Greetings, deliveries, the queue and the daemons' health stay within bounds while they run together."""
    if not campaign.wanted:
        pytest.skip("none of the gentle attacks was chosen")
    assert campaign.result(campaign.wanted[0]).broken == []


# No refusal reveals inner names and addresses, or the software of daemons.
INNER = re.compile(
    r"postfix|rspamd|dovecot|clam|milter|\blua|redis|hash:|regexp|cidr|sqlite|/(etc|var|usr|run|srv)/|\bvirtual\b|\btable\b",
    re.IGNORECASE,
)
ECHO = re.compile(r"<[^<>]*>")  # the client's own words
REFUSAL = re.compile(r"^\d+ S: (([45])\d\d[ -].*)$")


def unplain(transcript: list[str], inner: tuple[str, ...] = ()) -> list[str]:
    """Refusals without an enhanced status code of their class (RFC 2034), or with internal details."""
    refusals = [match for line in transcript if (match := REFUSAL.match(ECHO.sub("<>", line)))]
    return [
        match[1]
        for match in refusals
        if not re.match(rf"\d\d\d[ -]{match[2]}\.\d{{1,3}}\.\d{{1,3}} \S", match[1])
        or INNER.search(match[1])
        or any(word in match[1] for word in inner)
    ]


def test_every_refusal_is_plain(campaign: Campaign) -> None:
    """Each refusal so far has the right enhanced code, and no table, software, inner name or address."""
    if not campaign.wanted:
        pytest.skip("none of the gentle attacks was chosen")
    campaign.result(campaign.wanted[0])
    office = campaign.ground.office
    inner = tuple(
        str(word)
        for host in office.hosts
        if host.role == "store"
        for word in (host.fqdn, *host.all_addresses)
    )
    transcripts = [line for result in campaign.results.values() for line in result.transcript]
    assert len([line for line in transcripts if REFUSAL.match(line)]) > len(campaign.wanted)
    assert unplain(transcripts, inner) == []


def test_a_refusal_that_says_too_much_is_noticed() -> None:
    plain = "1 S: 554 5.7.1 The attachment a.exe is of a kind we do not take by mail"
    printed = [
        "1 S: 550 5.1.1 User unknown in virtual mailbox table",
        "2 S: 554 no code",
        "3 S: 451 5.7.1 wrong class",
    ]
    assert unplain([plain, "1 C: 554 said by us", *printed]) == [line[5:] for line in printed]


@pytest.mark.slow
@pytest.mark.parametrize("plan", plans(slow=True), ids=name)
def test_the_office_withstands_at_length(campaign: Campaign, plan: AttackPlan) -> None:
    withstood(campaign.result(plan))


@pytest.mark.parametrize("plan", switches(quick=True), ids=name)
def test_without_the_defence_it_succeeds(campaign: Campaign, plan: AttackPlan) -> None:
    succeeded, seen = campaign.without(plan).without or (False, "not tried")
    assert succeeded, f"without {plan.controls} the attack still fails, so it proves nothing: {seen}"


@pytest.mark.slow
@pytest.mark.parametrize("plan", switches(quick=False), ids=name)
def test_without_any_defence_it_succeeds(campaign: Campaign, plan: AttackPlan) -> None:
    succeeded, seen = campaign.without(plan).without or (False, "not tried")
    assert succeeded, f"without {plan.controls} the attack still fails, so it proves nothing: {seen}"
