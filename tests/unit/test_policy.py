"""The MTA's policy service: what it answers to whom, with a clock and a store of the test's own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from outpost.onhost.policy import BOMBED, DUNNO, FULL, Decisions, Holds, Settings


class World:
    """A clock that stands still unless told, a store with full mailboxes, and a postmaster."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.full: set[str] = set()
        self.told: list[str] = []
        self.messages = 0
        settings = Settings(
            socket="",
            domain="po.test",
            aliases={"all@po.test": ["a@po.test", "b@po.test"]},
            own_addresses=["203.0.113.25"],
            mailbox_messages=20,
            user_recipients=10,
            user_hold=600,
            message_budget=1000,
            store={},
            postmaster="a@po.test",
            alarm_port=0,
        )
        self.decisions = Decisions(
            settings,
            self._full,
            lambda login, _: self.told.append(login),
            lambda: self.now,
            held=Holds(clock=lambda: self.now),
        )

    async def _full(self, mailbox: str, _: str) -> bool:
        return mailbox in self.full

    def ask(self, context: str = "stranger", **request: Any) -> str:
        asked = {"protocol_state": "RCPT", "policy_context": context, "client_address": "192.0.2.1"}
        return asyncio.run(self.decisions.answer(asked | {name: str(said) for name, said in request.items()}))

    def send(self, login: str, recipients: int = 1) -> str:
        """The last answer to a whole message of a user."""
        self.messages += 1
        said = {"sasl_username": login, "instance": self.messages}
        named = [self.ask("user", recipient=f"x{n}@elsewhere.test", **said) for n in range(recipients)]
        if named[-1] != DUNNO:
            return named[-1]
        return self.ask("user", protocol_state="END-OF-MESSAGE", recipient_count=recipients, **said)


@pytest.fixture
def world() -> World:
    return World()


def test_a_full_mailbox_is_told_at_rcpt_and_the_others_are_open(world: World) -> None:
    world.full = {"a@po.test"}
    for recipient in ("a@po.test", "A@PO.test", "a+list@po.test"):
        assert world.ask(recipient=recipient) == FULL
        assert world.ask("peer", recipient=recipient) == FULL
    assert world.ask(recipient="b@po.test") == DUNNO


def test_an_alias_is_full_when_all_its_members_are(world: World) -> None:
    world.full = {"a@po.test"}
    assert world.ask(recipient="all@po.test") == DUNNO
    world.full = {"a@po.test", "b@po.test"}
    assert world.ask(recipient="all@po.test") == FULL


def test_a_bomb_stops_and_leaves_room_for_others(world: World) -> None:
    answers = [world.ask(recipient="a@po.test") for _ in range(12)]
    assert answers == [DUNNO] * 10 + [BOMBED] * 2
    assert world.ask(recipient="a@po.test", client_address="198.51.100.1") == DUNNO
    assert world.ask(recipient="b@po.test") == DUNNO
    assert world.ask("peer", recipient="a@po.test") == DUNNO
    world.now += 60  # a tenth of ten minutes: one more of the ten
    assert world.ask(recipient="a@po.test") == DUNNO
    assert world.ask(recipient="a@po.test") == BOMBED


def test_the_hosts_own_checks_are_no_bomb(world: World) -> None:
    assert {world.ask(recipient="a@po.test", client_address="203.0.113.25") for _ in range(50)} == {DUNNO}


def test_bombs_from_everywhere_stop_as_well(world: World) -> None:
    answers = [world.ask(recipient="a@po.test", client_address=f"198.51.{n}.1") for n in range(21)]
    assert answers == [DUNNO] * 20 + [BOMBED]


def test_an_account_that_sends_too_much_is_held_and_told_of_once(world: World) -> None:
    assert [world.send("a@po.test")[:9] for _ in range(13)] == [DUNNO] * 10 + ["450 4.7.1"] * 3
    assert world.told == ["a@po.test"]
    assert world.send("b@po.test") == DUNNO
    world.now += 599
    assert world.send("a@po.test").startswith("450 4.7.1")
    world.now += 2
    assert world.send("a@po.test") == DUNNO


def test_one_message_to_more_than_the_hour_has_left_is_refused_at_the_recipient_too_many(
    world: World,
) -> None:
    assert world.send("a@po.test", 7) == DUNNO
    named = [
        world.ask("user", sasl_username="a@po.test", recipient="x@elsewhere.test", instance="b")
        for _ in range(4)
    ]
    assert [answer[:9] for answer in named] == [DUNNO] * 3 + ["450 4.7.1"]


