"""Sockets that wait for others, as the kernel lists them (sock_diag(7)): ss(8) with their processes takes ten times as long."""

from __future__ import annotations

import socket
import struct

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
REQUEST_OF_ALL = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
DONE, ERROR = 3, 2
HEADER = struct.Struct("=IHHII")
"""Of a message: length, type, flags, sequence, port (netlink(7))."""
REQUEST = struct.Struct("=BBBBI48x")
"""inet_diag_req_v2: family, protocol, what more is wanted, nothing, states."""
ANSWER = struct.Struct("=4x2s2x16s44xI")
"""inet_diag_msg: port and address at the near end, inode."""
WAITING = (("tcp", socket.IPPROTO_TCP, 10), ("udp", socket.IPPROTO_UDP, 7))
"""Name, number, and the state of a socket that nobody is at the other end of: TCP_LISTEN, TCP_CLOSE."""

Waiting = tuple[str, str, int, str, str]
"""Protocol, address, port, program, process."""


def waiting(holders: dict[str, tuple[str, str]]) -> list[Waiting]:
    """Sockets that wait for others.

    Args:
        holders: Inode of a socket → program and process. Docker's resolver listens in a container and is no process of it.

    Raises:
        OSError: The kernel did not answer.
    """
    found: list[Waiting] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(10)
        for protocol, number, state in WAITING:
            for family, octets in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
                for port, address, inode in _listed(kernel, family, number, 1 << state):
                    if holder := holders.get(str(inode)):
                        local = socket.inet_ntop(family, address[:octets])
                        found.append((protocol, local, int.from_bytes(port, "big"), *holder))
    return sorted(found)


def _listed(kernel: socket.socket, family: int, protocol: int, states: int) -> list[tuple[bytes, bytes, int]]:
    """Port, address and inode of each."""
    length = HEADER.size + REQUEST.size
    kernel.send(
        HEADER.pack(length, SOCK_DIAG_BY_FAMILY, REQUEST_OF_ALL, 0, 0)
        + REQUEST.pack(family, protocol, 0, 0, states)
    )
    found: list[tuple[bytes, bytes, int]] = []
    while True:
        said = kernel.recv(1 << 20)
        while said:
            length, kind, *_ = HEADER.unpack_from(said)
            if kind in (DONE, ERROR):  # an error: this kernel has no such sockets
                return found
            found.append(ANSWER.unpack_from(said, HEADER.size))
            said = said[(length + 3) & ~3 :]
