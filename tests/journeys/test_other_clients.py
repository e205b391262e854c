"""Clients that are not ours, on the workstation: swaks and mutt send, mutt and curl read, certificates verified."""

from __future__ import annotations

import hashlib
import os
import smtplib
import subprocess
from email import message_from_bytes, policy
from email.message import EmailMessage
from secrets import token_hex

import pytest

from outpost_lab import pace
from outpost_lab.instance import Instance
from outpost_lab.post import OfficeUser

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
MUTTRC = f"""cat > "$HOME/muttrc" <<END
set from="$USER" use_from=yes record="" copy=no
set smtp_url="smtps://$USER@$SERVER:465/" smtp_pass="$PASSWORD" smtp_authenticators="plain"
set imap_user="$USER" imap_pass="$PASSWORD" spoolfile="imaps://$SERVER/INBOX" folder="imaps://$SERVER/"
set certificate_file={AUTHORITIES} ssl_verify_host=yes ssl_force_tls=yes
set quit=yes wait_key=no
END
"""
SWAKS_SENDS = f"""swaks --server "$SERVER" --port 465 --tls-on-connect --tls-verify --tls-ca-path {AUTHORITIES} \
  --auth-user "$USER" --auth-password "$PASSWORD" --from "$USER" --to "$TO" --h-Subject "$TOKEN" --attach @/dev/stdin
"""
MUTT_SENDS = f"""{MUTTRC}cat > "$HOME/drawing.dwg"
echo "See below." | mutt -F "$HOME/muttrc" -s "$TOKEN" -a "$HOME/drawing.dwg" -- "$TO"
"""
# a terminal of some size, or curses has none to open
MUTT_READS = f"""{MUTTRC}export TERM=xterm
script -qec "stty rows 40 cols 120; mutt -F $HOME/muttrc -e 'push \\"<limit>~s $TOKEN<enter><pipe-message>cat>$HOME/letter<enter><quit>\\"'" /dev/null >&2
cat "$HOME/letter"
"""
CURL_READS = f"""found=$(curl -sS --cacert {AUTHORITIES} --user "$USER:$PASSWORD" "imaps://$SERVER/INBOX?SUBJECT%20$TOKEN")
curl -sS --cacert {AUTHORITIES} --user "$USER:$PASSWORD" "imaps://$SERVER/INBOX;MAILINDEX=$(echo "$found" | tr -dc 0-9)"
"""


def on_the_workstation(
    lab: Instance, user: OfficeUser, script: str, given: bytes = b"", **variables: str
) -> bytes:
    """The output of a user's program there, with a home of its own."""
    variables |= {"USER": user.address, "PASSWORD": user.password, "SERVER": user.server}
    command = ["docker", "exec", "-i", *(word for name in variables for word in ("-e", name))]
    whole = f"set -eu; export HOME=$(mktemp -d); trap 'rm -rf \"$HOME\"' EXIT\n{script}"
    done = subprocess.run(
        [*command, lab.container_name("workstation"), "sh", "-c", whole],
        input=given,
        capture_output=True,
        env=os.environ | variables,
        check=False,
        timeout=120 * pace.load(),
    )
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


@pytest.mark.parametrize("sends", [SWAKS_SENDS, MUTT_SENDS], ids=["swaks", "mutt"])
@pytest.mark.parametrize("reads", [MUTT_READS, CURL_READS], ids=["mutt", "curl"])
def test_clients_that_are_not_ours_send_and_read(
    lab: Instance, alice: OfficeUser, bob: OfficeUser, sends: str, reads: str
) -> None:
    token, drawing = f"other{token_hex(8)}", os.urandom(100_000)
    on_the_workstation(lab, alice, sends, drawing, TO=bob.address, TOKEN=token)
    bob.receive(token)
    message = message_from_bytes(on_the_workstation(lab, bob, reads, TOKEN=token), policy=policy.default)
    assert isinstance(message, EmailMessage)
    (attachment,) = message.iter_attachments()
    content = attachment.get_payload(decode=True)
    assert isinstance(content, bytes)
    assert hashlib.sha256(content).digest() == hashlib.sha256(drawing).digest()


@pytest.mark.control("AUT-05")
@pytest.mark.parametrize("greeting", ["[192.168.178.20]", "[IPv6:fe80::1]", "my_pc"])
@pytest.mark.parametrize("path", [" <{}>", "{}"], ids=["blank", "no brackets"])
def test_outlook_and_a_scanner_send(alice: OfficeUser, bob: OfficeUser, greeting: str, path: str) -> None:
    """Outlook logs in by AUTH LOGIN and nothing else; what it leaves out of the header, the office adds."""
    token = f"other{token_hex(8)}"
    with smtplib.SMTP_SSL(
        alice.at, 465, local_hostname=greeting, context=alice.tls, timeout=30 * pace.load()
    ) as session:
        session.ehlo()
        session.user, session.password = alice.address, alice.password
        session.auth("LOGIN", session.auth_login, initial_response_ok=False)
        assert session.docmd("MAIL", f"FROM:{path.format(alice.address)}")[0] == 250
        assert session.docmd("RCPT", f"TO:{path.format(bob.address)}")[0] == 250
        header = f"From: {alice.address}\r\nTo: {bob.address}\r\nSubject: {token}\r\n"
        assert session.data(f"{header}\r\nScanned.\r\n")[0] == 250
    arrived = message_from_bytes(bob.receive(token), policy=policy.default)
    assert arrived["Date"] is not None
    assert str(arrived["Message-ID"]).endswith(f"{alice.address.partition('@')[2]}>")
