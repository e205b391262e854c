"""A host that somebody has taken over writes nothing on the administrator's terminal."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from outpost.target import ROOT
from outpost_lab.instance import Instance
from tests.lab.test_reapply import on

NAME = "/etc/sudoers.d/a\x1b[2K\x1b]52;c;aWQ=\x07\u202e[red]b"


@pytest.mark.slow
@pytest.mark.control("SYS-08")
@pytest.mark.parametrize("as_json", [False, True])
def test_control_characters_in_a_file_name_are_escaped(lab: Instance, as_json: bool) -> None:
    quoted = "'" + NAME + "'"
    on(lab, "ns2", f"touch {quoted}")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "outpost", "plan", "lab", "--name", lab.name, "--limit", "ns2", *(["--json"] if as_json else [])],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        on(lab, "ns2", f"rm -f {quoted}")
    output = done.stdout + done.stderr
    assert done.returncode == 2, output
    assert not {"\x1b", "\x07", "\u202e"} & set(output)
    if as_json:
        named = [finding["thing"] for finding in json.loads(done.stdout)["hosts"]["ns2"]["findings"]]
        assert NAME in named
    else:
        assert r"a\x1b[2K\x1b]52;c;aWQ=" in output  # rich leaves out the bell
        assert r"\u202e[red]b" in output
