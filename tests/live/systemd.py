"""systemd's state of a host's units, in a few questions that all checks share: starting systemctl costs more than its answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from testinfra.host import Host as TestinfraHost

from outpost.office.role import cgroup_limits
from outpost.office.size import MIB, STEP, Size
from outpost.office.tables.topology import RoleName
from tests.live.kernel import Mounts

DAEMONS: dict[RoleName, tuple[str, ...]] = {
    "dns": (),
    "mta": ("outpost-policy.service",),
    "store": ("outpost-logins.service",),
    "webmail": (),
}
"""Daemons that checks read, besides those with limits of their own."""
_DAILY = 2 * 86400
PACE: dict[RoleName, dict[str, int]] = {
    "dns": {},
    "mta": {"outpost-routes.timer": 600, "outpost-dmarc-reports.timer": _DAILY},
    "store": {"outpost-rescan.timer": _DAILY, "outpost-forget.timer": _DAILY},
    "webmail": {"roundcube-cleandb.timer": _DAILY},
}
"""Timer of a role → seconds after which its service should have run again."""
UPGRADES = {"apt-daily.timer": _DAILY, "apt-daily-upgrade.timer": _DAILY}
"""The same, of every host."""
PROPERTIES = (
    "Id", "Restart", "Result", "MemoryMax", "TasksMax", "OOMPolicy", "MainPID", "NoNewPrivileges", "SystemCallFilter", "CapabilityBoundingSet",
    "ActiveState", "ActiveEnterTimestamp", "LastTriggerUSec", "TimersCalendar", "OnClockChange", "ConditionResult",
    "ConditionTimestampMonotonic", "Before",
)  # fmt: skip
_PROCESSES = r"""
grep -sHE '^(Cap(Bnd|Eff)|NoNewPrivs|Seccomp):|^[0-9]' $(printf '/proc/%s/status ' $@) $(printf '/proc/%s/mountinfo ' $@)
find $(printf '/proc/%s/fd ' $@) -lname '*.journal' -printf '%h:%l\n'
"""
_SHOW = f"""
date +%s
shown=$(TZ=UTC LC_ALL=C systemctl show --property={",".join(PROPERTIES)} UNITS)
echo "$shown"
echo
set -- $(echo "$shown" | sed -n 's/^MainPID=0*//p')
{_PROCESSES}
"""


def properties(shown: str) -> list[dict[str, str]]:
    """Properties of each unit from ``systemctl show``, in this order; a property that is printed twice has both values."""
    units: list[dict[str, str]] = []
    for block in shown.split("\n\n"):
        unit: dict[str, str] = {}
        for name, _, value in (line.partition("=") for line in block.splitlines()):
            unit[name] = f"{unit[name]} {value}" if name in unit else value
        units.append(unit)
    return units


@dataclass(frozen=True)
class Process:
    """A unit's main process as the kernel sees it.

    Attributes:
        facts: Name → value of its status (proc_pid_status(5)).
        mounts: The mounts that it sees.
        journals: Files of the journal that it has open.
    """

    facts: dict[str, str]
    mounts: Mounts
    journals: tuple[str, ...]


@dataclass(frozen=True)
class Units:
    """The units of a host; each question is asked when a check first needs its answer."""

    host: TestinfraHost
    role: RoleName

    @property
    def daemons(self) -> tuple[str, ...]:
        """The units of the host that checks read."""
        return (*cgroup_limits(self.role, Size(STEP, 0, MIB)), *DAEMONS.get(self.role, ()))

    @property
    def shown(self) -> tuple[str, ...]:
        """Units whose properties checks read; fstrim has a condition that a container does not fulfil."""
        everywhere = (
            "ssh.service",
            "systemd-journald.service",
            "fstrim.timer",
            "outpost-watch.timer",
            *UPGRADES,
        )
        store = (
            ("outpost-clock.timer", "outpost-search.service", "outpost-twice.service")
            if self.role == "store"
            else ()
        )
        return (*self.daemons, *everywhere, *PACE.get(self.role, {}), *store)

    @cached_property
    def states(self) -> dict[str, str]:
        """State of each unit that is loaded: active, failed, …"""
        listed = self.host.check_output("systemctl list-units --all --full --plain --no-legend")
        return {name: state for name, _, state, *_ in map(str.split, listed.splitlines())}

    @cached_property
    def enabled(self) -> dict[str, str]:
        """For each timer and each unit that checks read whether it starts at boot: enabled, disabled, static, …"""
        instances = [unit for unit in self.shown if "@" in unit]
        files = [unit for unit in ("nftables.service", *self.shown) if unit not in instances]
        # with --type in place of the pattern systemd would read every unit file
        listed = self.host.check_output(
            f"systemctl list-unit-files --full --no-legend '*.timer' {' '.join(files)}"
        )
        states = {unit: state for unit, state, *_ in map(str.split, listed.splitlines())}
        if instances:  # they have no files of their own
            answers = self.host.run(f"systemctl is-enabled {' '.join(instances)}").stdout.split()
            states |= dict(zip(instances, answers, strict=True))
        return states

    @cached_property
    def _shown(self) -> tuple[str, list[dict[str, str]], list[str]]:
        output = self.host.run(_SHOW.replace("UNITS", " ".join(self.shown))).stdout
        now, _, rest = output.partition("\n")
        *blocks, processes = rest.split("\n\n")
        return now, properties("\n\n".join(blocks)), processes.splitlines()

    @cached_property
    def _by_name(self) -> dict[str, dict[str, str]]:
        return {unit["Id"]: unit for unit in self._shown[1]}

    def __getitem__(self, unit: str) -> dict[str, str]:
        """Properties of a unit; a unit outside the host's list is asked for separately."""
        if unit not in self._by_name:
            command = f"systemctl show --property={','.join(PROPERTIES)} {unit}"
            self._by_name[unit] = properties(self.host.check_output(command))[0]
        return self._by_name[unit]

    @property
    def now(self) -> int:
        """The host's clock when the properties were asked for, in seconds since 1970."""
        return int(self._shown[0])

    def process(self, unit: str) -> Process:
        """The main process of a unit."""
        start = f"/proc/{self[unit]['MainPID']}/"
        lines = [line.removeprefix(start) for line in self._shown[2] if line.startswith(start)]
        if not lines:
            command = f"set -- {self[unit]['MainPID']}\n{_PROCESSES}"
            lines = [line.removeprefix(start) for line in self.host.check_output(command).splitlines()]
        printed: dict[str, list[str]] = {"status": [], "mountinfo": [], "fd": []}
        for about, _, line in (line.partition(":") for line in lines):
            printed[about].append(line)
        facts = (line.partition(":") for line in printed["status"])
        return Process(
            {name: value.strip() for name, _, value in facts},
            Mounts.read("\n".join(printed["mountinfo"])),
            tuple(printed["fd"]),
        )

    def runs(self, unit: str) -> bool:
        """Whether a unit is active now."""
        return self.states.get(unit) in ("active", "reloading", "refreshing")

    def comes_up(self, unit: str) -> bool:
        """Whether the next boot of the host starts it: a timer, or one of the daemons that checks name."""
        return self.enabled.get(unit) == "enabled"

    @cached_property
    def _exposures(self) -> dict[str, float]:
        return exposures(self.host, *(unit for unit in self.daemons if unit != "chrony.service"))

    def exposure(self, unit: str) -> float:
        """The exposure of a unit: 0 is a tight sandbox, 10 is none (systemd-analyze(1), security)."""
        if unit not in self._exposures:
            self._exposures.update(exposures(self.host, unit))
        return self._exposures[unit]


def exposures(host: TestinfraHost, *units: str) -> dict[str, float]:
    """Unit → exposure."""
    output = host.check_output(
        f"systemd-analyze security --no-pager {' '.join(units)} | grep 'exposure level'"
    )
    return {unit: float(level) for unit, level in re.findall(r"exposure level for (\S+): ([\d.]+)", output)}
