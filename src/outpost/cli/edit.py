"""One edit of people in the office file: checked, shown, kept, and applied to the hosts that know them."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from outpost.cli.console import out, say_line
from outpost.cli.options import At
from outpost.cli.rotate import at_desk
from outpost.engine import run
from outpost.engine.claim import changing, mine
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.keys.rotation.engine import Desk
from outpost.office import OfficeError
from outpost.office.role import Duty, role_of
from outpost.office.tables.topology import Host
from outpost.office_file import people
from outpost.office_file.people import Kind, Roster
from outpost.target import shown

EVERYWHERE: tuple[Duty, ...] = ("mailboxes", "transport", "browsers", "calendars")
"""Roles whose hosts know the users: mailboxes and logins, recipients, the address book."""
Edit = Callable[[Roster], None]
"""Changes people in the text of an office file."""


def change(
    at: At,
    edit: Edit,
    *,
    duties: tuple[Duty, ...] = EVERYWHERE,
    apply: bool = True,
    urgent: bool = False,
) -> None:
    """Change the office file: check and show the change, make missing passwords, and apply it.

    Args:
        urgent: Apply it even if changes of others have not been applied yet.
    """
    with ExitStack() as stack:
        desk = stack.enter_context(at_desk(at))
        file = desk.target.office_file
        before = file.read_text(encoding="utf-8")
        roster = people.Roster(before, desk.office.domain)
        edit(roster)
        if roster.text == before:
            out.print("nothing to change: the office file has this already")
            return
        changed = people.propose(file, roster.text)  # a mistake is reported before any host is asked
        base = stack.enter_context(_claimed(desk, duties, urgent=urgent)) if apply else None
        here = {one.address for one in changed.users}
        if base is not None:
            alone = people.Roster(base, desk.office.domain)
            try:
                edit(alone)
                here |= {one.address for one in people.propose(file, alone.text).users}
            except (OutpostError, OfficeError) as error:
                message = f"this change needs others that have not been applied yet ({error}); office.toml is unchanged"
                remedy = f"./outpost apply {desk.target.typed}; then run the same command again"
                raise OutpostError(message, remedy) from None
            base = alone.text
        for line in people.difference(before, roster.text, shown(file)):
            say_line(line)
        hashes = {who: hashed for who, hashed in desk.secrets.passwords.items() if who in here}
        once = tuple(who for who in desk.secrets.one_time if who in here)
        kept = desk.secrets.model_copy(update={"passwords": hashes, "one_time": once})
        done = secrets_file.complete(changed, kept)
        try:
            people.keep(file, roster.text)
            desk.office = changed
            if done.secrets != desk.secrets:
                desk.keep(done.secrets)
            if apply:
                apply_to(desk, duties, base)
        finally:
            show_passwords(done.new_passwords)


def remove_listed(kind: Kind, at: At, address: str, *, apply: bool = True) -> None:
    """Take an address out, also of every list."""

    def edit(roster: Roster) -> None:
        roster.remove(kind, roster.at(address))
        roster.leave_lists(roster.at(address))

    change(at, edit, apply=apply)


@contextmanager
def _claimed(desk: Desk, duties: tuple[Duty, ...], *, urgent: bool) -> Iterator[str | None]:
    """Claim the hosts, and make sure that the apply brings only this change.

    Returns the office file of the last apply if other changes are pending. Then only this change is made in it and applied.

    Raises:
        OutpostError: Somebody else changes the hosts, or changes of others have not been applied. The office file stays unchanged.
    """
    names = tuple(host.name for host in _concerned(desk, duties))
    with changing(desk.target, names, desk.via, urgent=urgent, partly=True) as claim:
        waits = not claim.converged_from(mine(desk.target).office_file)
        base = claim.base(desk.target) if waits and not desk.target.instance else None
        if base is not None:
            file = shown(desk.target.office_file)
            desk.report(f"{file} has other changes that have not been applied; only this one is applied now")
        elif waits:
            reached = tuple(name for name in names if name not in claim.silent)
            planned = run.plan(desk.target, limit=reached, connector=desk.via, watcher=desk.watcher)
            waiting = list(dict.fromkeys(f"{change.host}: {change.operation}" for change in planned.changes))
            if waiting:
                more = [f"and {len(waiting) - 5} more"] if len(waiting) > 5 else []
                others = "; ".join(waiting[:5] + more)
                if not urgent:
                    message = f"other changes have not been applied yet ({others}); office.toml is unchanged"
                    remedy = f"run ./outpost apply {desk.target.typed}, which shows and applies them; then run the same command again"
                    raise OutpostError(message, remedy)
                desk.report(
                    f"this change is urgent, so it is applied together with changes that were not applied yet: {others}"
                )
        yield base


def apply_to(desk: Desk, duties: tuple[Duty, ...], base: str | None = None) -> None:
    started = time.monotonic()
    hosts = _concerned(desk, duties)
    desk.remedy = f"run ./outpost apply {desk.target.typed}"
    if base is None:
        desk.apply(hosts)
    else:
        with changing(desk.target) as claim, claim.beside(desk.target, base) as target:
            replace(desk, target=target).apply(hosts)
    desk.report(f"applied to {', '.join(host.name for host in hosts)} ({time.monotonic() - started:.1f} s)")


def _concerned(desk: Desk, duties: tuple[Duty, ...]) -> tuple[Host, ...]:
    return tuple(host for host in desk.office.hosts if set(duties) & set(role_of(host).duties))


def show_passwords(passwords: Mapping[str, str]) -> None:
    for address, password in passwords.items():
        out.print(f"first password of {address}: {password}", markup=False)
        out.print("  It is shown only now. It is valid only for choosing a new password in webmail.")
