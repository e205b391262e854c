"""Verification of running hosts: pytest over `tests/live`, its progress followed, its result printed verdict first.

This module is also the pytest plugin that reports from inside: with `--events-fd` it writes a line of JSON
for each test to a pipe, however many processes (xdist) share the work.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import pytest

from outpost.errors import OutpostError
from outpost.office import Office, load
from outpost.target import LAB, ROOT, Target, find
from outpost.transport.answers import LONGEST, printable
from outpost.transport.remote import unreached

# --- inside pytest ----------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--events-fd", type=int, default=None, help="Write one JSON line per test to this descriptor."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Report from the one process that sees every result."""
    descriptor = config.getoption("--events-fd")
    if descriptor is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reporter(os.fdopen(descriptor, "w", buffering=1)), "outpost-events")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add a test's promise, and the controls that it proves, to its report."""
    report = yield
    controls = [control for mark in item.iter_markers("control") for control in mark.args]
    report.user_properties.append(("controls", controls))
    me = getattr(item, "callspec", None) and item.callspec.params.get("me")  # type: ignore[attr-defined]
    host = me.name if me else ""
    report.user_properties += [
        ("promise", promise(item, host)),
        ("host", host),
        ("remedy", _remedy(item, host)),
    ]
    return report


def _remedy(item: pytest.Item, host: str) -> str:
    """The check's own remedy; else an apply, if it sets what the check reads, and the journal of its daemons."""
    if own := item.get_closest_marker("remedy"):
        return str(own.args[0])
    marks, ways = {mark.name for mark in item.iter_markers()}, []
    if "looks" in marks and not marks & {"live", "probe"}:
        target = chosen_target(item.config)
        name = f" --name {target.instance}" if target.instance not in (None, LAB) else ""
        chosen = f"{target.typed}{name}{f' --limit {host}' if host else ''}"
        ways.append(f"./outpost apply {chosen}, if ./outpost plan {chosen} shows a change")
    if daemons := item.get_closest_marker("daemons"):
        units = " ".join(f"-u {unit}" for unit in daemons.args)
        ways.append(f"read journalctl -b {units}{f' on {host}' if host else ''}")
    return "; ".join(ways)


class Reporter:
    """Writes events to a pipe."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe

    def _event(self, **event: Any) -> None:
        self._pipe.write(json.dumps(event) + "\n")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.items:
            self._event(event="collected", total=len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """The same, if workers (xdist) collect."""
        self._event(event="collected", total=len(ids))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file whose checks cannot be imported: none of them passes."""
        if report.failed:
            self._event(
                event="result", id=report.nodeid, outcome="failed", seconds=0.0, controls=[], host="",
                promise=f"the checks of {report.nodeid} can run",
                remedy="correct the test file: it cannot be imported", seen=_seen(report),
            )  # fmt: skip

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One result: the call, or the error before or after it."""
        if report.when != "call" and report.passed:
            return
        # a worker that died reports no properties
        about: dict[str, Any] = {"promise": sentence(report.nodeid), "controls": [], "host": "", "remedy": ""}
        about |= {name: value for name, value in report.user_properties if name in about}
        about["seen"] = _seen(report)
        self._event(
            event="result", id=report.nodeid, outcome=report.outcome, seconds=report.duration, **about
        )


def promise(item: pytest.Item, host: str) -> str:
    """The promise of a test: the first line of its docstring, else its name; with its parameters except the host."""
    name, _, parameters = item.nodeid.partition("[")
    documented = (getattr(getattr(item, "function", None), "__doc__", None) or "").strip().splitlines()
    promised = documented[0].rstrip(".") if documented else sentence(name)
    others = "-".join(part for part in parameters.removesuffix("]").split("-") if part != host)
    return f"{promised} ({others})" if others else promised


def sentence(nodeid: str) -> str:
    """`tests/live/test_mta.py::test_stranger_cannot_relay[mta]` → `stranger cannot relay (mta)`."""
    name, _, parameters = nodeid.rpartition("::")[2].partition("[")
    words = name.removeprefix("test_").replace("_", " ")
    return f"{words} ({parameters.removesuffix(']')})" if parameters else words


def _seen(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The observation, made safe to print anywhere."""
    why = report.longrepr
    if crash := getattr(why, "reprcrash", None):
        why = crash.message
    elif isinstance(why, tuple):
        why = why[2]
    return printable(str(why or "")[:LONGEST])


