"""Journeys use a running lab as people do: with mail clients and browsers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from outpost.target import LAB
from outpost_lab import pace
from outpost_lab.desk import trusting
from outpost_lab.instance import Instance
from outpost_lab.post import Neighbour, OfficeUser, Town
from tests.journeys.desk import launch


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Instance:
    """The lab instance that --name selects; it must be up."""
    return Instance.load(pytestconfig.getoption("--name") or LAB)


@pytest.fixture(scope="session")
def info(lab: Instance) -> dict[str, Any]:
    """The output of `outpost lab info --json`."""
    from outpost_lab.instance import info as lab_info

    described: dict[str, Any] = json.loads(json.dumps(lab_info(lab)))
    return described


@pytest.fixture(scope="session")
def town(info: dict[str, Any]) -> Town:
    """Everybody in it."""
    return Town(info)


@pytest.fixture(scope="session")
def alice(town: Town) -> OfficeUser:
    return town.user("alice")


@pytest.fixture(scope="session")
def bob(town: Town) -> OfficeUser:
    return town.user("bob")


@pytest.fixture(scope="session")
def head(town: Town) -> Neighbour:
    return town.head_office


@pytest.fixture(scope="session")
def client(town: Town) -> Neighbour:
    return town.client_site


@pytest.fixture(scope="session")
def stranger(town: Town) -> Neighbour:
    return town.stranger


@pytest.fixture(scope="session")
def site(lab: Instance) -> str:
    """The address users type."""
    (webmail,) = lab.office.with_role("webmail")
    return f"https://{webmail.fqdn}/"


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """The driver of the browsers."""
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def home(lab: Instance, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where browsers find that the authority of the office's certificates is trusted."""
    home = tmp_path_factory.mktemp("desk")
    trusting(lab.users_ca, home)
    return home


@pytest.fixture
def browser(lab: Instance, playwright: Playwright, home: Path) -> Iterator[Browser]:
    """Chromium, for one test: Playwright kills a browser that does not end, but waits for ever for a window that does not close."""
    chromium = launch(lab, playwright, home)
    yield chromium
    chromium.close()


@pytest.fixture
def page(browser: Browser) -> Page:
    """A window; it is closed with its browser."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB").new_page()
    page.set_default_timeout(20_000 * pace.load())
    return page
