"""`outpost user`, `alias`, `group` and `shared`: people with a mailbox, and addresses of several people."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ByteSize, SecretStr

from outpost.cli.console import Table, out, say_json
from outpost.cli.edit import apply_to, change, remove_listed, show_passwords
from outpost.cli.options import App, At
from outpost.cli.rotate import at_desk
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.keys.rotation.engine import Desk
from outpost.office import Office
from outpost.office.role import Duty, serving
from outpost.office_file.people import Kind, Roster, whole
from outpost.transport.remote import run_script

app = App()
user = app.group("user")

STORE: tuple[Duty, ...] = ("mailboxes",)


@user.of_office("add")
def add(at: At, address: str, full_name: str = "", quota: str = "", apply: bool = True) -> None:

    def edit(roster: Roster) -> None:
        values = {"address": roster.at(address), "full_name": full_name, "quota": quota}
        roster.add("users", {key: value for key, value in values.items() if value})

    change(at, edit, apply=apply)


@user.of_office("list", asks_hosts=False)
def list_users(at: At, as_json: bool = False) -> None:
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
        quota = ByteSize(row["quota"]).human_readable(separator=" ")
        table.add_row(row["address"], row["full_name"], quota, state, ", ".join(row["aliases"]))
    out.print(table)


@user.of_office("disable")
def disable(at: At, address: str) -> None:
    _set(at, address, urgent=True, disabled=True)


@user.of_office("enable")
def enable(at: At, address: str) -> None:
    _set(at, address, disabled=None)


@user.of_office("remove")
def remove(at: At, address: str, apply: bool = True) -> None:
    remove_listed("users", at, address, apply=apply)


@user.of_office("quota")
def quota(at: At, address: str, size: str) -> None:
    _set(at, address, quota=None if size == "default" else size)


@user.of_office("passwd")
def passwd(at: At, address: str) -> None:
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


@user.of_office("reset-factor")
def reset_factor(at: At, address: str) -> None:
    with at_desk(at) as desk:
        full = _user(desk.office, address)
        _on_stores(desk, "reset-factor", full)
        desk.report(f"{full} has no second factor; webmail sessions have ended")


@user.of_office("sign-out")
def sign_out(at: At, address: str) -> None:
    with at_desk(at) as desk:
        _end_sessions(desk, whole(address, desk.office.domain))


@user.of_office("forward")
def forward(at: At, address: str, to: list[str] | None = None) -> None:
    _set(at, address, forward=list(to) if to else None)


@user.of_office("send-as")
def send_as(at: At, address: str, senders: list[str] | None = None) -> None:
    addresses = [whole(sender, at.office.domain) for sender in senders or ()]
    _set(at, address, duties=("transport", "browsers"), send_as=addresses or None)


def _set(
    at: At, address: str, *, duties: tuple[Duty, ...] = STORE, urgent: bool = False, **values: Any
) -> None:
    """Set keys of a user; None takes a key away. Without `duties` only the store knows them."""

    def edit(roster: Roster) -> None:
        roster.change("users", roster.at(address), **values)

    change(at, edit, duties=duties, urgent=urgent)


def _on_stores(desk: Desk, program: str, address: str) -> None:
    for store in serving(desk.office, "mailboxes"):
        script = f"/usr/local/lib/outpost/{program} {shlex.quote(address)}"
        run_script(desk.target, desk.office, store, script, desk.via)


def _end_sessions(desk: Desk, address: str) -> None:
    _on_stores(desk, "end-sessions", address)
    desk.report(f"open sessions of {address} have ended")


def _user(office: Office, address: str) -> str:
    """The whole address of a user.

    Raises:
        OutpostError: The office has no such user.
    """
    full = whole(address, office.domain)
    if full not in {one.address for one in office.users}:
        raise OutpostError(
            f"{full} is not a user of {office.domain}", "run ./outpost user list OFFICE to see all users"
        )
    return full


alias, group, shared = (app.group(name) for name in ("alias", "group", "shared"))


@alias.of_office("add")
def add_alias(at: At, address: str, members: list[str]) -> None:
    _join("aliases", at, address, {"members": members})


@group.of_office("add")
def add_group(at: At, address: str, members: list[str]) -> None:
    _join("aliases", at, address, {"members": members}, inside_only=True)


@shared.of_office("add")
def add_shared(
    at: At, address: str, members: list[str] | None = None, readers: list[str] | None = None
) -> None:
    _join("shared", at, address, {"members": members or (), "readers": readers or ()})


@group.of_office("remove")
@alias.of_office("remove")
def remove_alias(at: At, address: str, members: list[str] | None = None) -> None:

    def edit(roster: Roster) -> None:
        listed = roster.at(address)
        present, gone = roster.find("aliases", listed), set(map(roster.at, members or ()))
        left = [one for one in present.data.get("members", ()) if one not in gone] if present and gone else []
        if left:
            roster.change("aliases", listed, members=left)
        else:
            roster.remove("aliases", listed)

    change(at, edit)


@group.of_office("list", asks_hosts=False)
@alias.of_office("list", asks_hosts=False)
def list_aliases(at: At, as_json: bool = False) -> None:
    found = at.office.aliases
    if as_json:
        say_json([one.model_dump(mode="json") for one in found])
    for one in () if as_json else found:
        inside = " (the office's own users only)" if one.inside_only else ""
        out.print(f"{one.address}{inside}: {', '.join(one.members)}", markup=False)


@shared.of_office("remove")
def remove_shared(at: At, address: str) -> None:
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
