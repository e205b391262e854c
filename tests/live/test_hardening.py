"""Limits for a break-in or a flood: sandboxes, limits, modules. systemd and the kernel are asked, not files."""

from __future__ import annotations

import json
import re
import struct

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Host, Office
from outpost.office.base import NOTHING_RUNS, UNUSED_MODULES, BaseView
from outpost.office.role import cgroup_limits
from outpost.office.size import MIB, size_of
from tests.live.kernel import Kernel, Listening, Mounts
from tests.live.systemd import Units

pytestmark = pytest.mark.looks

WAIVED = {
    # An administrator's session inherits what sshd may not do, and an administrator may do everything.
    "ssh.service": "sessions of administrators inherit the sandbox; the listener is guarded by SSH-01 and SSH-02",
}

# Their order is their numbers in the kernel (linux/capability.h).
CAPABILITIES = [
    "cap_chown",
    "cap_dac_override",
    "cap_dac_read_search",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_setgid",
    "cap_setuid",
    "cap_setpcap",
    "cap_linux_immutable",
    "cap_net_bind_service",
    "cap_net_broadcast",
    "cap_net_admin",
    "cap_net_raw",
    "cap_ipc_lock",
    "cap_ipc_owner",
    "cap_sys_module",
    "cap_sys_rawio",
    "cap_sys_chroot",
    "cap_sys_ptrace",
    "cap_sys_pacct",
    "cap_sys_admin",
    "cap_sys_boot",
    "cap_sys_nice",
    "cap_sys_resource",
    "cap_sys_time",
    "cap_sys_tty_config",
    "cap_mknod",
    "cap_lease",
    "cap_audit_write",
    "cap_audit_control",
    "cap_setfcap",
    "cap_mac_override",
    "cap_mac_admin",
    "cap_syslog",
    "cap_wake_alarm",
    "cap_block_suspend",
    "cap_audit_read",
    "cap_perfmon",
    "cap_bpf",
    "cap_checkpoint_restore",
]


@pytest.mark.control("SYS-01")
def test_every_listening_unit_is_in_a_sandbox(listening: Listening, units: Units) -> None:
    """Every unit that listens runs in a sandbox (at most 4.0 by systemd-analyze security)."""
    exposures = {unit: units.exposure(unit) for unit in sorted(listening.units - set(WAIVED))}
    assert exposures, "no unit listens: nothing was checked"
    assert not {unit: level for unit, level in exposures.items() if level > 4.0}


@pytest.mark.control("SYS-01")
def test_what_listens_runs_within_what_its_unit_allows(listening: Listening, units: Units) -> None:
    """Every process that listens runs within the limits of its unit.

    The kernel is asked about the running process: a sandbox that was added after the daemon's start has no effect.
    """
    for unit in sorted(listening.units - set(WAIVED)):
        wanted, facts = units[unit], units.process(unit).facts
        allowed = sum(1 << CAPABILITIES.index(name) for name in wanted["CapabilityBoundingSet"].split())
        assert int(facts["CapBnd"], 16) & ~allowed == 0, f"{unit}: {facts['CapBnd']}"
        assert int(facts["CapEff"], 16) & ~allowed == 0, f"{unit}: {facts['CapEff']}"
        assert (facts["NoNewPrivs"] == "1") or wanted["NoNewPrivileges"] == "no", unit
        assert (facts["Seccomp"] == "2") or wanted["SystemCallFilter"] == "", unit


@pytest.mark.control("DOS-11")
def test_no_daemon_may_take_the_whole_host(units: Units, office: Office, me: Host) -> None:
    """Memory and number of processes of each daemon are limited."""
    for name, limit in cgroup_limits(me.role, size_of(office)).items():
        assert units[name]["MemoryMax"] == str(limit.memory * MIB), name
        assert units[name]["TasksMax"] == str(limit.tasks), name
        assert units[name]["OOMPolicy"] == "continue", name


@pytest.mark.control("SYS-02")
def test_unused_kernel_modules_do_not_load(host: TestinfraHost) -> None:
    """Unused kernel modules cannot be loaded."""
    if host.run("command -v modprobe").rc:
        pytest.skip("this host cannot load modules: a container uses its machine's kernel")
    command = "echo == $name; modprobe --dry-run --verbose $name 2>&1"
    blocks = host.run(f"for name in {' '.join(UNUSED_MODULES)}; do {command}; done").stdout.split("== ")[1:]
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
        loaded = host.check_output("cut -d' ' -f1 /proc/modules").split()
        assert not set(loaded) & {name.replace("-", "_") for name in UNUSED_MODULES}


@pytest.mark.control("SYS-09")
def test_a_session_leaves_no_memory_on_the_disk(host: TestinfraHost) -> None:
    """A session writes no core dump, and has a umask of 0027 or stricter and at most 4096 processes.

    The session is opened through PAM, as sshd and login open theirs.
    """
    command = "umask; grep -E '^Max (core file size|processes)' /proc/self/limits"
    umask, *limits = host.check_output("su --shell /bin/sh nobody --command %s", command).splitlines()
    assert int(umask, 8) & 0o027 == 0o027, umask
    assert {line[:26].strip(): line[26:].split()[1] for line in limits} == {
        "Max core file size": "0",
        "Max processes": "4096",
    }


