"""Processes: those that somebody stopped by a signal, and their open files."""

import contextlib
import os
import stat

from outpost.onhost.observe.reading import content, named


class Processes:
    """One walk over all of them (proc(5)).

    Attributes:
        faults: Daemons that stand still, and logs that they write though nobody sees them any more.
        holders: Inode of a socket → name and number of the process that has it; of several, the youngest.
    """

    def __init__(self) -> None:
        faults: list[str] = []
        self.holders: dict[str, tuple[str, str]] = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                name, state = content(f"/proc/{pid}/stat").partition("(")[2].rpartition(")")[::2]
                if state.split()[0] == "T" and (unit := unit_of(pid)).endswith(".service"):
                    faults.append(f"halted\t{unit}\t{name} {pid}")
                for number in os.listdir(f"/proc/{pid}/fd"):
                    opened = os.readlink(f"/proc/{pid}/fd/{number}")
                    if opened.startswith("socket:["):
                        self.holders[opened[8:-1]] = name, pid
                    elif opened.startswith("/var/log/") and opened.endswith(" (deleted)"):
                        faults.append(f"deleted\t{opened.removesuffix(' (deleted)')}\t{unit_of(pid)}")
        self.faults = list(dict.fromkeys(faults))


SESSIONS = "user/"
"""Directories below /run that only their user may enter."""


# SYS-05: without it every account can talk to a service as its clients do, once somebody has changed its socket's mode.
def opened_sockets(holders: dict[str, tuple[str, str]]) -> list[str]:
    """Sockets of services below /run to which every account may connect although no configuration says so (proc_net_unix(5))."""
    found = []
    for line in content("/proc/net/unix").splitlines():
        inode, _, path = line.partition(" /run/")
        with contextlib.suppress(OSError):
            status = os.stat(f"/run/{path}") if path else None
            if (
                status
                and stat.S_ISSOCK(status.st_mode)
                and status.st_mode & 0o002
                and status.st_uid
                and not path.startswith(SESSIONS)
            ):
                _, pid = holders.get(inode.rpartition(" ")[2], ("", ""))
                found.append(f"opened\t{named(f'/run/{path}')}\t{unit_of(pid) if pid else ''}")
    return sorted(set(found))


def unit_of(pid: str) -> str:
    """The unit of a process; empty if it belongs to none."""
    with contextlib.suppress(OSError):
        for part in reversed(content(f"/proc/{pid}/cgroup").strip().split("/")):
            if part.endswith((".service", ".scope")):
                return part
    return ""
