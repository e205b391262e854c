"""`outpost test`: the whole suite, stage after stage, with the output of pytest and the other tools; `outpost bench`: its speed."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from outpost.cli.console import Table, err, out, say_json
from outpost.cli.options import App
from outpost.cli.progress import Lines
from outpost.target import LAB, ROOT, find
from outpost_lab.benchmarks import measure, run

app = App()

INSTANCE = "test"
NAMED = ("--name", INSTANCE)
SOURCES = ("src", "roles", "tests", "inventory", "deploy.py")
RUFF = (("ruff", "check", *SOURCES), ("ruff", "format", "--check", *SOURCES))
"""As the commit hook does."""
MYPY = (("mypy",),)
TOOLS = {"chromium": "chromium", "certutil": "libnss3-tools", "pdftotext": "poppler-utils"}
"""Program → its package: for webmail in a browser, and for reading the evidence page as printed."""
REPEATED = 2
"""Most failed tests of a lab stage that are repeated; more failures are not accidental."""
SLOWEST = ("--durations=5", "--durations-min=20")
"""Tells pytest to print where a stage's time went."""
SPREAD = ("-n", str((os.cpu_count() or 1) + 1), "--dist", "worksteal")
"""Tells pytest-xdist to use one worker more than there are processors: some tests wait for programs."""
HANGS = ("-o", "faulthandler_timeout=2400", "-o", "faulthandler_exit_on_timeout=true")
"""Tells pytest to end with the traceback of a test that has not ended after so many seconds."""
EVIDENCE = (
    "systemctl --failed --no-legend; "
    "! command -v postqueue >/dev/null || postqueue -p | tail -n 20; "
    "journalctl --boot --no-pager --output=short-precise --priority=warning --lines=25; "
    "journalctl --boot --no-pager --output=short-precise --unit='postfix*' --unit='dovecot*' --unit='knot*' --lines=40 2>/dev/null"
)


@dataclass
class Stage:
    """One part of the suite, and its result."""

    name: str
    covers: str
    counts: Counter[str] = field(default_factory=Counter)
    """Passed, failed and skipped tests."""
    seconds: float = 0.0
    ran: bool = False
    fell: list[str] = field(default_factory=list)
    """Names of the tests that failed."""
    unsteady: list[str] = field(default_factory=list)
    """Tests that failed first and passed when they were repeated."""
    printed: bytes = b""
    """Output of a stage that runs beside another."""

    @property
    def result(self) -> str:
        if not self.ran:
            return "not run"
        return "FAILED" if self.counts["failed"] else "unsteady" if self.unsteady else "passed"


@app.named("test")
def run_suite(
    yes: bool = False, fast: bool = False, keep: bool = False, arguments: list[str] | None = None
) -> int:
    suite = Suite(yes=yes, keep=keep, arguments=arguments or [])
    strangers = Stage("strangers", "installation; other offices, from bare hosts by the README's commands")
    stages: list[tuple[Any, ...]] = [
        (Stage("ruff", "style and likely bugs"), suite.tools, *RUFF),
        (Stage("mypy", "types, strict"), suite.tools, *MYPY),
        (Stage("unit", "the project's own rules; office model, templates, command line"), suite.pytest, "tests/lint", "tests/unit", *SPREAD),
    ]  # fmt: skip
    if not fast:
        stages += [
            (Stage("lab up", "five bare hosts and their test environment, set up from nothing"), suite.lab_up),
            (Stage("live", "the checks of every host"), suite.in_lab, "tests/live", *NAMED, "-n", "2"),
            (Stage("lab", "the second apply changes nothing; raw pyinfra agrees"), suite.in_lab, "tests/lab", *NAMED),
            (Stage("journeys", "mail in every direction, by real clients; webmail in a browser"), suite.in_lab, "tests/journeys", *NAMED),
            (strangers, suite.strangers_end),
            (Stage("attacks", "attacks on the case study's weaknesses, and what honest users notice"), suite.in_lab, "tests/attacks", *NAMED),
        ]  # fmt: skip
    began = time.monotonic()
    try:
        for stage, work, *what in stages:
            title, started = f"{stage.name}: {stage.covers}", time.monotonic()
            out.rule(title, align="left") if out.is_terminal else out.print(f"=== {title}", markup=False)
            if stage.name == "journeys":
                suite.strangers_start(strangers)
            sys.stdout.flush()
            work(stage, *what)
            stage.seconds = stage.seconds or time.monotonic() - started
    finally:
        if not fast:
            suite.lab_ends()
    return _report([stage for stage, *_ in stages], time.monotonic() - began, fast=fast)


