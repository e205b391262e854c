"""Write the README's pictures from a lab that is up: `.venv/bin/python tests/lab/pictures.py [LAB]`.

It edits a file on the MTA by hand, and lets an apply restore it.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
EDIT = "echo 'relayhost = [192.0.2.99]' >> /etc/postfix/main.cf"
STEPS = (
    ["lab", "shell", "mta", "--", "sh", "-c", EDIT],
    ["plan", "lab", "--limit", "mta"],
    ["apply", "lab", "--limit", "mta", "-y"],
    ["verify", "lab"],
)


def outpost(words: list[str], lab: str) -> str:
    """What a command prints on standard output, in colour."""
    at = words.index("--") if "--" in words else len(words)
    done = subprocess.run(
        [ROOT / "outpost", *words[:at], "--name", lab, *words[at:]],
        env=os.environ | {"FORCE_COLOR": "1"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def main(lab: str) -> None:
    console = Console(record=True, width=112, file=io.StringIO(), force_terminal=True)
    for words in STEPS:
        typed = " ".join(f'"{word}"' if " " in word else word for word in words)
        console.print(Text(f"# ./outpost {typed}", style="bold"))
        console.print(Text.from_ansi(outpost(words, lab)), "")
    drawn = console.export_svg(title="outpost", unique_id="outpost")
    drawn = re.sub(
        r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL
    )  # a reader's own font, none from the network
    (ROOT / "docs" / "terminal.svg").write_text(drawn, encoding="utf-8")
    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory) / "evidence.html"
        outpost(["report", "lab", "--html", str(page)], lab)
        browser = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1200,860"]
        picture = f"--screenshot={ROOT / 'docs' / 'evidence.png'}"
        subprocess.run([*browser, picture, page.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["lab"]))
