"""`outpost alias`, `group` and `shared`: addresses of several people."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from outpost.cli.console import out, say_json
from outpost.cli.edit import AddressArgument, change, remove_listed
from outpost.cli.options import App, At, JsonOption
from outpost.office_file.people import Kind, Roster

app = App()
alias = App(name="alias", help="Addresses that stand for several people.", no_args_is_help=True)
group = App(name="group", help="Aliases that only the office's own users may write to.", no_args_is_help=True)
shared = App(
    name="shared", help="Mailboxes that several users read, each with their own login.", no_args_is_help=True
)
for part in (alias, group, shared):
    app.add_typer(part)

MembersArgument = Annotated[list[str], typer.Argument(metavar="MEMBER…", help="Users, or other aliases.")]


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

    change(at, edit)


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