def _report(stages: list[Stage], seconds: float, *, fast: bool) -> int:
    out.print()
    for stage in stages:
        style = {"FAILED": "bold red", "passed": "green"}.get(stage.result, "yellow")
        others = (f", {stage.counts[what]} {what}" for what in ("failed", "skipped") if stage.counts[what])
        counts = f"{stage.counts['passed']:5} passed{''.join(others)}"
        named = f"[{style}]{stage.result:8}[/] {stage.name:10}"
        out.print(f"{named} {stage.seconds:6.1f} s  {counts}  {stage.covers}")
    total = sum((stage.counts for stage in stages), Counter[str]())
    out.print(f"{'without the lab (--fast); ' if fast else ''}{seconds:.0f} s in all")
    for stage in stages:
        for name in stage.unsteady:
            out.print(f"unsteady: {name} failed, and passed when it was repeated", markup=False)
    sys.stdout.write(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped\n")
    return 1 if total["failed"] or any(not stage.ran for stage in stages) else 0


@dataclass
class Suite:
    """The stages' work."""

    yes: bool
    keep: bool
    arguments: list[str]
    lab_runs: bool = False
    lab_failed: bool = False
    beside: Future[None] | None = None
    log: IO[bytes] | None = None
    """Collects the output of commands that is not shown at once."""

    def _run(self, *command: str) -> int:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=False, stdout=self.log, stderr=self.log
        )
        return done.returncode

    def tools(self, stage: Stage, *commands: tuple[str, ...]) -> None:
        """Python's own tools, one after the other."""
        for command in commands:
            stage.counts["failed" if self._run(sys.executable, "-m", *command) else "passed"] += 1
        stage.ran = True

    def pytest(self, stage: Stage, directory: str, *options: str) -> None:
        """A directory of tests."""
        with tempfile.TemporaryDirectory() as temporary:
            report = Path(temporary) / "junit.xml"
            code = self._run(
                sys.executable, "-m", "pytest", directory, "-q", f"--junitxml={report}", *SLOWEST, *HANGS, *options, *self.arguments,
            )  # fmt: skip
            for case in ET.parse(report).iter("testcase") if report.is_file() else ():  # noqa: S314  # pytest has just written it
                found = {outcome.tag for outcome in case}
                failed = bool(found & {"failure", "error"})
                stage.counts["failed" if failed else "skipped" if "skipped" in found else "passed"] += 1
                stage.fell += [case.get("name", "")] * failed
        stage.ran = True
        if code and not stage.counts["failed"]:  # broke off, or found no test
            stage.counts["failed"] += 1

    def in_lab(self, stage: Stage, directory: str, *options: str) -> None:
        """The same with hosts. Few failed tests run once more, one after the other.

        A test that passes then is ``unsteady``: the summary names it and prints its first failure. It is a defect to correct, but the
        suite passes.
        """
        if not self.lab_runs:
            out.print("not run: there is no lab to run it in")
            return
        self.pytest(stage, directory, *options)
        if 0 < len(stage.fell) == stage.counts["failed"] <= REPEATED:
            out.print(f"repeating: {', '.join(stage.fell)}", markup=False)
            again = Stage(stage.name, stage.covers)
            self.pytest(
                again, directory, *options, "-n", "0", "--last-failed", "--last-failed-no-failures=none"
            )
            if not again.counts["failed"] and again.counts["passed"] == len(stage.fell):
                stage.counts["passed"] += len(stage.fell)
                stage.counts["failed"], stage.unsteady = 0, stage.fell
        self.lab_failed |= stage.counts["failed"] > 0

    def strangers_start(self, stage: Stage) -> None:
        """Starts the stage whose tests bring up hosts of their own, beside the next stage: that one mostly waits for mail."""
        if self.lab_runs:
            out.print(f"{stage.name} runs beside this stage; its output follows")
            self.beside = ThreadPoolExecutor(1).submit(self._strangers, stage)

    def _strangers(self, stage: Stage) -> None:
        started = time.monotonic()
        own = ("log_cli=true", "log_cli_level=INFO", "cache_dir=.pytest_cache/strangers")
        with tempfile.TemporaryFile() as log:
            apart = replace(self, log=log)
            apart.in_lab(stage, "tests/strangers", *(word for option in own for word in ("-o", option)))
            log.seek(0)
            stage.seconds, stage.printed = time.monotonic() - started, log.read()

    def strangers_end(self, stage: Stage) -> None:
        """Waits for that stage and prints its output."""
        if self.beside:
            self.beside.result()
        sys.stdout.buffer.write(stage.printed or b"not run: there is no lab to run it beside\n")

    def lab_up(self, stage: Stage) -> None:
        self._browser()
        consent = ("--yes",) if self.yes else ()
        self.lab_down()
        self.tools(stage, ("outpost", "lab", "up", "--name", INSTANCE, "--no-verify", *consent))
        self.lab_runs = not stage.counts["failed"]
        self.lab_failed = not self.lab_runs

    def lab_ends(self) -> None:
        """On a failure print the machines' state; then remove them, unless the user keeps them."""
        label = f"label=outpost.instance={INSTANCE}"
        command = ["docker", "ps", "--filter", label, "--format", "{{.Names}}"]
        if self.lab_failed:
            listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            for container in sorted(listed.split()):
                out.print(f"--- {container}", markup=False)
                sys.stdout.flush()
                self._run("docker", "exec", container, "sh", "-c", EVIDENCE)
        if not self.keep:
            self.lab_down()

    def lab_down(self) -> None:
        self._run(sys.executable, "-m", "outpost", "lab", "down", "--name", INSTANCE)

    def _browser(self) -> None:
        """Debian's Chromium and certutil, with consent."""
        from outpost_lab.engine import apt_install

        missing = [package for command, package in TOOLS.items() if not shutil.which(command)]
        if missing and self.yes:
            err.print(f"installing {' and '.join(missing)} from Debian ...")
            apt_install(*missing)
        elif missing:
            needed = f"the tests of webmail and of the evidence page need {' and '.join(missing)}"
            err.print(f"{needed}: --yes installs them, or apt-get install {' '.join(missing)}")


