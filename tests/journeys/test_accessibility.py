"""axe-core finds nothing critical or serious on our own pages."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Frame, Page, expect

from outpost_lab import judges, pace
from outpost_lab.post import Neighbour, OfficeUser
from tests.journeys.desk import idle, log_in, needs_browser, open_message
from tests.journeys.test_webmail_browser import invited

pytestmark = [needs_browser, pytest.mark.slow]
logger = logging.getLogger(__name__)
OURS = ("guide.html", "?_task=settings&_action=plugin.access")
FORMS = (
    "?_task=mail",
    "?_task=mail&_action=compose",
    "?_task=settings&_action=preferences",
    "?_task=settings&_action=identities",
    "?_task=settings&_action=folders",
    "?_task=settings&_action=plugin.managesieve-vacation",
    "?_task=settings&_action=edit-prefs&_section=compose&_framed=1",
    "?_task=settings&_action=add-response&_framed=1",
    "?_task=settings&_action=plugin.managesieve-action&_framed=1&_nav=hide",
    "?_task=addressbook",
)
"""Lists and forms of Roundcube, which the office's plugin completes (office.js)."""
KEPT = {"tabindex", "document-title"}
"""Rules that Roundcube breaks on purpose: the order in which a message is written; and what is shown in a frame has its title there."""


@pytest.fixture(scope="module")
def axe() -> str:
    (script,) = (
        judges.environment().parents[1].glob("lib/python*/site-packages/axe_playwright_python/axe.min.js")
    )
    return Path(script).read_text()


def broken(page: Page | Frame, axe: str, part: str = "html") -> dict[str, list[str]]:
    """Rules that are critical or serious, and what breaks each, in a part of a page."""
    page.wait_for_load_state("networkidle")
    page.evaluate(axe)
    found: list[dict[str, Any]] = page.evaluate(
        "part => axe.run({include: [[part]], exclude: [['a.disabled']]}, {resultTypes: ['violations']})"
        ".then(found => found.violations)",
        part,  # what is off may be pale (WCAG 1.4.3)
    )
    rules = {
        rule["id"]: [f"{node['html'][:120]} {node['failureSummary'][:240]}" for node in rule["nodes"]]
        for rule in found
        if rule["impact"] in ("critical", "serious")
    }
    return {rule: nodes for rule, nodes in rules.items() if nodes}


def test_axe_reports_faults_of_a_page(page: Page, axe: str) -> None:
    page.set_content(
        "<html><body><main><input type=text><p style='color:#ccc;background:#fff'>pale</p></main></body></html>"
    )
    assert {"label", "color-contrast", "html-has-lang"} <= broken(page, axe).keys()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("language", ["en-GB", "de-DE"])
def test_everybody_can_use_the_pages_of_the_office(
    browser: Browser, axe: str, site: str, alice: OfficeUser, width: int, language: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, locale=language)
    page = context.new_page()
    page.set_default_timeout(20_000 * pace.load())
    page.goto(site)
    expect(page.locator("#rcmloginuser")).to_be_visible()
    found = {"login": broken(page, axe)}
    log_in(page, site, alice)
    idle(page)
    for path in OURS:
        page.goto(f"{site}{path}")
        found[path] = broken(page, axe)
    logger.info("%s", found)
    assert {path: rules for path, rules in found.items() if rules} == {}


@pytest.mark.parametrize("width", [1280, 390])
def test_lists_and_forms_have_names_that_a_screen_reader_can_read(
    browser: Browser, axe: str, site: str, alice: OfficeUser, width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, locale="de-DE")
    page = context.new_page()
    page.set_default_timeout(20_000 * pace.load())
    log_in(page, site, alice)
    idle(page)
    found = {}
    for path in FORMS:
        page.goto(f"{site}{path}")
        found[path] = {rule: nodes for rule, nodes in broken(page, axe).items() if rule not in KEPT}
    assert {path: rules for path, rules in found.items() if rules} == {}


def test_everybody_can_read_and_answer_an_invitation(
    page: Page, axe: str, site: str, alice: OfficeUser, stranger: Neighbour
) -> None:
    message, token = invited(alice, stranger)
    stranger.send(message, [alice.address])
    alice.receive(token)
    log_in(page, site, alice)
    idle(page)
    open_message(page, token)
    page.frame_locator("#messagecontframe").locator(".invitation button").first.wait_for()
    shown = page.frame(name="messagecontframe")
    assert shown is not None
    assert broken(shown, axe, ".invitation") == {}
