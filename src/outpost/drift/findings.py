"""What an observation of a host means: each difference with cause, consequence and the command that repairs it.

Pure. `outpost.onhost.observe` (run on the host) prints facts as lines ``kind TAB object TAB value``; here they
become findings, by the templates of `meanings`.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from outpost.drift.differences import Difference, Finding, Meaning
from outpost.drift.meanings import FAULTS, STATES
from outpost.drift.repairs import from_packages
from outpost.drift.several import SEVERAL
from outpost.onhost.observe.facts import parts, words

EARLY = (
    "blind", "edited", "frozen", "locked", "acl", "linked", "mounted", "library", "file", "alias", "compiled", "conffile", "unit", "hold", "diversion", "override", "control",
    "program", "architecture",
)  # fmt: skip
"""Kinds that are repaired before the roles: a stray file or a mask would make a daemon's own check fail, a foreign architecture apt; a frozen daemon never answers."""
LATE = {
    "daemons that were stopped, started or failed": (
        "running", "failed", "traced", "unconfined", "halted", "foreign", "background", "within", "hushed", "scheduled", "deleted", "muted", "paused",
    ),
    "packages that nobody declares": ("package", "version"),
    "permissions and mounts": ("mode", "special", "capability", "mount"),
    "accounts and groups": ("group", "account", "shadow", "member", "keeper"),
    "host name in force": ("hostname",),
    "kernel settings in force": ("sysctl", "setting", "index", "module", "handler"),
    "environment of daemons": ("manager",),
    "addresses and routes": ("link", "address", "route", "moved", "learned", "rule", "neighbour", "namespace", "policy", "queue"),
    "packet filter in force": ("table", "rules", "filter"),
    "databases, mail queue and signing keys": ("trigger", "function", "held", "timer", "anchor", "astray", "granted"),
    "sockets that no flow allows, and files open to everybody": ("sniffer", "opened", "exposed", "listener", "loopback"),
    "configuration in force": ("stale", "effective"),
}  # fmt: skip
"""Operation after the roles → kinds that it repairs."""
ORDER = (*EARLY, *chain.from_iterable(LATE.values()))

BLIND = "blind"
"""The answer of a known host whose observer is missing or fails."""


@dataclass(frozen=True)
class Beside:
    """One observation of what exists beside the declared files.

    Attributes:
        usable: Whether the host has a known state to compare with; a new host has none.
        unfinished: An apply changed something and did not finish.
        news: The known state lacks something that is explained or accepted.
        blind: The host has a known state, but nothing on it can compare.
        learned: Differences that an apply accepts, because it started the daemon that gives this answer.
        found: What existed before the first apply, or before the observer could see it, and is not accepted.
    """

    usable: bool = False
    blind: bool = False
    unfinished: bool = False
    news: bool = False
    appeared: frozenset[str] = frozenset()
    vanished: frozenset[str] = frozenset()
    learned: frozenset[str] = frozenset()
    found: frozenset[str] = frozenset()
    faults: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> "Beside":
        """Parse what `observe` prints; no output means that it is not installed yet."""
        if not text.strip():
            return cls()
        if text.strip() == BLIND:
            return cls(blind=True)
        try:
            data = json.loads(text)
            unfinished, news = bool(data["unfinished"] or data["first"]), bool(data["news"])
            names = ("appeared", "vanished", "learned", "found", "faults")
            facts = {name: _facts(data[name]) for name in names}
            return cls(usable=True, blind=False, unfinished=unfinished, news=news, **facts)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return cls(blind=True)  # our observer never prints that

    @property
    def differences(self) -> frozenset[str]:
        """Everything that a plan reports and an apply repairs."""
        return self.appeared | self.vanished | self.faults


def _facts(lines: list[str]) -> frozenset[str]:
    """The facts in an answer. A line feed in one would start a new line in the log, which may name another host."""
    if not all(isinstance(fact, str) and "\n" not in fact for fact in lines):
        raise TypeError("no fact")
    return frozenset(lines)


def findings(
    seen: Beside, *, packages: frozenset[str] = frozenset(), units: frozenset[str] = frozenset()
) -> tuple[Finding, ...]:
    """Everything that is wrong, in the order of repair."""
    appeared, vanished = _by_object(seen.appeared), _by_object(seen.vanished)
    found: list[Finding] = []
    for key in sorted({*appeared, *vanished}, key=_order):
        kind, thing = key
        if kind == "special" and ("mode", thing) in appeared:
            continue  # the same change, and a repair that would undo the other
        new, old = appeared.get(key, ()), vanished.get(key, ())
        found.extend(_as_findings(Difference(kind, thing, new, old, packages=packages), STATES))
    for line in sorted(seen.faults, key=lambda line: _order((line.split("\t")[0], line))):
        kind, thing, value = parts(line)
        found.extend(_as_findings(Difference(kind, thing, (value,), units=units), FAULTS))
    return tuple(sorted(_merged(found), key=_place))


