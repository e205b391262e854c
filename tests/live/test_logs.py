"""A host's log lines reach the collector, which acknowledges them."""

from __future__ import annotations

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Office
from tests.awaiting import TimeUpError, until
from tests.live.pending import pend

PATIENCE = 60.0  # seconds; a collector that was away is asked again every half minute
SENT = "/var/lib/outpost-logs/sent"


@pytest.mark.control("LOG-02")
def test_what_the_host_writes_goes_to_the_collector(host: TestinfraHost, office: Office) -> None:
    """The host's log reaches the log collector.

    A line is written, and the collector acknowledges it or a later one.
    """
    if office.logs.collector is None:
        pytest.skip("the office names no collector ([logs]): logs stay on the hosts")
    written = int(host.check_output("logger -t outpost-verify 'a line for the collector'; date +%s%6N"))

    def arrived() -> bool:
        if int(host.check_output(f"sed -n 2p {SENT} 2>/dev/null | grep . || echo 0")) >= written:
            return True
        # the time may be from before the line was written
        host.check_output("logger -t outpost-verify 'another one'")
        return False

    try:
        until(arrived, "the collector acknowledges it", seconds=PATIENCE, pace=2)
    except TimeUpError:
        if not host.file(SENT).exists:
            pend(
                f"on {office.logs.collector}, which has taken nothing yet: it needs the office's authority (`./outpost secrets ca OFFICE`) "
                "and the hosts' names"
            )
        raise


@pytest.mark.control("LOG-02", "SYS-09")
def test_the_program_that_sends_the_log_runs_without_root(host: TestinfraHost, office: Office) -> None:
    """The program that sends the log runs without root's rights."""
    if office.logs.collector is None:
        pytest.skip("the office names no collector ([logs]): logs stay on the hosts")
    status = host.check_output("cat /proc/$(systemctl show --value --property=MainPID outpost-logs)/status")
    facts = dict(line.split(":", 1) for line in status.splitlines())
    assert facts["Uid"].split()[0] != "0"
    assert int(facts["CapEff"], 16) == 0


@pytest.mark.control("SUDO-01")
def test_what_an_administrator_does_as_somebody_else_is_logged(host: TestinfraHost) -> None:
    """Commands that run by sudo are logged."""
    printed = host.check_output("date +%s%N")
    host.check_output(f"sudo -n -u nobody true outpost-check-{printed}")
    until(
        lambda: (
            f"COMMAND=/usr/bin/true outpost-check-{printed}"
            in host.check_output("journalctl -q -t sudo -n 20 -o cat; true")
        ),
        "sudo's command is in the journal",
        seconds=15,
    )
