"""A host's journal entries about one message, or about the latest messages of one address.

Runs on a host with the standard library only, sent there by ``outpost trace``:
``python3 -I - SINCE LAST IDENTIFIER...``, where an identifier is a queue id, a Message-ID or an address. Answers with
one JSON object a line: time, who wrote it, what, and the TLS of the connection it speaks of.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

UNITS = ("postfix.service", "rspamd.service", "dovecot.service")
QUEUE_ID = re.compile(r'^(?:warning: saving corrupt file ")?([0-9A-Za-z]{10,20})(?:: |" from queue )')
MESSAGE_ID = re.compile(r"(?:message-id|msgid)=(<[^<>]*>)")
NOTICE = re.compile(r"notification: (\w+)$")
TLS = re.compile(r"^(\w+) TLS connection (?:established|reused) (?:to|from) (\S+?\])(?::\d+)?: (.*)$")
HANDED_OVER = "sasl_method=XCLIENT"
"""The client that is named is the user's; the connection is the store's."""
PEER = re.compile(r"(?:client|relay)=([^,\s]+?\])")


@dataclass
class Line:
    """A line of the journal; the protection of its connection is in another line of the same process."""

    time: float
    who: str
    pid: str
    text: str
    tls: str = ""


def read(entries: Iterable[str]) -> Iterator[Line]:
    """Lines from ``journalctl --output=json``."""
    for entry in entries:
        data = json.loads(entry)
        text = data.get("MESSAGE")
        if isinstance(text, str):
            yield Line(
                int(data["__REALTIME_TIMESTAMP"]) / 1e6,
                str(data.get("SYSLOG_IDENTIFIER", "")),  # a field that was written twice is a list
                str(data.get("SYSLOG_PID") or data.get("_PID", "")),
                text,
            )


def related(lines: Iterable[Line], identifiers: Iterable[str], last: int) -> list[Line]:
    """The log lines of the messages that the identifiers select, with their TLS."""
    found = _with_tls(lines)
    wanted = {name.strip("<>") for name in identifiers}
    by_id: dict[str, list[Line]] = {}
    for line in found:
        if match := QUEUE_ID.match(line.text):
            by_id.setdefault(match[1], []).append(line)
    message_of = {
        name: match[1]
        for name, lines in by_id.items()
        for line in lines
        if (match := MESSAGE_ID.search(line.text))
    }
    chosen = _chosen(by_id, message_of, wanted, last)
    notices = {match[1] for name in chosen for line in by_id[name] if (match := NOTICE.search(line.text))}
    chosen |= notices & by_id.keys()
    marks = {message_of[name] for name in chosen if name in message_of} - {"<>"}
    marks |= {f"<{name}>" for name in wanted if "@" in name}
    ids = chosen | {name for name in wanted if "@" not in name}
    entries = [
        line
        for line in found
        if ((match := QUEUE_ID.match(line.text)) and match[1] in chosen)
        or ((match := MESSAGE_ID.search(line.text)) and match[1] in marks)
        or any(f"qid: <{name}>" in line.text or f"queued as {name}" in line.text for name in ids)
    ]
    return sorted(entries, key=lambda line: line.time)


def _chosen(
    by_id: dict[str, list[Line]], message_of: dict[str, str], wanted: set[str], last: int
) -> set[str]:
    """The selected queue ids: those given, those of a given Message-ID, and the latest of an address."""
    named = {name for name in by_id if name in wanted}
    for identifier in wanted:
        if "@" not in identifier:
            continue
        marked = {name for name, mark in message_of.items() if mark == f"<{identifier}>"}
        mentions = re.compile(rf"\b(?:from|to|orig_to|sasl_username)=<?{re.escape(identifier)}>?(?:[,\s]|$)")
        of_address = [
            name for name, lines in by_id.items() if any(mentions.search(line.text) for line in lines)
        ]
        named |= marked or set(sorted(of_address, key=lambda name: by_id[name][-1].time)[-last:])
    marks = {message_of[name] for name in named if name in message_of} - {"<>"}
    return named | {name for name, mark in message_of.items() if mark in marks}


def _with_tls(lines: Iterable[Line]) -> list[Line]:
    """Each line, with the last TLS line of the same process and the same other end."""
    protection: dict[tuple[str, str], str] = {}
    result = []
    for line in lines:
        if match := TLS.match(re.sub(r"^\w{10,20}: ", "", line.text)):
            protection[line.pid, match[2]] = protection[line.pid, HANDED_OVER] = f"{match[1]} {match[3]}"
        elif match := PEER.search(line.text):
            other_end = HANDED_OVER if HANDED_OVER in line.text else match[1]
            line.tls = protection.get((line.pid, other_end), "")
        result.append(line)
    return result


def main(arguments: list[str]) -> int:
    since, last, *identifiers = arguments
    units = [part for unit in UNITS for part in ("--unit", unit)]
    fields = "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,SYSLOG_PID,_PID"
    command = ["journalctl", "--quiet", "--output=json", fields, f"--since={since}", *units]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as journal:
        assert journal.stdout is not None
        for line in related(read(journal.stdout), identifiers, int(last)):
            sys.stdout.write(json.dumps(asdict(line)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
