"""Processes: those that somebody stopped by a signal, and their open files."""

import contextlib
import glob
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


GROUPS = "/sys/fs/cgroup"
PRIVATE = ("/var/log/journal/*/*.journal", "/dev/*")
MEMORY = ("mem", "kmem", "port")


# SYS-09: without it every account reads the logs, or writes to the disk past all permissions, once somebody has changed one mode.
def exposed() -> list[str]:
    """Journals that every account may read; disks and memory that every account may read or write."""
    found = []
    for path in (path for place in PRIVATE for path in glob.iglob(place)):
        with contextlib.suppress(OSError):
            mode = os.lstat(path).st_mode
            raw = stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and os.path.basename(path) in MEMORY)
            if mode & 0o006 and (raw or stat.S_ISREG(mode)) and not path.startswith("/dev/shm/"):
                found.append(f"exposed\t{named(path)}\t")
    return found


# AVL-01: without it a daemon whose control group is frozen counts as running (systemctl freeze).
def frozen() -> list[str]:
    """Units that stand still, by their control groups (cgroup.freeze)."""
    if not os.path.exists(f"{GROUPS}/cgroup.controllers"):
        return []  # of version 1, where systemd freezes nothing
    groups = glob.iglob(f"{GROUPS}/**/cgroup.freeze", recursive=True)
    return [
        f"frozen\t{named(os.path.basename(os.path.dirname(path)))}\t{named(os.path.dirname(path))}"
        for path in groups
        if content(path).strip() == "1"
    ]


def unit_of(pid: str) -> str:
    """The unit of a process; empty if it belongs to none."""
    with contextlib.suppress(OSError):
        for part in reversed(content(f"/proc/{pid}/cgroup").strip().split("/")):
            if part.endswith((".service", ".scope")):
                return part
    return ""
