"""What a break-in or a flood is kept from: sandboxes, limits, modules; systemd and the kernel are asked, not files."""

from __future__ import annotations

import json
import re

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Host, Office
from outpost.office.base import NOTHING_RUNS, UNUSED_MODULES, cgroup_limits
from tests.live.conftest import exposure, units
from tests.live.test_base import sockets

pytestmark = pytest.mark.looks

WAIVED = {
    # An administrator's session inherits what sshd may not do, and an administrator may do everything.
    "ssh.service": "sessions of administrators inherit the sandbox; the door is guarded by SSH-01 and SSH-02",
}


def listening_units(host: TestinfraHost) -> set[str]:
    """The services that listening programs belong to; sessions, the checks' own among them, are none."""
    programs = sorted({program for *_, program in sockets(host) if program})
    shown = host.check_output(f"ps --no-headers -o comm:32=,unit:128= -C {','.join(programs)}")
    pairs = sorted(line.split() for line in shown.splitlines() if line.endswith(".service"))
    return set(dict(reversed(pairs)).values()) - set(WAIVED)


@pytest.mark.control("SYS-01")
def test_every_listening_unit_is_in_a_sandbox(host: TestinfraHost) -> None:
    """Exposure of each unit that waits for connections is 4.0 or better (systemd-analyze security)."""
    units = listening_units(host)
    assert units, "no unit listens: nothing was looked at"
    exposures = {unit: exposure(host, unit) for unit in sorted(units)}
    assert not {unit: level for unit, level in exposures.items() if level > 4.0}


@pytest.mark.control("SYS-01")
def test_what_listens_runs_within_what_its_unit_allows(host: TestinfraHost) -> None:
    """The kernel is asked of the running process: a sandbox that came after the daemon's start holds nothing."""
    units = listening_units(host)
    numbers = host.check_output("systemd-analyze capability --no-pager").split()[2:]
    bit_of = dict(zip(numbers[::2], map(int, numbers[1::2]), strict=True))
    for unit in sorted(units):
        asked = "MainPID,NoNewPrivileges,SystemCallFilter,CapabilityBoundingSet"
        wanted = dict(
            line.split("=", 1)
            for line in host.check_output(f"systemctl show --property={asked} {unit}").splitlines()
        )
        status = host.check_output(f"cat /proc/{wanted['MainPID']}/status")
        facts = {
            name: value.strip() for name, _, value in (line.partition(":") for line in status.splitlines())
        }
        allowed = sum(1 << bit_of[name] for name in wanted["CapabilityBoundingSet"].split())
        assert int(facts["CapBnd"], 16) & ~allowed == 0, f"{unit}: {facts['CapBnd']}"
        assert int(facts["CapEff"], 16) & ~allowed == 0, f"{unit}: {facts['CapEff']}"
        assert (facts["NoNewPrivs"] == "1") or wanted["NoNewPrivileges"] == "no", unit
        assert (facts["Seccomp"] == "2") or wanted["SystemCallFilter"] == "", unit


@pytest.mark.control("DOS-11")
def test_no_daemon_may_take_the_whole_host(host: TestinfraHost, me: Host) -> None:
    wanted = cgroup_limits(me.role)
    shown = host.check_output(f"systemctl show --property=Id,MemoryMax,TasksMax {' '.join(wanted)}")
    blocks = units(shown)
    assert {block["Id"] for block in blocks} == set(wanted)
    for block in blocks:
        limit = wanted[block["Id"]]
        number, unit = int(limit.memory[:-1]), limit.memory[-1]
        assert int(block["MemoryMax"]) == number * {"M": 1024**2, "G": 1024**3}[unit], block
        assert int(block["TasksMax"]) == limit.tasks, block


@pytest.mark.control("SYS-02")
def test_unused_kernel_modules_do_not_load(host: TestinfraHost) -> None:
    if host.run("command -v modprobe").rc:
        pytest.skip("there is nothing here that loads a module: a container's kernel is the machine's")
    asked = "echo == $name; modprobe --dry-run --verbose $name 2>&1"
    blocks = host.run(f"for name in {' '.join(UNUSED_MODULES)}; do {asked}; done").stdout.split("== ")[1:]
    last = {
        lines[0]: lines[-1].strip() for lines in map(str.splitlines, blocks)
    }  # before it: what it depends on
    assert set(last) == set(UNUSED_MODULES)
    assert [
        (name, line)
        for name, line in last.items()
        if line != "install /bin/false" and "not found in directory" not in line
    ] == []
    if host.check_output("systemd-detect-virt --container; true") == "none":
        loaded = host.check_output("cut -d' ' -f1 /proc/modules").replace("_", "-").split()
        assert not set(loaded) & set(UNUSED_MODULES)


@pytest.mark.control("SYS-09")
def test_a_session_leaves_no_memory_on_the_disk(host: TestinfraHost) -> None:
    """A session is opened through PAM, as sshd and login open theirs."""
    asked = "umask; grep -E '^Max (core file size|processes)' /proc/self/limits"
    umask, *limits = host.check_output("su --shell /bin/sh nobody --command %s", asked).splitlines()
    assert umask == "0027"
    assert {line[:26].strip(): line[26:].split()[1] for line in limits} == {
        "Max core file size": "0", "Max processes": "4096",
    }  # fmt: skip


