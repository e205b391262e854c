"""`outpost each`: one command for many offices, a bounded number of them at a time, each in a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from outpost.cli.console import count, err, out, say_json
from outpost.cli.options import App
from outpost.errors import OutpostError

app = App()

COMMANDS = ("plan", "apply", "verify")
AT_ONCE = 2 * (os.cpu_count() or 1)
DRIFT = 2


class Ended(NamedTuple):
    """The result of the command for one office.

    Attributes:
        result: What it printed with ``--json``; None if it printed no JSON.
        error: The last line of its errors.
    """

    office: str
    code: int
    seconds: float
    result: dict[str, Any] | None
    error: str

    @property
    def failed(self) -> bool:
        """Whether it failed; a plan with changes did not."""
        return self.code not in (0, DRIFT)

    @property
    def summary(self) -> str:
        if self.result is None:
            return self.error or f"ended with {self.code}"
        if "proven" in self.result:
            return f"{self.result['passed']} passed, {self.result['failed']} failed"
        hosts: dict[str, Any] = self.result["hosts"]
        unwell = ", ".join(f"{name}: {host['failed']}" for name, host in hosts.items() if host["failed"])
        if self.failed:
            return unwell or self.error or f"ended with {self.code}"
        changed = [name for name, host in hosts.items() if host["changes"]]
        changes = count(sum(len(host["changes"]) for host in hosts.values()), "change")
        return f"{changes} on {', '.join(changed)}" if changed else "as declared"

    def as_data(self) -> dict[str, Any]:
        seconds = round(self.seconds, 1)
        return {"exit": self.code, "seconds": seconds, "said": self.error, "result": self.result}


@app.named("each")
def each_office(
    command: str,
    offices: list[str],
    jobs: int | None = None,
    yes: bool = False,
    refresh: bool = False,
    as_json: bool = False,
) -> int:
    if command not in COMMANDS:
        raise OutpostError(f"each cannot run {command}", f"choose one of: {', '.join(COMMANDS)}")
    options = [*(("-y",) if yes else ()), *(("--refresh",) if refresh else ())]
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task, running = bar.add_task(command, total=len(offices)), dict[str, None]()
        done: dict[str, Ended] = {}

        def one(office: str) -> Ended:
            running[office] = None
            bar.update(task, description=f"{command} {', '.join(tuple(running)[:4])}")
            return _carried_out(command, office, options)

        pool = ThreadPoolExecutor(jobs or AT_ONCE)
        try:
            for future in as_completed([pool.submit(one, office) for office in dict.fromkeys(offices)]):
                ended = future.result()
                done[ended.office] = ended
                running.pop(ended.office)
                bar.advance(task)
                colour = "red" if ended.failed else "yellow" if ended.code else "green"
                summary = f"[{colour}]{escape(ended.summary)}[/] ({ended.seconds:.1f} s)"
                (err if as_json else out).print(f"[bold]{escape(ended.office)}[/]: {summary}")
        finally:  # the terminal interrupts the running ones itself
            pool.shutdown(cancel_futures=True)
    if as_json:
        say_json({office: done[office].as_data() for office in dict.fromkeys(offices)})
    else:
        counts = {
            "failed": sum(ended.failed for ended in done.values()),
            "with changes to make": sum(ended.code == DRIFT for ended in done.values()),
        }
        more = "".join(f", {count} {what}" for what, count in counts.items() if count)
        out.print(f"{count(len(done), 'office')}{more} ({time.monotonic() - started:.1f} s)", highlight=False)
    # drift is worse than nothing, and a failure is worse than drift
    codes = (ended.code for ended in done.values())
    return max(codes, key=lambda code: (code not in (0, DRIFT), code == DRIFT, code))


def _carried_out(command: str, office: str, options: Sequence[str]) -> Ended:
    started = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-m", "outpost", command, office, "--json", *options],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    try:
        result = json.loads(process.stdout)
    except ValueError:
        result = None
    error = (process.stderr.strip().splitlines() or [""])[-1]
    return Ended(office, process.returncode, time.monotonic() - started, result, error)
