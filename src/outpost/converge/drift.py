"""Drift that a comparison of files does not find: the plan reports it, the apply repairs it, and the known state is written at its end.

``/usr/local/lib/outpost/observe`` (`outpost.onhost.observe`) scans the host in one command; `findings` says what
the answer means. What Debian, its packages and the declaration explain becomes known, and what a person has accepted by name
in the office file (docs/adr/0021). Everything else is reported until it is repaired, even if applies are interrupted meanwhile.
"""

import shlex
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from itertools import accumulate

from pyinfra.api.command import StringCommand
from pyinfra.context import host, state

from outpost.converge.failures import failures, watch
from outpost.converge.observation import observe, operation, read_now, run, sealing, void
from outpost.converge.operations import UPGRADES_WAIT, Command, alone, differing, unpacked
from outpost.converge.reporting import differs, report
from outpost.drift.differences import Finding
from outpost.drift.findings import EARLY, LATE, NEXT, Beside, findings, folded
from outpost.drift.findings import found as findings_of_found
from outpost.drift.repairs import unit_reading
from outpost.office import Host, Office
from outpost.onhost.observe import KEY, OBSERVER
from outpost.onhost.observe.declared import KNOWN
from outpost.onhost.observe.facts import words
from outpost.transport.remote import FULL, UNCONFIGURED, UNFINISHED, failure

LONGEST = 1 << 15
"""Octets of repairs in one command: quoted for the shell, it is one argument, of which Linux takes 128 KiB (execve(2))."""
MOST, TYPEABLE = 100, 500
"""Most things that are reported as not repaired, and octets of a remedy that a person can type."""
FOLLOWS = ("running", "unit", "daemon", "effective configuration")


def _before() -> Beside:
    """With ``-y`` pyinfra does not plan first; then the first operation that executes makes the scan."""
    known = run()
    if known.before is None:
        known.before = Beside.parse(observe().observed)
    return known.before


def _now() -> Beside:
    """A scan by the present observer.

    SYS-08: without what the former one named an upgrade of the observer leaves to a person what was drift a moment before.
    """
    scan = Beside.parse("\n".join(read_now(_observer("look"))))
    drift = scan.found & run().drift
    return replace(scan, appeared=scan.appeared | drift, found=scan.found - drift)


def _observer(*words: str) -> str:
    """The observer's command; it is followed by the list of the host's local files."""
    return " ".join((OBSERVER, *words, *map(shlex.quote, _me().local)))


def first() -> None:
    """The first operation: repair what would make a daemon's own check fail."""
    watch()
    _repaired(name="files and units that nobody declares", kinds=EARLY)


def last() -> None:
    """The last operation: repair the rest, and write the new known state."""
    for name, kinds in LATE.items():
        _repaired(name=name, kinds=kinds)
    _refused(name="what the office file refuses")
    _remembered(name="known state", _ignore_errors=False)


@operation
def _repaired(kinds: tuple[str, ...]) -> Generator[Command, None, None]:
    found = _of_kinds(kinds)
    if not state.is_executing:
        if kinds == EARLY and _before().blind:
            cause = "missing, or does not answer, although an apply installed it"
            consequence = "examine the host first: the next apply restores it, and repairs what was changed beside the declared files"
            differs("known state", OBSERVER, cause, consequence, "SYS-08")
        for finding in (*found, *(_waiting() if kinds == EARLY else ())):
            report(finding)
    elif kinds == EARLY:
        own = run().known.changes["observer"].files
        # Somebody who edits the contract hides what it names; without a contract everything accepted is drift.
        if _before().blind or (_before().usable and differing(own)):
            yield from unpacked("observer", own)
            void()
            run().drift = _before().appeared
            run().before = _now()
            found = _of_kinds(kinds)
        run().local = None  # from here on the observer is asked separately, after each change
        run().began = observe()
    elif any(fault.startswith("blind\t") for fault in _before().faults):
        run().before = _now()  # a repair may have made a probe work again
        found = _of_kinds(kinds)
    elif found:
        now = _now()
        found = tuple(finding for finding in found if finding.facts & (now.differences | now.found))
    # If a package's file list was changed, its files have no owner: they are not moved before the list is repaired.
    if state.is_executing and (lists := _of_lists(found)):
        yield from _carried_out(finding.repair for finding in lists)
        run().before = _now()
        found = _of_kinds(kinds)
    unsure = bool(_of_lists(found))
    commands = (
        finding.repair
        for finding in found
        if finding.repair and not (unsure and all(fact.startswith("file\t") for fact in finding.facts))
    )
    yield from _carried_out(commands)


def _carried_out(commands: Iterable[str]) -> Iterator[Command]:
    """Repairs, one operation each: a failed one is reported at the end, and stops no other."""
    each = list(dict.fromkeys(one for command in commands for one in command.split(NEXT)))
    waits = [UPGRADES_WAIT] if any("dpkg" in one or "apt-get" in one for one in each) else []
    while each:
        lengths = accumulate(map(len, each))
        fit = max(1, sum(length <= LONGEST for length in lengths))
        yield alone("\n".join([*waits, *(f"(\n{one}\n) || true" for one in each[:fit])]))
        del each[:fit]
        void()


@operation
def _refused() -> Generator[Command, None, None]:
    """The first apply of a host: the operations before could not know what was there, because the host had no observer."""
    if not state.is_executing or not _me().refused or _before().usable:
        return
    run().before = _now()
    yield from _carried_out(finding.repair for finding in folded(_found()[1]) if finding.repair)


