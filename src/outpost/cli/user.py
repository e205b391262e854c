"""`outpost user`, `alias`, `group` and `shared`: people, edited in the office file and applied to the hosts that know them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from outpost.cli.console import Table, out, say_json
from outpost.cli.options import App, At, JsonOption
from outpost.cli.rotate import at_desk
from outpost.engine import run
from outpost.engine.claim import changing, mine
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.keys.rotation.engine import Desk
from outpost.office import Office, OfficeError
from outpost.office.role import Duty
from outpost.office.roles import role_of, serving
from outpost.office.tables.topology import Host
from outpost.office_file import people
from outpost.office_file.people import Kind, Roster
from outpost.target import shown
from outpost.transport.remote import run_script

app = App()
user = App(name="user", help="People with a mailbox.", no_args_is_help=True)
alias = App(name="alias", help="Addresses that stand for several people.", no_args_is_help=True)
group = App(name="group", help="Aliases that only the office's own users may write to.", no_args_is_help=True)
shared = App(
    name="shared", help="Mailboxes that several people read, and nobody logs in to.", no_args_is_help=True
)
for part in (user, alias, group, shared):
    app.add_typer(part)

AddressArgument = Annotated[
    str,
    typer.Argument(
        metavar="ADDRESS", help="A mail address; the office's domain is added where there is none."
    ),
]
MembersArgument = Annotated[list[str], typer.Argument(metavar="MEMBER…", help="Users, or other aliases.")]
ApplyOption = Annotated[
    bool, typer.Option("--apply/--no-apply", help="Change the hosts now, or only the office file.")
]
EVERYWHERE: tuple[Duty, ...] = ("mailboxes", "transport", "browsers")
"""Whose hosts know who is here: mailboxes and logins, recipients, the address book."""
STORE: tuple[Duty, ...] = ("mailboxes",)
Edit = Callable[[Roster], None]
"""Changes people in the text of an office file."""


@user.of_office("add", epilog="Example: `./outpost user add po erin --full-name 'Erin Eaton' --quota 4GiB`.")
def add(
    at: At,
    address: AddressArgument,
    full_name: Annotated[str, typer.Option("--full-name", help="Shown in webmail and address books.")] = "",
    quota: Annotated[
        str,
        typer.Option("--quota", metavar="SIZE", help="Size limit of this mailbox, instead of the office's."),
    ] = "",
    apply: ApplyOption = True,
) -> None:
    """Add a user, and print the password for a first login, once."""

    def edit(roster: Roster) -> None:
        values = {"address": roster.at(address), "full_name": full_name, "quota": quota}
        roster.add("users", {key: value for key, value in values.items() if value})

    _change(at, edit, apply=apply)


@user.of_office("list", asks_hosts=False, epilog="Example: `./outpost user list po --json`.")
def list_users(at: At, as_json: JsonOption = False) -> None:
    """List the users."""
    loaded = at.office
    rows: list[dict[str, Any]] = [
        {
            "address": one.address,
            "full_name": one.full_name,
            "quota": loaded.quota(one),
            "disabled": one.disabled,
            "aliases": [
                found.address for found in loaded.aliases if one.address in loaded.expand(found.address)
            ],
        }
        for one in loaded.users
    ]
    if as_json:
        say_json(rows)
        return
    table = Table("address", "name", "quota", "state", "also gets mail to")
    for row in rows:
        state = "[red]disabled[/]" if row["disabled"] else "open"
        quota = f"{row['quota'] / 1024**3:.3g} GiB"
        table.add_row(row["address"], row["full_name"], quota, state, ", ".join(row["aliases"]))
    out.print(table)


@user.of_office("disable", epilog="Example: `./outpost user disable po erin`. It ends open sessions.")
def disable(at: At, address: AddressArgument) -> None:
    """Disable an account at once, and end its sessions.

    No login, no open session, no redirect. Mail to it is kept.
    """
    _set(at, address, urgent=True, disabled=True)


@user.of_office("enable", epilog="Example: `./outpost user enable po erin`. The password stays the same.")
def enable(at: At, address: AddressArgument) -> None:
    """Enable a disabled account."""
    _set(at, address, disabled=None)


@user.of_office(
    "remove", epilog="Example: `./outpost user remove po erin`. The mail is archived on the store."
)
def remove(at: At, address: AddressArgument, apply: ApplyOption = True) -> None:
    """Remove a user; the mailbox is archived on the store.

    The user leaves aliases and groups, too. New mail is rejected.
    """
    _remove("users", at, address, apply=apply)


@user.of_office("quota", epilog="Example: `./outpost user quota po erin 4GiB`.")
def quota(
    at: At,
    address: AddressArgument,
    size: Annotated[str, typer.Argument(metavar="SIZE", help="Like 4GiB; `default` for the office's.")],
) -> None:
    """Change the size of a mailbox."""
    _set(at, address, quota=None if size == "default" else size)


@user.of_office(
    "passwd", epilog="Example: `./outpost user passwd po erin`, after a telephone or a password was lost."
)
def passwd(at: At, address: AddressArgument) -> None:
    """Set a new first password, and print it once.

    What the user had chosen is void, a second factor included.
    """
    with at_desk(at) as desk:
        full = _user(desk.office, address)
        made = secrets_file.new_password()
        desk.change(
            passwords=desk.secrets.passwords | {full: SecretStr(secrets_file.password_hash(made))},
            one_time=tuple(dict.fromkeys((*desk.secrets.one_time, full))),
        )
        try:
            _apply(desk, STORE)
            _end_sessions(desk, full)
        finally:
            _show_passwords({full: made})


@user.of_office(
    "reset-factor", epilog="Example: `./outpost user reset-factor po erin`, after a telephone was lost."
)
def reset_factor(at: At, address: AddressArgument) -> None:
    """Remove a user's second factor; the password stays.

    Webmail sessions end. Where the office requires a second factor, webmail asks to set up a new one.
    """
    with at_desk(at) as desk:
        full = _user(desk.office, address)
        for store in serving(desk.office, "mailboxes"):
            script = f"/usr/local/lib/outpost/reset-factor {shlex.quote(full)}"
            run_script(desk.target, desk.office, store, script, desk.via)
        desk.report(f"{full} has no second factor; webmail sessions have ended")


@user.of_office(
    "sign-out", epilog="Example: `./outpost user sign-out po erin`. Mail programs log in again by themselves."
)
def sign_out(at: At, address: AddressArgument) -> None:
    """End a user's open sessions of mail programs."""
    with at_desk(at) as desk:
        _end_sessions(desk, _full(desk.office, address))


