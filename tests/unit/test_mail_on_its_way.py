"""Messages in transit: how log lines are printed, what the queue shows, and what a peer has to set up."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from outpost.errors import OutpostError
from outpost.mail import queues, tracing
from outpost.office import peering
from outpost.office.model import Office
from outpost.office.peering import OtherEnd
from outpost.onhost import mailtrace, routes
from outpost.onhost.mailtrace import Line
from outpost.onhost.routes import Message, Route
from outpost.target import Target
from outpost.transport import remote
from tests.unit.test_mta import office_of

TLS = "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange x25519 server-signature ECDSA (prime256v1)"
MTA = [
    Line(1.0, "postfix/submission/smtpd", "9", f"Trusted TLS connection established from unknown[10.0.2.31]: {TLS}"),
    Line(1.1, "postfix/submission/smtpd", "9", "4gVxB25hBLz1: client=unknown[10.0.3.1], sasl_method=XCLIENT, sasl_username=alice@po.test"),
    Line(1.2, "postfix/submission/cleanup", "10", "4gVxB25hBLz1: message-id=<one@po.test>"),
    Line(1.3, "postfix/qmgr", "11", "4gVxB25hBLz1: from=<alice@po.test>, size=528, nrcpt=2 (queue active)"),
    Line(1.4, "postfix/to-headoffice/smtp", "12", f"Verified TLS connection established to mx.ho.test[fd00:78::51]:25: {TLS}"),
    Line(1.5, "postfix/to-headoffice/smtp", "12", "4gVxB25hBLz1: to=<head@ho.test>, relay=mx.ho.test[fd00:78::51]:25, delay=0.4, delays=0.1/0/0.1/0.2, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as BDF0CD0099)"),
    Line(1.6, "postfix/lmtp", "13", "4gVxB25hBLz1: to=<bob@po.test>, relay=10.0.2.31[10.0.2.31]:24, delay=3.1, delays=0.1/0/3/0, dsn=4.4.1, status=deferred (connect to 10.0.2.31[10.0.2.31]:24: Connection refused)"),
    Line(2.0, "postfix/bounce", "14", "4gVxB25hBLz1: sender delay notification: 4gVxB35hBLz2"),
    Line(2.1, "postfix/cleanup-notices", "15", "4gVxB35hBLz2: message-id=<notice@po.test>"),
    Line(2.2, "postfix/qmgr", "11", "4gVxB35hBLz2: from=<>, size=2000, nrcpt=1 (queue active)"),
    Line(3.0, "postfix/smtpd", "16", "4gVxB45hBLz3: client=mx.other.test[192.0.2.1]"),
    Line(3.1, "postfix/cleanup", "17", "4gVxB45hBLz3: message-id=<other@other.test>"),
]  # fmt: skip
STORE = [
    Line(1.15, "dovecot", "7", "submission(alice@po.test)<1><x>: relay: Successfully relayed message: from=<alice@po.test>, size=332, id=abc, nrcpt=2, reply=`250 2.0.0 Ok: queued as 4gVxB25hBLz1'"),
    Line(9.0, "dovecot", "7", "lmtp(bob@po.test)<1><x>: sieve: msgid=<one@po.test>: stored mail into mailbox 'INBOX'"),
]  # fmt: skip


@pytest.mark.parametrize("identifier", ["4gVxB25hBLz1", "<one@po.test>", "one@po.test", "head@ho.test"])
def test_any_identifier_finds_the_whole_message_and_its_notices(identifier: str) -> None:
    printed = mailtrace.related(MTA, [identifier], last=5)
    assert {line.text[:12] for line in printed if mailtrace.QUEUE_ID.match(line.text)} == {
        "4gVxB25hBLz1",
        "4gVxB35hBLz2",
    }


def test_of_an_address_only_the_latest_messages_are_shown() -> None:
    lines = [
        Line(n, "postfix/qmgr", "1", f"4gVxB25hBL{n:02}: from=<alice@po.test>, size=1, nrcpt=1")
        for n in range(9)
    ]
    assert [line.time for line in mailtrace.related(lines, ["alice@po.test"], last=3)] == [6, 7, 8]


def test_mail_that_the_store_rejects_is_followed_while_it_waits() -> None:
    """Postfix logs another word for it (soft_bounce)."""
    text = MTA[6].text.replace(
        "deferred (connect to 10.0.2.31[10.0.2.31]:24: Connection refused)",
        "SOFTBOUNCE (550 5.1.1 no such user)",
    )
    (story,) = tracing.stories({"mta": [Line(1.6, "postfix/lmtp", "13", text)]})
    assert [hop.what for hop in story.hops] == [
        "<bob@po.test> rejected by the store, waits: 550 5.1.1 no such user"
    ]


@pytest.mark.parametrize("identifier", ["4gVxB25hBLz1", "<one@po.test>", "bob@po.test"])
def test_a_message_is_followed_from_host_to_host(identifier: str) -> None:
    office, searches = office_of("lab"), []

    def ask(host: object, identifiers: tuple[str, ...]) -> list[Line]:
        searches.append(identifiers)
        name = getattr(host, "name", "")
        return mailtrace.related({"mta": MTA, "store": STORE}.get(name, []), identifiers, 5)

    printed = tracing.follow(office, [identifier], ask)
    story = next(story for story in printed if story.message_id == "<one@po.test>")
    assert [(hop.host, hop.what) for hop in story.hops] == [
        ("mta", "received from alice@po.test at unknown[10.0.3.1]"),
        ("store", "submitted by alice@po.test"),
        ("mta", "in the queue: 528 bytes from <alice@po.test> for 2"),
        ("mta", "<head@ho.test> accepted by mx.ho.test[fd00:78::51]:25: 250 2.0.0 Ok: queued as BDF0CD0099"),
        ("mta", "<bob@po.test> deferred: connect to 10.0.2.31[10.0.2.31]:24: Connection refused"),
        ("mta", "sender delay notification as 4gVxB35hBLz2"),
        ("store", "bob@po.test: stored mail into mailbox 'INBOX'"),
    ]
    assert story.hops[0].tls == "Trusted TLSv1.3 TLS_AES_256_GCM_SHA384"
    assert story.hops[3].tls == "Verified TLSv1.3 TLS_AES_256_GCM_SHA384"
    assert story.hops[3].parts == "0.1 s before the queue, 0.1 s connecting, 0.2 s handing over"


def entry(name: str, state: str, arrived: int, **recipients: str) -> str:
    people = [
        {"address": address.replace("__", "@"), "delay_reason": why} for address, why in recipients.items()
    ]
    return "message " + json.dumps(
        {
            "queue_name": state,
            "queue_id": name,
            "arrival_time": arrived,
            "message_size": 2048,
            "sender": "alice@po.myertor.test",
            "recipients": people,
        }
    )


@pytest.fixture
def waiting() -> list[queues.Waiting]:
    answer = "\n".join(
        (
            "large 4gVxB25hBLz2",
            entry(
                "4gVxB25hBLz1",
                "deferred",
                20,
                **{"head__myertor.test": "timed out", "bob__po.myertor.test": ""},
            ),
            entry("4gVxB25hBLz2", "hold", 10, **{"head__myertor.test": ""}),
            entry("4gVxB25hBLz3", "deferred", 30, **{"x__example.org": "refused"}),
        )
    )
    return queues.listed(office_of("lab"), "mta", answer)


def test_the_queue_shows_the_oldest_first_with_ways_and_reasons(waiting: list[queues.Waiting]) -> None:
    assert [(one.id[-1], one.routes) for one in waiting] == [
        ("2", ("headoffice",)),
        ("1", ("headoffice", "store")),
        ("3", ("Internet",)),
    ]
    assert waiting[0].reasons["head@myertor.test"] == "large: leaves at 19:00 UTC"


@pytest.mark.parametrize("change", [queues.release, queues.hold])
def test_what_postfix_refuses_is_shown(
    waiting: list[queues.Waiting],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: Callable[..., None],
) -> None:
    (tmp_path / "postsuper").write_text("#!/bin/sh\necho 'no such queue' >&2\nexit 1\n")
    (tmp_path / "postsuper").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(remote, "shell_command", lambda *_arguments: ["sh", "-s"])
    target = Target("lab", tmp_path, tmp_path, "lab")
    with pytest.raises(OutpostError, match="mta: no such queue"):
        change(waiting[:1], target, office_of("lab"))


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("all", "213"),
        ("headoffice", "21"),
        ("store", "1"),
        ("Internet", "3"),
        ("@example.org", "3"),
        ("4gVxB25hBLz3", "3"),
        ("head@myertor.test", "21"),
        ("alice@po.myertor.test", "213"),
    ],
)
def test_words_choose_messages(waiting: list[queues.Waiting], word: str, meant: str) -> None:
    assert "".join(one.id[-1] for one in queues.chosen(waiting, [word])) == meant


def test_a_word_that_means_nothing_is_an_error(waiting: list[queues.Waiting]) -> None:
    with pytest.raises(OutpostError, match="no message in the queue"):
        queues.chosen(waiting, ["@nowhere.test"])


def ends(office: Office) -> dict[str, OtherEnd]:
    return {peer.name: OtherEnd(office, peer) for peer in office.peers}


def test_the_other_end_gets_every_recipient_that_outsiders_may_write_to() -> None:
    aliases = [
        {"address": "site@po.myertor.test", "members": ["bob@po.myertor.test"], "inside_only": True},
        {"address": "office@po.myertor.test", "members": ["bob@po.myertor.test"]},
    ]
    end = ends(office_of("lab", aliases=aliases))["headoffice"]
    known = peering.recipients(end).split()[::2]
    assert {"alice@po.myertor.test", "office@po.myertor.test", "postmaster@po.myertor.test"} <= set(known)
    assert "site@po.myertor.test" not in known
    assert "[mta.po.myertor.test]:2525" in peering.rendered("main.cf.j2", end)
    assert "smtp_tls_security_level=secure" in peering.rendered("master.cf.j2", end)


def test_a_peer_that_is_no_backup_gets_no_recipients() -> None:
    end = ends(office_of("lab"))["clientsite"]
    assert "alice@" not in peering.rendered("main.cf.j2", end) + peering.rendered("facts.j2", end)


# Routes that come and go ------------------------------------------------------------------------------------------

HEAD = Route("headoffice", ("ho.test",), "mx.ho.test", 25, 1000, 60, hours="19:00-06:00", internet=True)
SITE = Route("site", ("site.test",), "mx.site.test", 25, 100, 60)
INSIDE = Route("store", ("po.test",), "10.0.0.1", 24, 10**6, 60, inside=True)
NIGHT, NOON = 22 * 3600, 12 * 3600


def deferred(name: str, arrived: float, *domains: str) -> Message:
    return Message(name, "deferred", int(arrived), frozenset(domains))


def test_what_waits_goes_when_its_next_hop_is_back_and_the_internet_with_it() -> None:
    mail = [
        deferred("a", NOON, "ho.test"),
        deferred("b", NOON, "far.test"),
        deferred("c", NOON, "site.test"),
        deferred("d", NOON, "po.test"),
    ]
    state: dict[str, object] = {}
    cut = routes.due((INSIDE, HEAD, SITE), mail, (), state, NOON, lambda _route: False)
    assert cut.attempt == []
    early = routes.due((INSIDE, HEAD, SITE), mail, (), state, NOON + 59, lambda _route: True)
    assert early.attempt == [], "not looked at again before its time"
    back = routes.due((INSIDE, HEAD, SITE), mail, (), state, NOON + 60, lambda route: route == HEAD)
    assert back.attempt == ["a", "b"]
    again = routes.due((INSIDE, HEAD, SITE), mail, (), state, NOON + 120, lambda _route: True)
    assert again.attempt == ["d", "c"], "a next hop that stayed up is left to the queue's own back-off"


def test_nobody_is_probed_while_nothing_waits() -> None:
    def never(_route: Route) -> bool:
        raise AssertionError

    assert routes.due((SITE, HEAD), [deferred("d", NOON)], (), {}, NOON, never) == routes.Work()


def test_mail_for_the_store_goes_within_a_minute_of_its_return() -> None:
    mail, state = [deferred("d", NOON, "po.test")], dict[str, object]()
    down = [routes.due((INSIDE,), mail, (), state, NOON + 60 * n, lambda _route: False) for n in range(3)]
    assert down == [routes.Work()] * 3
    assert routes.due((INSIDE,), mail, (), state, NOON + 180, lambda _route: True).attempt == ["d"]
    assert routes.due((INSIDE,), mail, (), state, NOON + 240, lambda _route: True).attempt == [], "once"


def test_an_outage_that_was_over_before_it_was_noticed_costs_no_wait_either() -> None:
    mail = [deferred("d", NOON, "po.test")]
    assert routes.due((INSIDE,), mail, (), {}, NOON, lambda _route: True).attempt == ["d"]


def test_mail_that_waits_since_an_outage_between_two_probes_is_tried_once() -> None:
    state: dict[str, object] = {}
    old, new = deferred("a", NOON, "po.test"), deferred("b", NOON + 30, "po.test")
    first, both = [old], [old, new]
    rounds = [(first, NOON), (both, NOON + 60), (both, NOON + 120)]
    tried = [routes.due((INSIDE,), mail, (), state, now, lambda _route: True).attempt for mail, now in rounds]
    assert tried == [["a"], ["b"], []]


def test_mail_older_than_its_route_keeps_it_returns() -> None:
    mail = [deferred("old", NOON - 101, "site.test"), deferred("young", NOON - 99, "site.test")]
    assert routes.due((SITE,), mail, (), {}, NOON, lambda _route: False).expire == ["old"]


@pytest.mark.parametrize(("now", "released"), [(NOON, []), (NIGHT, ["big"])])
def test_large_mail_leaves_in_its_hours(now: int, released: list[str]) -> None:
    big = Message("big", "hold", now, frozenset({"ho.test"}))
    assert routes.due((HEAD,), [big], ["big"], {}, now, lambda _route: True).release == released


@pytest.mark.parametrize(
    ("hours", "now", "inside"),
    [
        ("19:00-06:00", NIGHT, True),
        ("19:00-06:00", NOON, False),
        ("10:00-14:00", NOON, True),
        ("", NOON, True),
    ],
)
def test_hours_may_lie_around_midnight(hours: str, now: int, inside: bool) -> None:
    assert routes.within(hours, now) is inside


@pytest.mark.parametrize(("code", "fails"), [(69, False), (1, True)])
def test_a_probe_of_the_routes_while_postfix_is_down_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, fails: bool
) -> None:
    """The timer may fire while an apply starts Postfix (EX_UNAVAILABLE, sysexits.h). The unit would then be failed for a minute."""
    postqueue = tmp_path / "postqueue"
    postqueue.write_text(f"#!/bin/sh\nexit {code}\n")
    postqueue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    settings = tmp_path / "settings"
    settings.write_text('{"routes": [], "domain": "po.example.com"}')
    monkeypatch.setattr(routes, "SETTINGS", settings)
    with pytest.raises(subprocess.CalledProcessError) if fails else nullcontext():
        assert routes.main() == 0


def test_a_damaged_message_is_in_the_queues_list_and_nobody_can_release_it() -> None:
    (found,) = queues.listed(office_of("lab"), "mta", "corrupt 4gVxB25hBLz1 1800000000.5 1024\n")
    assert (found.id, found.queue, found.size) == ("4gVxB25hBLz1", "corrupt", 1024)
    assert "/var/spool/postfix/corrupt/4gVxB25hBLz1" in found.reasons["unknown"]
    with pytest.raises(OutpostError, match="no message in the queue matches all"):
        queues.chosen([found], ["all"])


def test_the_policy_service_releases_neither_what_the_filter_refused_nor_what_an_administrator_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy service names messages in its own directory, and root releases them."""
    named, noted, calls = tmp_path / "large", tmp_path / "on-hold", []
    for place in (named, noted):
        place.mkdir()
    queued = [("4LARGE1", "hold"), ("4REFUSED", "hold"), ("4ADMIN1", "hold"), ("4ACTIVE", "active")]
    for name in (*dict(queued), "4GONE12", "-r", "ALL"):
        (named / name).touch()
    os.utime(named / "4GONE12", (1, 1))
    (noted / "4ADMIN1").touch()
    listed = "\n".join(
        json.dumps(
            {
                "queue_id": name,
                "queue_name": queue,
                "arrival_time": 1,
                "recipients": [{"address": "x@site.example"}],
            }
        )
        for name, queue in queued
    )

    def run(command: list[str], **options: str) -> subprocess.CompletedProcess[Any]:
        calls.append((command, options.get("input")))
        text: dict[str, Any] = {
            "postqueue": listed,
            "postcat": b"X-Office-Held: virus\n" if "4REFUSED" in command else b"",
        }
        return subprocess.CompletedProcess(command, 0, stdout=text.get(command[0], ""))

    (tmp_path / "routes.json").write_text(json.dumps({"routes": [], "lifetime": 10**12}))
    for name, path in (
        ("SETTINGS", "routes.json"),
        ("STATE", "state"),
        ("HELD_FULL", "full"),
        ("HELD", "large"),
        ("BY_NAME", "on-hold"),
    ):
        monkeypatch.setattr(routes, name, tmp_path / path)
    monkeypatch.setattr(routes, "MOST_REFUSED", 2)
    monkeypatch.setattr(subprocess, "run", run)
    assert routes.main() == 0
    assert [stdin for command, stdin in calls if command[0] == "postsuper"] == ["4LARGE1\n"]
    assert (tmp_path / "full").exists(), "what it names counts as refused mail all the same"
    assert {file.name for file in named.iterdir()} == {"4REFUSED", "4ADMIN1", "4ACTIVE", "-r", "ALL"}


def test_refused_mail_on_hold_expires_and_mail_put_on_hold_by_hand_stays() -> None:
    mail = [
        Message("old", "hold", NOON - 501, frozenset()),
        Message("by-hand", "hold", NOON - 501, frozenset()),
        Message("young", "hold", NOON - 499, frozenset()),
        Message("waits", "deferred", NOON - 501, frozenset()),
    ]
    assert routes.refused(mail, lambda name: name == "by-hand", 500, NOON) == ["old"]
