"""Draw the README's pictures from a lab that is up and was verified: `.venv/bin/python tests/lab/pictures.py [LAB]`.

It brings the lab up again, edits a file on webmail by hand, draws the plan, and restores the file. Then it shows
the head of the page of evidence in Chromium.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

from outpost.target import ROOT
from outpost_lab.desk import CHROMIUM, FLAGS

FILE = "/etc/ssh/sshd_config.d/00-outpost.conf"
EDIT = f"sed -i 's/^PasswordAuthentication no/PasswordAuthentication yes/' {FILE}"
BACK = f"mv -f /run/before {FILE} && systemctl reload ssh"
PICTURES = ROOT / "docs" / "pictures"
COLUMNS = 116


def outpost(*words: str, code: int = 0) -> str:
    """What a command prints, in colour."""
    colours = os.environ | {"FORCE_COLOR": "1"}
    command = [str(ROOT / "outpost"), *words]
    done = subprocess.run(command, cwd=ROOT, env=colours, capture_output=True, text=True, check=False)
    if done.returncode != code:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def draw(name: str, commands: dict[str, str]) -> None:
    """Draw a terminal with commands and what they print."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for typed, shown in commands.items():
        console.print(Text(f"# ./outpost {typed}", style="bold"))
        console.print(Text.from_ansi(shown))
    drawn = console.export_svg(title="Outpost", unique_id=f"outpost-{name}")
    # the reader's own font: a page loads none from the network
    picture = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    (PICTURES / f"{name}.svg").write_text(picture, encoding="utf-8")


def draw_up(lab: str) -> None:
    """Draw a second run, which repairs the lab: it has the same steps, and takes less time."""
    typed = [str(ROOT / "outpost"), "lab", "up", "--yes", "--no-verify", "--name", lab]
    done = subprocess.run(
        typed, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    plain = done.stdout.replace(f" --name {lab}", "").replace(f"{ROOT}/.lab/{lab}/", ".lab/lab/")
    shown = re.sub(r"(as \S+ with) \S+", r"\1 …", plain)
    draw("up", {"lab up --yes": shown})


def draw_plan(lab: str) -> None:
    shell = ["lab", "shell", "webmail", "--name", lab, "--", "sh", "-c"]
    outpost(*shell, f"cp -a {FILE} /run/before && {EDIT}")
    try:
        plan = outpost("plan", "lab", "--name", lab, code=2)
    finally:
        outpost(*shell, BACK)
    plan = plan.partition("accepted on every host")[0].rstrip(
        "\x1b[02m\n"
    )  # a long list, of the lab's containers
    draw("plan", {f"lab shell webmail -- {EDIT}": "", "plan lab": plan})


def draw_evidence(lab: str) -> None:
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as driver:
        evidence = Path(directory) / "evidence.html"
        outpost("report", "lab", "--name", lab, "--html", str(evidence))
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1160, "height": 700})
        page.goto(evidence.as_uri())
        page.screenshot(path=PICTURES / "evidence.png")
        browser.close()


if __name__ == "__main__":
    chosen = (sys.argv[1:] or ["lab"])[0]
    for each in (draw_up, draw_plan, draw_evidence):
        each(chosen)
