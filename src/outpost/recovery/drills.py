"""Results of restore drills: kept with the office's state, for the report. `outpost_lab.drill` runs the drills."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from outpost.target import Target
from outpost.verification import history


@dataclass(frozen=True)
class Drill:
    """The result of a drill.

    Attributes:
        when: Its start, UTC (ISO 8601).
        archive: What was restored.
        rpo: Seconds of mail that would have been lost, had the store been lost at its begin.
        worst_gap: Most seconds between two archives of the last week.
        rto: Seconds from the empty machine to a store that answers.
        data: Seconds until its data was restored.
        logins: Users who were seen to log in to the restored store.
        differences: What is not as before; empty is the goal.
    """

    when: str
    host: str
    archive: str
    rpo: float
    worst_gap: float
    rto: float
    data: float
    folders: int
    messages: int
    files: int
    logins: int
    differences: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not self.differences


def held(target: Target) -> tuple[Drill, ...]:
    """The stored drills, the latest first."""
    files = sorted(_folder(target).glob("*.json"), reverse=True)
    return tuple(TypeAdapter(Drill).validate_json(file.read_bytes()) for file in files)


def keep(target: Target, done: Drill) -> None:
    """Store the result of a drill beside earlier ones."""
    history.write(_folder(target), done.when, json.dumps(asdict(done), indent=1) + "\n")


def _folder(target: Target) -> Path:
    return history.folder(target).with_name("drills")
