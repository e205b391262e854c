"""The log shipper: lines, frames and its stored position; the collector is a few bytes here."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from outpost.onhost import logs
from outpost.onhost.logs import BrokenError, Line, Session, recalled, remember

ENTRY = {
    "__CURSOR": "s=1;i=2",
    "__REALTIME_TIMESTAMP": "1700000000123456",
    "MESSAGE": "from=<a@b> size=1",
    "PRIORITY": "4",
    "SYSLOG_FACILITY": "2",
    "SYSLOG_IDENTIFIER": "postfix/smtpd",
    "_PID": "77",
}


BEFORE = Line("s=1;i=1", 5, b"")


def test_who_wrote_it_is_what_the_journal_noted() -> None:
    """If a service calls itself sshd, its real name stands in structured data that it cannot write."""
    forged = ENTRY | {
        "SYSLOG_IDENTIFIER": "sshd",
        "MESSAGE": 'x [journal@32473 _UID="0"] Accepted publickey for root',
    }
    text = Line.parse(forged | {"_UID": "33", "_SYSTEMD_UNIT": 'a"]\\\nb.service'}, "h").text.decode()
    assert text.startswith("<20>1 2023-11-14T22:13:20.123456Z h sshd 77 - ")
    assert ' - [journal@32473 _UID="33" _SYSTEMD_UNIT="a\\"\\]\\\\?b.service"] x [journal' in text


@pytest.mark.parametrize(
    "entry",
    [
        {"PRIORITY": "²"}, {"PRIORITY": "9" * 5000}, {"SYSLOG_FACILITY": "٣"}, {"_PID": "१"}, {"PRIORITY": ["3", "²"]},
        {"MESSAGE": [300]}, {"MESSAGE": [None]}, {"MESSAGE": {}}, {"SYSLOG_IDENTIFIER": ["a", None]}, {"MESSAGE": 7},
        {"__REALTIME_TIMESTAMP": "9" * 30}, {"__REALTIME_TIMESTAMP": None}, {"MESSAGE": "\udc80"}, {"MESSAGE": "x" + "ü" * 9000}, {"MESSAGE": "日" * 9000}, {"_UID": [[]]},
    ],
)  # fmt: skip
def test_no_entry_stops_the_stream(entry: dict[str, object]) -> None:
    line = Line.of(json.dumps(ENTRY | entry).encode(), "h", BEFORE)
    assert line is not None
    assert line.cursor == "s=1;i=2"
    assert len(line.text) <= logs.LONGEST
    line.text.decode()


@pytest.mark.parametrize("raw", [b"{", b"[]", b"null", b"[" * 100_000, b"\xff", b'{"__CURSOR": 7}'])
def test_what_is_no_entry_is_named_in_its_place(raw: bytes) -> None:
    line = Line.of(raw, "h", BEFORE)
    assert line is not None
    assert line.cursor == BEFORE.cursor
    assert b"cannot be read" in line.text
    assert Line.of(raw, "h", None) is None


def test_one_entry_is_one_line_that_no_terminal_obeys() -> None:
    text = Line.parse(
        ENTRY | {"MESSAGE": "a\n<38>1 - h sshd 1 - - forged\x1b]0;x\x07\x9b2J\r"}, "h"
    ).text.decode()
    assert text.isprintable()
    assert "a\\x0a<38>1" in text


def test_an_entry_becomes_a_line_of_rfc_5424() -> None:
    line = Line.parse(ENTRY, "mta.po.test")
    assert (
        line.text == b"<20>1 2023-11-14T22:13:20.123456Z mta.po.test postfix/smtpd 77 - - from=<a@b> size=1"
    )
    assert (line.cursor, line.at) == ("s=1;i=2", 1700000000123456)


@pytest.mark.parametrize("message", [[255, 65], None, "", ["one", "two"], "x" * 20000])
def test_whatever_stands_in_the_journal_is_a_line_of_bounded_length(message: object) -> None:
    text = Line.parse(ENTRY | {"MESSAGE": message, "PRIORITY": "x", "_PID": None}, "h").text
    assert text.startswith(b"<22>1 ")
    assert len(text) <= logs.LONGEST


class Peer:
    """The collector, as a session sees it."""

    def __init__(self, answers: bytes) -> None:
        self.received = b""
        self.answers = io.BytesIO(answers)

    def sendall(self, data: bytes) -> None:
        self.received += data


def session(answers: bytes) -> tuple[Session, Peer]:
    """A session that is open, and the answers it will get."""
    peer = Peer(answers)
    made = Session.__new__(Session)
    made.socket, made.answers, made.number = peer, peer.answers, 0  # type: ignore[assignment]
    return made, peer


def test_lines_are_sent_when_every_one_is_acknowledged() -> None:
    made, peer = session(b"2 rsp 6 200 OK\n1 rsp 6 200 OK\n")
    made.send([Line("c", 1, b"one"), Line("d", 2, b"three")])
    assert peer.received == b"1 syslog 3 one\n2 syslog 5 three\n"


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (b"1 rsp 6 200 OK\n", "closed the connection"),
        (b"1 rsp 9 500 Sorry\n", "answers 500"),
        (b"0 serverclose 0\n", "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n", "does not speak RELP"),
    ],
)
def test_anything_else_is_no_acknowledgement(answers: bytes, why: str) -> None:
    made, _ = session(answers)
    with pytest.raises(BrokenError, match=why):
        made.send([Line("c", 1, b"one"), Line("d", 2, b"two")])


def test_the_place_is_remembered_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "sent"
    assert recalled(path) is None
    remember(Line("s=1;i=2", 5, b""), path)
    assert recalled(path) == ("s=1;i=2", 5)
    path.write_text("s=1")
    assert recalled(path) is None


def test_lines_that_failed_are_sent_again_over_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[list[Line]] = []

    class Flaky:
        """Breaks twice, then takes everything."""

        tries = 0

        def __init__(self, _settings: dict[str, object]) -> None:
            Flaky.tries += 1

        def send(self, lines: list[Line]) -> None:
            if Flaky.tries < 3:
                raise BrokenError("it closed the connection")
            sent.append(lines)

        def close(self) -> None:
            pass

    monkeypatch.setattr(logs, "Session", Flaky)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    lines = [Line("c", 1, b"one")]
    logs.deliver(lines, None, {"collector": "logs.test"})
    assert sent == [lines]
    assert Flaky.tries == 3