def test_who_names_recipients_and_leaves_uses_up_nothing(world: World) -> None:
    for n in range(100):
        asked = {"sasl_username": "a@po.test", "recipient": "x@elsewhere.test", "instance": f"left{n}"}
        assert world.ask("user", **asked) == DUNNO
    assert world.send("a@po.test", 10) == DUNNO
    assert world.told == []


def test_messages_named_at_the_same_time_are_counted_when_they_come(world: World) -> None:
    said = [{"sasl_username": "a@po.test", "instance": f"same{n}"} for n in range(12)]
    assert {world.ask("user", recipient="x@elsewhere.test", **asked) for asked in said} == {DUNNO}
    ends = [world.ask("user", protocol_state="END-OF-MESSAGE", **asked)[:9] for asked in said]
    assert ends == [DUNNO] * 10 + ["450 4.7.1"] * 2


def test_a_transaction_forgotten_for_its_many_companions_counts_all_the_same(world: World) -> None:
    end = world.ask("user", protocol_state="END-OF-MESSAGE", sasl_username="a@po.test", recipient_count=11)
    assert end.startswith("450 4.7.1")


def test_a_restart_releases_nobody_and_an_administrator_does(world: World, tmp_path: Path) -> None:
    def service() -> Holds:
        return Holds(tmp_path / "held.json", lambda: world.now)

    world.decisions.held = service()
    assert [world.send("a@po.test")[:9] for _ in range(11)][-1] == "450 4.7.1"
    world.decisions.users.clear()
    world.decisions.held = service()  # as after a restart: counters are gone, the hold is not
    assert world.send("a@po.test").startswith("450 4.7.1")
    assert service().release("a@po.test")
    assert not service().release("a@po.test")
    assert world.send("a@po.test") == DUNNO


def test_a_damaged_file_holds_whoever_was_held(tmp_path: Path) -> None:
    holds = Holds(tmp_path / "held.json", lambda: 1000.0)
    holds.hold("a@po.test", 60)
    (tmp_path / "held.json").write_text("{")
    assert holds.left("a@po.test") == 60


def test_bytes_times_destinations_are_bounded(world: World) -> None:
    def name(domain: str, size: int) -> str:
        return world.ask("user", sasl_username="a@po.test", recipient=f"x@{domain}", size=size, instance="1")

    assert name("one.test", 400) == DUNNO
    assert name("one.test", 400) == DUNNO
    assert name("po.test", 400) == DUNNO  # inside: it does not cross the line
    assert name("two.test", 400) == DUNNO
    assert name("three.test", 400).startswith("552 5.3.4")


def test_a_size_that_was_not_declared_is_found_at_the_end(world: World) -> None:
    for domain in ("one.test", "two.test"):
        asked = {"recipient": f"x@{domain}", "size": 0, "instance": "2"}
        assert world.ask("user", sasl_username="a@po.test", **asked) == DUNNO
    end = world.ask("user", protocol_state="END-OF-MESSAGE", size=501, instance="2")
    assert end.startswith("552 5.3.4")


@pytest.mark.parametrize(
    ("clock", "size", "recipients", "held"),
    [
        ("12:00", 500, ("x@far.test",), True),
        ("12:00", 499, ("x@far.test",), False),
        ("23:00", 500, ("x@far.test",), False),
        ("12:00", 500, ("x@far.test", "b@po.test"), False),
        ("12:00", 500, ("x@far.test", "y@elsewhere.test"), False),
    ],
)
def test_large_mail_to_a_route_alone_waits_for_its_hours(
    world: World, clock: str, size: int, recipients: tuple[str, ...], held: bool
) -> None:
    kept: list[str] = []
    route = {"name": "far", "domains": ["far.test"], "size": 500, "hours": "19:00-06:00"}
    world.decisions.settings.large = [route]
    world.decisions.time_of_day = lambda: clock
    world.decisions.wait = lambda name: not kept.append(name)  # type: ignore[func-returns-value]
    said = {"sasl_username": "a@po.test", "instance": "1", "size": size}
    for recipient in recipients:
        world.ask("user", recipient=recipient, **said)
    answer = world.ask("user", protocol_state="END-OF-MESSAGE", queue_id="4gVxB25hBLz1", **said)
    assert (answer[:4] == "HOLD", kept) == (held, ["4gVxB25hBLz1"] if held else [])
