"""`outpost trace`, `queue`, `alarms`, `peer`: mail on its way, what needs a human, what the other end has to know."""

from __future__ import annotations

from typing import Annotated

import typer

from outpost.cli.options import JsonOption, NameOption, OfficeArgument, ViaOption

app = typer.Typer()


@app.command(
    epilog="Examples: `./outpost trace lab 3F2A1B4C5D`, `./outpost trace lab '<id@example.com>'`, `./outpost trace lab "
    "alice@po.myertor.test --last 3`. Exit code 0: told, 1: no host knows it."
)
def trace(
    office: OfficeArgument,
    identifiers: Annotated[
        list[str], typer.Argument(metavar="IDENTIFIER…", help="Queue id, Message-ID, or somebody's address.")
    ],
    name: NameOption = None,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="How far to look back (systemd.time(7)).")
    ] = "-5d",
    last: Annotated[
        int, typer.Option("--last", metavar="N", min=1, help="Of an address, the latest so many messages.")
    ] = 5,
    via: ViaOption = None,
    json: JsonOption = False,
) -> None:
    """Follow one message across all hosts: each hop with its delay and its TLS, and where it is now."""
    from outpost.cli.mail import trace_message

    raise typer.Exit(trace_message(office, name, identifiers, via, since=since, last=last, as_json=json))


@app.command(
    epilog="Examples: `./outpost queue po`, `./outpost queue po --release headoffice`, `./outpost queue po --hold "
    "@example.org`. Words: all, a queue id, an address, @domain, a route (a peer's name, store, Internet). Exit code 0."
)
def queue(
    office: OfficeArgument,
    name: NameOption = None,
    release: Annotated[
        list[str] | None,
        typer.Option("--release", metavar="WORD", help="Off hold and tried at once; may be repeated."),
    ] = None,
    hold: Annotated[
        list[str] | None,
        typer.Option("--hold", metavar="WORD", help="Kept until it is released; may be repeated."),
    ] = None,
    via: ViaOption = None,
    json: JsonOption = False,
) -> None:
    """Show what waits on the MTAs, for whom and why; release it or hold it. Nothing can be deleted with it."""
    from outpost.cli.mail import queue_office

    raise typer.Exit(queue_office(office, name, via, release=release or [], hold=hold or [], as_json=json))


@app.command(
    epilog="Examples: `./outpost alarms po`; `./outpost alarms po --test` sends one by every path. Exit code 0: none, 1: some."
)
def alarms(
    office: OfficeArgument,
    name: NameOption = None,
    test: Annotated[
        bool, typer.Option("--test", help="Have each host tell a trial alarm by each of its paths.")
    ] = False,
    via: ViaOption = None,
    json: JsonOption = False,
) -> None:
    """What needs a human now, host by host: old mail, certificates, signatures, disks, backups, guessed passwords, units."""
    from outpost.cli.mail import show_alarms

    raise typer.Exit(show_alarms(office, name, via, test=test, as_json=json))


@app.command(
    epilog="Examples: `./outpost peer po` for the people there, `./outpost peer po headoffice --postfix` for their files, "
    "`./outpost peer po headoffice --recipients > po_recipients` for their timer. Exit code 0."
)
def peer(
    office: OfficeArgument,
    peer: Annotated[str | None, typer.Argument(metavar="[PEER]", help="Only this peer.")] = None,
    name: NameOption = None,
    postfix: Annotated[bool, typer.Option("--postfix", help="As lines for Postfix.")] = False,
    recipients: Annotated[
        bool, typer.Option("--recipients", help="Only the table of recipients, for a backup MX.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Print what the other end of each route has to set up: names, addresses, ports, TLS, recipients. Nothing secret."""
    from outpost.cli.mail import print_peer

    raise typer.Exit(print_peer(office, name, peer, postfix=postfix, recipients=recipients, as_json=json))