def _as_findings(it: Difference, among: tuple[Meaning, ...]) -> Iterator[Finding]:
    if it.kind in SEVERAL and among is STATES:
        yield from SEVERAL[it.kind](it)
    elif meaning := next((each for each in among if each.of == it.kind and each.when(it)), None):
        yield meaning.about(it)


def _place(finding: Finding) -> int:
    return min(_order((fact.split("\t")[0], ""))[0] for fact in finding.facts)


def _order(key: tuple[str, str]) -> tuple[int, str]:
    return (ORDER.index(key[0]) if key[0] in ORDER else len(ORDER), key[1])


def _by_object(lines: Iterable[str]) -> dict[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], list[str]] = {}
    for line in sorted(lines):
        kind, thing, value = parts(line)
        found.setdefault((kind, thing), []).append(value)
    return {key: tuple(values) for key, values in found.items()}


def found(
    seen: Beside, *, host: str, refused: frozenset[str], packages: frozenset[str] = frozenset()
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Unexplained things from before the first apply: those that wait for a person's decision, and those that a person has refused.

    Args:
        refused: Names as `outpost.onhost.observe.facts.words` writes them.
    """
    gone = frozenset(fact for fact in seen.found if words(fact) in refused)
    waiting = findings(Beside(usable=True, appeared=seen.found - gone), packages=packages)
    reported = frozenset(fact for finding in waiting for fact in finding.facts)
    others = [_of_found(fact) for fact in sorted(seen.found - gone - reported)]
    return (
        tuple(_to_decide(finding, host) for finding in (*waiting, *others)),
        findings(Beside(usable=True, appeared=gone), packages=packages),
    )


def _of_found(fact: str) -> Finding:
    """Facts that are drift only when they change."""
    kind, _, thing = words(fact).partition(" ")
    return Finding(kind, thing, "", "it differs from Debian's", ("SYS-08",), facts=frozenset((fact,)))


def _to_decide(finding: Finding, host: str) -> Finding:
    name = "`, `".join(dict.fromkeys(map(words, sorted(finding.facts))))
    remedy = f"Remedy: put `{name}` into hosts.{host}.accepted of the office file, or into hosts.{host}.refused to have it removed"
    cause = "it comes from no apply, no package and no installation of Debian"
    return replace(finding, cause=cause, consequence=f"{finding.consequence}. {remedy}", repair="")


COPIED = 6
"""This many files added or removed by hand below one directory become one finding: somebody has copied or removed a directory."""
FOLDED = ("file", "program", "conffile")
NEXT = "\n# next\n"
"""Between the repairs of one finding."""


def folded(found: tuple[Finding, ...]) -> Iterator[Finding]:
    """Merge many files below one directory into one finding, with each name in its diff."""
    below: dict[str, list[Finding]] = {}
    for finding in found:
        own = tuple(f"{kind}\t{finding.thing}\t" for kind in FOLDED)
        if all(fact.startswith(own) for fact in finding.facts):
            top = "/".join(finding.thing.split("/")[: 3 if finding.thing.startswith("/etc/") else 4])
            below.setdefault(f"{top}\t{finding.cause}\t{finding.consequence}", []).append(finding)
    many = {id(finding): same for same in below.values() if len(same) >= COPIED for finding in same}
    for finding in found:
        same = many.get(id(finding), [finding])
        if same[0] is not finding:
            continue
        top = os.path.commonpath([each.thing for each in same])
        facts = frozenset().union(*(each.facts for each in same))
        gone = all(fact.endswith("\tmissing") for fact in facts)
        repair = NEXT.join(f"set -e; {each.repair}" for each in same if each.repair)
        if gone and finding.kind == "file":
            repair = from_packages(top)
        yield finding if len(same) == 1 else replace(
            finding, thing=f"{top}/", cause=f"{len(same)} files: {finding.cause}", repair=repair,
            diff=tuple(f"{'-' if gone else '+'}{each.thing}" for each in same), facts=facts,
        )  # fmt: skip


def _merged(found: Iterable[Finding]) -> Iterator[Finding]:
    """Merge findings about one thing with one cause (rules of a filter)."""
    grouped: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in found:
        grouped.setdefault((finding.kind, finding.thing, finding.cause), []).append(finding)
    for same in grouped.values():
        diff = tuple(line for finding in same for line in finding.diff)
        yield replace(same[0], diff=diff, facts=frozenset().union(*(finding.facts for finding in same)))
