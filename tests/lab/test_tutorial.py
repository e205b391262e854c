"""The tutorial's commands work as written, except those that the suite runs itself (lab up and down, verify, attack)."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from outpost.target import LAB, ROOT
from outpost_lab.instance import Instance
from tests.lab.rehearsal import Rehearsal

TUTORIAL = ROOT / "docs" / "tutorial.md"
ELSEWHERE = ("lab up", "lab down", "verify", "attack")


def commands() -> list[str]:
    """Every command of the tutorial, in order."""
    blocks = re.findall(r"^```sh\n(.*?)^```", TUTORIAL.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def meant_for(command: str, instance: str) -> str:
    """The command for another lab instance than `lab`."""
    if not re.search(r"\./outpost (lab|\S+ (\S+ )?lab)\b", command):
        return command
    typed, separator, rest = command.partition(" -- ")
    typed, redirection, file = typed.partition(" > ")
    return f"{typed} --name {instance}{redirection}{file}{separator}{rest}"


def test_a_newcomer_can_follow_the_tutorial(lab: Instance, tmp_path: Path) -> None:
    (tmp_path / "outpost").symlink_to(ROOT / "outpost")
    todo = [
        command for command in commands() if not any(f"./outpost {done}" in command for done in ELSEWHERE)
    ]
    assert len(todo) > 10
    Rehearsal(lab).outpost("apply", LAB, "-y")  # the tutorial's lab is new, so nothing was changed on it
    own_home = os.environ | {"HOME": str(tmp_path)}  # the new office's identity goes there
    for command in todo:
        done = subprocess.run(
            ["bash", "-c", meant_for(command, lab.name)],
            cwd=tmp_path,
            env=own_home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert "Mail of" in (tmp_path / "guide.html").read_text()
    assert (tmp_path / "site" / "secrets.age").exists()
