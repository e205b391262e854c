"""A command applies its own change only; other changes of the office file wait."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomlkit

from outpost.target import INVENTORY, ROOT
from outpost_lab.instance import Instance
from tests.lab.test_certificates import on
from tests.lab.test_restore import outpost

WAITING = 7 * 1024**2
"""The message size that somebody else wrote into the office file and has not applied."""


@pytest.fixture
def office(lab: Instance, tmp_path: Path) -> Iterator[Path]:
    """The lab's hosts as a separate office, by path and over SSH, as its administrator has it."""
    outpost(lab, "apply", "lab", "--yes", "--no-verify")
    directory = tmp_path / "office"
    shutil.copytree(lab.directory, directory)
    shutil.copy2(INVENTORY / "harbour" / "ssh.py", directory)
    yield directory
    outpost(lab, "apply", "lab", "--yes", "--no-verify")
    on(lab, "store", "rm -rf /srv/mail/.former/zoe@*")


@pytest.mark.slow
def test_a_user_is_added_while_another_change_waits_and_stays_unapplied(lab: Instance, office: Path) -> None:
    file, user = office / "office.toml", f"zoe@{lab.office.domain}"

    def types(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "outpost", *arguments],
            cwd=ROOT,
            env=os.environ | {"XDG_STATE_HOME": str(office.parent / "state")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def limit() -> str:
        return on(lab, "mta", "postconf -h message_size_limit").strip()

    before = limit()
    assert "doesn't exist" in on(lab, "store", f"doveadm user {user}", check=False)
    types("apply", str(office), "-y", "--no-verify")  # changes nothing, and is the base all the same
    document = tomlkit.parse(file.read_text())
    document.setdefault("limits", {})["message_size"] = "7MiB"
    file.write_text(tomlkit.dumps(document))
    assert "only this one is applied now" in types("user", "add", str(office), "zoe")
    assert "/srv/mail/zoe/Maildir" in on(lab, "store", f"doveadm user {user}")
    assert limit() == before
    assert '"7MiB"' in file.read_text()
    waits = types("plan", str(office), code=2)
    assert "main.cf" in waits
    assert user not in waits
    types("apply", str(office), "-y", "--no-verify")
    assert limit() == str(WAITING) != before
    assert "nothing to change" in types("plan", str(office))