@pytest.mark.control("VIR-05")
def test_nothing_runs_from_where_everybody_writes(host: TestinfraHost, me: Host) -> None:
    for place in (*NOTHING_RUNS, *(("/srv/mail",) if me.role == "store" else ())):
        options = host.check_output(f"findmnt --noheadings --output OPTIONS --mountpoint {place}").split(",")
        assert {"noexec", "nosuid", "nodev"} <= set(options), place
        tried = host.run(f"p={place}/outpost-check-$$; cp /bin/true $p && $p; said=$?; rm -f $p; exit $said")
        assert tried.rc == 126, place


@pytest.mark.probe
@pytest.mark.control("SYS-08")
def test_no_program_differs_from_its_package(host: TestinfraHost) -> None:
    """By the packages' own checksums; configuration is the roles' and compared by every plan."""
    differing = host.run("dpkg --verify").stdout.splitlines()
    assert [line for line in differing if line[2:3] == "5" and " c " not in line[:14]] == []


@pytest.mark.control("SYS-03")
def test_apparmor_confines_where_the_kernel_is_the_hosts_own(
    host: TestinfraHost, office: Office, me: Host
) -> None:
    if office.platform_of(me) == "docker":
        pytest.skip("a container has no profiles of its own: its kernel is the machine's")
    if host.run("test -d /sys/module/apparmor").rc:
        pytest.skip("the machine's kernel is built without AppArmor")
    profiles = host.check_output("cat /sys/kernel/security/apparmor/profiles").splitlines()
    assert [line for line in profiles if line.endswith("(enforce)")]


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


@pytest.mark.control("LOG-05")
def test_administration_is_audited_where_the_kernel_is_the_hosts_own(
    host: TestinfraHost, office: Office, me: Host
) -> None:
    if office.platform_of(me) == "docker":
        pytest.skip("a container has no audit of its own: its kernel is the machine's")
    rules = host.check_output("auditctl -l")
    for key in ("accounts", "privileges", "ssh", "packet-filter", "units", "outpost"):
        assert f"key={key}" in rules or f"-k {key}" in rules


# Run on the host: what the programs of its listening units say of themselves (ELF), as JSON.
PROGRAMS = r"""
import json, os, struct, sys
said = {}
for pid in sys.argv[1:]:
    try:
        path = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
        data = open(f"/proc/{pid}/exe", "rb").read()
    except OSError:
        continue
    kind, = struct.unpack_from("<H", data, 16)
    start, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    heads = [struct.unpack_from("<II", data, start + size * number) for number in range(count)]
    said[path] = {
        "position-independent": kind == 3,
        "relocations read-only": any(head == 0x6474E552 for head, _ in heads),
        "stack not executable": any(head == 0x6474E551 and not flags & 1 for head, flags in heads),
    }
print(json.dumps(said))
"""


# Debian builds Python without, for its speed; what it runs here is memory-safe.
NOT_INDEPENDENT = "/usr/bin/python3"


@pytest.mark.control("INP-12")
def test_programs_that_listen_are_hard_to_break_into(host: TestinfraHost) -> None:
    programs = sorted({program for *_, program in sockets(host) if program})
    pids = f"$(pgrep -x '{'|'.join(map(re.escape, programs))}')"
    said = json.loads(host.check_output(f"python3 -I -c '{PROGRAMS}' {pids}"))
    assert said, "no program was looked at"
    weak = {path: [what for what, held in facts.items() if not held] for path, facts in said.items()}
    assert {path: what for path, what in weak.items() if what and not path.startswith(NOT_INDEPENDENT)} == {}
    assert host.check_output("cat /proc/sys/kernel/randomize_va_space") == "2"


@pytest.mark.probe
@pytest.mark.control("INP-14", "SYS-06")
def test_no_security_update_waits(host: TestinfraHost) -> None:
    """By the lists of packages that the host has; they are fetched daily, and what they bring is installed at once."""
    pending = host.check_output(
        "apt-get --simulate --quiet -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= upgrade "  # leaves no cache behind
        "| grep '^Inst .*Debian-Security'; true"
    )
    assert pending == ""
    assert "unattended-upgrades" in host.check_output("dpkg-query -W -f '${Package}\\n' unattended-upgrades")


WRITABLE = {
    "mta": "/var/lib/clamav /var/spool/postfix /tmp",
    "store": "/srv/mail /tmp",
    "webmail": "/var/lib/roundcube/db /var/lib/roundcube/temp /tmp",
}
WRITERS = {
    "mta": ("postfix", "rspamd", "clamav-daemon"),
    "store": ("dovecot",),
    "webmail": ("nginx", "php8.4-fpm"),
}


@pytest.mark.role("mta", "store", "webmail")
@pytest.mark.control("VIR-05")
def test_what_a_daemon_writes_cannot_be_run(host: TestinfraHost, me: Host) -> None:
    """Where strangers' mail goes the kernel runs nothing for the daemon (its mount namespace is asked; nothing is written)."""
    for unit in WRITERS[me.role]:
        pid = host.check_output(f"systemctl show --value --property=MainPID {unit}")
        for place in WRITABLE[me.role].split():
            options = host.run(
                f"nsenter --target {pid} --mount findmnt --noheadings --output OPTIONS --target {place}"
            )
            if options.rc:
                continue  # not there for this daemon
            flags = set(options.stdout.splitlines()[-1].split(","))  # the uppermost mount there
            assert {"noexec", "ro"} & flags, f"{unit} runs what is in {place}"


@pytest.mark.control("DOS-12")
def test_half_open_connections_do_not_fill_the_table(host: TestinfraHost) -> None:
    assert host.check_output("cat /proc/sys/net/ipv4/tcp_syncookies") == "1"
    assert int(host.check_output("cat /proc/sys/net/ipv4/tcp_max_syn_backlog")) >= 4096
