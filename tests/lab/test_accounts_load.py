"""The service with which users change their accounts, while many programs ask it at once."""

from __future__ import annotations

import json
import shlex

import pytest

from outpost_lab.instance import Instance, info
from outpost_lab.post import Town
from roles.store import OWN
from roles.store.declare import ACCOUNTS_SOCKET
from roles.store.view import StoreView
from tests.engine import executed

pytestmark = [pytest.mark.slow, pytest.mark.control("DOS-13")]

UNIT = "outpost-accounts.service"
NEW = "granite lemon otter viaduct"
SILENT, CHANGES, GUESSES = 400, 24, 60
FLOOD = """
import concurrent.futures, contextlib, json, socket, sys
place, remote, user, password, new, silent, changes, guesses = (*sys.argv[1:6], *map(int, sys.argv[6:]))
def linked():
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(120)
    link.connect(place)
    return link
def asked(action, **words):
    with contextlib.suppress(OSError, ValueError), linked() as link:
        request = {"do": action, "user": user, "remote": remote} | words
        link.sendall(json.dumps(request).encode() + b"\\n")
        return json.loads(link.makefile().readline())
    return {"refused": "connection"}
session = asked("login", password=password)["session"]
with concurrent.futures.ThreadPoolExecutor(changes + guesses) as pool:
    each = [pool.submit(asked, "change", session=session, password=password, new=new) for _ in range(changes)]
    each += [pool.submit(asked, "login", user=f"nobody{number}", password="wrong") for number in range(guesses)]
    answers = [one.result() for one in each]
idle = []
for _ in range(silent):
    with contextlib.suppress(OSError):
        idle.append(linked())
for link in idle:
    link.close()
while (last := asked("login", password=new)).get("refused") == "connection":
    pass
print(json.dumps({"changed": answers[:changes].count({}), "guessed": [one for one in answers[changes:] if "session" in one], "last": last}))
"""
"""Password changes and guesses all at once, then connections on which nothing comes, then a login with the new password."""


def test_no_number_of_requests_ends_the_service(lab: Instance) -> None:
    def on_store(script: str) -> str:
        return executed(["docker", "exec", lab.container_name("store"), "sh", "-c", script], seconds=600)

    state = f"systemctl show {UNIT} --property=MainPID,NRestarts,MemoryMax,TasksMax"
    before = on_store(state)
    assert "=infinity" not in before
    alice, own, aside = Town(info(lab)).user("alice"), f"{OWN}/alice@{lab.office.domain}", "/root/chosen"
    # one of users: Dovecot accepts no password from elsewhere without a certificate (allow_real_nets)
    remote = StoreView(lab.office, lab.office.with_role("store")[0]).certless_networks[0][9]
    words = (
        ACCOUNTS_SOCKET,
        str(remote),
        alice.address,
        alice.password,
        NEW,
        str(SILENT),
        str(CHANGES),
        str(GUESSES),
    )
    on_store(f"rm -f {aside}; ! [ -e {own} ] || cp -a {own} {aside}")
    try:
        answer = json.loads(on_store(f"python3 -c {shlex.quote(FLOOD)} {shlex.join(words)}"))
        assert answer["changed"] > 0
        assert answer["guessed"] == []
        assert "session" in answer["last"]
        assert on_store(state) == before, "it was killed, or started again"
    finally:
        on_store(f"rm -f {own}; ! [ -e {aside} ] || mv {aside} {own}")
