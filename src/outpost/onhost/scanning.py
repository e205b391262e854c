"""Lets messages and pings through to clamd, one after the other, and none of its other commands (VIR-04).

clamd obeys anybody who reaches its socket: ``SHUTDOWN``, ``SCAN /etc/passwd``, ``RELOAD`` (clamd(8)); no setting takes these away.
stunnel starts this for each connection of the store (``exec``), with the connection as standard input and output, and the
path of clamd's socket as the argument. Only Python's own library.
"""

import socket
import struct
import sys
from contextlib import suppress

PING, STREAM = (b"zPING\0", b"nPING\n", b"nPING\r\n"), (b"zINSTREAM\0", b"nINSTREAM\n")
PATIENCE = 120.0
"""Seconds without an octet, from either side."""
NEXT = 2.0
"""Seconds until the next command of a connection."""
LINGER = 10.0
"""Seconds without an octet after the answer."""
PIECE = 1 << 16
MOST_UNREAD = 1 << 28
"""Octets that are read after the answer: clamd answers in the middle of a message that is too large, and the store sends all of it."""
LONGEST = 4096
"""Most octets of an answer: a verdict with the name of what was found."""


def relay(asking: socket.socket, path: str) -> None:
    """Pass commands and answers on until the peer closes, is silent, or an exchange cannot continue."""
    asking.settimeout(PATIENCE)
    while command := _command(asking):
        asking.settimeout(PATIENCE)
        if command not in (*PING, *STREAM):
            asking.sendall(b"UNKNOWN COMMAND\0")
            return
        with socket.socket(socket.AF_UNIX) as scanner:
            scanner.settimeout(PATIENCE)
            scanner.connect(path)
            whole = _sent(command, asking, scanner)
            answer = b""
            while len(answer) < LONGEST and (more := scanner.recv(LONGEST)):
                answer += more
        asking.sendall(answer)
        if not whole:  # the beginning of the next command is not known
            return
        asking.settimeout(NEXT)


def _command(asking: socket.socket) -> bytes:
    """The next command, no longer than the longest that is let through; empty at the end."""
    command = b""
    with suppress(TimeoutError):
        while part := asking.recv(1):
            command += part
            if part in b"\0\n" or len(command) == len(STREAM[0]):
                return command
    return b""


def _sent(command: bytes, asking: socket.socket, scanner: socket.socket) -> bool:
    """Pass a command on; returns false if clamd wants no more, and has answered why."""
    try:
        scanner.sendall(command)
        if command in STREAM:
            _message(asking, scanner)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _message(asking: socket.socket, scanner: socket.socket) -> None:
    """A message in portions, each after its length; a portion of length 0 ends it."""
    while True:
        head = _exactly(asking, 4)
        scanner.sendall(head)
        (left,) = struct.unpack(">I", head)
        if not left:
            return
        while left:
            part = _exactly(asking, min(left, PIECE))
            scanner.sendall(part)
            left -= len(part)


def _hang_up(asking: socket.socket) -> None:
    """Read the rest: closing with unread octets resets the connection, and stunnel then drops the answer (unix(7))."""
    asking.shutdown(socket.SHUT_WR)
    asking.settimeout(LINGER)
    for _ in range(MOST_UNREAD // PIECE):
        if not asking.recv(PIECE):
            return


def _exactly(asking: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        part = asking.recv(count - len(found))
        if not part:
            raise EOFError("the connection ended within a message")
        found += part
    return bytes(found)


def main(arguments: list[str]) -> int:
    with suppress(EOFError, TimeoutError, ConnectionError), socket.socket(fileno=0) as asking:
        relay(asking, arguments[0])
        _hang_up(asking)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