@user.of_office(
    "forward",
    epilog="Example: `./outpost user forward po erin erin@example.net`; without addresses forwarding stops.",
)
def forward(
    at: At,
    address: AddressArgument,
    to: Annotated[list[str] | None, typer.Argument(metavar="[TO…]", help="Addresses outside.")] = None,
) -> None:
    """Send sealed copies (ARC) of a user's mail to outside addresses."""
    _set(at, address, forward=list(to) if to else None)


@user.of_office(
    "send-as",
    epilog="Example: `./outpost user send-as po erin site tenders`; without addresses no extra sender address is left.",
)
def send_as(
    at: At,
    address: AddressArgument,
    senders: Annotated[
        list[str] | None, typer.Argument(metavar="[SENDER…]", help="Addresses of the office.")
    ] = None,
) -> None:
    """Let a user send from further addresses of the office."""

    def edit(roster: Roster) -> None:
        roster.change("users", roster.at(address), send_as=list(map(roster.at, senders or ())) or None)

    _change(at, edit, duties=("transport", "browsers"))


@alias.of_office("add", epilog="Example: `./outpost alias add po site erin bob`.")
def add_alias(at: At, address: AddressArgument, members: MembersArgument) -> None:
    """Add an alias, or members who may send from it."""
    _join("aliases", at, address, {"members": members})


@group.of_office("add", epilog="Example: `./outpost group add po everybody alice bob erin`.")
def add_group(at: At, address: AddressArgument, members: MembersArgument) -> None:
    """Add a group, or members to one that is there."""
    _join("aliases", at, address, {"members": members}, inside_only=True)


