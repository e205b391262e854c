"""Sizes and counts that must fit together."""

from collections.abc import Iterator

from outpost.office.checks.rule import Rule
from outpost.office.model import Office
from outpost.office.problems import Problem

MESSAGES_IN_QUEUE = 20
"""Number of largest messages that the queue must hold at least: a morning's mail while the line is down."""
MAX_SCAN = 2 * 1024**3 - 1
"""ClamAV refuses to scan files of 2 GiB and more (clamd.conf(5), MaxFileSize)."""


def _limits_hold(office: Office) -> Iterator[Problem]:
    limits = office.limits
    message = int(limits.message_size)
    yield from _message_fits(office, message)
    if limits.scan_size > MAX_SCAN:
        remedy = f"use at most {_size(MAX_SCAN)}"
        yield Problem("limits.scan_size", _size(limits.scan_size), "more than ClamAV can scan", remedy)
    if office.same_signature < len(office.users):
        yield Problem(
            "limits.same_signature",
            str(office.same_signature),
            f"fewer than the {len(office.users)} users: a list that writes to each of them would be stopped",
            "raise it",
        )


def _message_fits(office: Office, message: int) -> Iterator[Problem]:
    """One finding for a message size that is too large for several things."""
    limits = office.limits
    if message > limits.scan_size:
        yield Problem(
            "limits.message_size",
            _size(message),
            f"larger than the scanner reads ({_size(limits.scan_size)}): it would pass unscanned",
            "lower it, or raise limits.scan_size",
        )
    elif message * MESSAGES_IN_QUEUE > limits.queue_volume:
        yield Problem(
            "limits.message_size",
            _size(message),
            f"the queue ({_size(limits.queue_volume)}) holds fewer than {MESSAGES_IN_QUEUE} such messages",
            "lower it, or raise limits.queue_volume",
        )
    elif message > limits.message_budget:
        yield Problem(
            "limits.message_budget",
            _size(limits.message_budget),
            "smaller than one message of limits.message_size: nobody could send it to anybody",
            "raise it, or lower limits.message_size",
        )
    elif small := [user for user in office.users if office.quota(user) < message]:
        yield Problem(
            f"users[{small[0].address}].quota",
            _size(office.quota(small[0])),
            "smaller than one message of limits.message_size"
            + (f", as those of {len(small) - 1} more users are" if len(small) > 1 else ""),
            "raise the quota, or lower limits.message_size",
        )


def _size(value: int) -> str:
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if value >= factor and value % factor == 0:
            return f"{value // factor}{unit}"
    return f"{value} bytes"


def _a_day_needs_its_rule(office: Office) -> Iterator[Problem]:
    policy = office.policy
    if policy.second_factor_from and policy.second_factor == "offered":
        day, message = policy.second_factor_from.isoformat(), "a day, and no second factor is required"
        yield Problem(
            "policy.second_factor_from", day, message, 'add second_factor = "required", or remove the day'
        )


RULES: tuple[Rule, ...] = ((_limits_hold, {"limits"}), (_a_day_needs_its_rule, set()))
