"""The report: one page that shows fault → control → line in effect → check → attack → host → result, and what is missing.

The page needs nothing beside itself: no script, no font, no picture from anywhere. It is made from the runs that
`outpost verify` kept, the recorded attacks, the catalogue, and the present lines on the hosts.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from outpost.errors import OutpostError
from outpost.evidence.controls import AttackPlan, Catalogue, Control, Fault
from outpost.evidence.effect import Line
from outpost.office import Host, Office
from outpost.recovery.restore import Drill
from outpost.templates import environment
from outpost.tools import run
from outpost.transport.answers import printable
from outpost.verification import history
from outpost.verification.history import Run
from outpost.verification.live import Result

PAGE = "report.html.j2"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
State = Literal["proven", "failed", "open", "none"]
SIGNS: dict[State, str] = {"proven": "✓", "failed": "✗", "open": "○", "none": "·"}
WORDS: dict[State, str] = {
    "proven": "seen to hold", "failed": "seen to fail", "open": "not checked", "none": "not concerned"
}  # fmt: skip


class Checked(NamedTuple):
    """A check's latest result."""

    result: Result
    when: str

    @property
    def state(self) -> State:
        return state_of([self])

    @property
    def described(self) -> str:
        """The same in words, for readers who see no colours, with its duration."""
        return f"{WORDS[self.state]}, {self.when}, {self.result.seconds:.2f} s"

    @property
    def skipped(self) -> str:
        """Why it was not run, if it was not."""
        return self.result.seen.removeprefix("Skipped: ") if self.result.outcome == "skipped" else ""


class Attacked(NamedTuple):
    """An attack as last recorded."""

    plan: AttackPlan
    recorded: Mapping[str, Any]

    @property
    def state(self) -> State:
        verdict = (self.recorded.get("with") or {}).get("verdict", "")
        return "proven" if verdict == "defended" else "failed" if verdict == "BREACHED" else "open"

    @property
    def observed(self) -> str:
        return str((self.recorded.get("with") or {}).get("observed", ""))

    @property
    def positive(self) -> str:
        """The observation without the defence."""
        without = self.recorded.get("without")
        if not without:
            return f"none: {self.plan.no_switch}" if self.plan.no_switch else "not recorded"
        return f"{'succeeds' if without['succeeded'] else 'fails'} without {without['turned off']}"


@dataclass(frozen=True)
class Evidence:
    """Everything that the page is made of.

    Attributes:
        kept: Runs, the latest first.
        lines: Control → lines in effect on the hosts.
        attacked: Recorded attacks.
        drills: Restore drills, the latest first.
        lab: Whether the office is the lab that the attacks were carried out against: they prove nothing about another office.
    """

    office: Office
    data: Catalogue
    kept: tuple[Run, ...]
    lines: Mapping[str, Sequence[Line]]
    attacked: Mapping[str, Any]
    drills: tuple[Drill, ...] = ()
    lab: bool = True

    @cached_property
    def latest(self) -> tuple[Checked, ...]:
        """Each check's latest result, failures first."""
        found = [Checked(result, run.when) for result, run in history.latest(self.kept).values()]
        order = {"failed": 0, "skipped": 1, "passed": 2}
        return tuple(
            sorted(found, key=lambda each: (order[each.result.outcome], each.result.host, each.result.id))
        )

    def checks_of(self, control: str) -> tuple[Checked, ...]:
        return tuple(each for each in self.latest if control in each.result.controls)

    def attacks_on(self, control: Control) -> tuple[Attacked, ...]:
        return self.recorded(self.data.attacks_on(control.id))

    def attacks_of(self, fault: Fault) -> tuple[Attacked, ...]:
        return self.recorded(self.data.attacks_of(fault.id))

    def recorded(self, plans: Iterable[AttackPlan]) -> tuple[Attacked, ...]:
        return tuple(Attacked(plan, self.attacked.get(plan.id, {})) for plan in plans)


def worst(states: Sequence[State]) -> State:
    for state in ("failed", "proven", "open"):
        if state in states:
            return state
    return "none"


def state_of(checked: Sequence[Checked]) -> State:
    outcomes = {each.result.outcome for each in checked}
    return "failed" if "failed" in outcomes else "proven" if "passed" in outcomes else "open"


class Cell(NamedTuple):
    """One fault on one host."""

    state: State
    passed: int
    failed: int

    @property
    def described(self) -> str:
        """In words, for readers who see no colours."""
        total = self.passed + self.failed
        return WORDS[self.state] + (f", {self.passed} of {total} checks hold" if total else "")


