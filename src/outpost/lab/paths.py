"""Where the lab's files are in the checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
IMAGES = Path(__file__).resolve().parent / "images"
WORLD = ROOT / "templates" / "world"
OFFICE = ROOT / "inventory" / "lab" / "office.toml"
STATE = ROOT / ".lab"