@shared.of_office("add", epilog="Example: `./outpost shared add po tenders alice bob --reader carol`.")
def add_shared(
    at: At,
    address: AddressArgument,
    members: Annotated[
        list[str] | None, typer.Argument(metavar="[MEMBER…]", help="Users who read, file and send.")
    ] = None,
    readers: Annotated[
        list[str] | None,
        typer.Option("--reader", metavar="USER", help="A user who only reads; may be repeated."),
    ] = None,
) -> None:
    """Add a shared mailbox, or people to one that is there.

    Its members find it below `Shared/`, and may send from it.
    """
    _join("shared", at, address, {"members": members or (), "readers": readers or ()})


@group.of_office("remove", epilog="Example: `./outpost group remove po everybody`.")
@alias.of_office(
    "remove", epilog="Example: `./outpost alias remove po site`, or only a member: `… site bob`."
)
def remove_alias(
    at: At,
    address: AddressArgument,
    members: Annotated[list[str] | None, typer.Argument(metavar="[MEMBER…]", help="Only these.")] = None,
) -> None:
    """Remove an alias, or members of it."""

    def edit(roster: Roster) -> None:
        listed = roster.at(address)
        present, gone = roster.find("aliases", listed), set(map(roster.at, members or ()))
        left = [one for one in present.data.get("members", ()) if one not in gone] if present and gone else []
        if left:
            roster.change("aliases", listed, members=left)
        else:
            roster.remove("aliases", listed)

    _change(at, edit)


@group.of_office("list", asks_hosts=False, epilog="Example: `./outpost group list po`.")
@alias.of_office("list", asks_hosts=False, epilog="Example: `./outpost alias list po --json`.")
def list_aliases(at: At, as_json: JsonOption = False) -> None:
    """List aliases and groups with their members."""
    found = at.office.aliases
    if as_json:
        say_json(
            [
                {"address": one.address, "members": list(one.members), "inside_only": one.inside_only}
                for one in found
            ]
        )
    for one in () if as_json else found:
        inside = " (the office's own users only)" if one.inside_only else ""
        out.print(f"{one.address}{inside}: {', '.join(one.members)}", markup=False)


@shared.of_office(
    "remove", epilog="Example: `./outpost shared remove po tenders`; its mail stays on the store."
)
def remove_shared(at: At, address: AddressArgument) -> None:
    """Remove a shared mailbox; its mail stays on the store."""
    _remove("shared", at, address)


# What they share -----------------------------------------------------------------------------------------------


def _set(at: At, address: str, *, urgent: bool = False, **values: Any) -> None:
    """Set keys of a user that only the store knows; None takes a key away."""
    _change(
        at, lambda roster: roster.change("users", roster.at(address), **values), duties=STORE, urgent=urgent
    )


def _remove(kind: Kind, at: At, address: str, *, apply: bool = True) -> None:
    """Take an address out, also of every list."""

    def edit(roster: Roster) -> None:
        roster.remove(kind, roster.at(address))
        roster.leave_lists(roster.at(address))

    _change(at, edit, apply=apply)


def _join(kind: Kind, at: At, address: str, joining: Mapping[str, Sequence[str]], **more: Any) -> None:
    """Add a list of people, or people to one that is there."""

    def edit(roster: Roster) -> None:
        listed = roster.at(address)
        present = roster.find(kind, listed)
        known = present.data if present else {}
        lists = {
            key: list(dict.fromkeys((*known.get(key, ()), *map(roster.at, joining[key])))) for key in joining
        }
        values = {key: value for key, value in lists.items() if value} | more
        if present:
            roster.change(kind, listed, **values)
        else:
            roster.add(kind, {"address": listed, **values})

    _change(at, edit)


