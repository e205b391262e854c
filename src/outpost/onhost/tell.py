"""Sends reports and alarms over a path other than the mail system itself. Standard library only.

``smtp://relay.example/?to=admin@example&from=outpost@example`` hands a message to another organisation's server over
TLS that is verified; ``https://…`` is a webhook that gets JSON; anything else is a command that gets the text on its
standard input. The controller uses it (``outpost.cli.verify``), and every host (``outpost.onhost.watch``).
"""

import json
import os
import shlex
import smtplib
import ssl
import subprocess
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

PATIENCE = 30.0  # seconds
TROUBLES = (OSError, smtplib.SMTPException, subprocess.SubprocessError)
"""Exceptions of a report that could not be delivered."""


@dataclass(frozen=True)
class News:
    """A report: text for people, data for programs."""

    subject: str
    text: str
    data: Mapping[str, Any]


def tell(path: str, news: News) -> None:
    """Send a report.

    Raises:
        OSError, smtplib.SMTPException, subprocess.SubprocessError: It was not delivered.
        ValueError: The path lacks a part.
    """
    url = urlsplit(path)
    if url.scheme in ("smtp", "smtps"):
        _by_mail(url, news)
    elif url.scheme in ("http", "https"):
        _by_webhook(path, news)
    else:
        _by_command(path, news)


def _by_mail(url: SplitResult, news: News) -> None:
    parameters = {name: values[-1] for name, values in parse_qs(url.query).items()}
    if not url.hostname or not parameters.get("to") or not parameters.get("from"):
        raise ValueError(f"{url.geturl()} names no server, to or from")
    if url.username and not parameters.get("password_file"):
        raise ValueError(f"{url.geturl()} names no password_file for {url.username}")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = parameters["from"], parameters["to"], news.subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=parameters["from"].partition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation program answers it
    message.set_content(news.text)
    trust = ssl.create_default_context(cafile=parameters.get("ca"))
    if url.scheme == "smtps":
        session: smtplib.SMTP = smtplib.SMTP_SSL(
            url.hostname, url.port or 465, timeout=PATIENCE, context=trust
        )
    else:
        session = smtplib.SMTP(url.hostname, url.port or 25, timeout=PATIENCE)
    with session:
        if url.scheme == "smtp":
            session.starttls(context=trust)  # or it fails: nothing is sent in clear text
        if url.username:
            session.login(url.username, Path(parameters["password_file"]).read_text(encoding="utf-8").strip())
        session.send_message(message)


def _by_webhook(url: str, news: News) -> None:
    body = json.dumps({"subject": news.subject, "text": news.text, **news.data}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310  # the administrator's own
    with urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310
        pass


def _by_command(command: str, news: News) -> None:
    subprocess.run(
        shlex.split(command), input=news.text, text=True, check=True, timeout=PATIENCE,
        env=os.environ | {"OUTPOST_SUBJECT": news.subject},
    )  # fmt: skip
