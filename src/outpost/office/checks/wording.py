"""What findings share: a location as the file has it, a guess at what was meant."""

from __future__ import annotations

import difflib


def dotted(location: tuple[int | str, ...]) -> str:
    """A location as a TOML path: ``users[2].address``."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def nearest(word: str, known: list[str]) -> str:
    """The end of a remedy that guesses which of the known words was meant; empty where none is like it."""
    close = difflib.get_close_matches(word, [item for item in known if item], n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
