"""Every log line reaches head office exactly once, however the connection fails, and nobody else can read it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from outpost_lab import keys, pace
from outpost_lab.instance import Instance
from tests.awaiting import TimeUpError, until
from tests.lab.test_reapply import on

pytestmark = pytest.mark.control("LOG-02")
LINES = 300


def say(lab: Instance, host: str, word: str, count: int = 1) -> list[str]:
    """Write numbered lines into a host's journal."""
    lines = [f"{word}-{number}." for number in range(count)]
    on(lab, host, "\n".join(f"logger -t outpost-test {line}" for line in lines))
    return lines


def collected(lab: Instance, host: str, word: str) -> list[str]:
    """The lines that arrived, in their order."""
    name = lab.office.host(host).fqdn
    output = on(lab, "collector", f"grep -o '{word}-[0-9]*[.]' /var/log/hosts/{name}.log || true")
    return output.split()


def await_lines(lab: Instance, host: str, word: str, wanted: list[str], seconds: float = 90) -> list[str]:
    """The lines that have arrived when all have, or when the time is up."""
    with suppress(TimeUpError):  # the comparison reports better what is missing
        until(lambda: set(collected(lab, host, word)) >= set(wanted), f"{wanted} have come", seconds=seconds)
    return collected(lab, host, word)


@pytest.fixture
def collector(lab: Instance) -> Iterator[str]:
    """The collector's machine; services that a test stopped are started again."""
    yield "collector"
    on(lab, "collector", "systemctl restart rsyslog")


@pytest.mark.parametrize("host", ["ns1", "ns2", "mta", "store", "webmail"])
def test_what_a_host_writes_is_at_head_office_within_seconds(lab: Instance, host: str) -> None:
    word = f"now{time.time_ns()}"
    wanted = say(lab, host, word)
    assert await_lines(lab, host, word, wanted, 30) == wanted


