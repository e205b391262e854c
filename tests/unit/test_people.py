"""People are edited in place: comments, order and everything else in the file do not change."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from outpost.cli import edit
from outpost.cli.app import run
from outpost.errors import OutpostError
from outpost.office import OfficeError
from outpost.office_file.people import Roster, difference, keep, propose
from outpost.target import INVENTORY

TEXT = (INVENTORY / "harbour" / "office.toml").read_text()
DOMAIN = tomllib.loads(TEXT)["domain"]


def comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


@pytest.fixture
def roster() -> Roster:
    return Roster(TEXT)


def test_a_user_is_added_behind_the_last_one(roster: Roster) -> None:
    roster.add("users", {"address": f"erin@{DOMAIN}", "full_name": 'Erin "E" Eaton'})
    data = tomllib.loads(roster.text)
    assert data["users"][-1] == {"address": f"erin@{DOMAIN}", "full_name": 'Erin "E" Eaton'}
    assert data | {"users": data["users"][:-1]} == tomllib.loads(TEXT)
    assert [line[0] for line in difference(TEXT, roster.text, "office.toml")[3:] if line.strip()].count(
        "-"
    ) == 0


def test_a_link_to_the_office_file_stays_a_link(tmp_path: Path) -> None:
    """Otherwise the file in the administrators' repository would be left behind."""
    (tmp_path / "real.toml").write_text(TEXT)
    (tmp_path / "office.toml").symlink_to(tmp_path / "real.toml")
    keep(tmp_path / "office.toml", f"{TEXT}# changed\n")
    assert (tmp_path / "office.toml").is_symlink()
    assert (tmp_path / "real.toml").read_text() == f"{TEXT}# changed\n"


def test_adding_and_removing_gives_the_same_file_back(roster: Roster) -> None:
    roster.add("users", {"address": f"erin@{DOMAIN}"})
    roster.remove("users", f"erin@{DOMAIN}")
    assert roster.text == TEXT


def test_a_change_keeps_every_comment(roster: Roster) -> None:
    address = tomllib.loads(TEXT)["users"][-1]["address"]
    roster.change("users", address, disabled=True)
    assert comments(roster.text) == comments(TEXT)
    assert tomllib.loads(roster.text)["users"][-1]["disabled"] is True
    roster.change("users", address, disabled=None)
    assert roster.text == TEXT


def test_removing_the_last_of_a_kind_leaves_the_comment_of_what_follows(roster: Roster) -> None:
    before = tomllib.loads(TEXT)
    roster.remove("users", before["users"][-1]["address"])
    assert comments(roster.text) == [
        comment for comment in comments(TEXT) if comment in comments(roster.text)
    ]
    assert tomllib.loads(roster.text) == before | {"users": before["users"][:-1]}


def test_somebody_who_leaves_leaves_every_list(roster: Roster) -> None:
    roster.add("aliases", {"address": f"pair@{DOMAIN}", "members": [f"a@{DOMAIN}", f"b@{DOMAIN}"]})
    roster.add("aliases", {"address": f"only@{DOMAIN}", "members": [f"a@{DOMAIN}"]})
    roster.add("aliases", {"address": f"behind@{DOMAIN}", "members": [f"only@{DOMAIN}"]})
    roster.leave_lists(f"a@{DOMAIN}")
    lists = {alias["address"]: alias["members"] for alias in tomllib.loads(roster.text).get("aliases", [])}
    assert lists[f"pair@{DOMAIN}"] == [f"b@{DOMAIN}"]
    assert not {f"only@{DOMAIN}", f"behind@{DOMAIN}"} & set(lists)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Erin", "erin@quay.example"),
        ("Erin@Quay.Example", "erin@quay.example"),
        ("Carl@Far.Example", "Carl@Far.Example"),
    ],
)
def test_an_address_of_the_office_is_in_lower_case(typed: str, meant: str) -> None:
    assert Roster("", "quay.example").at(typed) == meant


def test_nobody_unknown_is_changed(roster: Roster) -> None:
    with pytest.raises(OutpostError, match="nobody@"):
        roster.change("users", f"nobody@{DOMAIN}", disabled=True)
    with pytest.raises(OutpostError):
        roster.remove("users", f"nobody@{DOMAIN}")


def test_what_breaks_a_rule_never_reaches_the_file(roster: Roster, tmp_path: Path) -> None:
    file = tmp_path / "office.toml"
    file.write_text(TEXT)
    roster.add("users", {"address": "erin@elsewhere.example"})
    with pytest.raises(OfficeError, match="not in the office's domain"):
        propose(file, roster.text)
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_text() == TEXT


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["user", "add", "SITE", "O'Brien"], '"obrien@quay.example"'),
        (["user", "add", "SITE", "jürgen"], '"juergen@quay.example"'),
        (["user", "add", "SITE", "erin", "--quota", "much"], "like 25MiB"),
        (["user", "remove", "SITE", "nobody"], "choose one of: maria@quay.example"),
        (["user", "passwd", "SITE", "nobody"], "./outpost user list /"),
        (["alias", "add", "SITE", "team", "maria", "nobody"], "nobody@quay.example"),
    ],
)
def test_a_mistake_is_reported_before_any_host_is_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    remedy: str,
) -> None:
    monkeypatch.setenv("OUTPOST_IDENTITY", str(tmp_path / "identity.txt"))
    site = tmp_path / "quay"
    answers = (
        "--domain",
        "quay.example",
        "--organisation",
        "Quay",
        "--postmaster",
        "maria",
        "--wan",
        "192.0.2.0/28",
    )
    assert run(["new", str(site), *answers]) == 0
    capsys.readouterr()
    monkeypatch.setattr(edit, "changing", lambda *_, **__: pytest.fail("a host is asked"))
    before = (site / "office.toml").read_text()
    assert run([str(site) if word == "SITE" else word for word in words]) == 1
    assert remedy in capsys.readouterr().err
    assert (site / "office.toml").read_text() == before
