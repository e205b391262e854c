"""Change people in an office file: add, change and remove entries in place; comments and order stay.

An entry is the text from its header (``[[users]]``) to the last of its keys; comments before the next header belong to
what follows. Only the touched entry is written again.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomlkit

from outpost.errors import OutpostError
from outpost.office import Office, OfficeError, check, load
from outpost.target import written

Kind = Literal["users", "aliases", "shared"]
_HEADER = re.compile(r"^\s*\[")


def whole(address: str, domain: str) -> str:
    """An address; without a domain it gets the office's. The office's own are in lower case."""
    found = address if "@" in address else f"{address}@{domain}"
    lower = found.lower()
    return lower if lower.endswith(f"@{domain}") else found


@dataclass(frozen=True)
class Entry:
    """One entry: its lines, counted from 0, and their content."""

    start: int
    end: int
    data: dict[str, Any]


@dataclass
class Roster:
    """The text of an office file while its people change."""

    text: str
    domain: str = ""

    def at(self, address: str) -> str:
        return whole(address, self.domain)

    def entries(self, kind: Kind) -> Iterator[Entry]:
        """Every entry of a kind, in the order of the file."""
        lines = self._lines
        starts = [number for number, line in enumerate(lines) if _HEADER.match(line)]
        for start, following in zip(starts, [*starts[1:], len(lines)], strict=True):
            if lines[start].split("#")[0].strip() != f"[[{kind}]]":
                continue
            end = following
            while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
                end -= 1
            (data,) = tomllib.loads("".join(lines[start:end]))[kind]
            yield Entry(start, end, data)

    def find(self, kind: Kind, address: str) -> Entry | None:
        return next((entry for entry in self.entries(kind) if entry.data.get("address") == address), None)

    def add(self, kind: Kind, data: dict[str, Any]) -> None:
        """Insert a new entry behind the last of its kind, or at the end of the file."""
        document = tomlkit.document()
        document.update(data)
        block = f"[[{kind}]]\n{tomlkit.dumps(document)}"
        lines = self._lines
        last = max((entry.end for entry in self.entries(kind)), default=len(lines))
        self.text = "".join([*lines[:last], "\n", block, *lines[last:]])

    def change(self, kind: Kind, address: str, **values: Any) -> None:
        """Set keys of an entry; None removes a key."""
        entry = self._the(kind, address)
        document = tomlkit.parse("".join(self._lines[entry.start : entry.end]))
        (table,) = document[kind]
        for key, value in values.items():
            if value is None:
                table.pop(key, None)
            else:
                table[key] = value
        self._replace(entry, tomlkit.dumps(document))

    def remove(self, kind: Kind, address: str) -> None:
        """Remove an entry, and the empty line before it."""
        entry = self._the(kind, address)
        before = entry.start
        if before and not self._lines[before - 1].strip():
            before -= 1
        self._replace(Entry(before, entry.end, {}), "")

    def leave_lists(self, address: str) -> None:
        """Remove an address from every alias and shared mailbox; a list without other members is removed."""
        kinds: tuple[Kind, ...] = ("aliases", "shared")
        for kind in kinds:
            for entry in list(self.entries(kind)):
                for key in ("members", "readers"):
                    if address in entry.data.get(key, ()):
                        left = [member for member in entry.data[key] if member != address]
                        if left or key == "readers" or kind == "shared":
                            self.change(kind, entry.data["address"], **{key: left})
                        else:
                            self.remove(kind, entry.data["address"])
                            self.leave_lists(entry.data["address"])

    @property
    def _lines(self) -> list[str]:
        return self.text.splitlines(keepends=True)

    def _the(self, kind: Kind, address: str) -> Entry:
        if entry := self.find(kind, address):
            return entry
        known = ", ".join(str(entry.data.get("address")) for entry in self.entries(kind)) or "none"
        raise OutpostError(f"{address} is not among the office's {kind}", f"choose one of: {known}")

    def _replace(self, entry: Entry, text: str) -> None:
        lines = self._lines
        self.text = "".join([*lines[: entry.start], text, *lines[entry.end :]])


def propose(file: Path, text: str) -> Office:
    """The office that the changed text declares; the file itself stays unchanged."""
    candidate = file.with_name(f".{file.name}.proposed")  # beside it: it names files there
    candidate.write_text(text, encoding="utf-8")
    try:
        if problems := check(candidate):
            raise OfficeError(list(problems))
        return load(candidate)
    finally:
        candidate.unlink()


def keep(file: Path, text: str) -> None:
    """Replace the file by the changed text, completely or not at all; a link to it stays one."""
    written(file.resolve(), text, mode=file.stat().st_mode & 0o777)


def difference(before: str, after: str, name: str) -> list[str]:
    """The change as a unified diff."""
    return list(difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, n=1, lineterm=""))