def test_what_is_written_while_the_collector_is_away_arrives_once(lab: Instance, collector: str) -> None:
    """The collector stops, lines wait, the host's log shipper is killed meanwhile, and the collector comes back."""
    first, second = f"cut{time.time_ns()}", f"killed{time.time_ns()}"
    on(lab, collector, "systemctl stop rsyslog")
    wanted = say(lab, "mta", first, LINES // 2)
    on(lab, "mta", "systemctl kill --signal=KILL outpost-logs")
    wanted += say(lab, "mta", second, LINES // 2)
    on(lab, collector, "systemctl start rsyslog")
    found = await_lines(lab, "mta", first, wanted[: LINES // 2]) + await_lines(
        lab, "mta", second, wanted[LINES // 2 :]
    )
    assert found == wanted


HOSTILE = """
import array, fcntl, os, socket, struct

os.setgid(65534)
os.setuid(65534)
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def write(*fields):
    data = b"".join(key + b"\\n" + struct.pack("<Q", len(value)) + value + b"\\n" for key, value in fields)
    try:
        journal.sendto(data, "/run/systemd/journal/socket")
    except OSError:  # too long: as sd_journal_send(3) does it
        file = os.memfd_create("entry", os.MFD_ALLOW_SEALING)
        with os.fdopen(os.dup(file), "wb") as whole:
            whole.write(data)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, 0xF)
        passed = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))
        journal.sendmsg([], [passed], 0, "/run/systemd/journal/socket")


for fields in (
    [(b"PRIORITY", "\u00b2".encode())],
    [(b"PRIORITY", b"9" * 5000), (b"SYSLOG_FACILITY", "\u0663".encode())],
    [(b"MESSAGE", b"\\xff\\x1b]0;x\\x07"), (b"MESSAGE", b"again")],
    [(b"MESSAGE", b"WORD-forged\\n<38>1 - HOST sshd 1 - - WORD-second")],
    [(b"MESSAGE", b"WORD-long " + b"x" * 20_000_000)],
    [(b"MESSAGE", b"WORD-noise " + os.urandom(2_000_000))],
    [(b"MESSAGE", b"WORD-sshd Accepted publickey for root"), (b"SYSLOG_IDENTIFIER", b"sshd"), (b"_UID", b"0"),
     (b"_SYSTEMD_UNIT", b"ssh.service")],
):
    write(*fields)
"""


def test_nothing_that_a_service_writes_stops_the_stream_or_passes_for_another(lab: Instance) -> None:
    """Hostile entries do not stop the stream; an entry that claims to be sshd's carries the account that wrote it."""
    word, host = f"hostile{time.time_ns()}", "ns2"
    program = HOSTILE.replace("WORD", word).replace("HOST", lab.office.host(host).fqdn)
    on(lab, host, f"python3 - <<'END-OF-PROGRAM'\n{program}\nEND-OF-PROGRAM\n")
    wanted = say(lab, host, word, 3)
    assert await_lines(lab, host, word, wanted) == wanted
    lines = on(
        lab, "collector", f"grep -a {word} /var/log/hosts/{lab.office.host(host).fqdn}.log"
    ).splitlines()
    forged = [line for line in lines if f"{word}-sshd" in line]
    assert [('_UID="65534"' in line, '_UID="0"' in line) for line in forged] == [(True, False)]
    assert not [line for line in lines if f" sshd 1 - - {word}-second" in line.partition("\\x0a")[0]]
    assert [line for line in lines if f"{word}-long" in line]


@pytest.mark.slow
def test_a_journal_that_somebody_moved_away_is_followed_where_it_is_now(lab: Instance) -> None:
    on(
        lab,
        "ns2",
        "cd /var/log; mv journal journal.away; mkdir journal; systemd-tmpfiles --create --prefix=/var/log/journal; "
        "systemctl restart systemd-journald; journalctl --flush; rm -r journal.away",
    )
    word = f"moved{time.time_ns()}"
    wanted = say(lab, "ns2", word)
    assert await_lines(lab, "ns2", word, wanted) == wanted


@pytest.mark.slow
def test_lines_under_way_when_the_line_breaks_are_not_lost(lab: Instance, collector: str) -> None:
    """The collector is killed during a stream; the host sends again what was not acknowledged."""
    word = f"broken{time.time_ns()}"
    with subprocess.Popen(
        [
            "docker",
            "exec",
            lab.container_name("store"),
            "sh",
            "-c",
            f"for n in $(seq 0 {LINES - 1}); do logger -t outpost-test {word}-$n.; done",
        ],
    ) as writing:
        await_lines(lab, "store", word, [f"{word}-0."])  # the stream flows
        on(lab, collector, "systemctl kill --signal=KILL rsyslog")
        writing.wait()
    on(lab, collector, "systemctl restart rsyslog")
    wanted = [f"{word}-{number}." for number in range(LINES)]
    assert set(await_lines(lab, "store", word, wanted)) == set(wanted)


@pytest.mark.slow
def test_somebody_elses_certificate_at_the_collectors_address_gets_no_line(
    lab: Instance, collector: str, tmp_path: Path
) -> None:
    key = tmp_path / "impostor.key"
    keys.authority(tmp_path / "ca.pem", tmp_path / "ca.key", "Nobody's authority")
    certificate = keys.certificate(
        key,
        ("logs.myertor.test",),
        keys.authority(tmp_path / "ca.pem", tmp_path / "ca.key", "Nobody's authority"),
        keys.ec_key(tmp_path / "ca.key"),
    )
    on(lab, collector, "cp -p /etc/outpost/host.pem /root/own.pem; cp -p /etc/outpost/host.key /root/own.key")
    word = f"impostor{time.time_ns()}"
    try:
        for name, content in (("host.pem", certificate), ("host.key", key.read_bytes())):
            subprocess.run(
                [
                    "docker",
                    "exec",
                    "-i",
                    lab.container_name(collector),
                    "sh",
                    "-c",
                    f"cat > /etc/outpost/{name}",
                ],
                input=content,
                check=True,
            )
        on(lab, collector, "systemctl restart rsyslog")
        on(lab, "ns1", "systemctl restart outpost-logs")
        wanted = say(lab, "ns1", word)
        until(
            lambda: (
                "certificate verify failed"
                in on(lab, "ns1", "journalctl -q -u outpost-logs --since=-1min -o cat | tail -20")
            ),
            "the impostor is tried, and refused",
            seconds=60,
        )
        assert collected(lab, "ns1", word) == []
    finally:
        on(
            lab,
            collector,
            "cat /root/own.pem > /etc/outpost/host.pem; cat /root/own.key > /etc/outpost/host.key; systemctl restart rsyslog",
        )
    assert await_lines(lab, "ns1", word, wanted) == wanted


@pytest.mark.slow
def test_the_collector_takes_lines_from_the_offices_hosts_only(lab: Instance) -> None:
    """A machine in the management network without a certificate of the office's does not get through the handshake."""
    collector = f"{lab.machine('collector').addresses['mgmt'][0]}:6514"
    hello = "relp_version=0\\ncommands=syslog"
    command = f"printf '1 open 30 {hello}\\n' | timeout {5 * pace.load():.0f} openssl s_client -quiet -connect {collector}"
    own = "-cert /etc/outpost/tls/host.pem -key /etc/outpost/tls/host.key"
    assert "1 rsp" in on(lab, "ns1", f"{command} {own} 2>&1 || true")
    assert "1 rsp" not in on(lab, "ns1", f"{command} 2>&1 || true")
    assert "1 rsp" not in on(lab, "acme", f"{command} 2>&1 || true")
