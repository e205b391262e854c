"""Processes: those that somebody stopped in their tracks, and what each holds open."""

from __future__ import annotations

import contextlib
import os

from outpost.onhost.observe.reading import content


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


def unit_of(pid: str) -> str:
    """Empty where it belongs to none."""
    with contextlib.suppress(OSError):
        for part in reversed(content(f"/proc/{pid}/cgroup").strip().split("/")):
            if part.endswith((".service", ".scope")):
                return part
    return ""
