"""Which host each sabotage goes to, and how many of the checks have been seen to fail."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from outpost.converge.files import APPLIED
from outpost.office import Host, Office, load
from outpost.transport.remote import run_script
from outpost.verification.live import chosen_target
from tests.sabotage.breaking import Check, Sabotage
from tests.sabotage.table import LIVE, SABOTAGES, SPARED, file_of, function, meant, variant

RED = "red"  # property of a report: what was seen to fail
ASSERTED = "asserted"  # ... and whether an assertion failed


def hosts_of(office: Office) -> list[tuple[Sabotage, Host]]:
    """Each sabotage with its host: the first one of its role, or the one that it names. Those for any host go to the host with the
    least work. Roles that the office does not have are left out.
    """
    busy: Counter[str] = Counter()
    chosen: dict[int, Host] = {}
    for number, sabotage in sorted(enumerate(SABOTAGES), key=lambda each: each[1].switch.role == "base"):
        role = sabotage.switch.role
        candidates = [host for host in office.hosts if role in ("base", host.role, host.name)]
        eyes = {sabotage.looked_at} - {""}
        if not candidates or not eyes <= {name for host in office.hosts for name in (host.name, host.role)}:
            continue
        chosen[number] = (
            min(candidates, key=lambda host: busy[host.name]) if role == "base" else candidates[0]
        )
        busy[chosen[number].name] += 1
    return [(SABOTAGES[number], chosen[number]) for number in sorted(chosen)]


class ByHost(LoadScopeScheduling):  # type: ignore[misc]  # xdist is untyped
    """xdist's order of work: one role's sabotages one after the other, roles side by side."""

    def _split_scope(self, nodeid: str) -> str:
        host = nodeid.partition("[")[2].partition(":")[0]
        return host.rstrip("0123456789")  # a signed zone of one name server repairs the copy of the other


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByHost:
    """Whatever --dist says."""
    return ByHost(config, log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a sabotage, named after its host."""
    if "sabotage" not in metafunc.fixturenames:
        return
    office = load(chosen_target(metafunc.config).data)
    metafunc.parametrize(
        ("sabotage", "victim"),
        [
            pytest.param(sabotage, host, id=f"{host.name}: {sabotage.what}")
            for sabotage, host in hosts_of(office)
        ],
    )


@dataclass
class Listed:
    """A plugin that collects the checks, or their results.

    Attributes:
        aims: Only these; None: all of them.
        outcomes: pytest's words, and ``crashed`` for an error that is not an assertion: a traceback names no fault.
    """

    host: str = ""
    aims: tuple[Check, ...] | None = None
    outcomes: dict[Check, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep only the chosen checks."""
        kept = []
        for item in items:
            me = item.callspec.params["me"].name if hasattr(item, "callspec") else ""
            check = variant(item.nodeid, me)
            if self.aims is None or meant(check, self.aims):
                kept.append(item)
                self.outcomes[check] = "not run"
        items[:] = kept

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Mark what an assertion turned red."""
        report = yield
        asserted = call.excinfo and call.excinfo.errisinstance((AssertionError, pytest.fail.Exception))
        report.user_properties.append((ASSERTED, bool(asserted)))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The worst phase of a check counts."""
        check = variant(report.nodeid, self.host)
        if report.when == "call" or not report.passed:
            asserted = dict(report.user_properties).get(ASSERTED)
            self.outcomes[check] = "crashed" if report.failed and not asserted else report.outcome
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.failures.append(f"{check}: {str(getattr(crash, 'message', report.longrepr))[:400]}")


def seen_of(selection: Listed, config: pytest.Config, *options: str) -> Listed:
    """Run or list live checks in a pytest of their own, against the same office."""
    target = chosen_target(config)
    files = sorted({str(LIVE)} if selection.aims is None else {file_of(aim) for aim in selection.aims})
    arguments = [
        *files,
        "-q",
        "--no-header",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--office",
        str(target.directory),
        *(("--name", target.instance) if target.instance else ()),
        *(("--host", selection.host) if selection.host else ()),
        *options,
    ]
    pytest.main(arguments, plugins=[selection])
    return selection


@dataclass(frozen=True)
class Share:
    """Number of checks that have been seen to fail.

    Attributes:
        missing: Checks that no sabotage has turned red.
        spared: Checks that no sabotage can turn red in the lab.
    """

    known: int
    missing: tuple[Check, ...]
    spared: tuple[Check, ...]

    def __str__(self) -> str:
        wanted = self.known - len(self.spared)
        seen = wanted - len(self.missing)
        return f"{seen} of {wanted} checks: {100 * seen / max(1, wanted):.1f} %"


SHARE = pytest.StashKey[Share]()


def _explained_by_the_sabotage(config: pytest.Config) -> None:
    """Log lines of the sabotages are explained: the checks of the journal start after them, on every host."""
    target = chosen_target(config)
    office = load(target.data)
    for host in office.hosts:
        run_script(target, office, host, f"touch {APPLIED}")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Add up the results; a check that no sabotage has turned red fails the run."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(config, "workerinput") or config.option.collectonly or not reporter or exitstatus > 1:
        return
    _explained_by_the_sabotage(config)
    reports = [report for kind in ("passed", "failed") for report in reporter.stats.get(kind, [])]
    red = {check for report in reports for check in dict(report.user_properties).get(RED, ())}
    with contextlib.redirect_stdout(io.StringIO()):
        known = set(seen_of(Listed(), config, "--collect-only").outcomes)
    spared = {check for check in known if function(check) in SPARED}
    share = config.stash[SHARE] = Share(
        len(known), tuple(sorted(known - spared - red)), tuple(sorted(spared))
    )
    if share.missing and not config.option.keyword:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The share of checks that have been seen to fail; after a whole run what is missing, by name."""
    share = config.stash.get(SHARE, None)
    if share is None:
        return
    terminalreporter.section("checks that have been seen to fail")
    for check in () if config.option.keyword else share.missing:
        terminalreporter.write_line(f"never seen to fail: {check}", red=True)
    for check in share.spared:
        terminalreporter.write_line(f"not in the lab: {check}: {SPARED[function(check)]}")
    terminalreporter.write_line(str(share), green=not share.missing, red=bool(share.missing), bold=True)
