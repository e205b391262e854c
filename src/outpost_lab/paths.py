"""Where the lab's files are in the checkout."""

from pathlib import Path

from outpost.target import ROOT
from outpost.target import labs as state

__all__ = ["IMAGES", "OFFICE", "ROOT", "WORLD", "state"]

IMAGES = Path(__file__).resolve().parent / "images"
WORLD = ROOT / "templates" / "world"
OFFICE = ROOT / "inventory" / "lab" / "office.toml"
