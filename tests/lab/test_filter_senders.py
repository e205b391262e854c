"""In whose name a user may write or resend (SPO-02), by Rspamd's Lua with signatures of the test."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from outpost.converge.files import rendered
from outpost.office.tables.recipients import User
from outpost_lab.instance import Instance
from roles.mta.defence import filter_facts
from roles.mta.view import MtaView

PROGRAM = Path(__file__).with_name("filter_senders.lua")


@pytest.mark.control("SPO-02")
def test_a_domain_of_ones_own_does_not_lend_a_colleagues_name(lab: Instance) -> None:
    """A user resends a message with a colleague's name as author, which the user's own domain signed."""
    office = lab.office
    login, colleague = (
        office.mailboxes[0],
        next(user for user in office.users if user.full_name and user.address != office.mailboxes[0]),
    )
    assert _verdicts(lab, PROGRAM.read_bytes(), login, colleague) == {
        "own": "taken",
        "own, with the colleague's name": "refused",
        "a stranger's, resent": "taken",
        "a stranger's without a signature, resent": "refused",
        "a colleague's, resent": "taken",
        "a colleague's name, resent": "refused",
        "a colleague's address as a name, resent": "refused",
        "a colleague's name beside another colleague's address": "refused",
    }


@pytest.mark.control("SPO-02")
@pytest.mark.parametrize("first", [True, False])
def test_each_of_two_people_with_one_name_may_write_under_it(lab: Instance, *, first: bool) -> None:
    """An office has two users of the same name; each sends under their own address."""
    office = lab.office
    namesakes = tuple(
        user.model_copy(update={"full_name": "Thomas Moor"}) if index < 2 else user
        for index, user in enumerate(office.users)
    )
    office = office.model_copy(update={"users": namesakes})
    view = MtaView(office, office.with_role("mta")[0])
    rules = rendered("mta", "/etc/rspamd/lua.local.d/office.lua", facts=filter_facts(view)).content
    me, other = namesakes[:2] if first else namesakes[1::-1]
    installed = b'dofile("/etc/rspamd/lua.local.d/office.lua")'
    program = PROGRAM.read_bytes()
    assert installed in program
    program = program.replace(installed, b"assert(load([=====[" + rules + b"]=====]))()")
    found = _verdicts(lab, program, me.address, other)
    assert found["own, with the colleague's name"] == "taken"
    assert found["a colleague's address as a name, resent"] == "refused"


def _verdicts(lab: Instance, program: bytes, login: str, colleague: User) -> dict[str, str]:
    command = 'cat >/tmp/senders.lua && rspamadm lua -b /tmp/senders.lua -a "$1" -a "$2" -a "$3" 2>/dev/null; rm /tmp/senders.lua'
    arguments = ["sh", "-c", command, "sh", login, colleague.full_name, colleague.address]
    done = subprocess.run(
        ["docker", "exec", "--interactive", lab.container_name("mta"), *arguments],
        input=program,
        capture_output=True,
        check=True,
        timeout=120,
    )
    lines = [
        line.split(": ")[1:] for line in done.stdout.decode().splitlines() if line.startswith("verdict: ")
    ]
    return {line[0]: line[1] for line in lines}
