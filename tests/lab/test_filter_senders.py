"""Under whose name a user may write or resend (SPO-02), asked of Rspamd's Lua with signatures that the test makes up."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from outpost_lab.instance import Instance

PROGRAM = Path(__file__).with_name("filter_senders.lua")


@pytest.mark.control("SPO-02")
def test_a_domain_of_ones_own_does_not_lend_a_colleagues_name(lab: Instance) -> None:
    """A user resends a message that an own domain signed, with a colleague's name as its author's."""
    office = lab.office
    login, colleague = (
        office.mailboxes[0],
        next(user for user in office.users if user.full_name and user.address != office.mailboxes[0]),
    )
    command = 'cat >/tmp/senders.lua && rspamadm lua -b /tmp/senders.lua -a "$1" -a "$2" -a "$3" 2>/dev/null; rm /tmp/senders.lua'
    arguments = ["sh", "-c", command, "sh", login, colleague.full_name, colleague.address]
    done = subprocess.run(
        ["docker", "exec", "--interactive", lab.container_name("mta"), *arguments],
        input=PROGRAM.read_bytes(),
        capture_output=True,
        check=True,
        timeout=120,
    )
    lines = [
        line.split(": ")[1:] for line in done.stdout.decode().splitlines() if line.startswith("verdict: ")
    ]
    assert {line[0]: line[1] for line in lines} == {
        "own": "taken",
        "a stranger's, resent": "taken",
        "a stranger's without a signature, resent": "refused",
        "a colleague's, resent": "taken",
        "a colleague's name, resent": "refused",
        "a colleague's address as a name, resent": "refused",
        "a colleague's name beside another colleague's address": "refused",
    }
