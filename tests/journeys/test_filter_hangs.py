"""If a scan of a filter worker never ends, the client is deferred and the worker is killed (DOS-10, VIR-01)."""

from __future__ import annotations

import smtplib
import subprocess
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP

import pytest

from outpost_lab import pace
from outpost_lab.instance import Instance
from outpost_lab.post import OfficeUser, Town
from tests.awaiting import on_host

WORKERS = "pgrep -f '^rspamd: rspamd_proxy'"


def handed_over(town: Town, recipient: str, before: Callable[[], object] = lambda: None) -> tuple[int, str]:
    """The answer to the end of a message; `before` is called before the end is sent."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "stranger@internet.test", recipient, "Plans"
    message.set_content("The plans are in the annex.")
    address = town.info["hosts"]["mta"]["addresses"]["wan"][0]
    session = smtplib.SMTP(address, 25, local_hostname="outside.internet.test", timeout=240 * pace.load())
    try:
        session.ehlo()
        session.mail("")
        code, answer = session.rcpt(recipient)
        assert code == 250, answer
        before()
        code, answer = session.data(message.as_bytes(policy=SMTP))
    finally:
        session.close()
    return code, answer.decode()


@pytest.mark.slow
@pytest.mark.control("DOS-10", "VIR-01")
def test_a_message_whose_scan_never_ends_is_put_off_and_its_worker_ended(
    lab: Instance, town: Town, alice: OfficeUser
) -> None:
    """The workers hang as in a rule that never ends: neither their timers nor SIGTERM reach them."""

    def on_mta(script: str) -> str:
        command = ["docker", "exec", lab.container_name("mta"), "bash", "-c", script]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    hung = on_mta(WORKERS).split()
    try:
        code, answer = handed_over(town, alice.address, lambda: on_mta(f"kill -STOP {' '.join(hung)}"))
        assert (code, answer[:5]) == (451, "4.7.1"), answer
        on_mta(on_host(f"! ps -o pid= -p {','.join(hung)} && {WORKERS}", 60))
    finally:
        on_mta(f"kill -CONT {' '.join(hung)} 2>/dev/null || true")
    assert handed_over(town, alice.address)[0] == 250
