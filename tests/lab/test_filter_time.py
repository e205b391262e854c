"""The filter's own rules take time in proportion to what they read (INP-05, ADR 0024), asked of Rspamd's Lua with growing messages.

Processor time counts, not the clock. It is compared with that of shorter messages in the same run.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from outpost_lab.instance import Instance

PROGRAM = Path(__file__).with_name("filter_time.lua")
BOUND = 9
"""Messages become four times longer. Linear rules then take four times as long, quadratic ones sixteen times."""


def test_no_rule_takes_the_square_of_a_messages_length(lab: Instance) -> None:
    """Each kind of field and body is filled with each piece that patterns begin with; the five slowest are printed."""
    mta = lab.container_name("mta")
    source = PROGRAM.read_bytes()
    command = "cat >/tmp/filter_time.lua && rspamadm lua -b /tmp/filter_time.lua 2>/dev/null; rm /tmp/filter_time.lua"
    done = subprocess.run(
        ["docker", "exec", "--interactive", mta, "sh", "-c", command],
        input=source,
        capture_output=True,
        check=True,
        timeout=1200,
    )
    worst = [line for line in done.stdout.decode().splitlines() if line[:1].isdigit()]
    assert worst, done.stdout[-400:]
    assert float(worst[0].split()[0]) < BOUND, worst


CLAMD = """
import os, socket, struct, tarfile
pid = os.popen("systemctl show --property MainPID --value clamav-daemon").read().strip()
header = tarfile.TarInfo("a.txt").tobuf(tarfile.GNU_FORMAT)

def took(content):
    content += os.urandom(8)  # clamd remembers what it has found clean
    before = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    scanner = socket.socket(socket.AF_UNIX)
    scanner.connect("/run/clamav/clamd.ctl")
    scanner.sendall(b"zINSTREAM\\0" + struct.pack("!I", len(content)) + content + struct.pack("!I", 0))
    scanner.recv(4096)
    after = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return int(after[11]) + int(after[12]) - int(before[11]) - int(before[12]) + 1

def cell(period, **parts):
    made = bytearray(b"q" * period)
    for at, text in parts.items():
        for number, octet in enumerate(text):
            made[(int(at[1:]) + number) % period] = octet
    return bytes(made)

cells = {
    "records": cell(19, _0=b"x", _101=b"ustar", _356=b"1 a="),
    "sizes": cell(20, _0=b"00000007000\\0", _32=b"x", _133=b"ustar"),
    "blocks": cell(512, _124=b"00000007000\\0", _156=b"x", _257=b"ustar"),
    "members": b"PK\\3\\4",
}
for what, piece in cells.items():
    small, large = (took(header + piece * (size // len(piece))) for size in (1 << 18, 1 << 20))
    print(f"{large / max(small, 10):.1f} {what} {small} {large}")
starts = {
    "names in winmail.dat": (bytes.fromhex("789f3e22"), b".\\0"),
    "fields of names in winmail.dat": (bytes.fromhex("789f3e22"), b"\\x1e\\0\\7\\x37"),
    "names in Outlook's message": (
        bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504) + "__substg1.0_3704001".encode("utf-16-le"), b".e\\0x\\0"
    ),
    "names in a zip archive": (b"PK\\3\\4", b"up..\\1....a.a.a.a."),
    "files in a calendar": (b"BEGIN:VCALENDAR", b"\\nATTACH;\\n "),
    "files in a document": (
        bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504) + "\\1Ole10Native".encode("utf-16-le"), b"\\0a.ps.sh.a"
    ),
}
size = 1 << 23
plain = took(b"q" * size)
for what, (start, piece) in starts.items():
    spent = took(start + piece * (size // len(piece)))
    print(f"{spent / max(plain, 4):.1f} {what} {plain} {spent}")
"""
TIMES = 40
"""A file full of names may take this many times as long as one without. A comparison with all endings at each dot took 112 times."""


def test_no_signature_takes_the_square_of_a_files_length(lab: Instance) -> None:
    """Files in which records of tar, members of zip, or names seem to begin everywhere, by the processor time of clamd."""
    command = ["docker", "exec", "--interactive", lab.container_name("mta"), "python3", "-"]
    done = subprocess.run(command, input=CLAMD.encode(), capture_output=True, check=True, timeout=1200)
    found = done.stdout.decode().splitlines()
    assert len(found) == 10, done.stdout[-400:]
    assert max(float(line.split()[0]) for line in found[:4]) < BOUND, found
    assert max(float(line.split()[0]) for line in found[4:]) < TIMES, found
