"""What is explained in a journal is known as it is compared, and nothing else is."""

from __future__ import annotations

from pathlib import Path

from outpost.office import load
from tests.live.explained import EXPLAINED, unexplained

OFFICE = load(Path(__file__).resolve().parents[2] / "inventory" / "harbour")


def test_what_strangers_cause_is_explained_and_what_is_wrong_is_not() -> None:
    lines = [
        "     64 postfix/smtpd: warning: hostname mta.po.myertor.test does not resolve to address N.N.N.N",
        "      4 postfix/from-headoffice/smtpd: warning: TLS library problem: error:NAN:SSL routines::unsupported protocol",
        "      1 pythonN: sending held: alice@po.myertor.test sent to more than N recipients within an hour",
        "      1 systemd: knot.service: Failed with result 'signal'.",
        "      1 postfix/qmgr: warning: connect to transport private/lmtp: Connection refused",
    ]
    assert [line.split()[1] for line in unexplained(lines, OFFICE)] == ["systemd:", "postfix/qmgr:"]


def test_an_explanation_writes_numbers_as_they_are_compared_and_has_a_reason() -> None:
    assert [says for says in EXPLAINED if any(character.isdigit() for character in says)] == []
    assert [says for says, why in EXPLAINED.items() if len(why) < 20] == []
