"""Capture all traffic of a machine's network interfaces in a container that shares them (no tcpdump is needed)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from outpost_lab import engine
from outpost_lab.instance import Instance

_LISTEN = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE: a busy machine must not make it lose packets
with open("/root/wire", "wb", buffering=0) as kept:
    print("listening", flush=True)
    while True:
        kept.write(wire.recv(65535))
"""


@dataclass(frozen=True)
class Wire:
    """What was seen so far."""

    container: str

    def shows(self, words: str) -> bool:
        """Whether the words were sent in clear text."""
        search = ["docker", "exec", self.container, "grep", "-caF", "--", words, "/root/wire"]
        counted = subprocess.run(search, capture_output=True, text=True, check=False)
        return int(counted.stdout) > 0  # a search that failed has counted nothing


@contextmanager
def captured(lab: Instance, machine: str) -> Iterator[Wire]:
    """The traffic of a machine, for as long as the block lasts."""
    client = engine.connect()
    watched = lab.container(machine, client)
    listener = client.containers.run(
        lab.container("attacker", client).image.id,  # it has Python
        ["python3", "-c", _LISTEN],
        entrypoint="",
        detach=True,
        privileged=True,
        network_mode=f"container:{watched.id}",
        labels=lab.labels,
    )
    try:
        next(iter(listener.logs(stream=True, follow=True)))  # it says when it listens
        yield Wire(listener.name)
    finally:
        listener.remove(force=True)
