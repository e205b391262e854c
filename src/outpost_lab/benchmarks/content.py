"""What an office's hosts hold: the same for every peer, as the roles declare it.

The peers leave out commands for what only the host can make, and drift: they have no like of them, which favours them.
"""

from __future__ import annotations

from pathlib import Path

from outpost.converge.declaration import Declaration, declaration
from outpost.keys import secrets_file
from outpost.office import load


def contents(directory: Path) -> dict[str, Declaration]:
    """Host name → what is declared, for the office in a directory."""
    office, kept = load(directory), secrets_file.read(directory)
    return {host.name: declaration(office, kept, host.name) for host in office.hosts}
