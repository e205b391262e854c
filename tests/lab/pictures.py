"""Draw the README's picture from a lab that is up: `.venv/bin/python tests/lab/pictures.py [LAB]`.

It edits a file on webmail by hand, draws what a plan prints of it, and puts the file back.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from outpost.target import ROOT

FILE = "/etc/ssh/sshd_config.d/00-outpost.conf"
EDIT = f"sed -i 's/^PasswordAuthentication no/PasswordAuthentication yes/' {FILE}"
BACK = f"mv -f /run/before {FILE} && systemctl reload ssh"
PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "plan.svg"
COLUMNS = 116


def outpost(*words: str, code: int = 0) -> str:
    """What a command prints, in colour."""
    colours = os.environ | {"FORCE_COLOR": "1"}
    command = [str(ROOT / "outpost"), *words]
    done = subprocess.run(command, cwd=ROOT, env=colours, capture_output=True, text=True, check=False)
    if done.returncode != code:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def main(lab: str) -> None:
    shell = ["lab", "shell", "webmail", "--name", lab, "--", "sh", "-c"]
    outpost(*shell, f"cp -a {FILE} /run/before && {EDIT}")
    try:
        plan = outpost("plan", "lab", "--name", lab, code=2)
    finally:
        outpost(*shell, BACK)
    plan = plan.partition("accepted on every host")[0].rstrip(
        "\x1b[02m\n"
    )  # a long list, of the lab's containers
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for typed, shown in ((f"lab shell webmail -- {EDIT}", ""), ("plan lab", plan)):
        console.print(Text(f"# ./outpost {typed}", style="bold"))
        console.print(Text.from_ansi(shown))
    drawn = console.export_svg(title="Outpost", unique_id="outpost")
    PICTURE.parent.mkdir(exist_ok=True)
    # the reader's own font: a page loads none from the network
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["lab"]))