@pytest.mark.control("VIR-05")
def test_nothing_runs_from_where_everybody_writes(host: TestinfraHost, me: Host) -> None:
    """No program can be run from directories that everybody can write to."""
    places = (*NOTHING_RUNS, *(("/srv/mail",) if me.role == "store" else ()))
    tried = " ".join(f"{place}/outpost-check-$$" for place in places)
    output = host.check_output(
        f"cat /proc/self/mountinfo; echo; set -- {tried}; tee $* </bin/true >/dev/null; chmod +x $*; "
        "for program; do $program 2>/dev/null; echo $?; done; rm -f $*"
    )
    mounted, _, codes = output.partition("\n\n")
    mounts = Mounts.read(mounted)
    for place, code in zip(places, codes.split(), strict=True):
        mount = mounts.at(place)
        assert mount is not None, place
        assert {"noexec", "nosuid", "nodev"} <= mount.options, place
        assert code == "126", place  # found, and not executable (POSIX, 2.8.2)


@pytest.mark.probe
@pytest.mark.control("SYS-08")
def test_no_program_differs_from_its_package(host: TestinfraHost) -> None:
    """Every installed program is the one of its Debian package.

    The packages' checksums are compared; each plan compares the configuration.
    """
    differing = host.run("dpkg --verify").stdout.splitlines()
    assert [line for line in differing if line[2:3] == "5" and " c " not in line[:14]] == []


CONFINED = """cd /etc/apparmor.d && ls -d usr.*; echo %; ls disable 2>/dev/null; echo %
find /proc/[0-9]*/exe -maxdepth 0 -printf '%p:%l\\n' 2>/dev/null; echo %; grep -s . /proc/[0-9]*/attr/current; true"""
"""Profiles, those that are disabled, and each process with its program and its confinement (proc_pid_attr(5))."""


def unconfined(profiles: set[str], programs: str, confined: str) -> list[str]:
    """Running programs for which there is a profile that is not enforced."""
    modes = dict(line.split("/attr/current:", 1) for line in confined.splitlines())
    running = (line.split("/exe:", 1) for line in programs.splitlines())
    return [
        f"{program}: {modes[process]}"
        for process, program in running
        if program.removesuffix(" (deleted)").lstrip("/").replace("/", ".") in profiles
        and not modes.get(process, "(enforce)").endswith(
            "(enforce)"
        )  # a process without a mode has ended meanwhile
    ]


@pytest.mark.remedy(
    "run `systemctl reload apparmor.service` on the host, then `systemctl restart UNIT` for each program that is named: "
    "a profile holds for what starts after it was loaded"
)
@pytest.mark.control("SYS-03")
def test_apparmor_confines_where_the_kernel_is_the_hosts_own(
    host: TestinfraHost, office: Office, me: Host
) -> None:
    """AppArmor confines each running program that has a profile, if the host has its own kernel."""
    if office.platform_of(me) == "docker":
        pytest.skip("a container has no profiles of its own: it uses its machine's kernel")
    if host.run("test -d /sys/module/apparmor").rc:
        pytest.skip("the machine's kernel is built without AppArmor")
    profiles, disabled, programs, confined = host.check_output(CONFINED).split("%\n")
    assert "(enforce)" in confined
    assert unconfined({*profiles.splitlines()} - {*disabled.splitlines()}, programs, confined) == []


def accepted_accounts(office: Office, me: Host) -> set[str]:
    """The machine's accounts that the office file accepts; a plan reports others until somebody decides."""
    words = (thing.partition(" ") for thing in (*office.maintenance.accepted, *me.accepted))
    return {name for kind, _, name in words if kind == "account"}


@pytest.mark.control("SYS-09")
@pytest.mark.remedy(
    'write "account NAME" into accepted or refused of the host (hosts.NAME) in the office file, then ./outpost apply OFFICE'
)
def test_only_known_accounts_can_log_in(host: TestinfraHost, office: Office, me: Host) -> None:
    """Only administrators and accepted accounts have a password, and only root has user id 0.

    The password is for the console: SSH accepts none.
    """
    administrators = {"root", BaseView(office, me).admin}
    shadow, passwd = (
        [line.split(":") for line in entries.splitlines()]
        for entries in host.check_output("cat /etc/shadow; echo; getent passwd").split("\n\n")
    )
    open_ = {name for name, password, *_ in shadow if password[:1] not in ("!", "*")}
    assert open_ <= administrators | accepted_accounts(office, me)
    assert [name for name, _, number, *_ in passwd if number == "0"] == ["root"]


