"""The lab's hosts as containers; ``OUTPOST_LAB`` names the instance (default: lab)."""

from outpost.hosts import docker as _docker
from outpost.hosts import lab_directory as _lab_directory

office = _docker(_lab_directory())
