"""Canaries: test messages of a verification, found in their mailbox, checked by a linter, and removed again.

Only the canary mailbox (`[verification]`) gets them, and none stays in it.
"""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator
from datetime import datetime, timedelta
from email import message_from_string, policy
from email.message import EmailMessage, Message
from email.utils import parsedate_to_datetime
from secrets import token_hex

from testinfra.host import Host as TestinfraHost

from outpost_lab import pace

PATIENCE = 60
"""Seconds that a message may take inside an idle office, which needs about one."""
ONCE = ("Return-Path", "From", "To", "Subject", "Date", "Message-ID")
"""RFC 5322, section 3.6, and RFC 5321, section 4.4: final delivery writes one Return-Path."""
LONGEST = 998  # octets of a line (RFC 5322, section 2.1.1)
SKEW = timedelta(seconds=2)  # between the clocks of two hosts
_FETCH = """
found() {{ doveadm search -u {mailbox} mailbox '*' savedsince 10min text {token} | wc -l; }}
for turn in $(seq {turns}); do [ $(found) -ge {count} ] && break; sleep 0.5; done
doveadm -f json fetch -u {mailbox} 'mailbox text' mailbox '*' savedsince 10min text {token}
doveadm expunge -u {mailbox} mailbox '*' savedsince 10min text {token}
"""


def new_token() -> str:
    """A word that is in no other message."""
    return f"canary{token_hex(8)}"


def written(sender: str, recipient: str, token: str, *further: str) -> str:
    """A message in the form that `speaking.speak` sends, with the last dot."""
    lines = (
        f"From: Outpost <{sender}>",
        f"To: <{recipient}>",
        f"Subject: Outpost verification {token}",
        f"Message-ID: <{token}@{sender.partition('@')[2]}>",
        f"Date: {datetime.now().astimezone().strftime('%a, %d %b %Y %H:%M:%S %z')}",
        *further,
        "",
        "Written and removed by a verification; one that was left behind may be deleted.",
        ".",
    )
    return r"\r\n".join(lines)


def taken_out(store: TestinfraHost, mailbox: str, token: str, count: int = 1) -> list[EmailMessage]:
    """Wait for the messages with a token and remove them; the header `X-Folder` names their folder."""
    command = _FETCH.format(
        mailbox=shlex.quote(mailbox), token=token, turns=int(2 * PATIENCE * pace.load()), count=count
    )
    messages = []
    for found in json.loads(store.check_output(command) or "[]"):
        message = message_from_string(found["text"], policy=policy.default)
        assert isinstance(message, EmailMessage)
        message["X-Folder"] = found["mailbox"]
        messages.append(message)
    assert len(messages) == count, f"{len(messages)} of {count} arrived within {PATIENCE} s"
    return messages


def faults(message: EmailMessage, authority: str) -> Iterator[str]:
    """What is wrong with a message that was delivered.

    Args:
        authority: The only name that may stand in Authentication-Results (RFC 8601, section 5).
    """
    for part in message.walk():
        yield from (f"{part.get_content_type()}: {type(defect).__name__}" for defect in part.defects)
    for name in ONCE:
        if len(message.get_all(name, [])) != 1:
            yield f"{name} stands there {len(message.get_all(name, []))} times"
    for line in message.as_string(policy=policy.compat32).splitlines():
        if len(line.encode()) > LONGEST:
            yield f"a line of {len(line)} characters: {line[:40]}"
    for field in message.get_all("Authentication-Results", []):
        if str(field).partition(";")[0].strip() != authority:
            yield f"judged by somebody else: {field}"
    times = [
        parsedate_to_datetime(str(trace).rpartition(";")[2]) for trace in message.get_all("Received", [])
    ]
    if not times:
        yield "no trace"
    for later, earlier in itertools.pairwise(times):
        if later + SKEW < earlier:
            yield f"its trace goes back in time: {earlier} before {later}"
    if message["X-Folder"] == "Junk":
        yield "it went to Junk"


def recipients_of(report: EmailMessage) -> dict[str, dict[str, str]]:
    """Recipient → its status in a delivery status notification; addresses are unchanged."""
    (status,) = (part for part in report.walk() if part.get_content_type() == "message/delivery-status")
    blocks = status.get_payload()
    assert isinstance(blocks, list)
    fields = [
        {name.lower(): str(value).strip() for name, value in block.items()}
        for block in blocks[1:]
        if isinstance(block, Message)
    ]
    return {
        each.get("original-recipient", each["final-recipient"]).partition(";")[2].strip(): each
        for each in fields
    }


def report_faults(report: EmailMessage, reporter: str, sender: str) -> Iterator[str]:
    """What is wrong with a delivery status notification (RFC 3464, RFC 3834), besides the findings of `faults`.

    Args:
        reporter: The MTA that must have written it.
        sender: The recipient that it must have.
    """
    if (
        report.get_content_type() != "multipart/report"
        or report.get_param("report-type") != "delivery-status"
    ):
        yield f"its type is {report['Content-Type']}"
        return
    if report["Return-Path"] != "<>":
        yield f"it could be answered by a notification: Return-Path is {report['Return-Path']}"
    if not str(report["Auto-Submitted"]).startswith("auto-"):
        yield "Auto-Submitted does not say that nobody wrote it"
    if str(report["To"]) != sender:
        yield f"it went to {report['To']}"
    kinds = [part.get_content_type() for part in report.iter_parts()]
    if kinds != ["text/plain", "message/delivery-status", "text/rfc822-headers"]:
        yield f"its parts are {kinds}: more or less than words, status and headers (DSN-05)"
    (status,) = (part for part in report.walk() if part.get_content_type() == "message/delivery-status")
    whole = status.get_payload(0)
    if not isinstance(whole, str) and str(whole["Reporting-MTA"]).partition(";")[2].strip() != reporter:
        yield f"Reporting-MTA is {whole['Reporting-MTA']}"
    for recipient, fields in recipients_of(report).items():
        yield from (
            f"{recipient}: no {field}"
            for field in ("final-recipient", "action", "status")
            if not fields.get(field)
        )
