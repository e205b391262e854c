"""The page of evidence in a real browser: light, dark, on a small screen and on paper, with nothing fetched."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from outpost.evidence.controls import catalogue, measured
from outpost.evidence.report import Evidence, page, print_page
from outpost.office import Office
from outpost.verification.history import Run
from outpost.verification.live import Result

CHROMIUM = "/usr/bin/chromium"
pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists(), reason="needs Debian's chromium: apt-get install chromium"
)
CONTRAST = """() => {
  const light = (c) => { const [r, g, b] = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 });
    return .2126 * r + .7152 * g + .0722 * b };
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data] };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c }
    return [255, 255, 255] };
  const poor = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color).slice(0, 3)), light(behind(e).slice(0, 3))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) poor.push(`${e.className || e.tagName}: ${ratio.toFixed(2)}`);
  }
  return [...new Set(poor)];
}"""


@pytest.fixture(scope="module")
def html(office: Office) -> str:
    """A page with each kind of result."""
    results = tuple(
        Result(
            f"tests/live/test_x.py::test_{control.id}[{host.name}]",
            host.name,
            f"{control.title} ({host.name})",
            (control.id,),
            ("failed", "passed", "passed", "skipped")[number % 4],
            "seen",
            0.1,
        )
        for number, control in enumerate(catalogue().controls.values())
        for host in office.hosts
        if host.role in control.where
    )
    run = Run("2026-01-02T03:04:05+00:00", "me@here", "0123456789ab", "0" * 64, "", 9.0, results)
    return page(Evidence(office, catalogue(), (run,), {}, measured()))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(params=["light", "dark"])
def shown(browser: Browser, html: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, opened from a file; anything that it would fetch fails the test."""
    file = tmp_path / "report.html"
    file.write_text(html, encoding="utf-8")
    tab = browser.new_page(color_scheme=request.param, viewport={"width": 1280, "height": 900})
    requests: list[str] = []
    console: list[str] = []
    tab.on("request", lambda each: requests.append(each.url))
    tab.on("console", lambda each: console.append(each.text))
    tab.goto(file.as_uri())
    yield tab
    assert requests == [file.as_uri()]
    assert console == []
    tab.close()


def test_every_word_is_readable(shown: Page) -> None:
    """WCAG 2.2, 1.4.3: contrast of 4.5 to 1 everywhere, in light and dark, with every story open."""
    shown.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert shown.evaluate(CONTRAST) == []


def test_a_click_on_a_fault_opens_its_details(shown: Page) -> None:
    story = shown.locator("#F05")
    assert not story.is_visible()
    shown.locator(".matrix a", has_text="F05").click()
    story.wait_for(state="visible")
    story.locator("a", has_text="DSN-01").first.click()
    shown.locator("#DSN-01").wait_for(state="visible")


def test_it_fits_a_small_screen(shown: Page) -> None:
    shown.set_viewport_size({"width": 390, "height": 800})
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="needs Debian's poppler-utils")
def test_the_printed_page_shows_all_details(html: str, tmp_path: Path) -> None:
    import subprocess

    pdf = tmp_path / "report.pdf"
    print_page(html.replace("<details>", "<details open>"), pdf)
    text = subprocess.run(["pdftotext", str(pdf), "-"], capture_output=True, text=True, check=True).stdout
    assert all(
        control.title in " ".join(text.split()) for control in list(catalogue().controls.values())[:20]
    )


@pytest.mark.skipif(
    not shutil.which("pdftotext"), reason="needs poppler-utils: apt-get install poppler-utils"
)
def test_a_manager_reads_two_pages_and_the_rest_is_behind_them(html: str, tmp_path: Path) -> None:
    """However much fails, the verdict is on the first page, every fault on the second, and observations follow from the third."""
    file = tmp_path / "evidence.pdf"
    print_page(html.replace("<details>", "<details open>"), file)
    pages = subprocess.run(
        ["pdftotext", "-layout", file, "-"], capture_output=True, text=True, check=True
    ).stdout.split("\f")
    assert "What fails" in pages[0]
    assert "What was not verified" in pages[0]
    assert "Fault matrix" in pages[1]
    faults = catalogue().faults
    assert [name for name in faults if name not in pages[1]] == []
    assert "What fails, and what was observed" in pages[2]
