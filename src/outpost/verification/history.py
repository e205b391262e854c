"""Results of verifications: kept with the office's state, with who ran them and on what, and the differences between runs."""

import getpass
import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from outpost.errors import OutpostError
from outpost.target import ROOT, Target, shown, written
from outpost.verification.live import Result

KEPT = 60  # runs; older ones are deleted


@dataclass(frozen=True)
class Run:
    """One stored verification.

    Attributes:
        when: Its end, in UTC (ISO 8601).
        by: Account and machine that ran it.
        commit: Of this checkout; with ``+`` where files differed from it.
        office_file: SHA-256 of the office file.
        selection: What it was limited to; empty for everything.
    """

    when: str
    by: str
    commit: str
    office_file: str
    selection: str
    seconds: float
    results: tuple[Result, ...]


def folder(target: Target) -> Path:
    """Where an office's runs are kept: the lab's with its instance, others' below $XDG_STATE_HOME."""
    if target.instance:
        return target.data / "verifications"
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "outpost" / target.name / "verifications"


def who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def described_by(target: Target) -> dict[str, str]:
    """Who, when, and with which version: of a run, or of an apply that a host records."""
    return {
        "by": who(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "office_file": hashlib.sha256(target.office_file.read_bytes()).hexdigest(),
    }


def commit() -> str:
    """The commit of this checkout; empty if it is no git checkout (a repository around it belongs to another project)."""
    alone = os.environ | {"GIT_CEILING_DIRECTORIES": str(ROOT.parent)}

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=alone).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def keep(target: Target, run: Run) -> Path:
    """Store a run beside earlier ones; the oldest are deleted."""
    file = write(folder(target), run.when, json.dumps(asdict(run)))
    for old in sorted(file.parent.glob("*.json"))[:-KEPT]:
        old.unlink()
    return file


def write(directory: Path, when: str, text: str) -> Path:
    """Write a record; its name is its time."""
    return written(directory / f"{when.replace(':', '').replace('+0000', 'Z')}.json", text)


def runs(target: Target) -> tuple[Run, ...]:
    """The stored runs, the latest first."""
    return tuple(read(file) for file in sorted(folder(target).glob("*.json"), reverse=True))


def read(file: Path) -> Run:
    try:
        return TypeAdapter(Run).validate_json(file.read_bytes())
    except (OSError, ValueError) as error:
        remedy = "write one with ./outpost verify OFFICE --json"
        raise OutpostError(f"{shown(file)} is not a saved verification: {error}", remedy) from None


def latest(kept: Iterable[Run]) -> dict[str, tuple[Result, Run]]:
    """Each check's latest result and the run that it is from; `kept` has the latest run first."""
    found: dict[str, tuple[Result, Run]] = {}
    for run in kept:
        for result in run.results:
            found.setdefault(result.id, (result, run))
    return found


class Difference(NamedTuple):
    """The differences from before.

    Attributes:
        since: The time of the run that it is compared with; empty if there was none.
        broken: Failed now and not before; or passed before and is now pending.
        mended: Failed before and not now.
        still: Failed before and now.
        added: Checks that were not there before.
        gone: Names of checks that were there before, of the hosts that were checked.
    """

    since: str
    broken: tuple[Result, ...]
    mended: tuple[Result, ...]
    still: tuple[Result, ...]
    added: int
    gone: tuple[str, ...]

    @property
    def is_news(self) -> bool:
        return bool(self.broken or self.mended)

    def as_data(self) -> dict[str, Any]:
        return {
            "since": self.since,
            "broken": [result.id for result in self.broken],
            "mended": [result.id for result in self.mended],
            "still failing": [result.id for result in self.still],
            "new checks": self.added,
            "checks gone": list(self.gone),
        }


def difference(now: Run, before: Iterable[Run]) -> Difference:
    """Compare a run with earlier ones, check by check: a run of one host leaves the others' results as they are."""
    earlier = tuple(before)
    was = {id_: result.outcome for id_, (result, _) in latest(earlier).items()}
    failed = [result for result in now.results if result.outcome == "failed"]
    lost = (result for result in now.results if result.pending and was.get(result.id) == "passed")
    present = {result.id for result in now.results}
    whole = () if now.selection or not earlier else earlier[0].results
    return Difference(
        since=earlier[0].when if earlier else "",
        broken=(*(result for result in failed if was.get(result.id) != "failed"), *lost),
        mended=tuple(
            each for each in now.results if each.outcome == "passed" and was.get(each.id) == "failed"
        ),
        still=tuple(result for result in failed if was.get(result.id) == "failed"),
        added=len(present - set(was)) if earlier else 0,
        gone=tuple(sorted(result.id for result in whole if result.id not in present)),
    )
