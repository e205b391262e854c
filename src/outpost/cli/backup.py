"""`outpost backup`, `restore` and `drill`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from outpost.cli.console import Table, duration, err, out, say_json, size
from outpost.cli.office import chosen_hosts
from outpost.cli.options import JsonOption, LimitOption, NameOption, OfficeArgument, ViaOption
from outpost.hosts import expect_hosts
from outpost.keys import secrets_file
from outpost.office import Office, load
from outpost.office.roles import serves, serving
from outpost.office.tables.topology import Host
from outpost.recovery import backup
from outpost.target import find
from outpost.transport.remote import run_script

app = typer.Typer()


@app.command(
    "backup",
    epilog="Examples: `./outpost backup po` lists what is kept, `./outpost backup po --now --limit store`, "
    "`./outpost backup po --other-end | ssh root@vault sh`. Exit code 0: done, 1: failed.",
)
def back_up(
    office: OfficeArgument,
    name: NameOption = None,
    limit: LimitOption = None,
    via: ViaOption = None,
    now: Annotated[bool, typer.Option("--now", help="Make one first, on every host or those named.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete old archives, at the other end (for a timer).")
    ] = False,
    other_end: Annotated[
        bool, typer.Option("--other-end", help="Print the set-up of the machine that keeps them.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """List the backups of each host, make one, delete old ones."""
    target = find(office, name)
    loaded = load(target.data)
    hosts = _hosts(loaded, chosen_hosts(loaded, limit))
    if other_end:
        sys.stdout.write(backup.other_end(loaded, secrets_file.read(target.data)))
        return 0
    if now:
        made = backup.run_now(target, loaded, hosts, via)
        for host, outcome in made.items() if not as_json else ():
            out.print(f"[bold]{escape(host)}[/]: {_said(outcome)}")
    if prune:
        for line in backup.thin_out(loaded, secrets_file.read(target.data)):
            out.print(line, markup=False)
    found = backup.archives(target, loaded, hosts, via)
    if as_json:
        say_json([vars(archive) | {"when": archive.when.isoformat()} for archive in found])
    else:
        _show(found, hosts or loaded.hosts)
    return 0


def restore_host(
    office: str, name: str | None, host: str, archive: str, via: str | None, *, yes: bool
) -> int:
    """Make an empty machine the host that was lost."""
    from outpost.cli.progress import watcher
    from outpost.keys.rotation import aftermath
    from outpost.recovery import restore

    target = find(office, name)
    loaded = load(target.data)
    expect_hosts(loaded, [host])
    lost = loaded.host(host)
    if not yes and err.input(
        f"{lost.name} is an empty machine that is to become {lost.fqdn} again? [y/N] "
    ).strip().lower() not in ("y", "yes"):
        return 1
    done = restore.host(
        target, loaded, secrets_file.read(target.data), lost,
        archive=archive, via=via, watcher=watcher(), tell=lambda text: out.print(text, markup=False),
    )  # fmt: skip
    if serves(lost, "mailboxes"):
        # what waited for it would wait for the end of its back-off, half an hour at most
        for mta in serving(loaded, "transport"):
            run_script(target, loaded, mta, "postqueue -f", via)
    aftermath.keep(target, (lost.name,), lambda text: err.print(text, markup=False), via)
    out.print(
        f"[green]{escape(lost.name)} is back[/], as of {escape(done.archive)}, after {duration(done.seconds)}"
    )
    return 0


def restore_mailbox(
    office: str, name: str | None, address: str, folder: str, archive: str, via: str | None
) -> int:
    from outpost.recovery import restore

    target = find(office, name)
    loaded = load(target.data)
    full = address if "@" in address else f"{address}@{loaded.domain}"
    into, count = restore.mailbox(target, loaded, full, folder=folder, archive=archive, via=via)
    out.print(
        f"[green]{count} message{'s' * (count != 1)}[/] of {escape(full)} below the folder {escape(into)}"
    )
    return 0


@app.command(
    "drill",
    epilog="Example: `./outpost drill po`; from a timer: docs/examples/outpost-drill.service. Exit code 0: everything came back, "
    "1: not so.",
)
def hold_drill(
    office: OfficeArgument, name: NameOption = None, via: ViaOption = None, as_json: JsonOption = False
) -> int:
    """Rehearse a restore of the store, in containers here.

    It compares mail, flags, UIDs, filters and logins with the backup's manifest.

    The live store makes a backup and goes on; how long a loss would take and what it would cost is kept for `report`.
    """
    from outpost.cli.progress import watcher
    from outpost_lab import drill

    done = drill.hold(
        find(office, name), via=via, watcher=watcher(), tell=lambda text: err.print(text, markup=False)
    )
    if as_json:
        say_json(asdict(done))
        return 0 if done.good else 1
    for line in done.differences:
        out.print(f"[red]{escape(line)}[/]")
    verdict = "[green]everything came back as it was[/]" if done.good else "[red]not everything came back[/]"
    out.print(
        f"{verdict}: {done.folders} folders, {done.messages} messages, {done.files} files"
        + (f", {done.logins} users logged in" if done.logins else "")
    )
    out.print(
        f"back after {duration(done.rto)} (its data after {duration(done.data)}); lost would have been the mail of "
        f"{duration(done.rpo)}, of {duration(done.worst_gap)} at the worst moment of the last week"
    )
    return 0 if done.good else 1


def _hosts(office: Office, names: Iterable[str]) -> tuple[Host, ...]:
    return tuple(office.host(name) for name in names)


def _said(outcome: dict[str, Any]) -> str:
    still = f", everything stood still for {outcome['frozen'] * 1000:.0f} ms" if outcome["frozen"] else ""
    return f"{outcome['files']} files, {size(outcome['size'])}, of which {size(outcome['added'])} new, in {outcome['seconds']} s{still}"


def _show(found: Iterable[backup.Archive], hosts: Iterable[Host]) -> None:
    table = Table("host", "archives", "oldest", "latest", "age", box=None, padding=(0, 2, 0, 0))
    for host in hosts:
        own = [archive for archive in found if archive.host == host.name]
        if own:
            table.add_row(host.name, str(len(own)), own[0].name, own[-1].name, duration(own[-1].age))
        else:
            table.add_row(host.name, "0", "", "[red]nothing is kept yet[/]", "")
    out.print(table)
    out.print(f"[dim]as of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC[/]")
