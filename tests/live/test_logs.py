"""What a host writes leaves it; the daemon that carries it is asked, by its connections and what waits on its disk."""

from __future__ import annotations

import time

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Office

PATIENCE = 60.0  # seconds; a collector that was away is asked again every half minute
WAITS = "find /var/spool/rsyslog -name 'collector.0*' -size +0"


@pytest.mark.control("LOG-02")
def test_what_the_host_writes_goes_to_the_collector(host: TestinfraHost, office: Office) -> None:
    """A connection of rsyslog's to the collector stands, and nothing waits for one."""
    if office.logs.collector is None:
        pytest.skip("the office names no collector ([logs]): what its hosts write stays on them")
    looks = (
        f"ss --no-header --tcp --processes state established 'dport = :{office.logs.port}'; echo --; {WAITS}"
    )
    deadline = time.monotonic() + PATIENCE
    while True:
        connections, _, waiting = host.check_output(looks).partition("--")
        if "rsyslogd" in connections and not waiting.strip():
            return
        assert time.monotonic() < deadline, (
            f"connections: {connections or 'none'}; waiting: {waiting or 'nothing'}"
        )
        time.sleep(2)


@pytest.mark.control("LOG-02", "SYS-09")
def test_what_carries_the_logs_has_none_of_roots_rights(host: TestinfraHost, office: Office) -> None:
    if office.logs.collector is None:
        pytest.skip("the office names no collector ([logs]): what its hosts write stays on them")
    status = host.check_output("cat /proc/$(systemctl show --value --property=MainPID rsyslog)/status")
    facts = dict(line.split(":", 1) for line in status.splitlines())
    assert facts["Uid"].split()[0] != "0"
    assert int(facts["CapEff"], 16) == 0


@pytest.mark.control("SUDO-01")
def test_what_an_administrator_does_as_somebody_else_is_logged(host: TestinfraHost) -> None:
    told = host.check_output("date +%s%N")
    host.check_output(f"sudo -n -u nobody true outpost-check-{told}")
    deadline = time.monotonic() + 15
    while f"COMMAND=/usr/bin/true outpost-check-{told}" not in host.check_output(
        "journalctl -q -t sudo -n 20 -o cat; true"
    ):
        assert time.monotonic() < deadline, "sudo's command is not in the journal"
        time.sleep(0.5)
