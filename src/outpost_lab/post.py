"""People with mail in the lab: users of the office by IMAP and submission, neighbours by their own servers.

The office's users speak to the store as any mail client on the LAN would, from the controller's address there,
with certificates verified. The neighbours (head office, client site, the Internet) send with their server's
own sendmail and read their Maildir. Used by ``lab up`` for its first messages, and by the journeys in tests/.
"""

import smtplib
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from secrets import token_hex
from typing import Any

from imap_tools import AND, BaseMailBox, MailMessage
from imap_tools.mailbox import MailBox
from typing_extensions import override

from outpost_lab import pace

PATIENCE = 60.0
"""Seconds a message may take on an idle machine, where it needs about one; a busy one gets more (`outpost_lab.pace`)."""


class NotArrivedError(AssertionError):
    """An expected message did not arrive in time."""


def compose(
    sender: str, recipients: Sequence[str], text: str = "Greetings from the site.\n"
) -> tuple[EmailMessage, str]:
    """A message with a token in its subject that no other message has."""
    token = f"outpost-{token_hex(8)}"
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = f"Message {token}"
    message["Date"] = formatdate(localtime=False)
    message["Message-ID"] = make_msgid(domain=sender.partition("@")[2])
    message.set_content(text)
    return message, token


@dataclass
class OfficeUser:
    """A user of the office, with an ordinary mail client on the LAN, which expects the certificate of `server`."""

    address: str
    password: str
    server: str
    at: str
    authority: Path

    @property
    def tls(self) -> ssl.SSLContext:
        """Certificates are verified as a client does it, with the office's authority."""
        context = _Named(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=str(self.authority))
        context.name = self.server
        return context

    @contextmanager
    def submission(self) -> Iterator[smtplib.SMTP_SSL]:
        """An authenticated submission session (RFC 8314, port 465)."""
        with smtplib.SMTP_SSL(self.at, 465, context=self.tls, timeout=30 * pace.load()) as session:
            _log_in(session, self.address, self.password)
            yield session

    def mailbox(self) -> BaseMailBox:
        """An IMAP session in the inbox, ended by `logout` or with the block."""
        box = MailBox(self.at, ssl_context=self.tls, timeout=30 * pace.load())
        return box.login(self.address, self.password)

    def send(self, message: EmailMessage, recipients: Sequence[str], *, notify: str = "") -> None:
        """Submit a message; `notify` is the DSN request for every recipient (``SUCCESS,FAILURE``, RFC 3461)."""
        options = [f"NOTIFY={notify}"] if notify else []
        with self.submission() as session:
            session.send_message(message, self.address, list(recipients), rcpt_options=options)

    def receive(self, token: str, patience: float = PATIENCE) -> bytes:
        """The message whose subject contains `token`; waits for it with IMAP IDLE (RFC 2177)."""
        return self.search(AND(subject=token), patience).obj.as_bytes()

    def search(self, criteria: Any, patience: float = PATIENCE) -> MailMessage:
        """The first matching message; raises `NotArrivedError` if it does not arrive in time."""
        wait = pace.Patience(patience)
        with self.mailbox() as mailbox:
            while True:
                for message in mailbox.fetch(criteria, mark_seen=False, limit=1):
                    return message
                if not (left := wait.left):
                    what = f"no message matching {criteria} for {self.address}"
                    raise NotArrivedError(f"{what} in {patience:.0f} s")
                mailbox.idle.wait(timeout=min(left, 5))

    def count(self, token: str) -> int:
        """How many messages in the inbox have `token` in their subject, now."""
        with self.mailbox() as mailbox:
            return len(mailbox.uids(AND(subject=token)))


@dataclass
class Neighbour:
    """Somebody outside the office, with an account on the machine (a container) of their own mail system."""

    address: str
    container: str

    @property
    def maildir(self) -> str:
        """Where the machine keeps this address's mail."""
        local, _, domain = self.address.partition("@")
        return f"/var/mail/{domain}/{local}"

    def send(self, message: EmailMessage, recipients: Sequence[str]) -> None:
        """Hand a message to the machine's own sendmail(8)."""
        command = ["docker", "exec", "--interactive", self.container, "sendmail", "-i", "-f", self.address]
        command += ["--", *recipients]
        subprocess.run(command, input=message.as_bytes(), capture_output=True, check=True)

    def receive(self, token: str, patience: float = PATIENCE) -> bytes:
        """The same as a user's; waits on the machine itself."""
        search = f'grep -rlsF -- "$1" {self.maildir}/new {self.maildir}/cur | head -n 1'
        wait = f'until found=$({search}) && [ -n "$found" ]; do sleep 0.2; done; cat "$found"'
        most = f"{patience * pace.load():.0f}"
        code, output = self._exec(["timeout", most, "sh", "-c", wait, "wait", token])
        if code:
            raise NotArrivedError(f"no message with {token} for {self.address} in {patience:.0f} s")
        return output

    def count(self, token: str) -> int:
        _, output = self._exec(["grep", "-rlsF", "--", token, f"{self.maildir}/new", f"{self.maildir}/cur"])
        return len(output.splitlines())

    def _exec(self, command: list[str]) -> tuple[int, bytes]:
        done = subprocess.run(["docker", "exec", self.container, *command], capture_output=True, check=False)
        return done.returncode, done.stdout


Correspondent = OfficeUser | Neighbour


class Town:
    """Everybody in a lab, from the output of ``lab info --json`` only."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.info = info
        name, store = next(item for item in info["hosts"].items() if item[1]["role"] == "store")
        self._server = f"{name}.{info['domain']}"
        self._at = str(store["addresses"]["lan"][0])

    def user(self, name: str) -> OfficeUser:
        """A user of the office by local part."""
        address = f"{name}@{self.info['domain']}"
        return OfficeUser(address, self.info["users"][address], self._server, self._at, Path(self.info["ca"]))

    def neighbour(self, machine: str, address: str) -> Neighbour:
        """Somebody with an address on a machine of the test environment."""
        return Neighbour(address, self.info["world"][machine]["container"])

    @property
    def people(self) -> tuple[OfficeUser, ...]:
        """Users whose mailboxes tests may fill and empty."""
        return tuple(self.user(name) for name in ("alice", "bob", "carol"))

    @property
    def outside(self) -> tuple[Neighbour, ...]:
        """Everybody else who sends and receives."""
        return self.head_office, self.client_site, self.stranger

    @property
    def head_office(self) -> Neighbour:
        return self.neighbour("headoffice", "head@myertor.test")

    @property
    def client_site(self) -> Neighbour:
        return self.neighbour("clientsite", "client@steeltec.test")

    @property
    def stranger(self) -> Neighbour:
        return self.neighbour("internet", "stranger@internet.test")


def _log_in(session: smtplib.SMTP, user: str, password: str) -> None:
    """Log in as a mail program does: after a temporary failure (454, RFC 4954, section 6) it tries again."""
    for pause in (1.0, 3.0, 0.0):
        try:
            session.login(user, password)
            return
        except smtplib.SMTPAuthenticationError as refusal:
            if refusal.smtp_code != 454 or not pause:
                raise
        time.sleep(pause)


class _Named(ssl.SSLContext):
    """TLS that expects one name at any address: this machine's resolver does not know the lab's names."""

    name = ""

    @override
    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*arguments, **options | {"server_hostname": self.name})
