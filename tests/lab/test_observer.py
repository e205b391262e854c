"""What the observer asks systemd and the kernel itself is what their own programs tell."""

from __future__ import annotations

import json

import pytest

from outpost.converge.drift import PYTHON
from outpost_lab.instance import Instance
from tests.awaiting import until
from tests.engine import executed

BOTH = f"""
import json, sys
sys.path.append("{PYTHON}")
from outpost.onhost.observe import manager, processes, reading, sockets
units, environment = manager.told_by_systemd()
waiting = {{" ".join(map(str, entry[:3])) for entry in sockets.waiting(processes.Processes().holders)}}
listed = reading.said("systemctl list-units --all --no-legend --plain --full")
shown = reading.said("ss --no-header --listening --numeric --tcp --udp --processes")
ends = [line.split()[0::4][:2] for line in shown if "pid=" in line]
print(json.dumps({{
    "units": [sorted(units), sorted(" ".join(line.split()[:4]) for line in listed)],
    "environment": [sorted(environment), sorted(reading.said("systemctl show-environment"))],
    "sockets": [sorted(waiting), sorted({{
        f"{{kind}} {{end.rpartition(':')[0].partition('%')[0].strip('[]')}} {{end.rpartition(':')[2]}}".replace(" * ", " :: ")
        for kind, end in ends
    }})],
}}))
"""
HOSTS = ("ns1", "mta", "store", "webmail")


@pytest.mark.parametrize("host", HOSTS)
def test_units_environment_and_sockets_are_those_that_systemctl_and_ss_show(lab: Instance, host: str) -> None:
    """Between two questions a timer may begin, or a daemon's own question to a name server."""
    command = ["docker", "exec", lab.container_name(host), "python3", "-BISc", BOTH]

    def same() -> dict[str, list[list[str]]] | None:
        told: dict[str, list[list[str]]] = json.loads(executed(command, seconds=60))
        return told if all(ours == theirs for ours, theirs in told.values()) else None

    told = until(same, "that both tell the same")
    assert told
    assert all(ours for ours, _ in told.values())


def test_another_ruleset_has_another_number(lab: Instance) -> None:
    program = f'import sys; sys.path.append("{PYTHON}"); from outpost.onhost.observe.ruleset import generation; print(generation())'
    ask = f"python3 -BISc '{program}'"
    change = "nft add table inet test_generation; nft delete table inet test_generation"
    command = ["docker", "exec", lab.container_name("store"), "sh", "-c", f"{ask}; {ask}; {change}; {ask}"]
    first, second, third = executed(command, seconds=60).split()
    assert first == second != third
