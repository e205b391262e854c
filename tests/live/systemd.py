"""What systemd says of a host's units, in a few questions that all checks share: each start of systemctl costs more than its answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from testinfra.host import Host as TestinfraHost

from outpost.office.base import cgroup_limits
from outpost.office.tables.topology import Role
from tests.live.kernel import Mounts

DAEMONS: dict[Role, tuple[str, ...]] = {
    "dns": (),
    "mta": ("outpost-policy.service",),
    "store": ("outpost-logins.service", "outpost-twice.service"),
    "webmail": (),
}
"""Services that checks look at, beside those with limits of their own."""
TIMERS: dict[Role, tuple[str, ...]] = {
    "dns": (),
    "mta": ("outpost-certificate.timer", "outpost-dmarc-reports.timer", "outpost-routes.timer"),
    "store": (
        "outpost-certificate.timer", "outpost-clock.timer", "outpost-forget.timer", "outpost-rescan.timer", "outpost-twice.timer",
    ),
    "webmail": ("outpost-certificate.timer", "roundcube-cleandb.timer"),
}  # fmt: skip
"""Timers that checks look at, beside those of every host."""
PROPERTIES = (
    "Id", "Restart", "Result", "MemoryMax", "TasksMax", "MainPID", "NoNewPrivileges", "SystemCallFilter", "CapabilityBoundingSet",
    "ActiveState", "ActiveEnterTimestamp", "LastTriggerUSec", "TimersCalendar", "OnClockChange",
)  # fmt: skip
_STATUS = "^(Cap(Bnd|Eff)|NoNewPrivs|Seccomp):"
_SHOW = f"""
date +%s
shown=$(TZ=UTC LC_ALL=C systemctl show --property={",".join(PROPERTIES)} UNITS)
echo "$shown"
echo
set --
for pid in $(echo "$shown" | sed -n 's/^MainPID=0*//p'); do set -- "$@" /proc/$pid/status /proc/$pid/mountinfo; done
grep -sHE '{_STATUS}|^[0-9]' "$@"
"""


def properties(shown: str) -> list[dict[str, str]]:
    """Properties of each unit that ``systemctl show`` was asked for, in its order."""
    return [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.split("\n\n")]


@dataclass(frozen=True)
class Process:
    """A unit's main process as the kernel sees it.

    Attributes:
        facts: Name → value of its status (proc_pid_status(5)).
        mounts: What it sees mounted where.
    """

    facts: dict[str, str]
    mounts: Mounts


@dataclass(frozen=True)
class Units:
    """The units of a host; each question is asked when a check first needs its answer."""

    host: TestinfraHost
    role: Role

    @property
    def services(self) -> tuple[str, ...]:
        """Services of the host that checks look at."""
        return ("ssh.service", *cgroup_limits(self.role), *DAEMONS[self.role])

    @property
    def timers(self) -> tuple[str, ...]:
        """Timers that checks look at."""
        everywhere = (
            "apt-daily-upgrade.timer",
            "apt-daily.timer",
            "outpost-backup.timer",
            "outpost-watch.timer",
        )
        return (*everywhere, *TIMERS[self.role])

    @cached_property
    def states(self) -> dict[str, str]:
        """State of each unit that is loaded: active, failed, …"""
        listed = self.host.check_output("systemctl list-units --all --full --plain --no-legend")
        return {name: state for name, _, state, *_ in map(str.split, listed.splitlines())}

    @cached_property
    def _enabled(self) -> dict[str, str]:
        names = ("nftables.service", *self.services, *self.timers)
        said = self.host.run(f"systemctl is-enabled {' '.join(names)}").stdout.split()
        return dict(zip(names, said, strict=True))

    @cached_property
    def _shown(self) -> tuple[str, list[dict[str, str]], list[str]]:
        said = self.host.run(_SHOW.replace("UNITS", " ".join((*self.services, *self.timers)))).stdout
        now, _, rest = said.partition("\n")
        *blocks, processes = rest.split("\n\n")
        return now, properties("\n\n".join(blocks)), processes.splitlines()

    @cached_property
    def _by_name(self) -> dict[str, dict[str, str]]:
        return {unit["Id"]: unit for unit in self._shown[1]}

    def __getitem__(self, unit: str) -> dict[str, str]:
        """Properties of a unit; of one that is not among those of the host, it is asked for alone."""
        if unit not in self._by_name:
            asked = f"systemctl show --property={','.join(PROPERTIES)} {unit}"
            self._by_name[unit] = properties(self.host.check_output(asked))[0]
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
            asked = f"grep -sHE '{_STATUS}|^[0-9]' {start}status {start}mountinfo"
            lines = [line.removeprefix(start) for line in self.host.check_output(asked).splitlines()]
        told = [line.removeprefix("status:").partition(":") for line in lines if line.startswith("status:")]
        seen = "\n".join(line.removeprefix("mountinfo:") for line in lines if line.startswith("mountinfo:"))
        return Process({name: value.strip() for name, _, value in told}, Mounts.read(seen))

    def runs(self, unit: str) -> bool:
        """Whether a unit is active now."""
        return self.states.get(unit) in ("active", "reloading", "refreshing")

    def comes_up(self, unit: str) -> bool:
        """Whether the next start of the host starts it; one of those that checks look at."""
        return self._enabled[unit] == "enabled"

    @cached_property
    def _exposures(self) -> dict[str, float]:
        asked = [unit for unit in self.services if unit != "ssh.service"]
        return exposures(self.host, *asked)

    def exposure(self, unit: str) -> float:
        """How open a unit's sandbox is: 0 is shut, 10 none (systemd-analyze(1), security)."""
        if unit not in self._exposures:
            self._exposures.update(exposures(self.host, unit))
        return self._exposures[unit]


def exposures(host: TestinfraHost, *units: str) -> dict[str, float]:
    """Unit → exposure."""
    said = host.check_output(f"systemd-analyze security --no-pager {' '.join(units)} | grep 'exposure level'")
    return {unit: float(level) for unit, level in re.findall(r"exposure level for (\S+): ([\d.]+)", said)}
