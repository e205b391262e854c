"""After each command that changes an office, the plan is empty and every check passes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from outpost.recovery.decommission import Closing
from outpost.target import Target
from outpost_lab.instance import Instance
from tests.lab.test_certificates import on
from tests.lab.test_restore import outpost, settled

pytestmark = [pytest.mark.slow, pytest.mark.control("AUT-07")]

VERBS = (
    ("user", "add", "lab", "zoe", "--full-name", "Zoe Zimmer"),
    ("alias", "add", "lab", "rota", "alice", "zoe"),
    ("shared", "add", "lab", "plans", "alice", "--reader", "zoe"),
    ("user", "quota", "lab", "zoe", "1GiB"),
    ("user", "send-as", "lab", "zoe", "rota"),
    ("user", "passwd", "lab", "zoe"),
    ("user", "disable", "lab", "zoe"),
    ("user", "enable", "lab", "zoe"),
    ("rotate", "hosts", "lab"),
    ("rotate", "tsig", "lab"),
    ("shared", "remove", "lab", "plans"),
    ("user", "remove", "lab", "zoe"),  # before the alias that she may send as
    ("alias", "remove", "lab", "rota"),
)


@pytest.fixture
def as_before(lab: Instance, tmp_path: Path) -> Iterator[Instance]:
    """The lab; its office file is restored."""
    shutil.copy2(lab.directory / "office.toml", tmp_path)
    yield lab
    shutil.copy2(tmp_path / "office.toml", lab.directory)
    for file in lab.directory.glob("decommission*"):
        file.unlink()
    outpost(lab, "apply", "lab", "--yes", "--no-verify")
    on(lab, "store", "rm -rf /srv/mail/.former/zoe@* /srv/mail/.former/plans@*")


def test_after_each_verb_the_plan_is_empty_and_verification_green(as_before: Instance) -> None:
    for verb in VERBS:
        outpost(as_before, *verb)
        settled(as_before)
    assert on(as_before, "store", "find /srv/mail/.former ! -user vmail") == ""


def test_after_the_first_steps_of_closing_the_plan_is_empty_and_verification_green(
    as_before: Instance, target: Target
) -> None:
    closing = Closing(target, forward="head@myertor.test")
    for step in ("freeze", "forward"):
        assert closing.advance()[0] == step
        settled(as_before)
