"""The rules that span tables, subject after subject."""

from __future__ import annotations

from outpost.office.checks import backup, dns, keys, limits, peers, reach, recipients, topology
from outpost.office.checks.rule import Rule
from outpost.office.model import Office
from outpost.office.problems import Problem

RULES: tuple[Rule, ...] = (
    *topology.RULES,
    *recipients.RULES,
    *peers.RULES,
    *limits.RULES,
    *reach.RULES,
    *dns.RULES,
    *backup.RULES,
    *keys.RULES,
)


def cross_checks(office: Office, pruned: set[str]) -> list[Problem]:
    """Findings of every rule; a rule is passed over where the tables it needs were left out for other mistakes."""
    return [problem for rule, needs in RULES if not needs & pruned for problem in rule(office)]
