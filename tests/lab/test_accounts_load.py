"""The service with which users change their accounts, while many programs ask it at once."""

from __future__ import annotations

import json
import shlex

import pytest

from outpost_lab.instance import Instance
from roles.store.declare import ACCOUNTS_SOCKET
from tests.engine import executed

pytestmark = [pytest.mark.slow, pytest.mark.control("DOS-13")]

UNIT = "outpost-accounts.service"
SILENT, GUESSES = 400, 60
FLOOD = """
import concurrent.futures, contextlib, json, socket, sys
place, silent, guesses = sys.argv[1], *map(int, sys.argv[2:])
def linked():
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(120)
    link.connect(place)
    return link
def asked(user):
    with contextlib.suppress(OSError, ValueError), linked() as link:
        request = {"do": "login", "user": user, "password": "wrong", "remote": "192.0.2.9"}
        link.sendall(json.dumps(request).encode() + b"\\n")
        return json.loads(link.makefile().readline())
    return {"refused": "connection"}
with concurrent.futures.ThreadPoolExecutor(guesses) as pool:
    answers = list(pool.map(asked, (f"nobody{number}" for number in range(guesses))))
idle = []
for _ in range(silent):
    with contextlib.suppress(OSError):
        idle.append(linked())
for link in idle:
    link.close()
while (last := asked("nobody-at-all")).get("refused") == "connection":
    pass
print(json.dumps({"guessed": [one for one in answers if "session" in one], "last": last}))
"""
"""Guesses all at once, then connections on which nothing comes, then one more guess."""


def test_no_number_of_requests_ends_the_service(lab: Instance) -> None:
    def on_store(script: str) -> str:
        return executed(["docker", "exec", lab.container_name("store"), "sh", "-c", script], seconds=600)

    state = f"systemctl show {UNIT} --property=MainPID,NRestarts,MemoryMax,TasksMax"
    before = on_store(state)
    assert "=infinity" not in before
    words = (ACCOUNTS_SOCKET, str(SILENT), str(GUESSES))
    answer = json.loads(on_store(f"python3 -c {shlex.quote(FLOOD)} {shlex.join(words)}"))
    assert answer["guessed"] == []
    assert answer["last"]["refused"] in ("password", "shut"), "it does not answer any more"
    assert on_store(state) == before, "it was killed, or started again"
