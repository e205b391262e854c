"""Sizes, counts, reverse zones, and lifetimes that must fit together: a key must live longer than its roll takes."""

from collections.abc import Iterator
from functools import partial
from typing import get_args

from outpost.office.checks.rule import rule
from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.tables.operation import Weekday

MESSAGES_IN_QUEUE = 20
"""Number of largest messages that the queue must hold at least: a morning's mail while the line is down."""
MAX_SCAN = 2 * 1024**3 - 1
"""ClamAV refuses to scan files of 2 GiB and more (clamd.conf(5), MaxFileSize)."""


@rule("limits")
def _limits_hold(office: Office) -> Iterator[Problem]:
    limits = office.limits
    message = int(limits.message_size)
    yield from _message_fits(office, message)
    if limits.scan_size > MAX_SCAN:
        remedy = f"use at most {_size(MAX_SCAN)}"
        yield Problem("limits.scan_size", _size(limits.scan_size), "more than ClamAV can scan", remedy)
    if limits.user_recipients < limits.recipients_per_message:
        what = f"one message to {limits.recipients_per_message} recipients, as limits.recipients_per_message allows, puts the account on hold"
        remedy = "raise it, or lower limits.recipients_per_message"
        yield Problem("limits.user_recipients", str(limits.user_recipients), what, remedy)
    if office.same_signature < len(office.users):
        few = f"fewer than the {len(office.users)} users"
        what = f"{few}: a list that writes to each of them would be stopped"
        yield Problem("limits.same_signature", str(office.same_signature), what, "raise it")


def _message_fits(office: Office, message: int) -> Iterator[Problem]:
    """One finding for a message size that is too large for several things."""
    limits, wrong = office.limits, partial(Problem, "limits.message_size", _size(message))
    small = [user for user in office.users if office.quota(user) < message]
    if message > limits.scan_size:
        what = f"larger than the scanner reads ({_size(limits.scan_size)}): it would pass unscanned"
        yield wrong(what, "lower it, or raise limits.scan_size")
    elif message * MESSAGES_IN_QUEUE > limits.queue_volume:
        what = f"the queue ({_size(limits.queue_volume)}) holds fewer than {MESSAGES_IN_QUEUE} such messages"
        yield wrong(what, "lower it, or raise limits.queue_volume")
    elif message > limits.message_budget:
        what = "smaller than one message of limits.message_size: nobody could send it to anybody"
        remedy = "raise it, or lower limits.message_size"
        yield Problem("limits.message_budget", _size(limits.message_budget), what, remedy)
    elif small:
        more = f", as those of {len(small) - 1} more users are" if len(small) > 1 else ""
        what = f"smaller than one message of limits.message_size{more}"
        remedy = "raise the quota, or lower limits.message_size"
        yield Problem(f"users[{small[0].address}].quota", _size(office.quota(small[0])), what, remedy)


def _size(value: int) -> str:
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if value >= factor and value % factor == 0:
            return f"{value // factor}{unit}"
    return f"{value} bytes"


@rule("maintenance")
def _some_day_is_for_changes(office: Office) -> Iterator[Problem]:
    days = office.maintenance.read_only
    if len(days) == len(get_args(Weekday)):
        message = "every day: apply would always refuse"
        remedy = "leave out the days on which hosts may be changed"
        yield Problem("maintenance.read_only", ", ".join(days), message, remedy)


@rule()
def _a_day_needs_its_rule(office: Office) -> Iterator[Problem]:
    policy = office.policy
    if policy.second_factor_from and policy.second_factor == "offered":
        day, message = policy.second_factor_from.isoformat(), "a day, but no second factor is required"
        remedy = 'add second_factor = "required", or remove the day'
        yield Problem("policy.second_factor_from", day, message, remedy)


@rule()
def _reverse_zones(office: Office) -> Iterator[Problem]:
    for index, network in enumerate(office.dns.reverse):
        step, unit = (8, "an octet") if network.version == 4 else (4, "a nibble")
        if network.prefixlen % step or not network.prefixlen:
            message = f"its prefix does not end on {unit}, so it is not a reverse zone of its own"
            remedy = f"give the delegated networks with a prefix that {step} divides (RFC 2317 delegations stay with the provider)"
            yield Problem(f"dns.reverse[{index}]", str(network), message, remedy)
        for other in office.dns.reverse:
            if other != network and other.version == network.version and other.supernet_of(network):  # type: ignore[arg-type]
                message = f"within {other}, which would have to delegate it"
                yield Problem(f"dns.reverse[{index}]", str(network), message, "remove one of the two")


@rule("dns", "link")
def _rolls_fit(office: Office) -> Iterator[Problem]:
    """A key must live longer than its replacement takes, a signature longer than a cache keeps it."""
    dns = office.dns
    steps = 2 * (dns.propagation + dns.ttl)
    short = []
    for field, needed, what in (
        ("zsk_lifetime", steps, "two steps of propagation and TTL"),
        ("ksk_lifetime", steps + dns.parent_propagation, "two steps of propagation and TTL, and the parent's time"),
        ("signature_lifetime", steps, "twice propagation and TTL"),
        ("dkim_lifetime", 2 * dns.ttl + dns.dkim_retention, "two TTLs and dkim_retention"),
    ):  # fmt: skip
        if (value := getattr(dns, field)) <= needed:
            message = f"shorter than a roll takes: {needed} s ({what})"
            short.append(Problem(f"dns.{field}", f"{value}s", message, f"give more than {needed}s"))
    if len(short) > 1:  # both have this cause
        cause = "ttl" if dns.ttl >= dns.propagation else "propagation"
        several = ", ".join(problem.field.removeprefix("dns.") for problem in short)
        message = f"a roll then takes longer than keys and signatures last ({several})"
        short = [Problem(f"dns.{cause}", f"{getattr(dns, cause)}s", message, "shorten it, or lengthen those")]
    yield from short
    if dns.dkim_retention < office.link.queue_lifetime:
        longest = office.link.queue_lifetime
        message = f"mail signed with the old key may wait in a queue for {longest} s (link.queue_lifetime)"
        remedy = f"give at least {longest}s, or shorten link.queue_lifetime"
        yield Problem("dns.dkim_retention", f"{dns.dkim_retention}s", message, remedy)