@pytest.mark.control("SUDO-01")
def test_only_administrators_run_programs_as_somebody_else(
    host: TestinfraHost, office: Office, me: Host
) -> None:
    """sudo lets administrators, the group "sudo" and accepted accounts run programs as root, and nobody else."""
    if any(path.startswith("/etc/sudoers") for path in me.local):
        pytest.skip("this office declares rules of its own for sudo: hosts.NAME.local")
    rules = json.loads(host.check_output("cvtsudoers -e -f json /etc/sudoers"))["User_Specs"]
    allowed = {str(who) for rule in rules for each in rule["User_List"] for who in each.values()}
    assert allowed <= {"root", "sudo", BaseView(office, me).admin} | accepted_accounts(office, me)


@pytest.mark.control("SYS-06")
def test_security_upgrades_come_in_their_hours(units: Units, office: Office) -> None:
    """Security updates are installed at the time that the office file sets."""
    shown = units["apt-daily-upgrade.timer"]["TimersCalendar"]
    assert re.findall(r"OnCalendar=([^;]+) ;", shown) == [f"*-*-* {office.maintenance.upgrades_at}:00"]


@pytest.mark.control("LOG-05")
def test_administration_is_audited_where_the_kernel_is_the_hosts_own(
    host: TestinfraHost, office: Office, me: Host
) -> None:
    """Administration is audited, if the host has its own kernel."""
    if office.platform_of(me) == "docker":
        pytest.skip("a container has no audit of its own: it uses its machine's kernel")
    rules = host.check_output("auditctl -l")
    for key in ("accounts", "privileges", "ssh", "packet-filter", "units", "outpost"):
        assert f"key={key}" in rules or f"-k {key}" in rules


def hard(program: bytes) -> dict[str, bool]:
    """The protections that a program's header shows (elf(5))."""
    assert program[:5] == b"\x7fELF\x02", "no ELF of 64 bits"
    (kind,) = struct.unpack_from("<H", program, 16)
    (start,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    heads = [struct.unpack_from("<II", program, start + size * number) for number in range(count)]
    return {
        "position-independent": kind == 3,
        "relocations read-only": any(head == 0x6474E552 for head, _ in heads),
        "stack not executable": any(head == 0x6474E551 and not flags & 1 for head, flags in heads),
    }


# Debian builds Python without PIE, for speed; the programs that it runs here are memory-safe.
NOT_INDEPENDENT = "/usr/bin/python3"


@pytest.mark.control("INP-12")
def test_programs_that_listen_are_hard_to_break_into(listening: Listening, kernel: Kernel) -> None:
    """Programs that listen are built with PIE, RELRO and a non-executable stack, and ASLR is on."""
    assert listening.programs, "no program was checked"
    weak = {
        path: [what for what, held in hard(program).items() if not held]
        for path, program in listening.programs.items()
        if not path.startswith(NOT_INDEPENDENT)
    }
    assert {path: what for path, what in weak.items() if what} == {}
    assert kernel.setting("kernel/randomize_va_space") == 2


@pytest.mark.probe
@pytest.mark.control("INP-14", "SYS-06")
def test_no_security_update_waits(host: TestinfraHost) -> None:
    """No security update waits to be installed.

    The host's package lists are read: they are fetched daily, and what they bring is installed at once.
    """
    pending = host.check_output(
        "apt-get --simulate --quiet -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= upgrade "  # leaves no cache behind
        "| grep '^Inst .*Debian-Security'; true"
    )
    assert pending == ""
    assert "unattended-upgrades" in host.check_output("dpkg-query -W -f '${Package}\\n' unattended-upgrades")


WRITABLE = {
    "mta": ("/var/lib/clamav", "/var/spool/postfix", "/tmp"),
    "store": ("/srv/mail", "/tmp"),
    "webmail": ("/var/lib/roundcube/db", "/var/lib/roundcube/temp", "/var/lib/roundcube/sessions", "/tmp"),
}
WRITERS = {
    "mta": ("postfix.service", "rspamd.service", "clamav-daemon.service"),
    "store": ("dovecot.service",),
    "webmail": ("nginx.service", "php8.4-fpm.service"),
}


@pytest.mark.role("mta", "store", "webmail")
@pytest.mark.control("VIR-05")
def test_what_a_daemon_writes_cannot_be_run(units: Units, me: Host) -> None:
    """A daemon cannot run files from the directories that it writes to.

    This concerns directories with strangers' mail. The daemon's mount namespace is read; nothing is written.
    """
    for unit in WRITERS.get(me.role, ()):
        mounts = units.process(unit).mounts
        for place in WRITABLE.get(me.role, ()):
            assert {"noexec", "ro"} & mounts.of(place).options, f"{unit} runs what is in {place}"


@pytest.mark.control("DOS-12")
def test_half_open_connections_do_not_fill_the_table(kernel: Kernel) -> None:
    """SYN cookies and a large backlog protect against half-open connections."""
    assert kernel.setting("net/ipv4/tcp_syncookies") == 1
    assert kernel.setting("net/ipv4/tcp_max_syn_backlog") >= 4096
