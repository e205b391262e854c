"""Apply as a rollout: only hosts that differ, one host of a role at a time, verified, and rolled back if a check fails.

A plan comes first, so that an unchanged office costs one scan. Then come waves: two hosts of one role are never in the
same wave, so that no daemon restarts on both at once. An office of new hosts serves nobody yet, and is one wave. The live
checks of a wave's hosts run before and after it. If a check fails only afterwards, the rollout ends and restores the files of the previous
declaration (`src/outpost/converge/guard.py`), never files that were found on the host. A check that failed before is only reported.
"""

import re
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import zip_longest
from typing import NamedTuple

from outpost.engine import run
from outpost.errors import OutpostError
from outpost.office import Office
from outpost.office.role import every_role
from outpost.target import ROOT, Target
from outpost.transport.remote import run_script
from outpost.verification.live import OnResult, Verdict, verify

PATIENCE = 600.0
"""Seconds that a host may take to roll back: daemons restart."""
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Rollout(NamedTuple):
    """The result of a rollout.

    Attributes:
        outcome: Changes and failures of all waves that ran.
        waiting: Hosts that were to change and were not reached, because an earlier wave failed or a host could not be compared.
        verdicts: One for each wave that changed something and was verified.
        went_back: Hosts whose previously declared files were restored.
    """

    outcome: run.Outcome
    waiting: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    went_back: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether every host is as declared and no check failed."""
        broken = any(verdict.with_outcome("failed") for verdict in self.verdicts)
        return not (self.outcome.failed or self.waiting or broken)


def is_read_only(office: Office, now: datetime | None = None) -> bool:
    """Whether today is a day on which hosts must not be changed."""
    return WEEKDAYS[(now or datetime.now(UTC)).weekday()] in office.maintenance.read_only


def waves(office: Office, hosts: tuple[str, ...], new: Collection[str] = ()) -> list[tuple[str, ...]]:
    """The hosts in groups with at most one of each role, in the order of the office file; one group if all are new."""
    if set(hosts) == set(new):
        return [hosts]
    by_role: dict[str, list[str]] = {}
    for host in office.hosts:
        if host.name in hosts:
            by_role.setdefault(host.role, []).append(host.name)
    return [tuple(filter(None, wave)) for wave in zip_longest(*by_role.values())]


def roll_out(
    target: Target,
    office: Office,
    *,
    limit: tuple[str, ...],
    connector: str | None,
    watcher: Callable[[], run.Watcher],
    progress: Callable[[], AbstractContextManager[OnResult]] = lambda: nullcontext(lambda *_: None),
    checked: bool = True,
    back: bool = True,
    proposed: run.Outcome | None = None,
) -> Rollout:
    """Bring the hosts to what is declared, wave by wave.

    Args:
        progress: Shows the results of checks as they come.
        checked: Whether the live checks run after each wave.
        back: Whether a check that newly fails restores the previously declared files.
        proposed: A plan that has been made already.
    """

    def check(hosts: tuple[str, ...], files: tuple[str, ...]) -> Verdict:
        with progress() as on_result:
            return verify(target, hosts=hosts, files=files, connector=connector, on_result=on_result)

    planned = proposed or run.plan(target, limit=limit, connector=connector, watcher=watcher())
    differing = _touched(planned)
    if planned.failed or not differing:
        waiting = tuple(host for host in differing if host not in planned.failed)
        return Rollout(
            replace(planned, changes=(), findings=() if planned.failed else planned.findings), waiting
        )
    steps = waves(office, differing, planned.new_hosts)
    total = replace(planned, changes=(), diff=(), findings=())
    verdicts: list[Verdict] = []
    asked: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    for number, wave in enumerate(steps):
        fresh = planned.new_hosts.intersection(wave)
        before = _failing(check, planned, tuple(sorted(set(wave) - fresh))) if checked else frozenset()
        started = time.monotonic()
        done = run.apply(target, limit=wave, connector=connector, watcher=watcher())
        total = replace(
            total,
            changes=total.changes + done.changes,
            failed=total.failed | done.failed,
            seconds=total.seconds + done.seconds,
            findings=total.findings + done.findings,
        )
        waiting = tuple(host for later in steps[number + 1 :] for host in later)
        if done.failed:
            return Rollout(total, waiting, tuple(verdicts))
        if not checked or not done.changes:
            continue
        asked.append((_touched(done), files_for(done)))
        verdicts.append(check(*asked[-1]))
        failed = verdicts[-1].with_outcome("failed")
        broken = {result.host for result in failed if (result.id, result.host) not in before}
        if broken:
            hosts = tuple(
                host for host in _touched(done) if (host in broken or "" in broken) and host not in fresh
            )
            minutes = int((time.monotonic() - started) / 60) + 1
            went_back = _go_back(target, office, done, hosts, minutes, connector) if back else ()
            return Rollout(total, waiting, tuple(verdicts), went_back)
    for number, wanted in enumerate(asked[:-1]):
        if verdicts[number].with_outcome("failed"):  # it may have needed a host of a later wave
            verdicts[number] = check(*wanted)
    return Rollout(total, (), tuple(verdicts))


def _failing(
    check: Callable[[tuple[str, ...], tuple[str, ...]], Verdict], planned: run.Outcome, hosts: tuple[str, ...]
) -> frozenset[tuple[str, str]]:
    """Checks that fail on these hosts before the plan changes anything, each with its host."""
    if not hosts:
        return frozenset()
    changes = tuple(change for change in planned.changes if change.host in hosts)
    verdict = check(hosts, files_for(replace(planned, changes=changes)))
    return frozenset((result.id, result.host) for result in verdict.with_outcome("failed"))


def _touched(outcome: run.Outcome) -> tuple[str, ...]:
    return tuple({change.host: None for change in outcome.changes})


def files_for(outcome: run.Outcome) -> tuple[str, ...]:
    """The live checks of the roles whose operations changed something; base's checks if no role's did."""
    roles = {change.operation.partition(" | ")[0] for change in outcome.changes}
    chosen: list[str] = [role for role in every_role() if role in roles]
    if roles - set(every_role()):
        chosen.append("base")
    found = [path for role in chosen for path in sorted((ROOT / "tests" / "live").glob(f"test_{role}*.py"))]
    return tuple(str(path.relative_to(ROOT)) for path in found)


def _go_back(
    target: Target,
    office: Office,
    outcome: run.Outcome,
    hosts: tuple[str, ...],
    minutes: int,
    connector: str | None,
) -> tuple[str, ...]:
    """Restore the previously declared files that this wave changed, last change first; older copies are not used.

    Returns the hosts on which that succeeded.
    """
    back = []
    for host in hosts:
        names = [change.operation.rpartition(" | ")[2] for change in outcome.changes if change.host == host]
        keys = [re.sub(r"[^\w.-]+", "-", name) for name in reversed(names)]
        script = "; ".join(
            f'[ -z "$(find /var/lib/outpost/previous/{key}/declared -maxdepth 0 -mmin -{minutes} 2>/dev/null)" ] || '
            f"sh /var/lib/outpost/previous/{key}/undo"
            for key in dict.fromkeys(keys)
        )
        with suppress(OutpostError):  # the failure is reported, with its host
            run_script(target, office, office.host(host), script, connector, patience=PATIENCE)
            back.append(host)
    return tuple(back)
