"""The page of evidence: complete, self-contained, and honest about what failed or was not checked."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from typing_extensions import override

from outpost.errors import OutpostError
from outpost.evidence.controls import catalogue
from outpost.evidence.effect import explained, files
from outpost.evidence.reference import case_study
from outpost.evidence.report import Evidence, cell, page, state_of_control
from outpost.office import Office
from outpost.recovery.restore import Drill
from outpost.verification.history import Run
from outpost.verification.live import Result

ATTACKED = {
    "5a": {
        "with": {"verdict": "defended", "observed": "554 <5.7.1>"},
        "without": {"turned off": "x", "succeeded": True},
    }
}


def check(outcome: str, *controls: str, host: str = "mta", seen: str = "") -> Result:
    return Result(
        f"tests/live/test_mta.py::test_x_{outcome}[{host}]",
        host,
        f"X {outcome}",
        controls,
        outcome,
        seen,
        0.25,
    )


@pytest.fixture(scope="module")
def office() -> Office:
    return case_study()


@pytest.fixture(scope="module")
def evidence(office: Office) -> Evidence:
    run = Run(
        "2026-01-02T03:04:05+00:00",
        "me@here",
        "abc+",
        "0" * 64,
        "",
        9.0,
        (
            check("passed", "REL-01"),
            check("failed", "DSN-01", seen="<script>alert(1)</script>"),
            check("skipped", "LOG-02", host="ns1", seen="Skipped: a container has no audit"),
        ),
    )
    _, line = next(explained("mta", "/etc/postfix/main.cf", "# REL-01: why\nrelay = no\n\nother = x\n"))
    return Evidence(office, catalogue(), (run,), {"REL-01": [line]}, ATTACKED)


class Outline(HTMLParser):
    """Ids, links, and everything that a browser would fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.foreign: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "link", "img", "iframe", "object") or any(
            name.startswith("on") for name in values
        ):
            self.foreign.append(tag)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag == "a":
            self.links.append(str(values["href"]))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_nothing_is_fetched_and_nothing_runs(evidence: Evidence) -> None:
    text = page(evidence)
    assert Outline(text).foreign == []
    assert not re.search(r"url\(|@import|https?://", text.partition("</style>")[0])


def test_every_link_leads_somewhere_and_every_tag_is_closed(evidence: Evidence) -> None:
    outline = Outline(page(evidence))
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    ids = {f"#{name}" for name in outline.ids}
    assert set(outline.links) - ids == set()


def test_a_failure_comes_first_with_what_was_seen(evidence: Evidence) -> None:
    text = page(evidence)
    assert "not proven" in text.partition("</h1>")[0]
    assert "&lt;script&gt;alert(1)" in text
    assert text.index("What fails") < text.index("Fault matrix")


def test_fault_control_line_check_attack_and_result_are_on_it(evidence: Evidence) -> None:
    text = page(evidence).partition("<main>")[2]
    shown = text.partition('<div class="inside" id="REL-01">')[2].partition("</details>")[0]
    for part in ("#F17", "/etc/postfix/main.cf:2", "relay = no", "X passed", "mta", "0.25 s", "#attack-5a"):
        assert part in shown, part
    assert "other = x" not in text
    assert "a container has no audit" in text


def test_a_cell_distinguishes_failure_from_silence(evidence: Evidence, office: Office) -> None:
    faults = evidence.data.faults
    assert cell(evidence, faults["F05"], office.host("mta")).state == "failed"
    assert cell(evidence, faults["F17"], office.host("mta")).state == "proven"
    assert cell(evidence, faults["F17"], office.host("ns1")).state == "none"
    assert state_of_control(evidence, evidence.data.controls["LOG-02"]) == "open"


def test_all_is_open_on_paper(evidence: Evidence) -> None:
    assert "<details>" not in page(evidence, paper=True)


def test_a_drill_reports_what_a_loss_would_cost_and_what_did_not_come_back(evidence: Evidence) -> None:
    held = Drill("2026-01-01T00:00:00+00:00", "store", "a", 61.4, 3600.0, 240.2, 30.0, 5, 120, 9, 4, ())
    text = page(replace(evidence, drills=(held, replace(held, differences=("folder x is missing",)))))
    assert "61 s, 3600 s" in text
    assert "120 messages, 5 folders, 9 files, 4 logins" in text
    assert "folder x is missing" in text


def test_there_is_no_page_without_a_run(evidence: Evidence) -> None:
    with pytest.raises(OutpostError, match="nothing has been verified"):
        page(replace(evidence, kept=()))


def test_lines_follow_their_comment_and_secrets_stay() -> None:
    text = "# WEB-09: key\n# more\n$config['des_key'] = 'abc';\nnext = 1\n# else\nz = 1\ngzip off; # TLS-03: BREACH\n"
    found = {line.number: line for _, line in explained("webmail", "/x", text)}
    assert found[3].text == "$config['des_key'] = (not shown)\nnext = 1"
    assert found[3].why == "WEB-09: key more"
    assert found[7].text == "gzip off; # TLS-03: BREACH"


def test_files_that_name_controls_are_read_on_the_hosts_that_have_them() -> None:
    assert "/etc/postfix/main.cf" in files("mta")
    assert "/etc/nftables.conf" in files("dns")
    assert "/etc/postfix/main.cf" not in files("dns")


def test_what_was_attacked_on_a_lab_is_not_counted_for_another_office(evidence: Evidence) -> None:
    breached = {"5a": {"with": {"verdict": "BREACHED", "observed": "250"}, "without": None}}
    only = next(
        control
        for control in evidence.data.controls.values()
        if control.status != "planned"
        and any(plan.id == "5a" for plan in evidence.data.attacks_on(control.id))
        and not evidence.checks_of(control.id)
    )
    assert state_of_control(evidence, only) == "proven"
    passed = replace(evidence.kept[0], results=(check("passed", "REL-01"),))
    there = replace(evidence, kept=(passed,), lab=False)
    assert state_of_control(there, only) == "open"
    assert state_of_control(replace(there, attacked=breached), only) == "open"
    assert "attacks are carried out against the lab" in page(there)
    text = page(replace(there, attacked=breached))
    assert 'is <span class="verdict proven">' in text
    assert "None was carried out against this office" in text
    assert "attacks withstood" not in text
    outline = Outline(text)
    assert outline.open == []
    assert set(outline.links) <= {f"#{name}" for name in outline.ids}
