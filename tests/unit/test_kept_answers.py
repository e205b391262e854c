"""The observer caches no answer that a changed file could make wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from outpost.onhost.observe import KEY, kept_answers, main, places, reading
from outpost.onhost.observe.asking import JUDGED, SURVEYED, Asked, Seen
from outpost.onhost.observe.daemons import steady
from outpost.onhost.observe.places import PACKAGES_OWN, SINGLE, UNSCANNED, WATCHED
from tests.awaiting import until


def rewritten_with_its_old_time(tree: Path) -> None:
    file = tree / "file"
    status = file.stat()
    file.write_text("tnetnoc")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced_by_an_older_one(tree: Path) -> None:
    (tree / "older").rename(tree / "file")


TOUCHES: dict[str, Callable[[Path], object]] = {
    "content, with its size and time put back": rewritten_with_its_old_time,
    "an older file in its place": replaced_by_an_older_one,
    "mode": lambda tree: (tree / "file").chmod(0o4755),
    "extended attribute": lambda tree: os.setxattr(tree / "file", "user.note", b"1"),
    "second name elsewhere": lambda tree: os.link(tree / "file", tree.parent / "second"),
    "gone": lambda tree: (tree / "deep" / "file").unlink(),
    "new": lambda tree: (tree / "deep" / "new").touch(),
    "link led elsewhere": lambda tree: (tree / "other").rename(tree / "link"),
}


def mark_of_files() -> str:
    return kept_answers.Marking().marks()[0]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that were touched long enough ago; a mark covers only such files."""
    top = tmp_path / "tree"
    (top / "deep").mkdir(parents=True)
    for name in ("file", "older", "deep/file"):
        (top / name).write_text("content")
    (top / "link").symlink_to("file")
    (top / "other").symlink_to("older")
    usr = tmp_path / "usr"
    usr.mkdir()
    (usr / "file").write_text("content")
    monkeypatch.setattr(kept_answers, "USR", str(usr))
    monkeypatch.setattr(places, "TREES", (str(top), str(usr)))
    monkeypatch.setattr(kept_answers, "MARKED", ())
    monkeypatch.setattr(kept_answers, "DATABASES", ())
    monkeypatch.setattr(kept_answers, "KEPT", str(tmp_path / "kept"))
    monkeypatch.setenv(KEY, "key")
    until(mark_of_files, "a mark")
    return top


@pytest.mark.parametrize("touch", TOUCHES)
def test_a_mark_is_another_one_after_any_touch(tree: Path, touch: str) -> None:
    before = mark_of_files()
    assert before == mark_of_files() != ""
    TOUCHES[touch](tree)
    assert mark_of_files() == "", "it could be touched once more in the same tick"
    assert until(mark_of_files, "a mark") != before


@pytest.mark.usefixtures("tree")
def test_an_answer_is_kept_for_its_mark_alone_and_never_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["first", "second", "third", "fourth", "fifth"])

    def ask() -> list[str]:
        return [next(answers)]

    assert [kept_answers.kept("x", mark, ask) for mark in ("a", "a", "b", "b")] == [
        ["first"],
        ["first"],
        ["second"],
        ["second"],
    ]
    assert kept_answers.kept("x", "", ask) == ["third"]
    assert kept_answers.kept("x", "b", ask) == ["second"]
    assert kept_answers.kept("y", "b", ask) == ["fourth"]
    monkeypatch.setenv(KEY, "another")
    assert kept_answers.kept("x", "b", ask) == ["fifth"], "what somebody else wrote there counts for nothing"
    monkeypatch.delenv(KEY)
    assert not kept_answers.own("x")


@pytest.mark.usefixtures("tree")
def test_an_answer_under_another_name_or_edited_counts_for_nothing() -> None:
    kept_answers.keep("x", b"answer")
    assert kept_answers.own("x") == b"answer"
    file = Path(kept_answers.KEPT, "x")
    file.with_name("y").write_bytes(file.read_bytes())
    assert kept_answers.own("y") == b""
    file.write_bytes(file.read_bytes().replace(b"answer", b"forged"))
    assert kept_answers.own("x") == b""


