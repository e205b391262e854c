"""What an office's hosts hold, as plain data: the same content for every peer, as the roles declare it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outpost.converge.declaration import declaration
from outpost.converge.files import NOLOGIN
from outpost.converge.observation import Declared
from outpost.keys import secrets_file
from outpost.office import load


@dataclass
class HostContent:
    """What one host should hold: packages in groups, as a role installs them, files as path → (mode, owner, group, content)."""

    packages: list[list[str]]
    groups: list[str]
    accounts: list[dict[str, Any]]
    directories: list[dict[str, str]]
    files: dict[str, tuple[str, str, str, bytes]]
    units: list[str]


def contents(directory: Path) -> dict[str, HostContent]:
    """Host name → content, for the office in a directory."""
    office, kept = load(directory), secrets_file.read(directory)
    return {host.name: _content(declaration(office, kept, host.name)) for host in office.hosts}


def _content(known: Declared) -> HostContent:
    """Without commands for what only the host can make, and drift: the peers have no like of them, which favours them."""
    accounts: list[dict[str, Any]] = [
        {"user": name, "home": home, "shell": NOLOGIN, "groups": []} for name, home in known.accounts.items()
    ]
    directories = [
        {"path": path, "owner": owner, "group": group, "mode": mode}
        for path, (owner, group, mode) in known.directories.items()
    ]
    files = {path: (file.mode, file.owner, file.group, file.content) for path, file in known.content.items()}
    packages, groups, units = [list(names) for names in known.packages], list(known.groups), list(known.units)
    return HostContent(packages, groups, accounts, directories, files, units)
