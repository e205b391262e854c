"""What the observer keeps from one look to the next: nothing that a touched file could have made untrue."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from outpost.onhost.observe import kept_answers
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


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that were last touched long enough ago, which are all that a mark stands for."""
    top = tmp_path / "tree"
    (top / "deep").mkdir(parents=True)
    for name in ("file", "older", "deep/file"):
        (top / name).write_text("content")
    (top / "link").symlink_to("file")
    (top / "other").symlink_to("older")
    monkeypatch.setattr(kept_answers, "TREES", (str(top),))
    monkeypatch.setattr(kept_answers, "MARKED", ())
    monkeypatch.setattr(kept_answers, "DATABASES", ())
    monkeypatch.setattr(kept_answers, "KEPT", tmp_path / "kept")
    until(kept_answers.mark_of_files, "a mark")
    return top


@pytest.mark.parametrize("touch", TOUCHES)
def test_a_mark_is_another_one_after_any_touch(tree: Path, touch: str) -> None:
    before = kept_answers.mark_of_files()
    assert before == kept_answers.mark_of_files() != ""
    TOUCHES[touch](tree)
    assert kept_answers.mark_of_files() == "", "it could be touched once more in the same tick"
    assert until(kept_answers.mark_of_files, "a mark") != before


@pytest.mark.usefixtures("tree")
def test_an_answer_is_kept_for_its_mark_alone_and_never_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["first", "second", "third", "fourth", "fifth"])

    def ask() -> list[str]:
        return [next(answers)]

    assert [kept_answers.kept("x", mark, ask) for mark in ("a", "a", "b", "b")] == [
        ["first"], ["first"], ["second"], ["second"]
    ]  # fmt: skip
    assert kept_answers.kept("x", "", ask) == ["third"]
    assert kept_answers.kept("x", "b", ask) == ["second"]
    assert kept_answers.kept("y", "b", ask) == ["fourth"]
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    assert kept_answers.kept("x", "b", ask) == ["fifth"], "what somebody else wrote there counts for nothing"


def test_whatever_is_looked_at_below_the_trees_is_marked() -> None:
    """A place that is watched and not marked would be looked at once and then no more."""
    places = (*WATCHED, *PACKAGES_OWN, *SINGLE, *UNSCANNED)
    assert [
        place for place in places if not kept_answers.in_trees(place) and place not in kept_answers.MARKED
    ] == []