def test_the_mark_of_usr_outlasts_what_is_touched_elsewhere(tree: Path) -> None:
    def marks() -> tuple[str, str]:
        return kept_answers.Marking().marks()

    (tree / "file").write_text("otherwise")
    of_all, of_usr = marks()
    assert of_all == ""
    assert of_usr
    after = until(mark_of_files, "a mark")
    assert marks() == (after, of_usr)
    (tree.parent / "usr" / "file").write_text("otherwise")
    assert marks() == ("", "")
    until(mark_of_files, "a mark")
    assert of_usr not in marks()


def test_whatever_is_read_below_the_trees_is_marked() -> None:
    """A scanned directory without a mark would be read only once."""
    watched = (*WATCHED, *PACKAGES_OWN, *SINGLE, *UNSCANNED)
    assert [
        place for place in watched if not kept_answers.in_trees(place) and place not in kept_answers.MARKED
    ] == []


@pytest.fixture
def elsewhere(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that are in no mark."""
    monkeypatch.setattr(places, "TREES", ())
    return tree


def marked(beside: Path, *, script: str = "cat") -> str:
    return kept_answers.mark_with("mark", script, [str(beside)])


def test_what_a_script_reads_elsewhere_is_in_its_mark(elsewhere: Path) -> None:
    file = elsewhere / "file"
    before = marked(file)
    assert before == marked(file) != ""
    assert marked(file, script="grep") != before
    assert kept_answers.mark_with("", "cat", [str(file)]) == ""
    rewritten_with_its_old_time(elsewhere)
    assert marked(file) == "", "it could be touched once more in the same tick"
    assert until(lambda: marked(file), "a mark") != before


def test_a_link_is_followed_to_what_is_read_through_it(elsewhere: Path) -> None:
    before = marked(elsewhere / "link")
    rewritten_with_its_old_time(elsewhere)
    assert until(lambda: marked(elsewhere / "link"), "a mark") != before


def test_a_link_that_leads_out_of_the_trees_is_followed_and_what_stays_there_is_in_their_mark(
    tree: Path,
) -> None:
    outside = tree.parent / "outside"
    outside.write_text("content")
    (tree / "out").symlink_to(outside)
    kept = marked(tree / "file")
    rewritten_with_its_old_time(tree)
    assert marked(tree / "file") == kept
    before = until(lambda: marked(tree / "out"), "a mark")
    outside.write_text("otherwise")
    assert until(lambda: marked(tree / "out"), "a mark") != before


def test_of_a_directory_elsewhere_only_its_owner_and_mode_count(elsewhere: Path) -> None:
    """Mail is delivered below /srv/mail all day."""
    before = marked(elsewhere)
    (elsewhere / "new").touch()
    assert marked(elsewhere) == before
    elsewhere.chmod(0o777)
    assert marked(elsewhere) != before


def test_a_star_stands_for_what_is_there_now(elsewhere: Path) -> None:
    before = marked(elsewhere / "fi*")
    (elsewhere / "other").rename(elsewhere / "fifth")
    assert until(lambda: marked(elsewhere / "fi*"), "a mark") != before


def test_of_what_people_read_the_mark_has_the_directory_alone_and_lasts_a_day(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "FOR_PEOPLE", (str(tree / "deep"),))
    before = until(mark_of_files, "a mark")
    (tree / "deep" / "file").write_text("otherwise")
    assert mark_of_files() == before
    (tree / "deep" / "new").touch()
    assert until(mark_of_files, "a mark") != before
    now = time.time()
    before = mark_of_files()
    monkeypatch.setattr(time, "time", lambda: now + kept_answers.DAY)
    assert mark_of_files() not in ("", before)


def test_what_python_compiled_for_packages_is_in_the_mark(tree: Path) -> None:
    compiled = tree / "__pycache__"
    compiled.mkdir()
    (compiled / "module.pyc").touch()
    before = until(mark_of_files, "a mark")
    (compiled / "module.pyc").write_text("otherwise")
    assert until(mark_of_files, "a mark") != before


def seen(mark: str = "mark", **other: object) -> Seen:
    printed = {"states": ["a"], "faults": [], "live": {"filter": ["rule"]}} | other
    return Seen(mark, mark, printed["states"], printed["faults"], printed["live"], {}, set())


def test_a_scan_is_kept_under_all_that_it_is_made_of() -> None:
    others = (
        seen("another"),
        seen(states=["a", "b"]),
        seen(faults=["f"]),
        seen(live={"filter": ["another rule"]}),
        seen(live={"filter": ["rule"], "redis-server.service": ["protected-mode no"]}),
    )
    marks = {each.mark_of_all() for each in (seen(), *others)}
    assert len(marks) == 1 + len(others)
    assert seen("").mark_of_all() == ""


def test_answers_that_facts_are_made_of_are_in_the_mark_as_facts() -> None:
    for name in JUDGED:
        assert (
            seen(live={"filter": ["rule"], name: ["session 7 active running"]}).mark_of_all()
            == seen().mark_of_all()
        )


@pytest.mark.usefixtures("tree")
def test_a_survey_is_kept_until_something_is_touched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(main, "scan", lambda _: "{}")
    ran = tmp_path / "ran"
    units = ["a.service loaded active running", "b.timer loaded failed failed"]

    def surveyed(answer: str, mark: str = "mark") -> list[str]:
        question = {"units": ["b.timer", "a.service", "c.service"], "beside": []}
        return main.survey(seen(mark, live={"units": units}), question, f"echo {answer}; echo >> {ran}")

    assert surveyed("met") == surveyed("met") == ["{}", "failed", "active", "inactive", "", "met", SURVEYED]
    assert len(ran.read_text().splitlines()) == 1
    surveyed("met", "another")
    assert len(ran.read_text().splitlines()) == 2
    surveyed("unmet")
    surveyed("unmet")
    assert len(ran.read_text().splitlines()) == 4, "it can become true though no file is touched"


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("fault", "times"), [("stale\tknot.service\t/etc/knot/knot.conf", 2), ("sysctl\tx\t1", 1)]
)
def test_a_daemon_older_than_its_files_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, fault: str, times: int
) -> None:
    """Its restart touches none."""
    from outpost.onhost.observe import everything

    looks: list[Seen] = []

    def all_of(it: Seen) -> tuple[list[str], list[str]]:
        looks.append(it)
        return [], [fault]

    monkeypatch.setattr(everything, "everything", all_of)
    assert main.scan(seen()) == main.scan(seen())
    assert len(looks) == times


def test_answers_come_each_under_its_name_whatever_they_say() -> None:
    answers = Asked(
        {"none": "false", "no end": "printf x", "lines": "echo a; echo; echo b", "in": "cat"}
    ).answers()
    assert answers == {"none": [], "no end": ["x"], "lines": ["a", "", "b"], "in": []}


def test_an_answer_that_does_not_come_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PATIENCE", 0.3)
    answers = Asked({"first": "echo a", "hangs": "exec tail -f /dev/null", "last": "echo b"}).answers()
    assert answers["first"] == ["a"]
    assert "last" not in answers


def test_a_command_that_takes_too_long_leaves_no_process_behind(tmp_path: Path) -> None:
    note = tmp_path / "child"
    with pytest.raises(reading.BlindError):
        reading.lines_of(f"tail -f /dev/null & echo $! > '{note}'; wait", 3.0)
    stat = Path(f"/proc/{int(note.read_text())}/stat")
    until(lambda: not stat.exists() or ") Z " in stat.read_text(), "its child has ended")


def test_what_daemons_change_by_themselves_is_no_difference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "po.example.zone").touch()
    monkeypatch.setattr("outpost.onhost.observe.daemons.SIGNED", str(tmp_path))
    live = {
        "knot-zones": [
            "[po.example.] mta.po.example. 5 A 192.0.2.5",
            "[po.example.] po.example. 5 SOA ns1.po.example. h. 7 1 1 1 1",
            "[po.example.] po.example. 5 RRSIG A 13 2 5 2026 2026 1 po.example. c2ln",
            '[po.example.] _acme-challenge.mta.po.example. 60 TXT "token"',
            "[other.example.] a.other.example. 5 A 192.0.2.9",
        ],
        "chrony.service": ["^,*,192.0.2.1,8,7,377,53,0.1,0.2,0.3", "^,+,192.0.2.2,8,7,377,5,0.1,0.2,0.3"],
    }
    assert steady(live) == {
        "knot-zones": ["mta.po.example. A 192.0.2.5"],
        "chrony.service": ["source 192.0.2.1", "source 192.0.2.2"],
    }
    monkeypatch.setattr("outpost.onhost.observe.daemons.SIGNED", str(tmp_path / "none"))
    assert steady(live)["knot-zones"] == []
