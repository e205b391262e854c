"""The harbour office's hosts over SSH, host keys pinned in known_hosts beside this file."""

from pathlib import Path as _Path

from outpost.hosts import ssh as _ssh

office = _ssh(_Path(__file__).resolve().parent)
