"""Alarms of a site's server: the program that watches the office's hosts (`outpost.onhost.watch`), with what must be true on the server."""

import inspect
import json
from collections.abc import Iterable

import outpost.onhost.tell
import outpost.onhost.watch
from outpost.machines.hardening import BASELINE
from outpost.office.model import Office
from outpost.onhost.watch import SETTINGS

TIMER = "outpost-watch.timer"
UNITS = ("outpost-watch.service", TIMER)
PROGRAMS = {
    f"/usr/local/lib/outpost-site/python/{module.__name__.replace('.', '/')}.py": inspect.getsource(module)
    for module in (outpost.onhost.tell, outpost.onhost.watch)
}
"""Path on the server → content."""
RUNS = "systemctl is-enabled outpost-guests.service || exit 0; LC_ALL=C virsh --connect qemu:///system domstate {} | grep -x running"
"""Shell: whether a guest runs; after `machines down` of all guests none has to."""


def files(office: Office, guests: Iterable[str], disks: str) -> dict[str, str]:
    """Path → content on the server, without the units.

    Args:
        disks: The directory of the guests' disks.
    """
    wanted = office.alarms
    must = {f"{part.name} ({part.control})": part.question for part in BASELINE}
    must |= {f"{guest} runs": RUNS.format(guest) for guest in guests}
    settings = {
        "host": f"site server of {office.domain}", "office": office.name, "tell": list(wanted.tell),
        "probes": ["disks", "memory", "units", "questions"], "recent": 3600, "applied": "/etc/outpost/none", "volumes": ["/", "/var", disks],
        "disk_percent": wanted.disk_percent, "questions": must,
    }  # fmt: skip
    return PROGRAMS | {str(SETTINGS): json.dumps(settings, indent=2) + "\n"}
