"""Explained lines of a journal are recognised as they are compared, and no other lines are."""

from __future__ import annotations

from pathlib import Path

from outpost.office import load
from tests.live.explained import EXPLAINED, IN_CONTAINERS, unexplained

OFFICE = load(Path(__file__).resolve().parents[2] / "inventory" / "harbour")
STORE = OFFICE.host("store")


def test_what_strangers_cause_is_explained_and_what_is_wrong_is_not() -> None:
    lines = [
        "     64 postfix/smtpd: warning: hostname mta.po.myertor.test does not resolve to address N.N.N.N",
        "      4 postfix/from-headoffice/smtpd: warning: TLS library problem: error:NAN:SSL routines::unsupported protocol",
        "      1 pythonN: sending held: alice@po.myertor.test sent to more than N recipients within an hour",
        "      1 systemd: knot.service: Failed with result 'signal'.",
        "      1 postfix/qmgr: warning: connect to transport private/lmtp: Connection refused",
    ]
    assert [line.split()[1] for line in unexplained(lines, OFFICE, STORE)] == [
        "systemd:",
        "postfix/qmgr:",
    ]


def test_a_store_that_was_away_is_no_fault_of_the_calendars_and_a_radicale_that_is_is_one() -> None:
    start = "      2 nginx: N/N/N N:N:N [error] N#N: *N "
    request = 'client: N.N.N.N, server: dav.po.myertor.test, request: "PROPFIND / HTTP/N.N"'
    lines = [
        f'{start}connect() failed (N: Connection reset by peer) while connecting to upstream, {request}, subrequest: "/login", upstream: "x"',
        f"{start}auth request unexpected status: N while sending to client, {request}",
        "      8 stunnel: LOGN[N]: s_connect: connect localhost:/run/outpost-davlogins/socket: No such file or directory (N)",
        f'{start}connect() to unix:/run/radicale.sock failed (N: No such file or directory), {request}, upstream: "x"',
        "      1 stunnel: LOGN[N]: s_connect: connect localhost:/run/dovecot/lmtp: No such file or directory (N)",
    ]
    assert unexplained(lines, OFFICE, STORE) == lines[3:]


def test_what_a_kernel_says_of_its_firmware_is_explained_and_what_it_says_of_its_disk_is_not() -> None:
    lines = [
        "      1 kernel: tsc: PIT calibration deviates from HPET: N N",
        "      1 kernel: clocksource: timekeeping watchdog on CPUN: Marking clocksource 'tsc' as unstable because the skew is too large:",
        "      1 kernel: ..MP-BIOS bug: N timer not connected to IO-APIC",
        "      4 kernel: kauditd_printk_skb: N callbacks suppressed",
        "      1 systemd: ssh.service: Found left-over process N (sshd-session) in control group while starting unit. Ignoring.",
        "      1 kernel: EXTN-fs error (device vda): ext4_lookup:N: inode #N: comm find: deleted inode referenced: N",
        "      1 kernel: Out of memory: Killed process N (clamd)",
    ]
    assert len(unexplained(lines, OFFICE, STORE)) == 2


def test_a_file_from_the_next_second_is_explained_and_one_from_the_past_is_not() -> None:
    lines = [
        "      1 postfix/submission/cleanup: warning: file system clock is N seconds ahead of local clock",
        "      1 postfix/submission/cleanup: warning: resetting file time stamps - this hurts performance",
        "      1 postfix/cleanup: warning: file system clock is N seconds behind local clock",
    ]
    assert unexplained(lines, OFFICE, STORE) == lines[2:]


def test_what_udev_may_not_do_is_explained_in_a_container_only() -> None:
    line = "      2 (udev-worker): vda: Failed to process device, ignoring: Operation not permitted"
    broken = "      1 (udev-worker): vda: Failed to process device, ignoring: Input/output error"
    container = STORE.model_copy(update={"platform": "docker"})
    assert unexplained([line, broken], OFFICE, container) == [broken]
    assert unexplained([line, broken], OFFICE, STORE) == [line, broken]


def test_an_explanation_writes_numbers_as_they_are_compared_and_has_a_reason() -> None:
    every = EXPLAINED | IN_CONTAINERS
    assert [says for says in every if any(character.isdigit() for character in says)] == []
    assert [says for says, why in every.items() if len(why) < 20] == []


def test_a_clock_that_was_wrong_at_a_start_is_explained_and_one_that_cannot_be_set_is_not() -> None:
    lines = [
        "      1 chronyd: System clock wrong by N.N seconds",
        "      1 chronyd: System clock was stepped by -N.N seconds",
        "      1 chronyd: Could not step system clock",
    ]
    assert unexplained(lines, OFFICE, STORE) == lines[2:]