def _change(
    at: At,
    edit: Edit,
    *,
    duties: tuple[Duty, ...] = EVERYWHERE,
    apply: bool = True,
    urgent: bool = False,
) -> None:
    """Edit the office file, check and show it, make the passwords that are missing, and apply.

    Args:
        urgent: Not to be kept waiting by changes of others that have not been applied yet.
    """
    with at_desk(at) as desk, _claimed(desk, duties, apply=apply, urgent=urgent) as base:
        file = desk.target.office_file
        before = file.read_text(encoding="utf-8")
        roster = people.Roster(before, desk.office.domain)
        edit(roster)
        if roster.text == before:
            out.print("nothing to change: the office file has this already")
            return
        changed = people.propose(file, roster.text)
        here = {one.address for one in changed.users}
        if base is not None:
            alone = people.Roster(base, desk.office.domain)
            try:
                edit(alone)
                here |= {one.address for one in people.propose(file, alone.text).users}
            except (OutpostError, OfficeError) as error:
                raise OutpostError(
                    f"this change needs others that have not been applied yet ({error}); office.toml is unchanged",
                    f"./outpost apply {desk.target.typed}; then run the same command again",
                ) from None
            base = alone.text
        for line in people.difference(before, roster.text, shown(file)):
            style = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
            out.print(line, style=style, markup=False)
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
                _apply(desk, duties, base)
        finally:
            _show_passwords(done.new_passwords)


@contextmanager
def _claimed(desk: Desk, duties: tuple[Duty, ...], *, apply: bool, urgent: bool) -> Iterator[str | None]:
    """Claim the hosts, and make sure that the apply brings nothing but this change.

    Gives the office file that the hosts were converged from, where other changes wait: this one is applied to it alone.

    Raises:
        OutpostError: Somebody else changes them, or changes of others have not been applied. The office file is as it was.
    """
    if not apply:
        yield None
        return
    names = tuple(host.name for host in _concerned(desk, duties))
    with changing(desk.target, names, desk.via, urgent=urgent) as claim:
        waits = not claim.converged_from(mine(desk.target).office_file)
        base = claim.base(desk.target) if waits and not desk.target.instance else None
        if base is not None:
            file = shown(desk.target.office_file)
            desk.report(f"{file} has other changes that have not been applied; only this one is applied now")
        elif waits:
            planned = run.plan(desk.target, limit=names, connector=desk.via, watcher=desk.watcher)
            waiting = list(dict.fromkeys(f"{change.host}: {change.operation}" for change in planned.changes))
            if waiting:
                others = "; ".join(waiting[:5]) + (
                    f"; and {len(waiting) - 5} more" if len(waiting) > 5 else ""
                )
                if not urgent:
                    raise OutpostError(
                        f"changes that are not this one wait to be applied ({others}); office.toml is unchanged",
                        f"./outpost apply {desk.target.typed} shows and applies them; then run the same command again",
                    )
                desk.report(f"this is urgent: the apply also brings the changes that were waiting: {others}")
        yield base


def _apply(desk: Desk, duties: tuple[Duty, ...], base: str | None = None) -> None:
    started = time.monotonic()
    hosts = _concerned(desk, duties)
    if base is None:
        desk.apply(hosts)
    else:
        with changing(desk.target) as claim, claim.beside(desk.target, base) as target:
            replace(desk, target=target).apply(hosts)
    desk.report(f"applied to {', '.join(host.name for host in hosts)} ({time.monotonic() - started:.1f} s)")


def _concerned(desk: Desk, duties: tuple[Duty, ...]) -> tuple[Host, ...]:
    return tuple(host for host in desk.office.hosts if set(duties) & set(role_of(host).duties))


def _end_sessions(desk: Desk, address: str) -> None:
    for store in serving(desk.office, "mailboxes"):
        script = f"/usr/local/lib/outpost/end-sessions {shlex.quote(address)}"
        run_script(desk.target, desk.office, store, script, desk.via)
    desk.report(f"open sessions of {address} have ended")


def _full(office: Office, address: str) -> str:
    """An address with the office's domain where none is given."""
    return address if "@" in address else f"{address}@{office.domain}"


def _user(office: Office, address: str) -> str:
    """The whole address of a user.

    Raises:
        OutpostError: The office has no such user.
    """
    full = _full(office, address)
    if full not in {one.address for one in office.users}:
        raise OutpostError(f"{full} is no user of {office.domain}", "./outpost user list names them")
    return full


def _show_passwords(passwords: Mapping[str, str]) -> None:
    for address, password in passwords.items():
        out.print(f"first password of {address}: {password}", markup=False)
        out.print("  It is shown only now. It is valid only for choosing a new password in webmail.")
