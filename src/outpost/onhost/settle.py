"""Lets running deliveries finish before Postfix is stopped (QUE-02).

A stop ends Postfix's clients at once. If a client has sent its last byte and not read the answer yet, both ends have the message,
and Postfix delivers it again after the start (RFC 5321, section 6.1). So the queue manager is suspended first and starts no
delivery; each client records in the queue file what it has delivered, and disconnects. systemd calls this before `postfix stop`;
afterwards it resumes and ends the queue manager. Only Python's own library.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

CLIENTS = ("smtp", "lmtp")
ESTABLISHED = "01"
TALKING, CALLING = 45.0, 5.0
"""Seconds for a client that talks to a server, and for one that is still connecting: its line may be down."""
PACE = 0.05


def sockets(proc: Path) -> dict[str, bool]:
    """Internet sockets by inode: whether a server is at the other end."""
    found = {}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        with suppress(FileNotFoundError):  # no IPv6 here
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                found[fields[9]] = table.startswith("tcp") and fields[3] == ESTABLISHED
    return found


def processes(proc: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Postfix's processes with these names."""
    for each in proc.glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            name = (each / "stat").read_text(errors="replace").split("(", 1)[1].rsplit(")", 1)[0]
            if name in names:
                yield each


def under_way(proc: Path) -> Iterator[bool]:
    """For each delivery, whether its client already talks to the server."""
    known = sockets(proc)
    for client in processes(proc, CLIENTS):
        with suppress(OSError):
            held = {str(file.readlink()) for file in (client / "fd").iterdir()}
            mine = [talks for inode, talks in known.items() if f"socket:[{inode}]" in held]
            if mine:
                yield any(mine)


def settle(proc: Path, clock: Callable[[], float], pause: Callable[[float], None]) -> int:
    """Wait for them; returns how many did not finish. It ends when two scans in a row find none: a client may be between the
    DNS answer and its connection."""
    began, quiet = clock(), 0
    while quiet < 2:
        patience = clock() - began
        left = [talks for talks in under_way(proc) if patience < (TALKING if talks else CALLING)]
        quiet = 0 if left else quiet + 1
        pause(PACE)
    return sum(1 for _ in under_way(proc))


def main() -> int:
    """Stop the queue manager; then running deliveries finish."""
    proc = Path("/proc")
    for manager in processes(proc, ("qmgr",)):
        with suppress(ProcessLookupError):
            os.kill(int(manager.name), signal.SIGSTOP)
    if left := settle(proc, time.monotonic, time.sleep):
        sys.stderr.write(f"<5>settle: {left} deliveries have not ended\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
