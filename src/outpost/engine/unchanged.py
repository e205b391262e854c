"""Ask each host with one question whether it is unchanged since the last plan that found nothing to change.

A plan is a function of three things: what is declared (the office, its secrets, roles, templates and code), and what
the host shows in its survey (`outpost.converge.observation`). When the last plan found nothing to change, the survey's command and
the digest of its answer are kept. The next plan is the same, nothing to change, if two things hold: the declaration is
the same, byte for byte, and a new survey, made in full on each host, has the same digest. In any other case, and after a
day, everything is compared in full (docs/adr/0014).

Imports nothing but Python's library, and little of it before the hosts are asked: the question goes first.
"""

import json
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from outpost.onhost.observe import KEY
from outpost.target import ROOT, Target, written
from outpost.transport.answers import Pool, TooMuchError, as_argument, exchange

CODE = ("deploy.py", "roles", "templates", "src/outpost", "inventory", "requirements.lock")
DAY = 24 * 3600.0
PATIENCE = 60.0
KEPT = "/run/outpost"
"""Where a host keeps the question, so that a no-op sends a digest instead of ten kilobytes of shell."""
UNKNOWN = "unknown"


class Survey(NamedTuple):
    """A host, its question and its answer.

    Attributes:
        shell: Starts a root shell on it, which reads its script from standard input.
        command: Shell that only reads.
        digest: SHA-256 of its output.
        key: Seals what the host caches of its own state (`outpost.keys.model.Secrets.seal_of`).
    """

    name: str
    role: str
    shell: list[str]
    command: str
    digest: str
    key: str


def remember(target: Target, connector: str | None, surveys: Mapping[str, Survey | None], of: int) -> None:
    """Keep the answers of hosts that are all as declared.

    Args:
        surveys: By host; None for one whose answer cannot be compared.
        of: Number of hosts in the office.
    """
    import hashlib

    file = _file(target, connector)
    known = _read(file)
    declaration = declared(target)
    kept: dict[str, Any] = known.get("hosts", {}) if known.get("declaration") == declaration else {}
    for name, survey in surveys.items():
        kept.pop(name, None)
        if survey:
            question = hashlib.sha256(f"{survey.command}\n".encode()).hexdigest()
            kept[name] = survey._asdict() | {"question": question, "when": time.time()}
    written(file, json.dumps({"declaration": declaration, "all": of, "hosts": kept}))


def forget(target: Target, connector: str | None) -> None:
    """Discard the answers: hosts differ, or are about to change."""
    _file(target, connector).unlink(missing_ok=True)


class Asked(NamedTuple):
    """Hosts that were asked, and answer while the caller continues."""

    target: Target
    declaration: str
    answers: list[tuple[dict[str, Any], Future[str]]]

    def as_declared(self) -> tuple[str, ...] | None:
        """The hosts, if each is unchanged since it was last as declared; None means that they must be compared in full."""
        same = self.declaration == declared(self.target)  # runs while they answer
        now = {entry["name"]: answer.result() for entry, answer in self.answers}
        new = [entry for entry, _ in self.answers if now[entry["name"]] == UNKNOWN]
        with Pool(len(self.answers)) as pool:
            now |= zip((entry["name"] for entry in new), pool.map(_stored, new), strict=True)
        if same and all(now[entry["name"]] == entry["digest"] != "" for entry, _ in self.answers):
            return tuple(sorted(now))
        return None


def ask(target: Target, connector: str | None, limit: Sequence[str]) -> Asked | None:
    """Ask hosts (by name or role; else all) for their survey's digest; None if there is nothing to compare with."""
    known = _read(_file(target, connector))
    hosts = [
        entry
        for entry in known.get("hosts", {}).values()
        if not limit or entry["name"] in limit or entry["role"] in limit
    ]
    named = {word for entry in hosts for word in (entry["name"], entry["role"])}
    complete = set(limit) <= named if limit else len(hosts) == known.get("all")
    if not hosts or not complete or any(not 0 <= time.time() - entry["when"] < DAY for entry in hosts):
        return None
    pool = Pool(len(hosts))
    return Asked(target, known["declaration"], [(entry, pool.submit(_asked, entry)) for entry in hosts])


def declared(target: Target) -> str:
    """A digest of everything that a plan depends on, except the host."""
    import hashlib

    found = hashlib.sha256()
    tops = [*(ROOT / name for name in CODE), target.data]
    files = [file for top in tops for file in ([top] if top.is_file() else sorted(_below(top)))]
    for file in files:
        found.update(f"{file}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def _below(top: Path) -> list[Path]:
    found: list[Path] = []
    for directory, inner, names in os.walk(top):
        inner[:] = [name for name in inner if name != "__pycache__"]
        found.extend(Path(directory, name) for name in names if name != "instance.json")
    return found


def _asked(entry: Mapping[str, Any]) -> str:
    """A host's answer to a question that it has stored."""
    question = entry["question"]
    shell = as_argument(entry["shell"], _asking(question, f"read -r {KEY}; export {KEY}"))
    return _answer(shell, entry["key"], question)


def _stored(entry: Mapping[str, Any]) -> str:
    """A host's answer to a question that it keeps from now on."""
    question = entry["question"]
    return _answer(entry["shell"], _telling(entry["command"], question, entry["key"]), question)


def _telling(command: str, question: str, key: str) -> str:
    """Shell that lets a host keep a question, and answer it."""
    file = _file_of(question)
    return (
        f"mkdir -p -m 0700 {KEPT}; find {KEPT} -name 'survey-*' -mmin +1440 -delete; umask 077\n"
        f"printf '%s\\n' {shlex.quote(command)} > {file}.$$ && mv {file}.$$ {file} && {_asking(question, f'export {KEY}={key}')}"
    )


def _file_of(question: str) -> str:
    return f"{KEPT}/survey-{question[:16]}"


def _asking(question: str, key: str) -> str:
    """Shell that prints the digest of the answer, and of the question that the host has.

    Args:
        key: Shell that sets the sealing key. SYS-08: where sudo stands in between it reads standard input, or the key stands in the
            host's journal.
    """
    file = _file_of(question)
    return f"{key}; sh {file} </dev/null 2>/dev/null | sha256sum - {file}; true"


def _answer(shell: list[str], stdin: str, question: str) -> str:
    """The digest of an answer; `UNKNOWN` if the host does not have the question, or has another text under its name."""
    try:
        done = exchange(shell, f"{stdin}\n".encode(), patience=PATIENCE)
    except (TimeoutError, TooMuchError):
        return ""
    words = done.out.decode(errors="replace").split()
    if done.status or not words:
        return ""
    return words[0] if words[2:3] == [question] else UNKNOWN


def _file(target: Target, connector: str | None) -> Path:
    name = f"{target.data.resolve()} {connector or ''}".strip()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "outpost" / "as-declared" / f"{name.replace('%', '%25').replace('/', '%2F')[-200:]}.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known
