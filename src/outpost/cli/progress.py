"""Progress of a pyinfra run: a live table of the hosts on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from outpost.cli.console import err
from outpost.engine.follower import Follower, HostState
from outpost.engine.run import Watcher

if TYPE_CHECKING:
    from outpost.verification.live import Result

SLOW = 2.0  # seconds; quicker operations that change nothing are not worth a line
STILL = 15.0  # seconds between two signs of life


class LiveTable(Watcher):
    """One row for each host: its operation, how long it takes, and the changes so far."""

    def start(self, what: str, follower: Follower) -> None:
        self._what, self._follower, self._started = what, follower, time.monotonic()
        self._spinner = Spinner("dots")
        self._live = Live(self._table(), console=err, transient=True, refresh_per_second=8)
        self._live.start()

    def tick(self) -> None:
        self._live.update(self._table())

    def stop(self) -> None:
        self._live.stop()

    def _table(self) -> Group:
        now = time.monotonic()
        self._spinner.update(text=Text(f"{self._follower.phase}  {now - self._started:.0f} s", style="dim"))
        table = Table(show_header=False)
        for name, host in sorted(self._follower.hosts.items()):
            table.add_row(*_row(name, host, now))
        return Group(Text(f"$ {self._what}", style="dim"), table, self._spinner)


def _row(name: str, host: HostState, now: float) -> tuple[Text, Text, Text]:
    style = "red" if host.failed else "green" if host.doing == "done" else ""
    waits = now - host.since >= SLOW and host.doing not in ("done", "failed")
    waited = f"  {now - host.since:.0f} s" if waits else ""
    counts = f"{host.changed} changed, {host.unchanged} unchanged" if host.changed or host.unchanged else ""
    return Text(name, style="bold"), Text(f"{host.doing}{waited}", style=style), Text(counts, style="dim")


class Lines(Watcher):
    """For logs and pipes: each phase, and each operation that changed something or was slow."""

    def start(self, what: str, follower: Follower) -> None:
        self._follower = follower
        self._phase = ""
        self._operation = ""
        self._since = self._printed = time.monotonic()
        self._before: dict[str, int] = {}
        self._say(f"$ {what}")

    def tick(self) -> None:
        follower = self._follower
        now = time.monotonic()
        if follower.phase and follower.phase != self._phase:
            self._finish()
            self._phase = follower.phase
            self._say(f"  {follower.phase}")
        if follower.operation_since != self._since and follower.executing:
            self._finish()
            self._operation, self._since = follower.operation, follower.operation_since
            self._before = {name: host.changed for name, host in follower.hosts.items()}
        elif now - self._printed > STILL:
            self._say(f"  still: {self._operation or self._phase or 'starting'} ({now - self._since:.0f} s)")

    def stop(self) -> None:
        self._finish()

    def _finish(self) -> None:
        if not self._operation:
            return
        hosts = self._follower.hosts
        changed = [name for name, host in sorted(hosts.items()) if host.changed > self._before.get(name, 0)]
        failed = [
            name for name, host in sorted(hosts.items()) if self._operation in (host.failed, host.troubled)
        ]
        seconds = time.monotonic() - self._since
        if changed or failed or seconds >= SLOW:
            parts = [f"changed on {', '.join(changed)}"] if changed else []
            parts += [f"FAILED on {', '.join(failed)}"] if failed else []
            took = f" ({seconds:.0f} s)" if seconds >= SLOW else ""
            self._say(f"  {self._operation}: {'; '.join(parts) or 'unchanged'}{took}")
        self._operation = ""

    def _say(self, text: str) -> None:
        self._printed = time.monotonic()
        err.print(text, markup=False)


def watcher() -> Watcher:
    """The one that fits the standard error stream."""
    return LiveTable() if err.is_terminal else Lines()


@contextmanager
def checks_progress(*, quiet: bool = False) -> Iterator[Callable[[int, int, Result], None]]:
    """A bar for checks on a terminal; otherwise a line for each failure and regular progress; nothing for a timer."""
    failed, printed_at, lines = 0, time.monotonic(), not (quiet or err.is_terminal)
    silent: set[str] = set()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=quiet or lines) as bar:
        task = bar.add_task("asking the hosts", total=None)
        if lines:
            err.print("  asking the hosts")

        def show(done: int, total: int, result: Result) -> None:
            nonlocal failed, printed_at
            here = result.outcome == "failed" and result.host not in silent
            if here and result.host and result.could_not_ask:  # its other checks fail for the same reason
                silent.add(result.host)
            failed += here
            red = f" [red]{failed} failed[/]" if failed else ""
            bar.update(task, completed=done, total=total, description=f"{result.host or 'checks'}{red}")
            if lines and (here or done == total or time.monotonic() - printed_at > STILL):
                printed_at = time.monotonic()
                reason = result.seen.partition(". Remedy: ")[0] if result.could_not_ask else result.promise
                note = f": FAILED {result.host} {reason}" if here else ""
                err.print(f"  checked {done} of {total}, {failed} failed{note}", markup=False)

        yield show
