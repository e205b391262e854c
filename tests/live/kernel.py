"""A host's kernel state, in a few questions that all checks share: sockets, mounts, settings."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import NamedTuple

from testinfra.host import Host as TestinfraHost

# Shell: the listening sockets; then unit, program and program header of each process that listens in the network.
_LISTENING = r"""
sockets=$(ss --no-header --listening --numeric --processes --tcp --udp --unix --vsock)
echo "$sockets"
echo
pids=$(echo "$sockets" | awk -F 'pid=' '/^(tcp|udp)/ { for (n = 2; n <= NF; n++) if (!seen[$n + 0]++) print $n + 0 }')
grep -sE '^(0:|[0-9]+:name=systemd):' $(printf '/proc/%s/cgroup ' $pids)
programs=$(printf '/proc/%s/exe ' $pids)
find $programs -maxdepth 0 -printf '%p:%l\n'
echo
head --verbose --bytes=1024 $programs | base64 --wrap=0
"""
_SETTINGS = (
    "kernel/randomize_va_space",
    "net/ipv4/conf/*/arp_ignore",
    "net/ipv4/ip_forward",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_syncookies",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/*/accept_dad",
    "net/ipv6/conf/*/accept_ra",
    "net/ipv[46]/conf/*/accept_redirects",
    "net/ipv[46]/conf/*/accept_source_route",
    "net/ipv4/conf/*/secure_redirects",
    "net/ipv4/conf/*/send_redirects",
)


class Socket(NamedTuple):
    """A listening socket; its program is empty if no process of the host has it."""

    address: str
    port: int
    protocol: str
    program: str


@dataclass(frozen=True)
class Listening:
    """The listeners of a host.

    Attributes:
        other_families: Lines of ``ss`` about other families: for programs of the host (AF_UNIX), for the hypervisor (AF_VSOCK).
        units: The services of listening programs, without login sessions.
        programs: Path → the beginning of the program, with its program headers (elf(5)).
    """

    sockets: frozenset[Socket]
    other_families: tuple[str, ...]
    units: frozenset[str]
    programs: dict[str, bytes]

    @classmethod
    def ask(cls, host: TestinfraHost) -> Listening:
        """One question for all of it."""
        waiting, processes, beginnings = host.check_output(_LISTENING).split("\n\n")
        lines = waiting.splitlines()
        units = re.findall(
            r"^/proc/\d+/cgroup:\d+:[^/]*:/(?:\S*?/)?([^/\s]+\.service)(?:/|$)", processes, re.MULTILINE
        )
        paths = dict(re.findall(r"^/proc/(\d+)/exe:(.+)$", processes, re.MULTILINE))
        _, *parts = re.split(rb"\n?==> /proc/(\d+)/exe <==\n", base64.b64decode(beginnings))
        return cls(
            frozenset(_socket(line) for line in lines if line.startswith(("tcp", "udp"))),
            tuple(line for line in lines if not line.startswith(("tcp", "udp"))),
            frozenset(units),
            {
                paths[pid.decode()].removesuffix(" (deleted)"): data
                for pid, data in zip(parts[::2], parts[1::2], strict=True)
            },
        )


def _socket(line: str) -> Socket:
    protocol, _, _, _, local, *rest = line.split()
    address, _, port = local.rpartition(":")
    program = re.search(r'"([^"]+)"', " ".join(rest))
    return Socket(address.partition("%")[0].strip("[]"), int(port), protocol, program[1] if program else "")


@dataclass(frozen=True)
class Mount:
    """A mount as a process sees it (proc_pid_mountinfo(5))."""

    point: str
    options: frozenset[str]
    filesystem: str


@dataclass(frozen=True)
class Mounts:
    """All mounts that a process sees, in the order of mounting."""

    each: tuple[Mount, ...]

    @classmethod
    def read(cls, mountinfo: str) -> Mounts:
        """From the lines of /proc/PID/mountinfo."""
        lines = (line.partition(" - ") for line in mountinfo.splitlines())
        fields = ((mount.split(), rest.split()) for mount, _, rest in lines)
        return cls(tuple(Mount(own[4], frozenset(own[5].split(",")), rest[0]) for own, rest in fields))

    def at(self, point: str) -> Mount | None:
        """The topmost mount at exactly this path."""
        return next((mount for mount in reversed(self.each) if mount.point == point), None)

    def of(self, path: str) -> Mount:
        """The mount that a path without symbolic links is in."""
        places = map(str, (PurePosixPath(path), *PurePosixPath(path).parents))
        return next(mount for mount in map(self.at, places) if mount)


@dataclass(frozen=True)
class Kernel:
    """The kernel's settings."""

    host: TestinfraHost

    @cached_property
    def _settings(self) -> dict[str, str]:
        files = " ".join(f"/proc/sys/{name}" for name in _SETTINGS)
        lines = self.host.check_output(f"grep --with-filename . {files}").splitlines()
        return {
            name.removeprefix("/proc/sys/"): value
            for name, _, value in (line.partition(":") for line in lines)
        }

    def setting(self, name: str) -> int:
        """One by its name below /proc/sys."""
        return int(self._settings[name])

    def settings(self, last: str) -> dict[str, int]:
        """All settings whose name ends so, for example those of each interface."""
        found = {name: int(value) for name, value in self._settings.items() if name.endswith(f"/{last}")}
        assert found, f"the kernel knows no {last}"
        return found