def cell(evidence: Evidence, fault: Fault, host: Host) -> Cell:
    """How a fault is met on a host."""
    controls = evidence.data.controls_of(fault.id)
    here = [control for control in controls if host.role in control.where or "base" in control.where]
    every = (each for control in controls for each in evidence.checks_of(control.id))
    of_host = (each for each in every if each.result.host == host.name)
    checked = {each.result.id: each for each in of_host if each.result.outcome != "skipped"}
    failed = sum(each.result.outcome == "failed" for each in checked.values())
    deployed = any(control.status != "planned" for control in here)
    state = state_of(tuple(checked.values())) if checked else "open" if deployed else "none"
    return Cell(state, len(checked) - failed, failed)


def state_of_control(evidence: Evidence, control: Control) -> State:
    """Proven by its checks; by its attacks if it has none."""
    checked = [each for each in evidence.checks_of(control.id) if each.result.outcome != "skipped"]
    attacked = [each.state for each in evidence.attacks_on(control)] if evidence.lab else []
    return worst([*([state_of(checked)] if checked else []), *attacked, "open"])


def state_of_fault(evidence: Evidence, fault: Fault) -> State:
    """Proven by the controls that meet it and the attacks that try it."""
    meet = (each for each in evidence.data.controls_of(fault.id) if each.status != "planned")
    controls = [state_of_control(evidence, control) for control in meet]
    attacked = [each.state for each in evidence.attacks_of(fault)] if evidence.lab else []
    return worst([*controls, *attacked, "open"])


def not_verified(evidence: Evidence) -> list[tuple[str, str, str]]:
    """What was not checked, and why: thing, title, reason."""
    found = []
    for control in evidence.data.controls.values():
        if control.status == "planned":
            found.append((control.id, control.title, f"planned: {control.waits_for}"))
        elif state_of_control(evidence, control) == "open":
            skipped = [each.skipped for each in evidence.checks_of(control.id)]
            tried = "its proof is an attack, and attacks are carried out against the lab"
            suite = "its proof is a test of the project's suite, not a live check"
            lab_only = not evidence.lab and evidence.attacks_on(control)
            why = skipped[0] if skipped else tried if lab_only else suite
            found.append((control.id, control.title, why))
    for each in evidence.recorded(evidence.data.attacks.values()):
        if each.state == "open":
            found.append((f"attack {each.plan.id}", each.plan.title, "not recorded"))
    return found


def page(evidence: Evidence, *, paper: bool = False) -> str:
    """The page.

    Args:
        paper: Everything is open, as for a printer.
    """
    if not evidence.kept:
        raise OutpostError("nothing has been verified yet", "run ./outpost verify OFFICE first")
    latest, attacked = evidence.latest, evidence.recorded(evidence.data.attacks.values())
    templates = environment(Path(__file__).parent).overlay(autoescape=True, finalize=_safe)
    controls = evidence.data.controls.values()
    states = {control.id: state_of_control(evidence, control) for control in controls}
    left = not_verified(evidence)

    def row(fault: Fault) -> tuple[Fault, State, list[Cell], State]:
        cells = [cell(evidence, fault, host) for host in evidence.office.hosts]
        attacks = [each.state for each in evidence.attacks_of(fault) if evidence.lab]
        return fault, state_of_fault(evidence, fault), cells, worst([*attacks, "none"])

    return templates.get_template(PAGE).render(
        evidence=evidence, office=evidence.office, run=evidence.kept[0], latest=latest,
        reasons=Counter(why for _, _, why in left).most_common(4), not_verified=left, state_of=states,
        matrix=[row(fault) for fault in evidence.data.faults.values()],
        controls=[(control, states[control.id]) for control in controls if control.status != "planned"],
        made=datetime.now(UTC).isoformat(timespec="seconds"), signs=SIGNS, words=WORDS, paper=paper, attacked_all=attacked,
    )  # fmt: skip


def _safe(value: Any) -> Any:
    """Remove characters that reverse the order of a line, or that a viewer of the source obeys."""
    return printable(value) if type(value) is str else value


def print_page(html: str, pdf: Path) -> None:
    """The page on paper, by Debian's Chromium."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        remedy = "apt-get install chromium, or print the page yourself"
        raise OutpostError("there is no Chromium to print with", remedy)
    with tempfile.TemporaryDirectory(prefix="outpost-report-") as directory:
        source = Path(directory) / "report.html"
        source.write_text(html, encoding="utf-8")
        run(
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer",
            f"--user-data-dir={directory}/profile", f"--print-to-pdf={pdf.resolve()}", source.as_uri(),
            remedy="print the page from a browser", timeout=180,
        )  # fmt: skip
    if not pdf.is_file():
        raise OutpostError("Chromium did not print the page", "print the page from a browser")
