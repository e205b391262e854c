"""What one look has seen before anything is worked out from it."""

from __future__ import annotations

import json

JUDGED = ("links", "links 6", "queues", "units", "environment", "sockets")
"""Answers that states and faults are made of already: themselves they change with every session."""


class Seen:
    """What the running host tells, and the mark of its files.

    Attributes:
        mark_of_usr: Of those below /usr.
        states: To be compared with the known state.
        faults: What is wrong whatever was before.
        live: Name of a question → lines of the answer.
        declared_units: Unit → its declared files.
        declared: All declared paths.
    """

    def __init__(
        self,
        mark: str,
        mark_of_usr: str,
        states: list[str],
        faults: list[str],
        live: dict[str, list[str]],
        declared_units: dict[str, list[str]],
        declared: set[str],
    ) -> None:
        self.mark = mark
        self.mark_of_usr = mark_of_usr
        self.states = states
        self.faults = faults
        self.live = live
        self._active = {line.split()[0]: line.split()[2] for line in live.get("units", ())}
        self.declared_units = declared_units
        self.declared = declared

    def state_of(self, unit: str) -> str:
        return self._active.get(unit, "inactive")

    def mark_of_all(self) -> str:
        """Of the files and of what the running host tells: under the same one a look sees the same. Empty as that of the files."""
        answers = {name: lines for name, lines in self.live.items() if name not in JUDGED}
        told = json.dumps([sorted(self.states), sorted(self.faults), answers], sort_keys=True)
        return f"{self.mark}\n{told}" if self.mark else ""
