"""This checkout's wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from outpost.target import ROOT


def build(directory: Path) -> None:
    """Make it there, without its dependencies."""
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", directory)
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, ROOT], check=True)
