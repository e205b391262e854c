"""`outpost rotate`: replaces keys in steps, with one command for each kind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.markup import escape

from outpost.cli.console import Table, out
from outpost.cli.options import App, At
from outpost.cli.progress import watcher
from outpost.keys.rotation import authority, dkim, dnssec, due, engine, hosts, tls, tsig
from outpost.keys.rotation.engine import Desk, Rows

app = App()
rotate = App(
    name="rotate",
    help="Roll keys and certificates in steps, while mail flows.",
    no_args_is_help=True,
)
app.add_typer(rotate)

StatusOption = Annotated[bool, typer.Option("--status", help="Show the state of the keys, change nothing.")]


@contextmanager
def at_desk(at: At) -> Iterator[Desk]:
    """The office whose keys or users change, locked against other changes; it prints what is done."""
    with engine.desk(
        at.target, lambda text: out.print(text, markup=False), via=at.via, watcher=watcher()
    ) as desk:
        yield desk


def _show(rows: Rows) -> None:
    table = Table("key", "stage", "next")
    for row in rows:
        table.add_row(*map(escape, row))
    out.print(table)


def _kind(
    name: str, summary: str, example: str, status_of: Callable[[Desk], Rows], step: Callable[[Desk], None]
) -> None:
    """Run the next step for a kind of keys, or only show their state."""

    def command(at: At, status: StatusOption = False) -> None:
        with at_desk(at) as desk:
            if status:
                _show(status_of(desk))
            else:
                step(desk)

    rotate.of_office(name, help=summary, epilog=example)(command)


_kind(
    "dkim",
    "Roll the DKIM keys: one step with each call, never too early.",
    "Example: `./outpost rotate dkim lab`, again after two TTLs. Exit code 0: a step was taken, 1: too early.",
    dkim.status,
    dkim.advance,
)


@rotate.of_office(
    "tls",
    epilog="Example: `./outpost rotate tls lab mta`. Exit code 0: switched, 1: too early (it says how long to wait).",
)
def roll_tls(
    at: At,
    host: Annotated[str | None, typer.Argument(metavar="[HOST]", help="Only this host's key.")] = None,
    status: StatusOption = False,
) -> None:
    """Switch to the next public TLS keys.

    Every name server must have shown their TLSA records for two TTLs.
    """
    with at_desk(at) as desk:
        if status:
            _show(tls.status(desk))
            return
        for one in tls.hosts(desk, host):
            tls.roll(desk, one)


@rotate.of_office(
    "hosts", epilog="Example: `./outpost rotate hosts lab --keys`, after a host was lost or broken into."
)
def roll_hosts(
    at: At,
    keys: Annotated[bool, typer.Option("--keys", help="Replace the keys, too.")] = False,
    status: StatusOption = False,
) -> None:
    """Renew the certificates between the hosts, without refusing mail."""
    with at_desk(at) as desk:
        if status:
            _show(hosts.status(desk))
        else:
            hosts.roll(desk, keys=keys)


_kind(
    "authority",
    "Replace the office's own authority, in two calls.\n\n"
    "After the first one both are trusted; the second one switches and removes the old one.",
    "Example: `./outpost rotate authority lab`, again once users and peers have the new one (`./outpost secrets ca`).",
    authority.status,
    authority.advance,
)
_kind(
    "tsig",
    "Replace the key of zone transfers; transfers work throughout.",
    "Example: `./outpost rotate tsig lab`. Nobody outside holds this key, so nothing has to be waited for.",
    tsig.status,
    tsig.roll,
)


def _keep_dnssec(desk: Desk) -> None:
    if not dnssec.keep(desk, seen=True):
        desk.report("the office's secrets have every DNSSEC key")


_kind(
    "dnssec",
    "Keep a copy of the primary name server's DNSSEC keys in the office's secrets.",
    "Example: `./outpost rotate dnssec lab --status`. The keys roll by themselves, as `[dns]` in the office file says.",
    dnssec.status,
    _keep_dnssec,
)


@rotate.of_office(
    "due",
    epilog="Example, in the controller's crontab: `17 * * * * /srv/outpost/outpost rotate due po`. Exit code 0 also when nothing was due.",
)
def take_due(at: At) -> None:
    """Take every step of rotation that is due, for a timer."""
    with at_desk(at) as desk:
        due.take(desk)
