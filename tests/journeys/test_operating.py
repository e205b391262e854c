"""Administrators can trace mail, list and release the queue; the MX of last resort works."""

from __future__ import annotations

import json
import smtplib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from outpost.target import LAB, ROOT
from outpost_lab import pace
from outpost_lab.instance import Instance
from outpost_lab.post import Neighbour, OfficeUser, Town, compose
from tests.awaiting import on_host
from tests.journeys.test_outage import BACK_WITHIN, down


def outpost(lab: Instance, *arguments: str) -> Any:
    """A command's answer, as JSON."""
    command = [sys.executable, "-m", "outpost", *arguments, "--name", lab.name, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def on(lab: Instance, machine: str, command: str) -> str:
    """The output of a shell command on a machine."""
    return subprocess.run(
        ["docker", "exec", lab.container_name(machine), "sh", "-c", command],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.control("QUE-01")
def test_a_message_is_followed_through_every_host_by_any_of_its_names(
    lab: Instance, alice: OfficeUser, bob: OfficeUser, head: Neighbour
) -> None:
    message, token = compose(alice.address, [bob.address, head.address])
    alice.send(message, [bob.address, head.address])
    bob.receive(token)
    head.receive(token)
    (story,) = outpost(lab, "trace", LAB, message["Message-ID"])
    printed = [(hop["host"], hop["what"], hop["tls"]) for hop in story["hops"]]
    for host, what, tls in (
        ("store", f"submitted by {alice.address}", ""),
        ("mta", f"received from {alice.address}", "Trusted TLSv1.3"),
        ("mta", f"<{bob.address}> accepted by", "Verified TLSv1.3"),
        ("mta", f"<{head.address}> accepted by mx.myertor.test", "Verified TLSv1.3"),
        ("store", f"{bob.address}: stored mail into mailbox 'INBOX'", ""),
        ("mta", "finished: removed from the queue", ""),
    ):
        assert [hop for hop in printed if hop[0] == host and what in hop[1] and hop[2].startswith(tls)], (
            what,
            printed,
        )
    name = next(hop["id"] for hop in story["hops"] if hop["host"] == "mta" and hop["id"])
    assert [each["hops"] for each in outpost(lab, "trace", LAB, name)] == [story["hops"]]
    latest = outpost(lab, "trace", LAB, head.address, "--last", "1")
    assert message["Message-ID"] in [each["message_id"] for each in latest]


@pytest.mark.control("QUE-01", "DSN-01")
def test_while_the_mta_is_away_head_office_takes_mail_for_those_who_exist(
    lab: Instance, town: Town, stranger: Neighbour, alice: OfficeUser
) -> None:
    """The backup MX knows the same recipients: accepted mail arrives once, and unknown recipients are rejected at once."""
    message, token = compose(stranger.address, [alice.address])
    unknown = f"nobody@{town.info['domain']}"
    lost, lost_token = compose(stranger.address, [unknown])
    with down(lab, "mta"):
        stranger.send(message, [alice.address])
        stranger.send(lost, [unknown])
        assert b"550" in stranger.receive(lost_token)
        on(lab, "headoffice", on_host(f"postqueue -p | grep -q {alice.address}", 60))
    alice.receive(token, patience=BACK_WITHIN)
    assert alice.count(token) == 1


@pytest.mark.slow
@pytest.mark.control("QUE-01")
def test_what_waits_for_a_peer_goes_when_it_answers_again(
    lab: Instance, alice: OfficeUser, head: Neighbour
) -> None:
    """Postfix itself would retry much later, so only the probe of the route can have started the delivery."""
    message, token = compose(alice.address, [head.address])
    look = "systemctl start outpost-routes.service"
    on(lab, "mta", "systemctl stop outpost-routes.timer; postconf minimal_backoff_time=1800s; postfix reload")
    try:
        with down(lab, "headoffice"):
            alice.send(message, [head.address])
            on(lab, "mta", on_host(f"postqueue -j | grep -q 'deferred.*{head.address}'", 120))
            waiting = [one for one in outpost(lab, "queue", LAB) if head.address in one["reasons"]]
            assert [(one["queue"], one["routes"]) for one in waiting] == [("deferred", ["headoffice"])]
            on(lab, "mta", look)  # it finds the peer down
        # the peer may be probed again at once: its `retry` is over
        on(lab, "mta", f'sed -i \'s/"looked": [0-9.]*/"looked": 0/\' /run/outpost-routes/state.json; {look}')
        head.receive(token, patience=30)
        assert head.count(token) == 1
    finally:
        on(
            lab,
            "mta",
            "postconf minimal_backoff_time=30s; postfix reload; systemctl start outpost-routes.timer",
        )


@pytest.mark.slow
@pytest.mark.control("QUE-01")
def test_mail_on_hold_waits_until_it_is_released(lab: Instance, alice: OfficeUser, head: Neighbour) -> None:
    message, token = compose(alice.address, [head.address])
    with down(lab, "headoffice"):
        alice.send(message, [head.address])
        on(lab, "mta", on_host(f"postqueue -p | grep -q {head.address}", 60))
        held = outpost(lab, "queue", LAB, "--hold", "headoffice")
        assert {one["queue"] for one in held if head.address in one["reasons"]} == {"hold"}
    on(lab, "mta", "postqueue -f")
    assert head.count(token) == 0
    outpost(lab, "queue", LAB, "--release", "headoffice")
    head.receive(token, patience=30)


TRACE = "Received: from there by mx.far.test with ESMTPS id {}; Mon, 2 Nov 2026 08:00:00 +0000\n"


GIVE = """import smtplib, sys
edge, sender, to = sys.argv[1:]
with smtplib.SMTP(edge, 25, local_hostname="mx.internet.test", timeout=300) as session:
    session.sendmail(sender, [to], sys.stdin.read())
"""


def give(lab: Instance, sender: str, to: str, message: str, through: str = "mta") -> None:
    """A message as these octets, from the Internet's server to an MX on port 25."""
    edge = lab.machine(through).addresses["wan"][0]
    shown = ["docker", "inspect", "--format", "{{.State.Pid}}", lab.container_name("internet")]
    pid = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.strip()
    command = ["nsenter", "--target", pid, "--net", sys.executable, "-c", GIVE, edge, sender, to]
    subprocess.run(command, input=message, text=True, check=True)


def emptied(lab: Instance, machine: str) -> None:
    """Wait until the machine's queue has nothing more to deliver."""
    on(lab, machine, on_host("postqueue -p | grep -q 'queue is empty'", 60))


@pytest.mark.control("QUE-02")
@pytest.mark.parametrize(("ways", "copies"), [(("4a1", "4a1"), 1), (("4a1", "4a2"), 2)])
def test_the_same_transfer_given_twice_is_kept_once(
    lab: Instance, alice: OfficeUser, stranger: Neighbour, ways: tuple[str, ...], copies: int
) -> None:
    """A server that was killed before our answer sends a message again; another route makes another copy."""
    message, token = compose(stranger.address, [alice.address])
    for way in ways:
        give(lab, stranger.address, alice.address, TRACE.format(token[-8:] + way) + message.as_string())
    emptied(lab, "mta")
    alice.receive(token)
    assert alice.count(token) == copies


@pytest.mark.control("QUE-02")
def test_each_of_many_that_come_at_once_is_kept_once(
    lab: Instance, alice: OfficeUser, stranger: Neighbour
) -> None:
    messages = {
        token: TRACE.format(token) + message.as_string()
        for message, token in (compose(stranger.address, [alice.address]) for _ in range(10))
    }
    for _ in range(2):
        with ThreadPoolExecutor(len(messages)) as pool:
            list(
                pool.map(
                    lambda message: give(lab, stranger.address, alice.address, message), messages.values()
                )
            )
        emptied(lab, "mta")
    assert [alice.count(token) for token in messages] == [1] * len(messages)


@pytest.mark.control("QUE-02")
@pytest.mark.parametrize(("ways", "copies"), [(("4a1", "4a1"), 1), (("4a1", "4a2"), 2)])
def test_what_comes_straight_and_by_the_backup_mx_is_kept_once(
    lab: Instance, alice: OfficeUser, stranger: Neighbour, ways: tuple[str, str], copies: int
) -> None:
    """The message comes from a server that did not get the MTA's answer and used the next MX."""
    message, token = compose(stranger.address, [alice.address])
    straight, round_about = (TRACE.format(token[-8:] + way) + message.as_string() for way in ways)
    give(lab, stranger.address, alice.address, straight)
    give(lab, stranger.address, alice.address, round_about, through="headoffice")
    for machine in ("headoffice", "mta"):
        emptied(lab, machine)
    alice.receive(token)
    taken = on(
        lab,
        "store",
        f"journalctl --quiet --since=-5min --unit=dovecot --grep='sieve: msgid={message['Message-ID']}'",
    )
    assert len(taken.splitlines()) == 2
    assert alice.count(token) == copies


ANSWER = "/run/answer"
THINKING = f"""set -e
rm -f {ANSWER}
(until [ -e {ANSWER} ]; do sleep 0.1; done; printf 'action=DUNNO\\n\\n') 2>/dev/null | nc -N -l 127.0.0.1 10099 >/run/asked 2>&1 &
{on_host("ss -ltnH 'sport = :10099' | grep -q .")}
cp -p /etc/postfix/main.cf /root/main.aside
postconf 'smtpd_end_of_data_restrictions=check_policy_service inet:127.0.0.1:10099'
postfix reload
"""
"""Their server has the last byte, and answers when the test says so."""
AS_BEFORE = "cat /root/main.aside > /etc/postfix/main.cf; rm /root/main.aside; postfix reload"
STARTED = "systemctl show --property=ActiveEnterTimestampMonotonic --value postfix"


@pytest.mark.control("QUE-02")
def test_a_restart_in_the_middle_of_a_delivery_gives_nothing_twice(
    lab: Instance, alice: OfficeUser, stranger: Neighbour
) -> None:
    """A client that is stopped between the last byte and the answer must not deliver twice."""
    message, token = compose(alice.address, [stranger.address])
    on(lab, "internet", THINKING)
    try:
        alice.send(message, [stranger.address])
        on(lab, "internet", on_host("grep -qs recipient=stranger /run/asked", 60))
        before = on(lab, "mta", STARTED).strip()
        on(lab, "mta", "systemctl restart --no-block postfix")
        on(lab, "mta", on_host("! systemctl is-active --quiet postfix"))
    finally:
        on(lab, "internet", f"touch {ANSWER}")
        on(lab, "internet", AS_BEFORE)
    on(lab, "mta", on_host(f"systemctl is-active --quiet postfix && [ $({STARTED}) != {before} ]", 90))
    stranger.receive(token)
    on(lab, "mta", "postqueue -f")
    emptied(lab, "mta")
    assert stranger.count(token) == 1


AGAIN = """set -e
cd /srv/mail/{user}/Maildir
first=$(grep -rlF {token} new cur)
sed '0,/with LMTP/s//again with LMTP/' "$first" > tmp/again
chown vmail:vmail tmp/again
mv tmp/again "new/$(date +%s).M1P1.again"
systemctl start outpost-twice.service
"""


@pytest.mark.control("QUE-02")
def test_what_the_store_took_again_because_it_was_killed_is_kept_once(
    lab: Instance, alice: OfficeUser, head: Neighbour
) -> None:
    """Two files from one entry of the MTA's queue, as after Dovecot was killed before it recorded the first."""
    message, token = compose(head.address, [alice.address])
    head.send(message, [alice.address])
    alice.receive(token)
    on(lab, "store", AGAIN.format(user=alice.address.partition("@")[0], token=token))
    assert alice.count(token) == 1


@pytest.mark.control("DSN-01")
def test_a_virus_that_came_by_the_backup_mx_is_kept_and_nobody_gets_a_bounce(
    lab: Instance, alice: OfficeUser, stranger: Neighbour
) -> None:
    message, token = compose(stranger.address, [alice.address])
    message.add_attachment(
        b"MZ" + b"x" * 99, maintype="application", subtype="octet-stream", filename="a.exe"
    )
    edge = lab.machine("headoffice").addresses["wan"][0]
    with smtplib.SMTP(edge, 25, local_hostname="mx.internet.test", timeout=60 * pace.load()) as session:
        session.send_message(message, stranger.address, [alice.address])
    on(lab, "mta", on_host(f"postqueue -j | grep -q 'hold.*{alice.address}'", 60))
    (held,) = [one for one in outpost(lab, "queue", LAB) if one["queue"] == "hold"]
    try:
        assert held["sender"] == stranger.address
        assert on(lab, "headoffice", "postqueue -j") == ""
        assert (alice.count(token), stranger.count(token)) == (0, 0)
    finally:
        on(lab, "mta", f"postsuper -d {held['id']}")


HOURS = """
cp -p /etc/outpost/policy.json /root/policy.aside; cp -p /etc/outpost/routes.json /root/routes.aside
python3 - <<'END'
import json, time
later = time.strftime("%H:%M-%H:%M", time.gmtime(time.time() + 7200))
route = {"name": "headoffice", "domains": ["myertor.test"], "size": 100000, "hours": later}
for file, change in (("policy", {"large": [route]}), ("routes", None)):
    data = json.load(open(f"/etc/outpost/{file}.json"))
    if change:
        data |= change
    else:
        next(each for each in data["routes"] if each["name"] == "headoffice")["hours"] = later
    json.dump(data, open(f"/etc/outpost/{file}.json", "w"))
END
systemctl restart outpost-policy
"""


@pytest.mark.slow
@pytest.mark.control("QUE-01")
def test_large_mail_waits_for_its_hours_and_small_mail_does_not(
    lab: Instance, alice: OfficeUser, head: Neighbour
) -> None:
    small, small_token = compose(alice.address, [head.address])
    large, token = compose(alice.address, [head.address], "x" * 70 + "\n" + ("y" * 70 + "\n") * 3000)
    on(lab, "mta", HOURS)
    try:
        alice.send(large, [head.address])
        alice.send(small, [head.address])
        head.receive(small_token)
        (held,) = [one for one in outpost(lab, "queue", LAB) if head.address in one["reasons"]]
        assert held["queue"] == "hold"
        assert "large: leaves at" in held["reasons"][head.address]
        on(lab, "mta", "systemctl start outpost-routes.service")
        assert head.count(token) == 0
    finally:
        for file in ("policy", "routes"):
            on(lab, "mta", f"cat /root/{file}.aside > /etc/outpost/{file}.json; rm /root/{file}.aside")
        on(lab, "mta", "systemctl restart outpost-policy")
    # the office declares no hours for large mail: it leaves at the next run of outpost-routes
    on(lab, "mta", "systemctl start outpost-routes.service; postqueue -f")
    head.receive(token, patience=60)
