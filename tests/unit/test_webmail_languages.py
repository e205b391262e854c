"""Webmail's texts in each language: none is missing, and none has a placeholder that the English text lacks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outpost.office import Office, load
from outpost.onhost import accounts, passwords
from outpost.target import ROOT
from roles.webmail.guide import LANGUAGES, page

PLUGIN = ROOT / "templates/webmail/var/lib/roundcube/plugins/access"
LABEL = re.compile(r"^\$labels\['(\w+)'\] = '([^']+)';$", re.MULTILINE)
HARBOUR = ROOT / "inventory" / "harbour"


def texts(file: Path) -> dict[str, str]:
    found = LABEL.findall(file.read_text())
    assert len(found) == file.read_text().count("$labels["), "a line that is no label"
    assert len(dict(found)) == len(found), "a label stands twice"
    return dict(found)


ENGLISH = texts(PLUGIN / "localization/en_US.inc.j2")


@pytest.mark.parametrize(
    "file", sorted(PLUGIN.parent.glob("*/localization/*")), ids=lambda file: f"{file.parts[-3]}-{file.name}"
)
def test_a_language_has_each_text_with_the_same_variables(file: Path) -> None:
    translated, english = texts(file), texts(file.with_name("en_US.inc.j2"))
    assert translated.keys() == english.keys()
    for label, text in english.items():
        assert set(re.findall(r"\$\w+", translated[label])) == set(re.findall(r"\$\w+", text)), label


def test_each_text_that_the_page_asks_for_exists() -> None:
    texts = set(re.findall(r"\$this->t\('(\w+)'", (PLUGIN / "access.php.j2").read_text()))
    texts |= {
        "welcome",
        "password",
        "welcome_hint",
        "password_hint",
        "made_on",
        "used_on",
        "since",
    }  # chosen elsewhere
    texts |= {"factor_more", "set_up", "set_up_thunderbird", "set_up_apple"}
    assert len(texts) > 30
    assert texts <= ENGLISH.keys()
    shown = {label for label in ENGLISH if not label.startswith(("refused_", "done_"))}
    assert shown == texts - {"refused_unavailable"}, "a text that nothing shows"


def test_each_text_about_invitations_is_shown_somewhere() -> None:
    plugin = PLUGIN.with_name("invitations")
    source = (plugin / "invitations.php.j2").read_text()
    for label in texts(plugin / "localization/en_US.inc.j2"):
        assert f"'{label}'" in source, label
    assert (
        set(re.findall(r"\$this->t\('(\w+)'", source)) <= texts(plugin / "localization/en_US.inc.j2").keys()
    )


def test_each_reason_of_the_store_has_a_text() -> None:
    source = Path(accounts.__file__).read_text()
    reasons = set(re.findall(r'RefusedError\("(\w+)"', source))
    reasons |= set(re.findall(r'Objection\("(\w+)"', Path(passwords.__file__).read_text()))
    assert len(reasons) > 12
    assert {f"refused_{reason}" for reason in reasons} <= ENGLISH.keys()


@pytest.fixture(scope="module")
def office() -> Office:
    return load(HARBOUR)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_guide_in_each_language_has_the_same_facts(office: Office, language: str) -> None:
    english, other = (page(office, one).content.decode() for one in ("en", language))
    assert f'<html lang="{language}">' in other
    facts = re.compile(r"href=\"[^\"]+\"|<code>[^<]+</code>|\d+ MiB")
    assert facts.findall(other) == facts.findall(english)


NOTICES = (
    ("mta/etc/postfix/bounce.cf.j2", "\nYour message could", "\nIhre Nachricht konnte", "\nEOF"),
    ("mta/etc/postfix/bounce.cf.j2", "\nThis is a warning", "\nDies ist nur", "\nEOF"),
    ("store/usr/local/lib/outpost/quota-warning.j2", "\nYour mailbox is", "\nIhr Postfach ist", "\nMESSAGE"),
    ("store/usr/local/lib/outpost/digest.j2", "\nThe filter put", "\nDer Filter hat", "\n\n$found"),
    ("webmail/var/www/webmail/too-large.html.j2", "<p>A file may", "<p>Eine Datei darf", "</div>"),
)
"""Messages and pages in both languages: the start of the English text, of the German text, and of what follows."""


@pytest.mark.parametrize(("file", "english", "german", "end"), NOTICES, ids=lambda part: part.strip()[:30])
def test_a_notice_in_both_languages_has_the_same_facts(
    file: str, english: str, german: str, end: str
) -> None:
    _, _, rest = (ROOT / "templates" / file).read_text().partition(english)
    first, found, rest = rest.partition(german)
    second, closed, _ = rest.partition(end)
    assert found
    assert closed
    filled_in = re.compile(r"\{\{[^}]+\}\}|\$\w+")
    assert set(filled_in.findall(first)) == set(filled_in.findall(second))
    assert 0.6 < len(second.split()) / len(first.split()) < 1.6, "a sentence has no translation"
