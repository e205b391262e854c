"""`outpost backup`, `restore OFFICE HOST`, `restore mailbox OFFICE ADDRESS`, `drill` and `decommission`: lost hosts, and the end of an office."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.markup import escape
from typer.core import TyperGroup

from outpost.cli.console import Table, agreed, count, duration, err, out, say_json, size
from outpost.cli.options import App, At, chosen_hosts
from outpost.cli.progress import watcher
from outpost.hosts import expect_hosts
from outpost.keys import secrets_file
from outpost.keys.rotation import aftermath
from outpost.office.role import serves, serving
from outpost.office.tables.topology import Host
from outpost.office_file.people import whole
from outpost.recovery import backup
from outpost.recovery import restore as recovery
from outpost.recovery.decommission import STEPS, WORDS, Closing
from outpost.transport.remote import run_script


class HostByDefault(TyperGroup):
    """Treat every word but `mailbox` as an office, and restore its host."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the word that was left out."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["host", *args]
        return super().parse_args(ctx, args)


app = App()
restore = app.group("restore", cls=HostByDefault)


@app.of_office("backup")
def back_up(
    at: At,
    limit: list[str] | None = None,
    now: bool = False,
    prune: bool = False,
    other_end: bool = False,
    as_json: bool = False,
) -> None:
    target, loaded, via = at.target, at.office, at.via
    hosts = tuple(loaded.host(name) for name in chosen_hosts(loaded, limit))
    if other_end:
        sys.stdout.write(backup.other_end(loaded, secrets_file.read(target.data)))
        return
    if now:
        made = backup.run_now(target, loaded, hosts, via)
        for host, outcome in made.items() if not as_json else ():
            out.print(f"[bold]{escape(host)}[/]: {_summary(outcome)}")
    if prune:
        for line in backup.thin_out(loaded, secrets_file.read(target.data)):
            out.print(line, markup=False)
    found = backup.archives(target, loaded, hosts, via)
    if as_json:
        say_json([archive._asdict() | {"when": archive.when.isoformat()} for archive in found])
    else:
        _show(found, hosts or loaded.hosts)


@restore.of_office("host")
def restore_host(at: At, host: str, archive: str = "latest", yes: bool = False) -> int:
    target, loaded, via = at.target, at.office, at.via
    expect_hosts(loaded, [host])
    lost = loaded.host(host)
    if not yes and not agreed(
        f"{lost.name} will be overwritten and become {lost.fqdn}. Is it an empty machine?"
    ):
        return 1
    done = recovery.host(
        target, loaded, secrets_file.read(target.data), lost,
        archive=archive, via=via, watcher=watcher(), report=lambda text: out.print(text, markup=False),
    )  # fmt: skip
    if serves(lost, "mailboxes"):
        # units that waited for it would wait for the end of their back-off, up to half an hour
        for mta in serving(loaded, "transport"):
            run_script(target, loaded, mta, "postqueue -f", via)
    aftermath.keep(target, (lost.name,), lambda text: err.print(text, markup=False), via)
    restored = f"[green]{escape(lost.name)} is restored[/]"
    out.print(f"{restored} from archive {escape(done.archive)}, after {duration(done.seconds)}")
    return 0


@restore.of_office("mailbox")
def restore_mailbox(at: At, address: str, folder: str = "", archive: str = "latest") -> None:
    full = whole(address, at.office.domain)
    into, messages = recovery.mailbox(at.target, at.office, full, folder=folder, archive=archive, via=at.via)
    out.print(f"[green]{count(messages, 'message')}[/] of {escape(full)} below the folder {escape(into)}")


@app.of_office("drill")
def hold_drill(at: At, as_json: bool = False) -> int:
    from outpost_lab import drill

    done = drill.hold(
        at.target, via=at.via, watcher=watcher(), report=lambda text: err.print(text, markup=False)
    )
    if as_json:
        say_json(asdict(done))
        return 0 if done.good else 1
    for line in done.differences:
        out.print(f"[red]{escape(line)}[/]")
    good, bad = "[green]everything was restored unchanged[/]", "[red]not everything was restored[/]"
    logins = f", {done.logins} users logged in" if done.logins else ""
    counts = f"{done.folders} folders, {done.messages} messages, {done.files} files{logins}"
    out.print(f"{good if done.good else bad}: {counts}")
    out.print(
        f"restored after {duration(done.rto)} (its data after {duration(done.data)}); if the store were lost now, the "
        f"mail of the last {duration(done.rpo)} would be lost (at the worst moment of the last week: {duration(done.worst_gap)})"
    )
    return 0 if done.good else 1


def _summary(outcome: dict[str, Any]) -> str:
    still = f", writing was paused for {outcome['frozen'] * 1000:.0f} ms" if outcome["frozen"] else ""
    return f"{outcome['files']} files, {size(outcome['size'])}, of which {size(outcome['added'])} new, in {outcome['seconds']} s{still}"


def _show(found: Iterable[backup.Archive], hosts: Iterable[Host]) -> None:
    table = Table("host", "archives", "oldest", "latest", "age")
    for host in hosts:
        own = [archive for archive in found if archive.host == host.name]
        if own:
            table.add_row(host.name, str(len(own)), own[0].name, own[-1].name, duration(own[-1].age))
        else:
            table.add_row(host.name, "0", "", "[red]no backup yet[/]", "")
    out.print(table)
    out.print(f"[dim]as of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC[/]")


@app.of_office("decommission")
def close_office(
    at: At,
    following: bool = False,
    forward: str = "",
    into: Path | None = None,
    erase: str = "",
    yes: bool = False,
) -> int:
    closing = Closing(at.target, at.via, watcher(), forward, into, erase)
    if following:
        step, domain = closing.next, at.office.domain
        if step in closing.asked and not yes and not agreed(f"{domain}: {WORDS[step]}. Take this step?"):
            return 1
        step, found = closing.advance()
        out.print(f"[green]{step}[/]: {WORDS[step]}")
        out.print(json.dumps(found, indent=1), markup=False)
    _show_steps(closing)
    return 0


def _show_steps(closing: Closing) -> None:
    table = Table("step", "", "afterwards")
    for step in STEPS:
        state = "[yellow]next[/]" if step == closing.next else ""
        if taken := closing.done.get(step):
            state = f"[green]{escape(taken['when'])}[/]"
        table.add_row(step, state, WORDS[step])
    out.print(table)