@cache
def chosen_target(config: pytest.Config) -> Target:
    """The office that the options of tests/conftest.py name, found once in a run."""
    try:
        return find(config.getoption("--office"), config.getoption("--name"))
    except OutpostError as error:
        raise pytest.UsageError(f"{error.message}. Remedy: {error.remedy}.") from None


@cache
def chosen_office(config: pytest.Config) -> Office:
    """Its model, loaded once in a run."""
    return load(chosen_target(config).data)


# --- outside ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """One check's result.

    Attributes:
        host: The host that was checked; empty for a promise of the whole office.
        seen: The observation, if it failed.
        remedy: How to repair it, from the mark of its test.
    """

    id: str
    host: str
    promise: str
    controls: tuple[str, ...]
    outcome: str
    seen: str
    seconds: float
    remedy: str = ""

    @property
    def pending(self) -> str:
        """What others must do first; empty if the check is not pending."""
        before, mark, what = self.seen.partition(f"Skipped: {PENDING}")
        return what if self.outcome == "skipped" and mark and not before else ""

    @property
    def could_not_ask(self) -> bool:
        """Whether it failed because a host did not answer, or an answer could not be used."""
        return self.seen.startswith(("outpost.errors.OutpostError: ", "OutpostError: "))

    @property
    def mended_by(self) -> str:
        """What to do if it failed; empty if there is no general advice."""
        if self.could_not_ask and ". Remedy: " in self.seen:
            return self.seen.partition(". Remedy: ")[2].splitlines()[0].removesuffix(".")
        return self.remedy


@dataclass(frozen=True)
class Verdict:
    """The result of a verification."""

    results: tuple[Result, ...]
    seconds: float
    closing: str

    def with_outcome(self, outcome: str) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.outcome == outcome)

    @property
    def pending(self) -> dict[str, list[Result]]:
        """What others still have to do → the checks that wait for it; entries with full text come first."""
        found: dict[str, list[Result]] = {}
        for result in self.results:
            if result.pending:
                found.setdefault(result.pending, []).append(result)
        return dict(sorted(found.items(), key=lambda item: "\n" not in item[0]))

    @property
    def proven(self) -> bool:
        """Whether every check that ran passed, and at least one ran."""
        return bool(self.with_outcome("passed")) and not self.with_outcome("failed")

    def as_data(self, target: Target) -> dict[str, Any]:
        return {
            "office": target.name,
            "instance": target.instance,
            "proven": self.proven,
            "passed": len(self.with_outcome("passed")),
            "failed": len(self.with_outcome("failed")),
            "skipped": len(self.with_outcome("skipped")),
            "pending": list(self.pending),
            "seconds": round(self.seconds, 1),
            "results": [vars(result) | {"remedy": result.mended_by} for result in self.results],
        }


LEAN = (
    "--disable-plugin-autoload",
    "-p",
    "testinfra.plugin",
    "--capture=no",
    *(f"-pno:{name}" for name in ("logging", "threadexception", "unraisableexception", "warnings")),
)
"""Options of pytest that leave out what checks of hosts do not use, and what is slow to load or to end."""
SIDE_BY_SIDE = ("-p", "xdist.plugin", "-n", "4")
"""The same for checks that wait for their hosts."""
WHITE_BOX = "looks and not live and not probe"
"""The checks that only read, as an expression for pytest (``-m``)."""

NO_HOST = "got empty parameter set"
"""pytest's reason for skipping a check that runs on no chosen host; it is not counted."""

PENDING = "pending: "
"""Prefix of the reason of a check that waits for somebody outside: it is skipped, and never a reason to roll back."""

OnResult = Callable[[int, int, Result], None]  # done, total, the latest


