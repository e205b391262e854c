"""What a break-in or a flood is kept from: sandboxes, limits, modules; systemd and the kernel are asked, not files."""

from __future__ import annotations

import json
import re

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Host, Office
from outpost.office.base import UNUSED_MODULES, cgroup_limits
from tests.live.test_base import sockets

WAIVED = {
    # An administrator's session inherits what sshd may not do, and an administrator may do everything.
    "ssh.service": "sessions of administrators inherit the sandbox; the door is guarded by SSH-01 and SSH-02",
}


def unit_of(host: TestinfraHost, program: str) -> str:
    """The service that a listening program belongs to."""
    shown = host.check_output(f"ps --no-headers -o unit= -C {program} | sort -u | head -1")
    return str(shown).strip()


@pytest.mark.control("SYS-01")
def test_every_listening_unit_is_in_a_sandbox(host: TestinfraHost) -> None:
    """Exposure of each unit that waits for connections is 4.0 or better (systemd-analyze security)."""
    programs = {program for *_, program in sockets(host) if program}
    units = {unit_of(host, program) for program in programs} - {""}  # a program may have ended meanwhile
    assert units, "no unit listens: nothing was looked at"
    exposures = {}
    for unit in sorted(units - set(WAIVED)):
        report = json.loads(host.check_output(f"systemd-analyze security --json=short {unit}"))
        assert report
        said = host.check_output(f"systemd-analyze security --no-pager {unit} | tail -1")
        found = re.search(r"level for \S+: ([\d.]+)", said)
        assert found, said
        exposures[unit] = float(found[1])
    assert not {unit: exposure for unit, exposure in exposures.items() if exposure > 4.0}


@pytest.mark.control("DOS-11")
def test_no_daemon_may_take_the_whole_host(host: TestinfraHost, me: Host) -> None:
    wanted = cgroup_limits(me.role)
    shown = host.check_output(f"systemctl show --property=Id,MemoryMax,TasksMax {' '.join(wanted)}")
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.split("\n\n")]
    assert {block["Id"] for block in blocks} == set(wanted)
    for block in blocks:
        limit = wanted[block["Id"]]
        number, unit = int(limit.memory[:-1]), limit.memory[-1]
        assert int(block["MemoryMax"]) == number * {"M": 1024**2, "G": 1024**3}[unit], block
        assert int(block["TasksMax"]) == limit.tasks, block


@pytest.mark.control("SYS-02")
def test_unused_kernel_modules_do_not_load(host: TestinfraHost) -> None:
    config = host.check_output("cat /etc/modprobe.d/*.conf; true")
    refused = set(re.findall(r"^install (\S+) /bin/false$", config, re.MULTILINE))
    assert set(UNUSED_MODULES) <= refused
    loaded = {
        line.split()[0].replace("_", "-")
        for line in host.check_output("cat /proc/modules; true").splitlines()
    }
    if host.check_output("systemd-detect-virt --container; true") == "none":
        assert not loaded & set(UNUSED_MODULES)


@pytest.mark.control("SYS-09")
def test_a_session_leaves_no_memory_on_the_disk(host: TestinfraHost) -> None:
    assert "* hard core 0" in host.file("/etc/security/limits.d/outpost.conf").content_string
    assert host.check_output("bash --login -c umask") == "0027"


@pytest.mark.control("SYS-09")
def test_only_known_accounts_can_log_in(host: TestinfraHost) -> None:
    """No account but root has a password that opens anything, and none but root is root."""
    shadow = [line.split(":") for line in host.check_output("cat /etc/shadow").splitlines()]
    assert not [name for name, password, *_ in shadow if password[:1] not in ("!", "*")]
    roots = [
        line.split(":")[0]
        for line in host.check_output("getent passwd").splitlines()
        if line.split(":")[2] == "0"
    ]
    assert roots == ["root"]


@pytest.mark.control("SYS-06")
def test_security_upgrades_come_in_their_hours(host: TestinfraHost, office: Office) -> None:
    shown = host.check_output("systemctl show --property=TimersCalendar apt-daily-upgrade.timer")
    assert re.findall(r"OnCalendar=([^;]+) ;", shown) == [f"*-*-* {office.maintenance.upgrades_at}:00"]


@pytest.mark.control("LOG-02")
def test_administration_is_audited_where_the_kernel_is_the_hosts_own(
    host: TestinfraHost, office: Office, me: Host
) -> None:
    if office.platform_of(me) == "docker":
        pytest.skip("a container has no audit of its own: its kernel is the machine's")
    rules = host.check_output("auditctl -l")
    for key in ("accounts", "privileges", "ssh", "packet-filter", "units", "outpost"):
        assert f"key={key}" in rules or f"-k {key}" in rules
