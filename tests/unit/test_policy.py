"""The MTA's policy service: its answers, with a clock and a store of the test."""

from __future__ import annotations

import asyncio
import smtplib
from pathlib import Path
from typing import Any

import pytest

from outpost.onhost import policy
from outpost.onhost.policy import (
    AUTOMATIC,
    BOMBED,
    DUNNO,
    FULL,
    GUESSING,
    HELD_FULL,
    REMEMBERED,
    Decisions,
    Holds,
    Settings,
    attributes,
)

BACKUP = "198.18.0.25"


class World:
    """A clock that the test sets, a store with full mailboxes, and a postmaster."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.full: set[str] = set()
        self.asked: list[str] = []
        self.printed: list[str] = []
        self.messages = 0
        settings = Settings(
            socket="",
            domain="po.test",
            aliases={"all@po.test": ["a@po.test", "b@po.test"]},
            mailboxes=["a@po.test", "b@po.test"],
            peers={"ho": {"relays": [BACKUP], "domains": ["ho.test"]}},
            own_addresses=["203.0.113.25"],
            mailbox_messages=20,
            unknown_recipients=15,
            user_recipients=10,
            user_hold=600,
            message_budget=1000,
            store={},
            postmaster="a@po.test",
            alarm_port=0,
            office="po",
        )
        self.decisions = Decisions(
            settings,
            self._full,
            lambda login, _: self.printed.append(login),
            lambda: self.now,
            held=Holds(clock=lambda: self.now),
        )

    async def _full(self, mailbox: str, _: str) -> bool:
        self.asked.append(mailbox)
        return mailbox in self.full

    def ask(self, context: str = "stranger", **request: Any) -> str:
        attributes = {"protocol_state": "RCPT", "policy_context": context, "client_address": "192.0.2.1"}
        return asyncio.run(
            self.decisions.answer(attributes | {name: str(value) for name, value in request.items()})
        )

    def deliver(self, *recipients: str, **request: Any) -> str:
        """The last answer to a whole message of a stranger or peer."""
        self.messages += 1
        attributes = {"instance": f"in{self.messages}", "sender": "x@elsewhere.test", **request}
        named = [self.ask(recipient=recipient, **attributes) for recipient in recipients]
        if DUNNO not in named:
            return named[-1]
        last = recipients[0] if len(recipients) == 1 else ""
        return self.ask(protocol_state="END-OF-MESSAGE", recipient=last, **attributes)

    def send(self, login: str, recipients: int = 1) -> str:
        """The last answer to a whole message of a user."""
        self.messages += 1
        attributes = {"sasl_username": login, "instance": self.messages}
        named = [self.ask("user", recipient=f"x{n}@elsewhere.test", **attributes) for n in range(recipients)]
        if named[-1] != DUNNO:
            return named[-1]
        return self.ask("user", protocol_state="END-OF-MESSAGE", recipient_count=recipients, **attributes)


@pytest.fixture
def world() -> World:
    return World()


def test_a_full_mailbox_is_deferred_at_rcpt_and_the_others_are_open(world: World) -> None:
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
    answers = [world.deliver("a@po.test") for _ in range(12)]
    assert answers == [DUNNO] * 10 + [BOMBED] * 2
    assert world.deliver("a@po.test", client_address="198.51.100.1") == DUNNO
    assert world.deliver("b@po.test") == DUNNO
    assert world.deliver("a@po.test", client_address=BACKUP, sender="head@ho.test") == DUNNO
    world.now += 60  # a tenth of ten minutes: one more of the ten
    assert world.deliver("a@po.test") == DUNNO
    assert world.deliver("a@po.test") == BOMBED


def test_a_bomb_is_remembered_whatever_its_sender_names_from_other_networks(world: World) -> None:
    for number in range(15):
        assert world.deliver("a@po.test", client_address=f"2001:db8:1:{number % 2}::1") == DUNNO
    assert world.deliver("a@po.test", client_address="2001:db8:1:2::1") == BOMBED
    for number in range(3 * REMEMBERED):
        world.ask(recipient="b@po.test", client_address=f"2001:db8:1:{number + 16:x}::1")
    assert world.deliver("a@po.test", client_address="2001:db8:1:2::1") == BOMBED
    assert world.deliver("a@po.test", client_address="198.51.100.1") == DUNNO
    assert all(len(buckets) <= 2 * REMEMBERED for buckets in world.decisions.buckets.values())


def test_the_store_is_asked_once_about_a_list_that_has_room(world: World) -> None:
    world.ask(recipient="all@po.test")
    assert world.asked == ["a@po.test"]


def test_recipients_without_a_message_close_no_mailbox(world: World) -> None:
    for n in range(500):
        assert world.ask(recipient="a@po.test", instance=f"left{n}") == DUNNO
    assert world.deliver("a@po.test") == DUNNO


def test_a_message_counts_once_for_a_mailbox_however_often_it_is_named(world: World) -> None:
    spellings = ["a@po.test"] * 30 + ["A@PO.TEST", "all@po.test"]
    assert [world.deliver(*spellings) for _ in range(11)] == [DUNNO] * 10 + [BOMBED]


def test_a_message_counts_for_each_detail_of_an_address(world: World) -> None:
    """Postfix delivers each: alice+1 and alice+2 are two copies in one mailbox."""
    assert world.deliver(*(f"a+{n}@po.test" for n in range(9)), "A+8@po.test", "all+0@po.test") == DUNNO
    assert [world.ask(recipient=f"a+{n}@po.test", instance="next") for n in range(2)] == [DUNNO, BOMBED]
    assert [world.deliver("a+x@po.test") for _ in range(2)] == [DUNNO, BOMBED]


def test_messages_named_at_the_same_time_do_not_get_past_the_limit(world: World) -> None:
    requests = [{"instance": f"same{n}"} for n in range(15)]
    assert {world.ask(recipient="a@po.test", **request) for request in requests} == {DUNNO}
    ends = [
        world.ask(protocol_state="END-OF-MESSAGE", recipient="a@po.test", **request) for request in requests
    ]
    assert ends == [DUNNO] * 10 + [BOMBED] * 5


def test_a_strangers_transaction_that_was_forgotten_counts_all_the_same(world: World) -> None:
    ends = [world.ask(protocol_state="END-OF-MESSAGE", recipient="a@po.test") for _ in range(11)]
    assert ends == [DUNNO] * 10 + [BOMBED]


def test_a_strangers_message_to_several_that_was_forgotten_comes_again(world: World) -> None:
    """Postfix does not name the recipients at the end: if a stranger makes the service forget them, the message would not count."""
    attributes = {"instance": "slow", "recipient": "a@po.test"}
    assert world.ask(**attributes) == world.ask(**attributes) == DUNNO
    for n in range(REMEMBERED):
        world.ask(recipient="b@po.test", instance=f"elsewhere{n}")
    end: dict[str, Any] = {"protocol_state": "END-OF-MESSAGE", "recipient": "", "recipient_count": 2}
    assert world.ask(instance="slow", **end) == BOMBED
    assert world.ask(**attributes) == DUNNO
    assert world.ask(instance="slow", **end) == DUNNO


@pytest.mark.parametrize("context", ["stranger", "user"])
def test_who_begins_thousands_of_messages_has_only_those_forgotten(world: World, context: str) -> None:
    """A message with two recipients: while its text arrives, another client begins messages from many addresses of its
    network and ends none."""
    honest = {"instance": "slow", "client_address": "2001:db8:1::1", "sasl_username": "a@po.test"}
    for name in ("a@po.test", "b@po.test"):
        assert world.ask(context, recipient=name, **honest) == DUNNO
    for n in range(2 * REMEMBERED):
        world.ask(
            context,
            recipient="b@po.test",
            instance=f"n{n}",
            client_address=f"2001:db8:2:{n:x}::1",
            sasl_username="b@po.test",
        )
    assert len(world.decisions.open[context]) == REMEMBERED
    assert "slow" in world.decisions.open[context]
    end = {"protocol_state": "END-OF-MESSAGE", "recipient": "", "recipient_count": 2}
    assert world.ask(context, **honest, **end) == DUNNO


def test_strangers_cannot_make_a_users_transaction_forgotten(world: World) -> None:
    world.ask("user", sasl_username="a@po.test", recipient="x@one.test", size=1001, instance="u")
    for n in range(REMEMBERED + 1):
        world.ask(recipient="a@po.test", instance=f"s{n}", client_address=f"10.{n >> 8 & 255}.{n & 255}.1")
    assert len(world.decisions.open["stranger"]) == REMEMBERED
    end = world.ask("user", protocol_state="END-OF-MESSAGE", size=1001, instance="u")
    assert end.startswith("552 5.3.4")


def test_networks_are_forgotten_and_the_mailbox_keeps_its_count(world: World) -> None:
    for n in range(2 * REMEMBERED + 50):
        world.deliver("a@po.test", client_address=f"10.{n >> 8 & 255}.{n & 255}.1")
    assert all(len(world.decisions.buckets[kind]) < 1.1 * REMEMBERED for kind in ("network", "unknown"))
    assert world.deliver("a@po.test", client_address="10.0.0.1") == BOMBED


def test_the_hosts_own_checks_are_no_bomb(world: World) -> None:
    assert {world.deliver("a@po.test", client_address="203.0.113.25") for _ in range(50)} == {DUNNO}
    guesses = {world.ask(recipient=f"x{n}@po.test", client_address="203.0.113.25") for n in range(50)}
    assert guesses == {DUNNO}


def test_bombs_from_everywhere_stop_as_well(world: World) -> None:
    answers = [world.deliver("a@po.test", client_address=f"198.51.{n}.1") for n in range(21)]
    assert answers == [DUNNO] * 20 + [BOMBED]


def test_a_backup_mx_is_no_way_around_the_limit(world: World) -> None:
    assert [world.deliver("a@po.test", client_address=BACKUP) for _ in range(11)] == [DUNNO] * 10 + [BOMBED]
    answers = [world.deliver("a@po.test", client_address=f"198.51.{n}.1") for n in range(11)]
    assert answers == [DUNNO] * 10 + [BOMBED]


def test_a_peers_own_mail_has_a_limit_of_its_own(world: World) -> None:
    own = {"client_address": BACKUP, "sender": "head@ho.test"}
    assert [world.deliver("a@po.test", **own) for _ in range(21)] == [DUNNO] * 20 + [BOMBED]
    assert world.deliver("a@po.test") == DUNNO


def test_while_too_much_refused_mail_is_on_hold_a_backup_mx_keeps_it(world: World) -> None:
    world.decisions.held_full = lambda: True
    assert world.ask(recipient="a@po.test", client_address=BACKUP, sender="x@elsewhere.test") == HELD_FULL
    assert world.ask(recipient="a@po.test", client_address=BACKUP, sender="head@ho.test") == DUNNO
    assert world.ask(recipient="a@po.test") == DUNNO


def test_guessing_addresses_ends_for_the_network_and_for_nobody_else(world: World) -> None:
    def ask(recipient: str, client: str) -> str:
        return world.ask(recipient=recipient, client_address=client)

    guesses = [ask(f"x{n}@po.test", f"192.0.2.{n}") for n in range(17)]
    assert guesses == [DUNNO] * 15 + [GUESSING] * 2
    assert (
        ask("a@po.test", "192.0.2.200") == GUESSING
    )  # otherwise the answer would reveal which addresses exist
    assert ask("a@po.test", "198.51.100.1") == DUNNO
    assert [ask(f"y{n}@po.test", f"2001:db8::{n}") for n in range(16)][-1] == GUESSING
    assert ask("a@po.test", "2001:db8:0:1::1") == DUNNO
    rooted = [ask(f"z{n}@po.test.", f"203.0.113.{n}") for n in range(17)]  # the dot of the root
    assert rooted == [DUNNO] * 15 + [GUESSING] * 2
    world.now += 40  # a fifteenth of ten minutes
    assert ask("a@po.test", "192.0.2.200") == DUNNO


def test_a_site_with_many_networks_guesses_four_times_as_often_and_no_more(world: World) -> None:
    """A /48 has 65,536 networks, each with a count of its own."""
    clients = [f"2001:db8:48:{n:x}::1" for n in range(80)]
    answers = [
        world.ask(recipient=f"x{n}@po.test", client_address=client) for n, client in enumerate(clients)
    ]
    assert answers == [DUNNO] * 60 + [GUESSING] * 20
    assert world.ask(recipient="a@po.test", client_address="2001:db8:49::1") == DUNNO


def test_a_bomb_from_a_site_with_many_networks_leaves_a_quarter_to_others(world: World) -> None:
    answers = [world.deliver("a@po.test", client_address=f"2001:db8:48:{n:x}::1") for n in range(17)]
    assert answers == [DUNNO] * 15 + [BOMBED] * 2
    assert world.deliver("a@po.test", client_address="2001:db8:49::1") == DUNNO


def test_a_peers_relay_may_name_unknown_recipients(world: World) -> None:
    assert {world.ask(recipient=f"x{n}@po.test", client_address=BACKUP) for n in range(50)} == {DUNNO}


def test_filters_of_a_user_count_apart_from_the_user(world: World) -> None:
    def filter_sends(owner: str) -> str:
        world.messages += 1
        attributes = {"sender": owner, "instance": f"f{world.messages}"}
        named = world.ask("user", recipient="x@elsewhere.test", **attributes)
        return named if named != DUNNO else world.ask("user", protocol_state="END-OF-MESSAGE", **attributes)

    answers = [filter_sends("a+anything@po.test" if n % 2 else "A@po.test") for n in range(12)]
    assert answers == [DUNNO] * 10 + [AUTOMATIC] * 2
    assert world.printed == []
    assert world.send("a@po.test") == DUNNO
    assert filter_sends("b@po.test") == DUNNO
    world.send("b@po.test", 11)  # held
    assert filter_sends("b@po.test") == AUTOMATIC


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\r"])
def test_a_request_is_split_at_lf_and_nothing_else(end: str) -> None:
    request = f"request=x\nrecipient=a{end}recipient=b@po.test\nsasl_username=\n\n".encode()
    assert attributes(request)["recipient"] == f"a{end}recipient=b@po.test"


def test_a_name_that_comes_again_does_not_count() -> None:
    assert attributes(b"sender=a\nsender=b\n\n") == {"sender": "a"}


def test_an_account_that_sends_too_much_is_put_on_hold_and_reported_once(world: World) -> None:
    assert [world.send("a@po.test")[:9] for _ in range(13)] == [DUNNO] * 10 + ["450 4.7.1"] * 3
    assert world.printed == ["a@po.test"]
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
        attributes = {"sasl_username": "a@po.test", "recipient": "x@elsewhere.test", "instance": f"left{n}"}
        assert world.ask("user", **attributes) == DUNNO
    assert world.send("a@po.test", 10) == DUNNO
    assert world.printed == []


def test_messages_named_at_the_same_time_are_counted_when_they_come(world: World) -> None:
    requests = [{"sasl_username": "a@po.test", "instance": f"same{n}"} for n in range(12)]
    assert {world.ask("user", recipient="x@elsewhere.test", **request) for request in requests} == {DUNNO}
    ends = [world.ask("user", protocol_state="END-OF-MESSAGE", **request)[:9] for request in requests]
    assert ends == [DUNNO] * 10 + ["450 4.7.1"] * 2


def test_a_transaction_forgotten_for_its_many_companions_counts_all_the_same(world: World) -> None:
    end = world.ask("user", protocol_state="END-OF-MESSAGE", sasl_username="a@po.test", recipient_count=11)
    assert end.startswith("450 4.7.1")


def test_a_restart_releases_nobody_and_an_administrator_does(world: World, tmp_path: Path) -> None:
    def service() -> Holds:
        return Holds(tmp_path / "held.json", lambda: world.now)

    world.decisions.held = service()
    assert [world.send("a@po.test")[:9] for _ in range(11)][-1] == "450 4.7.1"
    world.decisions.buckets.clear()
    world.decisions.held = service()  # after a restart the counters are empty, and the hold remains
    assert world.send("a@po.test").startswith("450 4.7.1")
    assert service().release("a@po.test")
    assert not service().release("a@po.test")
    assert world.send("a@po.test") == DUNNO


def test_a_damaged_file_keeps_accounts_on_hold(tmp_path: Path) -> None:
    holds = Holds(tmp_path / "held.json", lambda: 1000.0)
    holds.hold("a@po.test", 60)
    (tmp_path / "held.json").write_text("{")
    assert holds.left("a@po.test") == 60


def test_bytes_times_destinations_are_bounded(world: World) -> None:
    def name(domain: str, size: int) -> str:
        return world.ask("user", sasl_username="a@po.test", recipient=f"x@{domain}", size=size, instance="1")

    assert name("one.test", 400) == DUNNO
    assert name("one.test", 400) == DUNNO
    assert name("po.test", 400) == DUNNO  # inside the office: it does not use the line
    assert name("two.test", 400) == DUNNO
    assert name("three.test", 400).startswith("552 5.3.4")


def test_a_size_that_was_not_declared_is_found_at_the_end(world: World) -> None:
    for domain in ("one.test", "two.test"):
        attributes = {"recipient": f"x@{domain}", "size": 0, "instance": "2"}
        assert world.ask("user", sasl_username="a@po.test", **attributes) == DUNNO
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
    attributes = {"sasl_username": "a@po.test", "instance": "1", "size": size}
    for recipient in recipients:
        world.ask("user", recipient=recipient, **attributes)
    answer = world.ask("user", protocol_state="END-OF-MESSAGE", queue_id="4gVxB25hBLz1", **attributes)
    assert (answer[:4] == "HOLD", kept) == (held, ["4gVxB25hBLz1"] if held else [])


def test_the_message_about_an_account_on_hold_has_a_command_for_this_office(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []

    class Session:
        def __init__(self, *_: Any, **__: Any) -> None: ...
        def __enter__(self) -> Session:
            return self

        def __exit__(self, *_: object) -> None: ...
        def send_message(self, message: Any, *_: Any) -> None:
            sent.append(message.get_content())

    monkeypatch.setattr(smtplib, "SMTP", Session)
    policy.tell_postmaster(world.decisions.settings, "b@po.test", "x@elsewhere.test")
    assert "run `./outpost user passwd po b@po.test`" in sent[0]
