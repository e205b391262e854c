"""What is declared for a host, as data. No host is needed to make, print or compare it; `outpost.converge.walk` applies it.

Roles make items by `outpost.converge.shapes`.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from outpost.converge.files import NOLOGIN, File
from outpost.drift.differences import Finding
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.keys.model import Secrets
from outpost.office import Office, load

Kind = TypeVar("Kind", bound="Item")
AUTOMATIC = "auto|"
"""Begins the line of a package that apt installed for the sake of others, or that somebody marked so."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that a host is to have.

    Attributes:
        name: Also the name of its operation.
        question: Shell that only reads: the state of the item beyond files and units.
        beside: Files that the answer depends on, besides those below ``/etc``, ``/usr``, ``/opt`` and ``/root``; None: it depends on more.
    """

    name: str
    question: str = ""
    beside: tuple[str, ...] | None = ()

    @property
    def key(self) -> str:
        """The name of its files on the host."""
        return re.sub(r"[^\w.-]+", "-", self.name)


Items = Iterator[Item]


@dataclass(frozen=True, kw_only=True)
class Change(Item):
    """Files that are checked and installed together, and the command that puts them into effect (`shapes.service`, `shapes.settings`)."""

    files: tuple[File, ...]
    watches: tuple[File, ...] = ()
    made: tuple[str, ...] = ()
    check: str | None = None
    activate: str | None = None
    live: str | None = None
    unit: str = ""
    guarded: bool = False


@dataclass(frozen=True, kw_only=True)
class Packages(Item):
    """Debian packages, and answers for debconf. All packages of a host are installed at once, at the place of the first group."""

    packages: tuple[str, ...]
    preseed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Directory(Item):
    """A directory: the name is its path."""

    owner: str
    group: str
    mode: str


@dataclass(frozen=True, kw_only=True)
class Group(Item):
    group: str


@dataclass(frozen=True, kw_only=True)
class Account(Group):
    """A system account that nobody logs in to, and its group of the same name."""

    home: str | None


@dataclass(frozen=True, kw_only=True)
class Once(Item):
    """A command that runs unless the host answers the question with ``met`` (`shapes.once`)."""

    command: str
    finding: Finding
    files: tuple[File, ...] = ()
    masks: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Declaration:
    """Everything a host is to have; an apply removes what an earlier apply installed beyond that.

    Attributes:
        parts: Who declares it (``base``, a role) and what, in the order of execution.
    """

    parts: tuple[tuple[str, tuple[Item, ...]], ...] = field(repr=False)

    @cached_property
    def titles(self) -> dict[str, Item]:
        """Operation name → item."""
        found: dict[str, Item] = {}
        for part, items in self.parts:
            for item in items:
                if found.setdefault(title := f"{part} | {item.name}", item) != item:
                    raise ValueError(f"two things are called {title}")
        return found

    def of(self, kind: type[Kind]) -> Iterator[Kind]:
        return (item for item in self.titles.values() if isinstance(item, kind))

    @cached_property
    def changes(self) -> dict[str, Change]:
        """Key → change; the key is also the name of its record on the host."""
        return {change.key: change for change in self.of(Change)}

    @cached_property
    def content(self) -> dict[str, File]:
        """Files that an apply writes."""
        return {file.path: file for change in self.changes.values() for file in change.files}

    @cached_property
    def files(self) -> frozenset[str]:
        """Files that an apply writes, and files that the host makes itself."""
        return frozenset((*self.content, *(path for item in self.changes.values() for path in item.made)))

    @cached_property
    def directories(self) -> dict[str, tuple[str, str, str]]:
        """Directory → owner, group and mode."""
        return {item.name: (item.owner, item.group, item.mode) for item in self.of(Directory)}

    @cached_property
    def accounts(self) -> dict[str, str | None]:
        """Account → home directory."""
        return {item.group: item.home for item in self.of(Account)}

    @cached_property
    def packages(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """Group of packages, as a role names it → the group's answers for debconf."""
        return {item.packages: item.preseed for item in self.of(Packages)}

    @cached_property
    def package_names(self) -> frozenset[str]:
        return frozenset(name for names in self.packages for name in names)

    @cached_property
    def are_installed(self) -> str:
        """Shell that prints which packages are installed, and which of these an upgrade removes as soon as no other package needs them."""
        listed = " ".join(sorted(map(shlex.quote, self.package_names)))
        # the file of apt-mark(8), which itself takes half a second of a processor
        automatic = f"awk '/^Package:/ {{ name = $2 }} /^Auto-Installed: 1/ {{ print \"{AUTOMATIC}\" name }}' /var/lib/apt/extended_states"
        return (
            f"dpkg-query --show --showformat '${{db:Status-Abbrev}}|${{Package}}\\n' {listed}; "
            f"{automatic} | grep -Fx \"$(printf '{AUTOMATIC}%s\\n' {listed})\""
        )

    @cached_property
    def absent(self) -> frozenset[str]:
        return frozenset(path for item in self.of(Once) for path in item.absent)

    @cached_property
    def units(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item.unit for item in self.changes.values() if item.unit))


def declaration(office: Office, secrets: Secrets, name: str) -> Declaration:
    """What every host of the office is to have, and what the role of this host adds."""
    me = office.host(name)
    every, role = (import_module(f"roles.{each}.declare") for each in ("base", me.role))
    given = {"office": office, "me": me, "secrets": secrets}
    known: Declaration = every.host(**given, role=role.declare(**given))
    if taken := sorted(path for path in known.files if me.keeps(path)):
        message = f"hosts.{name}.local names {', '.join(taken)}, which a role declares"
        remedy = (
            "remove it from hosts.NAME.local; put the difference into the office file, or into a drop-in file"
        )
        raise OutpostError(message, remedy)
    return known


def declarations(directory: Path) -> dict[str, Declaration]:
    """Host → declaration, for the office in a directory."""
    office, secrets = load(directory), secrets_file.read(directory)
    return {host.name: declaration(office, secrets, host.name) for host in office.hosts}


def shown(known: Declaration) -> dict[str, dict[str, tuple[str, ...]]]:
    """Everything by kind and name. It has no digest of a secret, because a short secret could be guessed from it."""
    kinds: dict[str, dict[str, tuple[str, ...]]] = {
        "package": dict.fromkeys(known.package_names, ()),
        "group": {item.group: () for item in known.of(Group)},
        "account": {name: (home or "-", NOLOGIN) for name, home in known.accounts.items()},
        "directory": dict(known.directories),
        "file": {
            path: (file.mode, file.owner, file.group, "secret" if file.secret else file.sha256)
            for path, file in known.content.items()
        },
        "absent": dict.fromkeys(known.absent, ()),
        "unit": dict.fromkeys(known.units, ()),
    }
    return {kind: dict(sorted(things.items())) for kind, things in kinds.items()}