def _of_lists(found: tuple[Finding, ...]) -> list[Finding]:
    """Findings about dpkg's records of packages."""
    return [finding for finding in found if any(fact.startswith("control\t") for fact in finding.facts)]


def _waiting() -> tuple[Finding, ...]:
    """Things from before the first apply that wait for a person's decision."""
    return tuple(folded(_found()[0]))


def _found() -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    me, seen = _me(), _before()
    seen = replace(seen, found=frozenset(fact for fact in seen.found if not _is_declared(fact)))
    return findings_of_found(
        seen, host=me.name, refused=frozenset(me.refused), packages=run().known.package_names
    )


def _of_kinds(kinds: tuple[str, ...]) -> tuple[Finding, ...]:
    chosen = tuple(
        finding
        for finding in (*_judged(_before()), *_found()[1])
        if any(fact.split("\t")[0] in kinds for fact in finding.facts)
        and not any(_is_declared(fact) or _is_local(fact) for fact in finding.facts)
        and not (finding.kind in FOLLOWS and finding.thing in run().attended and not state.is_executing)
        and not (finding.kind == "effective configuration" and finding.thing in _moved_on())
    )
    return tuple(folded(chosen))


def _judged(seen: Beside) -> tuple[Finding, ...]:
    known = run().known
    return findings(seen, packages=known.package_names, units=frozenset(known.units))


def _is_declared(fact: str) -> bool:
    """Whether it is about a file that is declared now: its own operation, or the host, changes that file."""
    kind, path, *_ = fact.split("\t")
    return (kind == "file" and path in run().known.files) or (
        kind == "mode" and (path in run().known.content or path in run().known.directories)
    )


def _is_local(fact: str) -> bool:
    """Whether it is about a file or unit that the office file leaves to the host (`hosts.NAME.local`)."""
    kind, thing, *_ = fact.split("\t")
    if kind in ("unit", "running"):
        return _me().keeps(f"/etc/systemd/system/{thing}")
    return kind == "local" or (kind in ("file", "conffile") and _me().keeps(thing))


def _moved_on() -> frozenset[str]:
    """Units that answer differently because a local file of the host changed: no drift, and part of the next known state."""
    seen = _before()
    own = (fact.split("\t")[1] for fact in seen.appeared | seen.vanished if _is_local(fact))
    return frozenset(filter(None, map(unit_reading, own)))


def _me() -> Host:
    office: Office = host.data.office
    return office.host(host.data.machine)


@operation
def _remembered() -> Generator[Command, None, None]:
    before = _before()
    if not state.is_executing:
        if before.usable and before.unfinished:  # a run was interrupted before this operation
            consequence = "an apply was interrupted: its repairs beside the declared files may be missing"
            cause = "missing, or older than what was applied"
            differs("known state", KNOWN, cause, consequence, "SYS-08")
        if before.usable and (
            before.unfinished or any(fault.startswith("edited\t") for fault in before.faults)
        ):
            yield _remember()
        return
    failed = tuple(failures())
    untouched = run().answer is run().began is not None and not failed
    if untouched and not (before.news or before.unfinished or before.differences):
        return
    now = _now()
    blind = any(fault.startswith("blind\t") for fault in now.faults)
    if now.usable and (now.news or now.unfinished) and not (blind or failed):
        yield _remember()
    run().before = now
    for finding in _waiting():
        report(finding, while_executing=True)
    undone = [_undone(*each) for each in failed]
    if left := [*undone, *map(_text, _left(before, now))]:
        yield StringCommand(f"printf '%s\\n' {' '.join(map(shlex.quote, left[:MOST]))} >&2; exit 1")


def _remember() -> StringCommand:
    """Write the known state, with the office's seal."""
    key = sealing()
    if not key:  # no input comes then, and over SSH the program would wait for ever
        return StringCommand(_observer("remember"))
    return StringCommand(f"read -r {KEY}; export {KEY}; {_observer('remember')}", _stdin=key)


def _left(before: Beside, now: Beside) -> Iterator[Finding]:
    """Findings that this apply should have repaired and did not, and failed observations."""
    for finding in folded(_judged(now)):
        was_there = finding.facts & before.differences and not finding.facts <= now.learned
        others = any(_is_local(fact) or _is_declared(fact) for fact in finding.facts)
        decided = finding.kind == "messages on hold"  # a person may have put it on hold on purpose
        if finding.kind == "observation" or (was_there and not others and not decided):
            yield finding


def _undone(operation: str, why: str, printed: str) -> str:
    """A declared thing that is not in force, and its remedy; undeclared files are the remedy where the daemon's message names them."""
    me = _me().name
    facts = (min(finding.facts) for finding in _waiting())
    paths = [fact for fact in facts if fact.split("\t")[1].startswith("/")]
    strange = [f"`{words(fact)}`" for fact in paths if words(fact) and fact.split("\t")[1] in printed]
    cause = UNFINISHED if UNCONFIGURED in printed else f"correct on {me} what the message names"
    if any(words in why.lower() for words in FULL) and (full := failure(me, why)):
        cause = full.remedy
    elif strange:
        cause = f"put {', '.join(strange)} into hosts.{me}.refused or hosts.{me}.accepted"
    return f"not done: {operation}: {why}. Remedy: {cause}"


def _text(finding: Finding) -> str:
    """A finding that is still there, and the remedy."""
    by_hand = finding.repair if 0 < len(finding.repair) <= TYPEABLE else f"{OBSERVER} look"
    return (
        f"not repaired: {finding.kind} {finding.thing}: {finding.cause}. "
        f"Remedy: on {_me().name}, as root, run {by_hand} and correct what it names"
    )
