"""State that changes while a host runs and that no file shows: clock, crashes, the queue."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Host, Office
from outpost.target import Target
from tests.live.asking import CLOCK
from tests.live.conftest import reach
from tests.live.explained import unexplained
from tests.live.kernel import Kernel
from tests.live.systemd import PACE, UPGRADES, Units
from tests.live.test_base import OWN, own

pytestmark = pytest.mark.looks

PATIENCE = 4 * 3600  # seconds that a message may wait; after them main.cf also notifies the postmaster
DAEMONS = {
    "dns": ("knot.service",),
    "mta": (
        "postfix.service",
        "rspamd.service",
        "redis-server.service",
        "clamav-daemon.service",
        "outpost-policy.service",
    ),
    "store": ("dovecot.service", "stunnel@lmtp.service", "outpost-logins.service"),
    "webmail": ("nginx.service", "php8.4-fpm.service"),
}


@pytest.mark.control("TIM-01")
@pytest.mark.remedy(
    "run chronyc sources on the host to see which time server answers; correct [time] in the office file"
)
def test_clock_is_right_to_a_second(host: TestinfraHost) -> None:
    """The clock is right to a second."""
    tracking = host.check_output(CLOCK).splitlines()[-1].split(",")
    assert tracking[-1] == "Normal", f"not synchronised: {tracking}"
    assert abs(float(tracking[4])) < 1.0


@pytest.mark.control("NET-02")
def test_a_packet_comes_in_where_it_belongs_or_not_at_all(
    packet_filter: list[dict[str, Any]], kernel: Kernel
) -> None:
    """A packet is accepted only on the interface that its addresses belong to."""
    rules = json.dumps([rule["expr"] for rule in own(packet_filter, "rule")])
    assert '"flags": ["daddr", "iif"]' in rules
    assert '"flags": ["saddr", "iif"]' in rules
    assert set(kernel.settings("arp_ignore").values()) == {1}


@pytest.mark.control("NET-03")
def test_one_packet_filter_judges_both_families(packet_filter: list[dict[str, Any]]) -> None:
    """One packet filter covers IPv4 and IPv6, and there is no other."""
    chains = [entry["chain"] for entry in packet_filter if "chain" in entry]
    filters = [
        {"family": chain["family"], "table": chain["table"]}
        for chain in chains
        if chain.get("type") == "filter"
    ]
    assert filters
    assert [table for table in filters if table != OWN] == []


@pytest.mark.control("AVL-01")
def test_a_daemon_that_dies_comes_back(units: Units, me: Host) -> None:
    """A daemon that dies is restarted."""
    wanted = (*DAEMONS.get(me.role, ()), "ssh.service", "unbound.service")
    assert [unit for unit in wanted if units[unit]["Restart"] == "no"] == []


@pytest.mark.control("LOG-04", "SYS-06")
@pytest.mark.remedy(
    "run systemctl list-timers --all on the host, then systemctl start UNIT.service; journalctl -u UNIT shows what prevents it"
)
def test_what_the_host_does_by_itself_was_begun_lately(units: Units, office: Office, me: Host) -> None:
    """The host's scheduled jobs have run lately.

    A timer that never fires starts nothing, so that nothing can fail either.
    """
    wanted = PACE.get(me.role, {}) | UPGRADES | {"outpost-watch.timer": office.alarms.every + 600}
    assert [timer for timer in wanted if units[timer]["ActiveState"] != "active"] == []
    for timer, pace in wanted.items():  # a new timer has one interval for its first run
        last = units[timer]["LastTriggerUSec"] or units[timer]["ActiveEnterTimestamp"]
        moment = datetime.strptime(last, "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
        assert units.now - moment.timestamp() < pace, f"{timer}: {last}"


@pytest.mark.control("LOG-01")
@pytest.mark.remedy("run systemctl start timers.target on the host")
def test_what_packages_do_regularly_is_scheduled(units: Units) -> None:
    """Every enabled timer of the host runs, such as log rotation.

    Logs without rotation fill a disk. Whether a timer is enabled decides only about the next restart.
    """
    timers = [unit for unit in units.enabled if unit.endswith(".timer") and units.comes_up(unit)]
    assert len(timers) > 2
    resting = [timer for timer in timers if not units.runs(timer)]
    assert [timer for timer in resting if not _forbidden(units[timer])] == []


def _forbidden(timer: dict[str, str]) -> bool:
    """Whether a condition of the unit prevents its start here (fstrim in a container), systemd.unit(5)."""
    return timer["ConditionResult"] == "no" and timer["ConditionTimestampMonotonic"] != "0"


@pytest.fixture(scope="session")
def warnings(host: TestinfraHost) -> list[str]:
    """Log lines of warning or worse since the last apply, each kind once with its number."""
    output = host.check_output(
        "journalctl --boot --quiet --no-pager --no-hostname --output=short --priority=warning "
        '--since "@$(stat --format=%.6Y /var/lib/outpost/applied)" '
        r"| sed -E '/^ /d; s/^.{16}//; s/^([^[:space:]]+)\[[0-9]+\]:/\1:/; s/[0-9]+/N/g' | sort | uniq -c | sort -rn | awk '/^ *[0-9]+ systemd: / || n++ < 500'"
    )
    return str(output).splitlines()


@pytest.mark.control("INP-12")
@pytest.mark.remedy("run coredumpctl or journalctl on the host; an intruder may be able to use a crash")
def test_no_daemon_has_crashed_since_the_last_apply(warnings: list[str]) -> None:
    """No daemon has crashed since the last apply.

    A crash is a segmentation fault, an abort or the kernel's out-of-memory killer; a daemon that an administrator kills has not crashed.
    """
    crash = re.compile(r"systemd: .*(?:status=N/(?:ILL|ABRT|BUS|SEGV)|oom-kill)")  # both are warnings
    assert [line for line in warnings if crash.search(line)] == []


@pytest.mark.control("LOG-01")
@pytest.mark.remedy(
    "run journalctl --priority=warning on the host; explain harmless lines in [[verification.explained]] of the office "
    "file; after a repair run touch /var/lib/outpost/applied there"
)
def test_nothing_worse_than_notice_is_in_the_journal_or_it_is_explained(
    warnings: list[str], office: Office, me: Host
) -> None:
    """The journal has no warning or error that is not explained."""
    lines = unexplained(warnings, office, me)
    assert not lines, "\n".join(lines)


# The MTA's queue and its knowledge of the store ---------------------------------------------------------------


@pytest.mark.role("mta")
@pytest.mark.control("TLS-09")
@pytest.mark.remedy(
    "run postqueue -p on the MTA to see why each message waits, and postqueue -f to try again"
)
def test_nothing_waits_in_the_queue_for_hours(host: TestinfraHost) -> None:
    """No message has waited in the queue for more than four hours."""
    now = time.time()
    waiting = [
        f"{entry['queue_id']} for {(now - entry['arrival_time']) / 3600:.0f} h: {entry['recipients'][0].get('delay_reason', '')}"
        for entry in map(json.loads, host.check_output("postqueue -j").splitlines())
        if now - entry["arrival_time"] > PATIENCE
    ]
    assert not waiting, "\n".join(waiting)


@pytest.mark.role("mta")
@pytest.mark.control("DSN-01")
def test_the_edge_knows_the_stores_mailboxes_and_no_other(
    host: TestinfraHost, target: Target, office: Office, pytestconfig: pytest.Config
) -> None:
    """The MTA knows exactly the mailboxes of the store."""
    store = reach(target, office, office.with_role("store")[0], pytestconfig)
    known = host.check_output("postmap -s texthash:/etc/postfix/mailboxes")
    assert sorted(line.split()[0] for line in known.splitlines()) == sorted(
        store.check_output("doveadm user '*'").split()
    )