def verify(
    target: Target,
    *,
    hosts: tuple[str, ...] = (),
    controls: tuple[str, ...] = (),
    files: tuple[str, ...] = ("tests/live",),
    connector: str | None = None,
    junit: Path | None = None,
    ahead: Path | None = None,
    white_box: bool = False,
    on_result: OnResult = lambda _done, _total, _result: None,
) -> Verdict:
    """Run the live checks against an office's hosts.

    Args:
        controls: Only checks that prove one of these.
        ahead: Where it is kept what the checks ask (`outpost.verification.ahead`).
        white_box: Only checks that read the hosts; answered ahead, it needs no processes side by side.
        files: Test files or directories; those of single roles are `tests/live/test_ROLE*.py`.
    """
    started = time.monotonic()
    office = load(target.data)
    gone = unreached(target, office, hosts or office.hosts_by_name, connector)
    absent = _absent(gone)
    if gone:
        hosts = tuple(name for name in hosts or office.hosts_by_name if name not in gone)
        if not hosts:
            return Verdict(tuple(absent), time.monotonic() - started, "no host answers")
    read, write = os.pipe()
    arguments = [
        sys.executable, "-m", "pytest", *files, "-p", "outpost.verification.live", "--events-fd", str(write), "-q", "--color=no",
        *LEAN, *(("-m", WHITE_BOX) if white_box else SIDE_BY_SIDE),
        "--office", str(target.directory),
        *(("--name", target.instance) if target.instance else ()),
        *(("--via", connector) if connector else ()),
        *(argument for host in hosts for argument in ("--host", host)),
        *(argument for control in controls for argument in ("--control", control)),
        *(("-p", "outpost.verification.ahead", f"--ahead={ahead}") if ahead else ()),
        *((f"--junitxml={junit.resolve()}",) if junit else ()),
    ]  # fmt: skip
    with subprocess.Popen(
        arguments, cwd=ROOT, env=target.environment, pass_fds=(write,),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as process:  # fmt: skip
        os.close(write)
        output: deque[str] = deque(maxlen=400)
        assert process.stdout is not None
        drain = threading.Thread(target=output.extend, args=(process.stdout,), daemon=True)
        drain.start()
        results = _follow(read, on_result)
        drain.join()
    lines = [printable(line.rstrip()) for line in output if line.strip()]
    if junit and junit.is_file():  # pytest keeps C1 and bidi characters of what was seen
        junit.write_text(printable(junit.read_text(encoding="utf-8")), encoding="utf-8")
    if os.environ.get("OUTPOST_DEBUG"):
        sys.stderr.write("\n".join(lines) + "\n")
    unexplained = process.returncode == 1 and not any(result.outcome == "failed" for result in results)
    # a file that cannot be imported is no proof
    if process.returncode not in (0, 1) or not results or unexplained:
        message = f"the live checks could not run: {lines[-1] if lines else 'pytest printed nothing'}"
        raise OutpostError(message, "run it again with OUTPOST_DEBUG=1 to see pytest's full output")
    unasked = {result for result in results if result.outcome == "failed" and result.could_not_ask}
    died = unreached(target, office, {result.host for result in unasked} & {*office.hosts_by_name}, connector)
    found = [result for result in results if result not in unasked or result.host not in died]
    found = [result for result in found if NO_HOST not in result.seen] or found
    return Verdict((*absent, *_absent(died), *found), time.monotonic() - started, lines[-1] if lines else "")


def _absent(gone: Mapping[str, OutpostError]) -> list[Result]:
    """One failure for each host that does not answer; its checks are not counted."""
    promise = "the host answers the controller"
    return [
        Result(f"reached[{name}]", name, promise, (), "failed", error.message, 0.0, error.remedy)
        for name, error in gone.items()
    ]


def _follow(descriptor: int, on_result: OnResult) -> list[Result]:
    results: dict[str, Result] = {}
    total = 0
    with os.fdopen(descriptor) as pipe:
        for line in pipe:
            event = json.loads(line)
            if event.pop("event") == "collected":
                total = max(total, event["total"])
                continue
            result = Result(**event | {"controls": tuple(event["controls"])})
            # a failed teardown makes a pass a failure
            if result.id not in results or result.outcome == "failed":
                results[result.id] = result
            on_result(len(results), max(total, len(results)), result)
    return list(results.values())
