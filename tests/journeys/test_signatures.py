"""All mail in the office's name has two signatures, and nobody can add fields to it (DKM-01, DKM-02, DKM-03)."""

from __future__ import annotations

import re
from collections.abc import Callable
from email import message_from_bytes, policy

import dkim
import pytest

from outpost_lab.instance import Instance
from outpost_lab.post import Neighbour, OfficeUser, Town, compose
from tests.journeys.forging import run
from tests.journeys.resolving import txt_of

Captured = Callable[[], bytes]
OVERSIGNED = ("from", "to", "subject", "date")


@pytest.fixture
def users_mail(alice: OfficeUser, stranger: Neighbour) -> Captured:
    def capture() -> bytes:
        message, token = compose(alice.address, [stranger.address])
        alice.send(message, [stranger.address])
        return stranger.receive(token)

    return capture


@pytest.fixture
def notification(lab: Instance, stranger: Neighbour) -> Captured:
    """A failure that the office's own MTA reports: head office knows no such recipient."""

    def capture() -> bytes:
        message, token = compose(stranger.address, ["nobody-at-all@myertor.test"])
        run(
            lab.container_name("mta"),
            ["sendmail", "-i", "-f", stranger.address, "--", "nobody-at-all@myertor.test"],
            message.as_string(),
        )
        return stranger.receive(token)

    return capture


@pytest.fixture
def absence(lab: Instance, stranger: Neighbour, town: Town) -> Captured:
    """Carol's filter answers that she is away."""

    def capture() -> bytes:
        carol, store = town.user("carol").address, lab.container_name("store")
        message, token = compose(stranger.address, [carol])
        script = f'require "vacation"; vacation :subject "Away {token}" "Back on Monday";\n'
        run(store, ["doveadm", "sieve", "put", "-u", carol, "-a", "away"], script)
        try:
            stranger.send(message, [carol])
            return stranger.receive(f"Away {token}")
        finally:
            run(store, ["doveadm", "sieve", "deactivate", "-u", carol])
            run(store, ["doveadm", "sieve", "delete", "-u", carol, "away"])

    return capture


@pytest.mark.control("DKM-01", "DKM-02", "DKM-03")
@pytest.mark.parametrize("kind", ["users_mail", "notification", "absence"])
def test_what_arrives_outside_carries_two_signatures_that_nothing_can_be_added_to(
    town: Town, kind: str, request: pytest.FixtureRequest
) -> None:
    raw: bytes = request.getfixturevalue(kind)()
    fields = message_from_bytes(raw, policy=policy.compat32).get_all("DKIM-Signature", [])
    signatures = [
        dict(tag.strip().split("=", 1) for tag in re.sub(r"\s+", " ", str(found)).split(";") if "=" in tag)
        for found in fields
    ]
    assert sorted(found["a"] for found in signatures) == ["ed25519-sha256", "rsa-sha256"]
    judge = dkim.DKIM(raw)
    for index, found in enumerate(signatures):
        assert judge.verify(idx=index, dnsfunc=txt_of(town)), found
        assert found["d"] == town.info["domain"]
        assert "l" not in found
        signed = [name.strip() for name in found["h"].lower().split(":")]
        present = {name.lower() for name in message_from_bytes(raw, policy=policy.compat32)}
        for name in OVERSIGNED:
            assert signed.count(name) == (2 if name in present else 1), f"{name}: {found['h']}"
    # and the verifier notices the change
    assert not dkim.verify(raw.replace(b"Subject: ", b"Subject: urgent: ", 1), dnsfunc=txt_of(town))
