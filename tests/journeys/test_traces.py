"""Nothing remains of a deleted message, or of a typed password."""

from __future__ import annotations

import base64
import smtplib
import subprocess
from dataclasses import replace
from secrets import token_hex
from typing import Any

import pytest
from imap_tools import AND, MailboxLoginError

from outpost_lab.attack.content import eicar, parcel
from outpost_lab.instance import Instance
from outpost_lab.post import OfficeUser, compose


def said_on(lab: Instance, host: str, command: str) -> str:
    return subprocess.run(
        ["docker", "exec", lab.container_name(host), "sh", "-c", command],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.control("STO-03")
def test_a_deleted_message_is_gone_with_its_traces_in_the_indexes(lab: Instance, bob: OfficeUser) -> None:
    word, other = f"canary{token_hex(8)}", f"canary{token_hex(8)}"
    # files come and go meanwhile; the file that stays shows that the search works
    everywhere = f"grep -rhosaF -e {word} -e {other} /srv/mail/bob /var/lib/dovecot | sort -u"
    with bob.mailbox() as mailbox:
        for text in (word, other):
            message = f"From: {bob.address}\r\nSubject: {text}\r\n\r\n{text} was here\r\n".encode()
            mailbox.append(message, "INBOX")
        mailbox.folder.set("INBOX")
        found = mailbox.uids(AND(body=word))  # the search index has it now
        assert len(found) == 1
        assert said_on(lab, "store", everywhere).split() == sorted((word, other)), "both are on the disk"
        mailbox.delete(found)
        assert mailbox.uids(AND(body=word)) == []
    said_on(lab, "store", "systemctl start outpost-forget.service")  # the same as the timer's run every night
    assert said_on(lab, "store", everywhere).split() == [other]
    assert "active" in said_on(lab, "store", "systemctl is-active outpost-forget.timer").split()


@pytest.mark.control("VIR-04")
def test_a_virus_unknown_at_delivery_is_found_later_and_its_owner_notified(
    lab: Instance, bob: OfficeUser
) -> None:
    """A message that passed the filter because its virus signature came a day later."""
    infected, harmless = f"invoice-{token_hex(8)}", f"minutes-{token_hex(8)}"
    with bob.mailbox() as mailbox:
        for token, attachment in ((infected, eicar()), (harmless, b"as agreed")):
            message = parcel("stranger@internet.test", bob.address, token, {"invoice.bin": attachment})
            mailbox.append(message.replace(b"Revised invoice", token.encode()), "INBOX")
    assert "success" in said_on(
        lab,
        "store",
        "systemctl start outpost-rescan.service; systemctl show outpost-rescan.service -p Result",
    )
    with bob.mailbox() as mailbox:
        assert mailbox.uids(AND(subject=infected)) == []
        assert len(mailbox.uids(AND(subject=harmless))) == 1
        (notice,) = mailbox.fetch(AND(subject="removed from your mailbox", body=infected))
        assert "Eicar" in notice.text
    assert said_on(lab, "store", f"grep -rlF {infected} /srv/mail/.quarantine/bob"), "nothing is ever lost"


@pytest.mark.control("LOG-03")
def test_a_password_that_was_typed_is_in_no_log(lab: Instance, info: dict[str, Any], bob: OfficeUser) -> None:
    """The right one and a wrong one, in clear or in base64, in any host's journal or log file."""
    wrong = f"Wrong-{token_hex(12)}"
    with bob.mailbox():
        pass
    mistaken = replace(bob, password=wrong)
    with pytest.raises(MailboxLoginError), mistaken.mailbox():
        pass
    with pytest.raises(smtplib.SMTPAuthenticationError):
        mistaken.send(compose(bob.address, [bob.address])[0], [bob.address])
    secrets = [wrong, bob.password]
    secrets += [base64.b64encode(f"\0{bob.address}\0{secret}".encode()).decode() for secret in secrets]
    wanted = "\n".join(secrets)
    noticed = said_on(lab, "store", f"journalctl --quiet --since=-5min | grep -cF {bob.address}")
    assert int(noticed) > 0, "the logins were logged"
    for host in info["hosts"]:
        script = f"""logs=$(mktemp -p /run); trap 'rm $logs' EXIT
            {{ journalctl --quiet --no-pager --output=cat; cat /var/log/*.log /var/log/*/*.log; }} > $logs 2>/dev/null
            wc --lines < $logs; grep -cF '{wanted}' $logs || [ $? -eq 1 ]"""
        lines, betrayed = map(int, said_on(lab, host, script).split())
        assert lines > 0, f"{host}: nothing was looked through"
        assert betrayed == 0, host
