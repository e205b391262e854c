"""`outpost user`, `alias`, `group` and `shared`: people with a mailbox, and addresses of several people."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import SecretStr

from outpost.cli.console import Table, out, say_json
from outpost.cli.edit import AddressArgument, apply_to, change, remove_listed, show_passwords
from outpost.cli.options import App, Argument, At, JsonOption, Option
from outpost.cli.rotate import at_desk
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.keys.rotation.engine import Desk
from outpost.office import Office
from outpost.office.role import Duty, serving
from outpost.office_file.people import Kind, Roster
from outpost.transport.remote import run_script

app = App()
user = App(name="user", help="People with a mailbox.", no_args_is_help=True)
app.add_typer(user)

ApplyOption = Annotated[bool, Option("--apply/--no-apply", "Change the hosts now, or only the office file.")]
STORE: tuple[Duty, ...] = ("mailboxes",)


@user.of_office("add", epilog="Example: `./outpost user add po erin --full-name 'Erin Eaton' --quota 4GiB`.")
def add(
    at: At,
    address: AddressArgument,
    full_name: Annotated[str, Option("--full-name", "Shown in webmail and address books.")] = "",
    quota: Annotated[
        str, Option("--quota SIZE", "Size limit of this mailbox, instead of the office's.")
    ] = "",
    apply: ApplyOption = True,
) -> None:
    """Add a user, and print the password for a first login, once."""

    def edit(roster: Roster) -> None:
        values = {"address": roster.at(address), "full_name": full_name, "quota": quota}
        roster.add("users", {key: value for key, value in values.items() if value})

    change(at, edit, apply=apply)


@user.of_office("list", asks_hosts=False, epilog="Example: `./outpost user list po --json`.")
def list_users(at: At, as_json: JsonOption = False) -> None:
    """List the users."""
    loaded = at.office
    reached = {found.address: loaded.expand(found.address) for found in loaded.aliases}
    rows: list[dict[str, Any]] = [
        {
            **one.model_dump(include={"address", "full_name", "disabled"}),
            "quota": loaded.quota(one),
            "aliases": [alias for alias, people in reached.items() if one.address in people],
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
    remove_listed("users", at, address, apply=apply)


@user.of_office("quota", epilog="Example: `./outpost user quota po erin 4GiB`.")
def quota(
    at: At,
    address: AddressArgument,
    size: Annotated[str, Argument("SIZE", "Like 4GiB; `default` for the office's.")],
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
            apply_to(desk, STORE)
            _end_sessions(desk, full)
        finally:
            show_passwords({full: made})


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
    to: Annotated[list[str] | None, Argument("[TO…]", "Addresses outside.")] = None,
) -> None:
    """Send sealed copies (ARC) of a user's mail to outside addresses."""
    _set(at, address, forward=list(to) if to else None)


@user.of_office(
    "send-as",
    epilog="Example: `./outpost user send-as po erin site tenders`; without addresses all extra sender addresses are removed.",
)
def send_as(
    at: At,
    address: AddressArgument,
    senders: Annotated[list[str] | None, Argument("[SENDER…]", "Addresses of the office.")] = None,
) -> None:
    """Let a user send from further addresses of the office."""

    def edit(roster: Roster) -> None:
        roster.change("users", roster.at(address), send_as=list(map(roster.at, senders or ())) or None)

    change(at, edit, duties=("transport", "browsers"))


def _set(at: At, address: str, *, urgent: bool = False, **values: Any) -> None:
    """Set keys of a user that only the store knows; None takes a key away."""

    def edit(roster: Roster) -> None:
        roster.change("users", roster.at(address), **values)

    change(at, edit, duties=STORE, urgent=urgent)


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
        raise OutpostError(
            f"{full} is no user of {office.domain}", "choose one of: ./outpost user list OFFICE"
        )
    return full


alias = App(name="alias", help="Addresses that stand for several people.", no_args_is_help=True)
group = App(name="group", help="Aliases that only the office's own users may write to.", no_args_is_help=True)
shared = App(
    name="shared", help="Mailboxes that several users read, each with their own login.", no_args_is_help=True
)
for part in (alias, group, shared):
    app.add_typer(part)

MembersArgument = Annotated[list[str], Argument("MEMBER…", "Users, or other aliases.")]


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
    members: Annotated[list[str] | None, Argument("[MEMBER…]", "Users who read, file and send.")] = None,
    readers: Annotated[
        list[str] | None, Option("--reader USER", "A user who only reads; may be repeated.")
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
    members: Annotated[list[str] | None, Argument("[MEMBER…]", "Only these.")] = None,
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

    change(at, edit)


@group.of_office("list", asks_hosts=False, epilog="Example: `./outpost group list po`.")
@alias.of_office("list", asks_hosts=False, epilog="Example: `./outpost alias list po --json`.")
def list_aliases(at: At, as_json: JsonOption = False) -> None:
    """List aliases and groups with their members."""
    found = at.office.aliases
    if as_json:
        say_json([one.model_dump(mode="json") for one in found])
    for one in () if as_json else found:
        inside = " (the office's own users only)" if one.inside_only else ""
        out.print(f"{one.address}{inside}: {', '.join(one.members)}", markup=False)


@shared.of_office(
    "remove", epilog="Example: `./outpost shared remove po tenders`; its mail stays on the store."
)
def remove_shared(at: At, address: AddressArgument) -> None:
    """Remove a shared mailbox; its mail stays on the store."""
    remove_listed("shared", at, address)


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

    change(at, edit)