@app.named("bench")
def bench(
    rows: list[str] | None = None,
    name: str | None = None,
    listed: bool = False,
    as_json: bool = False,
    keep: bool = False,
) -> int:
    if listed:
        table = Table("row", "what")
        for name_, row in run.ROWS.items():
            table.add_row(name_, f"{row.what}; against: {row.against}")
        out.print(table)
        return 0
    target = find(LAB, name)
    found = []
    for measurement in run.measured(target, rows or (), Lines()):
        found.append(measurement)
        (ours, peer, *_), unit = measurement.figures, measurement.row.unit
        printed = f"{ours:.2f} {unit} against {peer:.2f} {unit} ({measurement.ratio:.2f} ×)"
        err.print(f"{measurement.name}: {printed}", markup=False)
        if keep:
            measure.keep(measurement)
    if as_json:
        say_json([measurement.as_data() for measurement in found])
    else:
        _show(found)
    return 0 if all(measurement.reached for measurement in found) else 1


def _show(found: Sequence[measure.Measurement]) -> None:
    table = Table("what", "against", "ours", "theirs", "ratio", "to reach")
    for each in found:
        row, (ours, peer, *_) = each.row, each.figures
        sign = {"at most": "≤", "times faster": "≥"}[row.sense]
        style = "green" if each.reached else "red"
        table.add_row(
            row.what, row.against, f"{ours:.2f} {row.unit}", f"{peer:.2f} {row.unit}",
            f"[{style}]{each.ratio:.2f} ×[/]", f"{sign} {row.reach} ×",
        )  # fmt: skip
    out.print(table)
