"""Every link, heading, line and command in the documentation exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.version import Version

from outpost import __version__
from outpost.target import ROOT
from tests.lint.test_project import files

PAGES = files("*.md")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"\./outpost ([a-z][a-z-]*)")


def links(page: Path) -> list[str]:
    """Targets of a page's links to other places of the checkout."""
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    return [target for target in LINK.findall(text) if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """Names of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} leads nowhere"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{target}: no such heading"


def test_a_page_with_a_dead_link_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[gone](nowhere.md) and `[code](not-a-link.md)` and [out](https://example.com)")
    assert links(page) == ["nowhere.md"]


def test_the_explanation_links_files_that_name_the_control() -> None:
    text = (ROOT / "docs" / "explanation.md").read_text()
    claimed = [
        (control, target)
        for control, rest in re.findall(r"^- \*\*([A-Z]+-\d+)\*\*(.*)$", text, flags=re.MULTILINE)
        for target in re.findall(r"\(\.\./([^)#]+)\)", rest)
    ]
    assert len(claimed) > 100
    assert [pair for pair in claimed if pair[0] not in (ROOT / pair[1]).read_text()] == []


def test_generated_pages_have_no_line_numbers_that_change_with_each_commit() -> None:
    numbered = re.compile(r"#L\d+|\.(?:py|j2|toml):\d+")
    assert [str(page) for page in files("docs/**/*.md") if numbered.search(page.read_text())] == []
    assert numbered.search("[main.cf.j2](../templates/mta/etc/postfix/main.cf.j2#L136)")


def test_pages_name_commands_that_exist() -> None:
    import typer

    from outpost.cli.app import app

    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    unknown = {
        (page.name, command)
        for page in PAGES
        for command in COMMAND.findall(page.read_text())
        if command not in known
    }
    assert unknown == set()


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        waiting += [
            (page.parent / target.partition("#")[0]).resolve()
            for target in links(page)
            if target.partition("#")[0]
        ]
    assert set(PAGES) - seen == set()


def test_the_changelog_begins_with_this_version_in_the_sections_of_keep_a_changelog() -> None:
    _, *parts = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    unreleased, *released = parts
    assert unreleased.startswith("[Unreleased]\n")
    last = re.match(r"\[(\S+)\] - \d{4}-\d\d-\d\d\n", released[0])
    assert last
    if "\n- " in unreleased:  # newer than the release, so that a host refuses the release's wheel after it
        assert Version(__version__) > Version(last[1])
        assert Version(__version__).is_devrelease
    else:
        assert __version__ == last[1]
    sections = {
        section for part in released for section in re.findall(r"^### (.*)", part, flags=re.MULTILINE)
    }
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
