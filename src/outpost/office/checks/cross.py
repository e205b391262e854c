"""The rules that concern several tables, by subject."""

from dataclasses import replace

from outpost.office.checks import dns, limits, peers, reach, recipients, topology
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
)


def cross_checks(office: Office, pruned: set[str]) -> list[Problem]:
    """Findings of every rule; a rule is skipped if tables that it needs were left out because of other mistakes."""
    return _together(
        [problem for rule, needs in RULES if not needs & pruned for problem in rule(office)],
        [host.name for host in office.hosts],
    )


def _together(problems: list[Problem], hosts: list[str]) -> list[Problem]:
    """Merge findings that one line of the file causes on several hosts into one that names all of them."""
    found: dict[tuple[str, ...], tuple[Problem, list[str]]] = {}
    for problem in problems:
        host, _, rest = problem.message.partition(" ")
        named = host in hosts
        key = (problem.field, problem.value, rest if named else problem.message)
        found.setdefault(key, (problem, []))[1].extend([host] if named else [])
    return [
        replace(
            problem,
            message=f"{', '.join(names)}: {problem.message.partition(' ')[2]}",
            remedy=problem.remedy.replace(f"that {names[0]} reaches", "that they reach"),
        )
        if len(names) > 1
        else problem
        for problem, names in found.values()
    ]
