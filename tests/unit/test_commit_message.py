"""The commit-msg hook refuses a subject that is no short imperative, and says what to write."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from outpost.target import ROOT


def judged(message: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """The hook, run as git runs it."""
    (directory / "message").write_text(message)
    return subprocess.run(
        [ROOT / ".ci" / "commit-msg", directory / "message"], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "message",
    [
        "Close the port",
        "Close the port\n\nBecause nobody needs it.\n",
        "Close the port\n# Please enter the commit message\n",
        "Pass the address on",
        "Focus on one thing",
        "Bring the lab up",
        f"Add {'ü' * 68}",  # characters, not octets
        "Merge branch 'main' into release",
        'Revert "Added things."',
    ],
)
def test_an_imperative_is_accepted(message: str, tmp_path: Path) -> None:
    done = judged(message, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("", "no subject"),
        (f"Add {'x' * 69}", "73 characters"),
        ("wip", "work in progress"),
        ("WIP: ports", "work in progress"),
        ("Close the port.", "period"),
        ("close the port", "capital"),
        ("Added a port", "imperative"),
        ("Closes the port", "imperative"),
        ("Closing the port", "imperative"),
        ("A port is closed", "imperative"),
        ("Close the port\nBecause.", "second line"),
    ],
)
def test_anything_else_is_refused_with_its_remedy(message: str, why: str, tmp_path: Path) -> None:
    done = judged(message, tmp_path)
    assert done.returncode == 1
    assert why in done.stderr
    assert "Remedy: " in done.stderr
