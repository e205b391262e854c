"""What a change of the code changes in the declaration: the code of two revisions is run for the current office file.

Each revision declares in a process of its own, with the Python packages of this environment. No host is asked.
"""

import difflib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from outpost.errors import OutpostError
from outpost.target import ROOT

PROGRAM = """
import json, sys
from pathlib import Path
try:
    from outpost.converge.declaration import declaration, shown
    from outpost.keys import secrets_file
    from outpost.office import load
    directory, *names = sys.argv[1:]
    office, secrets = load(Path(directory)), secrets_file.read(Path(directory))
    found = {}
    for name in names:
        known = declaration(office, secrets, name)
        found[name] = {
            f"{kind} {thing}": [value, None, None] for kind, things in shown(known).items() for thing, value in things.items()
        }
        for path, file in known.content.items():
            text = None if file.secret else file.content.decode(errors="replace")
            found[name][f"file {path}"] = [[file.mode, file.owner, file.group], file.sha256, text]
    answer = {"found": found}
except Exception as error:
    # the text of any other error might hold a secret that could not be read
    known = type(error).__name__ in ("OutpostError", "OfficeError", "ModuleNotFoundError")
    answer = {"failed": f"{type(error).__name__}: {error}" if known else type(error).__name__}
print("\\n" + json.dumps(answer))
"""
"""Prints the declaration by the code beside it. Digests of secrets stay in the pipe to the process that started it."""

Value = tuple[list[str], str | None, str | None]
"""The declaration of a thing; for a file also its digest, and its text unless it is secret."""
Declared = dict[str, Value]
"""By kind and name."""
ABSENT: Value = ([], None, "")


@dataclass(frozen=True)
class Difference:
    """One thing that two revisions declare differently for a host: ``added``, ``changed`` or ``removed``."""

    kind: str
    thing: str
    change: str
    diff: tuple[str, ...]


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """The files of a revision, in a temporary directory."""
    git = ["git", "-C", str(ROOT)]
    found = subprocess.run(
        [*git, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode or not (ROOT / ".git").exists():
        raise OutpostError(
            f"{revision} is not a revision of this checkout", "choose one that `git log` prints"
        )
    archive = subprocess.run([*git, "archive", found.stdout.strip()], capture_output=True, check=True).stdout
    with TemporaryDirectory(prefix="outpost-revision-") as place:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(place, filter="data")
        yield Path(place)


def differences(directory: Path, hosts: Sequence[str], before: Path) -> dict[str, tuple[Difference, ...]]:
    """Host → what this code declares differently from the code in the checkout ``before``, for the office in a directory."""
    with ThreadPoolExecutor(2) as pool:
        former, now = pool.map(lambda top: _declared(top, directory, hosts), (before, ROOT))
    return {host: tuple(_compared(former[host], now[host])) for host in hosts}


def _declared(top: Path, directory: Path, hosts: Sequence[str]) -> dict[str, Declared]:
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM, str(directory.resolve()), *hosts],
        cwd=top, env=os.environ | {"PYTHONPATH": f"{top / 'src'}:{top}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    answer = json.loads((done.stdout.splitlines() or ['{"failed": "no answer"}'])[-1])
    if failed := answer.get("failed"):
        message = f"{'this checkout' if top == ROOT else 'that revision'} cannot declare the current office file: {failed}"
        remedy = "choose a later revision, which has `./outpost declare` and the keys of this office file"
        raise OutpostError(message, remedy)
    found: dict[str, Declared] = answer["found"]
    return found


def _compared(before: Declared, now: Declared) -> Iterator[Difference]:
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if old != new:
            kind, _, thing = key.partition(" ")
            change = "added" if old is None else "removed" if new is None else "changed"
            yield Difference(kind, thing, change, tuple(_lines(old or ABSENT, new or ABSENT)))


def _lines(old: Value, new: Value) -> Iterator[str]:
    (value, digest, text), (new_value, new_digest, new_text) = old, new
    if value != new_value:
        yield from (f"{sign}{' '.join(each)}" for sign, each in (("-", value), ("+", new_value)) if each)
    if text is not None and new_text is not None:  # secret in neither
        changed = difflib.unified_diff(text.splitlines(), new_text.splitlines(), n=2, lineterm="")
        yield from list(changed)[2:]
    elif digest and new_digest and digest != new_digest:
        yield "(the content is secret, and differs)"
