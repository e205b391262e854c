"""The lab's hosts over SSH, on their management addresses; ``OUTPOST_LAB`` names the instance (default: lab)."""

from outpost.hosts import lab_directory as _lab_directory
from outpost.hosts import ssh as _ssh

office = _ssh(_lab_directory())
