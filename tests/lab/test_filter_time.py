"""The filter's own rules take time in proportion to what they read (INP-05, ADR 0024), asked of Rspamd's Lua with growing messages.

Processor time counts, not the clock's, and it is compared with that of shorter messages in the same run.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from outpost_lab.instance import Instance

PROGRAM = Path(__file__).with_name("filter_time.lua")
BOUND = 9
"""Messages grow by four: linear rules take four times as long, and some noise; quadratic ones sixteen times."""


def test_no_rule_takes_the_square_of_a_messages_length(lab: Instance) -> None:
    """Each kind of field and body is filled with each piece that patterns begin with; the five worst are printed, or the first that is far from linear."""
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
