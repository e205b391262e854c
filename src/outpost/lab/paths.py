"""Where the lab's files are in the checkout."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
IMAGES = Path(__file__).resolve().parent / "images"
WORLD = ROOT / "templates" / "world"
OFFICE = ROOT / "inventory" / "lab" / "office.toml"


def state() -> Path:
    """Where instances keep what they must remember: ``.lab/`` in the checkout, or ``$OUTPOST_LAB_STATE``."""
    return Path(os.environ.get("OUTPOST_LAB_STATE", ROOT / ".lab"))
