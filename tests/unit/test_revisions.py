"""The changes on hosts by a change of the code can be read without a host, and contain no secret."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from outpost.cli import app as cli
from outpost.converge import revisions
from outpost.converge.revisions import Difference
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.office import load
from outpost.target import ROOT

MAIN = "templates/mta/etc/postfix/main.cf.j2"
KEYS = "roles/base/declare.py"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An office with its secrets."""
    place = tmp_path_factory.mktemp("office")
    shutil.copy(ROOT / "inventory/harbour/office.toml", place)
    recipient = secrets_file.create_identity(place / "identity.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(secrets_file.IDENTITY_VARIABLE, str(place / "identity.txt"))
        secrets_file.write(place, secrets_file.complete(load(place), None).secrets, (str(recipient),))
    return place


@pytest.fixture(autouse=True)
def _identity(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(secrets_file.IDENTITY_VARIABLE, str(directory / "identity.txt"))


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This code with other lines, like an older revision."""
    place = tmp_path_factory.mktemp("before")
    shutil.copy(ROOT / "deploy.py", place)
    for top in ("src", "roles", "templates", "controls"):
        shutil.copytree(ROOT / top, place / top, ignore=shutil.ignore_patterns("__pycache__"))
    main = place / MAIN
    main.write_text(main.read_text().replace("bounce_size_limit = 1\n", "bounce_size_limit = 50000\n"))
    keys = place / KEYS
    line = 'text(f"{where}/{name}.key", key,'
    assert line in keys.read_text()
    keys.write_text(keys.read_text().replace(line, line.replace(" key,", " 'former' + key,")))
    return place


def test_only_what_differs_is_shown_and_no_secret(directory: Path, before: Path) -> None:
    found = revisions.differences(directory, ["mta", "ns1"], before)
    by_thing = {each.thing: each for each in found["mta"]}
    main = by_thing["/etc/postfix/main.cf"]
    assert (main.kind, main.change) == ("file", "changed")
    assert {"-bounce_size_limit = 50000", "+bounce_size_limit = 1"} <= set(main.diff)
    hidden = [each for thing, each in by_thing.items() if thing.endswith(".key")]
    assert hidden
    assert {each.diff for each in hidden} == {("(the content is secret, and differs)",)}
    assert "/etc/postfix/main.cf" not in {each.thing for each in found["ns1"]}
    shown = json.dumps({host: [vars(each) for each in all_of] for host, all_of in found.items()})
    assert "former" not in shown
    assert "PRIVATE KEY" not in shown


def test_the_same_code_declares_the_same(directory: Path) -> None:
    assert revisions.differences(directory, ["store"], ROOT) == {"store": ()}


def test_what_is_new_and_what_is_gone() -> None:
    old: revisions.Declared = {
        "package borg": ([], None, None),
        "file /etc/a": (["0644", "root", "root"], "1", "x = 1\n"),
        "file /etc/open": (["0644", "root", "root"], "1", "password\n"),
        "account vmail": (["-", "/bin/sh"], None, None),
    }
    new: revisions.Declared = {
        "package knot": ([], None, None),
        "file /etc/b": (["0644", "root", "root"], "1", "y = 1\n"),
        "file /etc/open": (["0600", "root", "root"], "2", None),
        "account vmail": (["-", "/usr/sbin/nologin"], None, None),
    }
    assert list(revisions._compared(old, new)) == [
        Difference("account", "vmail", "changed", ("-- /bin/sh", "+- /usr/sbin/nologin")),
        Difference("file", "/etc/a", "removed", ("-0644 root root", "@@ -1 +0,0 @@", "-x = 1")),
        Difference("file", "/etc/b", "added", ("+0644 root root", "@@ -0,0 +1 @@", "+y = 1")),
        Difference(
            "file",
            "/etc/open",
            "changed",
            ("-0644 root root", "+0600 root root", "(the content is secret, and differs)"),
        ),
        Difference("package", "borg", "removed", ()),
        Difference("package", "knot", "added", ()),
    ]


def test_a_revision_is_checked_out_and_no_option_of_git() -> None:
    with revisions.checkout("HEAD") as place:
        assert (place / "deploy.py").is_file()
    assert not place.exists()
    for wrong in ("no-such-revision", "--help", ""):
        with (
            pytest.raises(OutpostError, match="is not a revision of this checkout"),
            revisions.checkout(wrong),
        ):
            pytest.fail("there is one")


def test_code_that_cannot_declare_says_so_without_a_secret(directory: Path, tmp_path: Path) -> None:
    package = tmp_path / "src" / "outpost"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ValueError('a secret')\n")
    with pytest.raises(OutpostError, match=r"that revision cannot declare .*: ValueError\."):
        revisions.differences(directory, ["store"], tmp_path)
    (package / "__init__.py").write_text("")
    with pytest.raises(OutpostError, match=r"No module named 'outpost\.converge'") as caught:
        revisions.differences(directory, ["store"], tmp_path)
    assert "later revision" in caught.value.remedy


def test_differences_are_printed_with_exit_code_two(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Difference("unit", "a.service", "added", ())

    def found(_directory: Path, hosts: Sequence[str], _before: Path) -> dict[str, tuple[Difference, ...]]:
        return {host: (one,) if host == "mta" else () for host in hosts}

    monkeypatch.setattr(revisions, "differences", found)
    assert cli.run(["declare", str(directory), "--against", "HEAD"]) == 2
    shown = capsys.readouterr().out
    assert "mta: 1 difference\n  added unit a.service\n" in shown
    assert "store: no differences\n" in shown
    assert cli.run(["declare", str(directory), "store", "--against", "HEAD", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"against": "HEAD", "hosts": {"store": []}}
    assert cli.run(["declare", str(directory)]) == 1
    assert "no host is named" in capsys.readouterr().err
