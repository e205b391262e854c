"""`outpost rotate`: keys that roll, one function a kind. Each imports what it works with when it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from outpost.cli.options import NameOption, OfficeArgument, ViaOption

if TYPE_CHECKING:
    from outpost.keys.rotation.engine import Desk

app = typer.Typer(
    help="Roll keys and certificates in steps, while mail flows.",
    no_args_is_help=True,
)

StatusOption = Annotated[bool, typer.Option("--status", help="Only show where the keys stand.")]


@app.command(
    epilog="Example: `./outpost rotate dkim lab`, again after two TTLs. Exit code 0: a step was taken, 1: too early."
)
def dkim(
    office: OfficeArgument, name: NameOption = None, via: ViaOption = None, status: StatusOption = False
) -> None:
    """Roll the DKIM keys: one step with each call, never too early."""
    from outpost.keys.rotation import dkim as kind

    _step(office, name, via, status and kind.status, kind.advance)


@app.command(
    epilog="Example: `./outpost rotate tls lab mta`. Exit code 0: switched, 1: too early (it says how long to wait)."
)
def tls(
    office: OfficeArgument,
    host: Annotated[str | None, typer.Argument(metavar="[HOST]", help="Only this host's key.")] = None,
    name: NameOption = None,
    via: ViaOption = None,
    status: StatusOption = False,
) -> None:
    """Switch to the next public TLS keys.

    Every name server must have shown their TLSA records for two TTLs.
    """
    from outpost.keys.rotation import tls as kind

    with at_desk(office, name, via) as desk:
        if status:
            _show(kind.status(desk))
            return
        for one in kind.hosts(desk, host):
            kind.roll(desk, one)


@app.command(epilog="Example: `./outpost rotate hosts lab --keys`, after a host was lost or broken into.")
def hosts(
    office: OfficeArgument,
    name: NameOption = None,
    via: ViaOption = None,
    keys: Annotated[bool, typer.Option("--keys", help="New keys, too.")] = False,
    status: StatusOption = False,
) -> None:
    """Renew the certificates between the hosts, without refusing mail."""
    from outpost.keys.rotation import hosts as kind

    _step(office, name, via, status and kind.status, lambda desk: kind.roll(desk, keys=keys))


@app.command(
    epilog="Example: `./outpost rotate authority lab`, again once users and peers have the new one (`outpost secrets ca`)."
)
def authority(
    office: OfficeArgument, name: NameOption = None, via: ViaOption = None, status: StatusOption = False
) -> None:
    """Replace the office's own authority, in two calls.

    After the first one both are trusted; the second one switches and removes the old one.
    """
    from outpost.keys.rotation import authority as kind

    _step(office, name, via, status and kind.status, kind.advance)


@app.command(
    epilog="Example: `./outpost rotate tsig lab`. Nobody outside holds this key, so nothing has to be waited for."
)
def tsig(
    office: OfficeArgument, name: NameOption = None, via: ViaOption = None, status: StatusOption = False
) -> None:
    """Replace the key of zone transfers; transfers work throughout."""
    from outpost.keys.rotation import tsig as kind

    _step(office, name, via, status and kind.status, kind.roll)


@app.command(
    epilog="Example: `./outpost rotate dnssec lab --status`. The keys roll by themselves, as `[dns]` in the office file says."
)
def dnssec(
    office: OfficeArgument, name: NameOption = None, via: ViaOption = None, status: StatusOption = False
) -> None:
    """Keep a copy of the primary name server's DNSSEC keys in the office's secrets."""
    from outpost.keys.rotation import dnssec as kind

    with at_desk(office, name, via) as desk:
        if status:
            _show(kind.status(desk))
        elif not kind.keep(desk):
            desk.tell("the office's secrets have every DNSSEC key")


@app.command(
    epilog="Example, in the controller's crontab: `17 * * * * /srv/outpost/outpost rotate due po`. Exit code 0 also when nothing was due."
)
def due(office: OfficeArgument, name: NameOption = None, via: ViaOption = None) -> None:
    """Take every step of rotation that is due, for a timer."""
    from outpost.keys.rotation import due as everything

    with at_desk(office, name, via) as desk:
        everything.take(desk)


Rows = list[tuple[str, str, str]]


def _step(
    office: str,
    name: str | None,
    via: str | None,
    shown: Callable[[Desk], Rows] | Literal[False],
    step: Callable[[Desk], None],
) -> None:
    """Take a step, or only show where the keys stand."""
    with at_desk(office, name, via) as desk:
        if shown:
            _show(shown(desk))
        else:
            step(desk)


@contextmanager
def at_desk(office: str, name: str | None, via: str | None) -> Iterator[Desk]:
    from outpost.cli.console import out
    from outpost.cli.progress import watcher
    from outpost.keys.rotation import engine
    from outpost.target import find

    with engine.desk(
        find(office, name), lambda text: out.print(text, markup=False), via=via, watcher=watcher()
    ) as desk:
        yield desk


def _show(rows: Rows) -> None:
    from rich.markup import escape

    from outpost.cli.console import Table, out

    table = Table("key", "stage", "next", box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*map(escape, row))
    out.print(table)
