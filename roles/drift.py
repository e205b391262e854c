"""What no file comparison sees, as operations: named in the plan, repaired by the apply, remembered at its end.

``/usr/local/lib/outpost/observe`` (`outpost.drift.observe`) looks on the host in one command; `findings` says what
the answer means. The known state on the host is what stood there when the last apply came to its end: what this
apply itself brings about is added to it, what was strange before it is repaired, never learnt.
"""

from __future__ import annotations

import inspect
import json
import shlex
from collections.abc import Generator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.operation import operation
from pyinfra.context import ctx_host, state

from outpost.drift import observe as observer
from outpost.drift.findings import EARLY, Beside, Finding, findings
from outpost.office import Host, Office
from outpost.office.flows import listeners
from roles.observation import Answer, declared, observe, read_now, void, will_ask
from roles.reporting import attended, report
from roles.shapes import Command, settings, text

OBSERVER = "/usr/local/lib/outpost/observe"
CONTRACT = "/etc/outpost/contract.json"
QUESTION = f"[ ! -x {OBSERVER} ] || python3 -B {OBSERVER}"
FOLLOWS = ("running", "unit", "daemon", "effective configuration")
LATE = (
    ("daemons that were stopped, started or failed", ("running", "failed")),
    ("packages that nobody declares", ("package",)),
    ("accounts and groups", ("account", "member", "group")),
    ("permissions and mounts", ("mode", "mount")),
    ("host name in force", ("hostname",)),
    ("kernel settings in force", ("sysctl",)),
    ("packet filter in force", ("table", "rules", "filter")),
    ("sockets that no flow allows", ("listener",)),
    ("configuration in force", ("stale", "effective")),
)


def contract(*, office: Office, me: Host) -> None:
    """The observer, and what it compares sockets and name with."""
    wanted = {
        "hostname": me.fqdn,
        "listeners": sorted(
            [entry.protocol, str(entry.address), entry.port] for entry in listeners(office, me)
        ),
    }
    settings(
        name="observer",
        files=[
            text(OBSERVER, inspect.getsource(observer), mode="0755"),
            text(CONTRACT, json.dumps(wanted, indent=1) + "\n"),
        ],
        check=f"python3 -B -c 'import ast; ast.parse(open(\"{OBSERVER}\").read())' && python3 -m json.tool {CONTRACT} >/dev/null",
    )


@dataclass
class _Sights:
    """What was seen of a host before this run changed anything, and the survey its execution began with."""

    before: Beside | None = None
    began: Answer | None = None


_sights: WeakKeyDictionary[PyinfraHost, _Sights] = WeakKeyDictionary()


def _sight() -> _Sights:
    current: PyinfraHost = ctx_host.get()  # type: ignore[no-untyped-call]
    return _sights.setdefault(current, _Sights())


def _before() -> Beside:
    """With ``-y`` pyinfra does not plan first; then the first operation of the execution looks."""
    sight = _sight()
    if sight.before is None:
        sight.before = Beside.parse("\n".join(observe(question=QUESTION).lines[QUESTION]))
    return sight.before


def _now() -> Beside:
    return Beside.parse("\n".join(read_now(QUESTION)))


def first() -> None:
    """Before the roles: what would make a daemon's own check fail."""
    if not will_ask(question=QUESTION):
        _repaired(name="files and units that nobody declares", kinds=EARLY)


def last() -> None:
    """After the roles: everything else, and the new known state."""
    if will_ask():
        return
    for name, kinds in LATE:
        _repaired(name=name, kinds=kinds)
    _remembered(name="known state")


@operation()
def _repaired(kinds: tuple[str, ...]) -> Generator[Command, None, None]:
    found = _of_kinds(kinds)
    if not state.is_executing:
        for finding in found:
            report(finding)
    elif kinds == EARLY:
        declared().questions.pop(QUESTION, None)  # from here on it is asked by itself, when something changed
        _sight().began = observe()
    elif found:
        now = _now()
        still = now.appeared | now.vanished | now.faults
        found = tuple(finding for finding in found if finding.facts & still)
    commands = dict.fromkeys(finding.repair for finding in found if finding.repair)
    if commands:
        yield StringCommand("set -e\n" + "\n".join(f"( {command}\n)" for command in commands))
        void()


def _of_kinds(kinds: tuple[str, ...]) -> tuple[Finding, ...]:
    known = declared()
    found = findings(_before(), packages=frozenset(known.packages), units=frozenset(known.units))
    return tuple(
        finding
        for finding in found
        if any(fact.split("\t")[0] in kinds for fact in finding.facts)
        and not any(_is_declared(fact) for fact in finding.facts)
        and not (finding.kind in FOLLOWS and finding.thing in attended() and not state.is_executing)
    )


def _is_declared(fact: str) -> bool:
    """Whether it is about a file that is declared from now on: its own operation, or the host, sees to it."""
    kind, path, *_ = fact.split("\t")
    return kind == "file" and path in declared().files


def _worth_remembering(seen: Beside, strange: frozenset[str] | set[str] = frozenset()) -> bool:
    """Whether the known state lacks more than what the host makes itself (a renewed certificate)."""
    news = (seen.appeared | seen.vanished) - strange
    return seen.unfinished or seen.upgraded or not all(_is_declared(fact) for fact in news)


@operation()
def _remembered() -> Generator[Command, None, None]:
    before = _before()
    if not state.is_executing:
        if before.usable and before.unfinished:  # a run broke off before it came here
            yield StringCommand(f"python3 -B {OBSERVER} remember")
        return
    untouched = declared().answer is _sight().began is not None
    if untouched and not _worth_remembering(before):
        return
    now = _now()
    if not now.usable or not now.to_remember:
        return
    # Not what daemons say of themselves: they have been started again from the declared files, so that is true now.
    facts = {
        fact for finding in findings(before) for fact in finding.facts if not fact.startswith("effective\t")
    }
    strange = facts & (now.appeared | now.vanished)
    if _worth_remembering(now, strange):
        listed = "".join(f"{line}\n" for line in sorted(strange))
        yield StringCommand(f"printf %s {shlex.quote(listed)} | python3 -B {OBSERVER} remember")
