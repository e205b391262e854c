"""No message is lost or doubled, whatever fails (R01 to R16 of the resilience scenarios; R00: no fault).

The short run with nothing broken is part of the suite. The others are long: `pytest -m slow tests/journeys/test_ledger.py
--name LAB --seed N --messages N`; each logs its results (`-o log_cli=true -o log_cli_level=INFO`) and stores them in
`.lab/LAB/ledger.json`; `--record` writes all stored results into docs/measurements.md. Not here: R08 (containers share
one clock: tests/lab/test_machines.py), R12 (restores have tests of their own).
"""

from __future__ import annotations

import logging
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from outpost.target import LAB, ROOT
from outpost_lab import pace
from outpost_lab.instance import Instance
from outpost_lab.post import Town, compose
from tests.awaiting import until
from tests.journeys.ledger import Ledger, keep, record, run
from tests.journeys.test_outage import SETTLED, down

logger = logging.getLogger(__name__)
ROUNDS = 20


@dataclass(frozen=True)
class Scenario:
    """A fault while mail flows.

    Attributes:
        trouble: Causes it, and repairs it.
        told_late: Whether senders must get a notice of delay.
        refused: Whether some mail must have been refused for a time; else none may.
        unanswered: Whether connections may break when an answer is due.
        waits: Whether mail must have waited in the MTA's queue.
        twice: Whether others may get a message twice: an MTA that was killed before it had their answer must send it
            again (RFC 5321, sections 4.5.3.2.6 and 6.1), and their servers keep both. The office's mailboxes never do (QUE-02).
        every: Seconds between two messages while it lasts.
    """

    trouble: Callable[[Ledger], None]
    told_late: bool = False
    refused: bool = False
    unanswered: bool = False
    waits: bool = False
    twice: bool = False
    every: float = 0.5


def on(ledger: Ledger, machine: str, script: str) -> str:
    return ledger.on(ledger.lab.container_name(machine), script)


def half_more(ledger: Ledger) -> None:
    """Wait until three quarters of all messages have been begun, if any server accepts them now."""
    ledger.until_allowed(ledger.messages * 3 // 4, patience=60)


@contextmanager
def postfix(ledger: Ledger, **settings: str) -> Iterator[None]:
    """Other settings on the MTA; the old file afterwards."""
    pairs = " ".join(f"'{name}={value}'" for name, value in settings.items())
    on(ledger, "mta", f"cp -p /etc/postfix/main.cf /root/main.cf.aside; postconf {pairs}; postfix reload")
    try:
        yield
    finally:
        on(
            ledger,
            "mta",
            "cat /root/main.cf.aside > /etc/postfix/main.cf; rm /root/main.cf.aside; postfix reload",
        )


@contextmanager
def cut_off(ledger: Ledger, *machines: str) -> Iterator[None]:
    """Cut machines' line to the Internet: packets are dropped in both directions, without an answer."""
    for machine in machines:
        address = ledger.lab.machine(machine).addresses["wan"][0]
        on(
            ledger,
            machine,
            f"card=$(ip -o addr show | awk '/ {address}\\//{{print $2}}'); "
            "nft add table inet cut; "
            'for way in input output; do nft add chain inet cut $way "{ type filter hook $way priority -300; }"; done; '
            "nft add rule inet cut input iifname $card drop; nft add rule inet cut output oifname $card drop",
        )
    try:
        yield
    finally:
        for machine in machines:
            on(ledger, machine, "nft delete table inet cut")


def line_cut(ledger: Ledger) -> None:
    """R01, compressed: senders get a notice after 20 s instead of four hours; mail inside the office goes on."""
    alice, bob = ledger.people[:2]
    message, token = compose(alice.address, [bob.address])
    began = time.monotonic()
    alice.send(message, [bob.address])
    bob.receive(token)
    idle = time.monotonic() - began
    with postfix(ledger, delay_warning_time="20s"), cut_off(ledger, "mta", "ns1", "ns2", "webmail", "gw"):
        times = []
        for _ in range(3):
            message, token = compose(alice.address, [bob.address])
            began = time.monotonic()
            alice.send(message, [bob.address])
            bob.receive(token, patience=20)
            times.append(time.monotonic() - began)
        assert statistics.median(times) < pace.allowed(5, idle), (
            "mail inside the office does not wait for the line"
        )
        half_more(ledger)
        until(lambda: ledger.look().delayed, "a sender is told that mail is late", seconds=120, pace=2)


def host_down(machine: str) -> Callable[[Ledger], None]:
    def trouble(ledger: Ledger) -> None:
        with down(ledger.lab, machine):
            half_more(ledger)

    return trouble


def filter_down(ledger: Ledger) -> None:
    on(ledger, "mta", "systemctl stop rspamd")
    try:
        half_more(ledger)
    finally:
        on(ledger, "mta", "systemctl start rspamd")


@contextmanager
def queue_on_its_own_volume(ledger: Ledger) -> Iterator[None]:
    """The MTA's queue on 64 MiB; what is still in it afterwards goes back to where it was."""
    spool, users = "/var/spool/postfix", "postfix rspamd outpost-policy postfix-mta-sts-resolver"
    on(
        ledger,
        "mta",
        f"systemctl stop {users}; mkdir /run/volume; mount -t tmpfs -o size=64m,mode=0755 volume /run/volume; "
        f"cp --archive {spool}/. /run/volume; mount --bind /run/volume {spool}; systemctl start {users}",
    )
    try:
        yield
    finally:
        on(
            ledger,
            "mta",
            f"rm /run/volume/full*; systemctl stop {users}; umount {spool}; find {spool} -mindepth 1 -delete; "
            f"cp --archive /run/volume/. {spool}; umount /run/volume; rmdir /run/volume; systemctl start {users}",
        )


def queue_full(ledger: Ledger) -> None:
    """R06: first the volume fills while messages are received, then it is full before they begin (`452 4.3.1`)."""
    with (
        queue_on_its_own_volume(ledger),
        postfix(ledger, queue_minfree="0", message_size_limit="250000"),
    ):
        room = "$(df --output=avail -B1 /run/volume | tail -1)"
        on(ledger, "mta", f"head -c $(({room} - 600000)) /dev/zero > /run/volume/full")
        ledger.until_allowed(ledger.messages // 2, patience=60)
        on(ledger, "mta", f"head -c {room} /dev/zero > /run/volume/full-to-the-last-byte")
        half_more(ledger)


def store_full(ledger: Ledger) -> None:
    """R07: no byte is free where Dovecot writes a message first."""
    # where Dovecot's processes are: its unit has mounts of its own
    inside = "nsenter --mount --target $(systemctl show --property=MainPID --value dovecot)"
    each = "for d in /srv/mail/*/Maildir/tmp; do"
    full = f"{each} mount -t tmpfs -o size=4k,mode=0777 full $d; head -c 4096 /dev/zero > $d/full; done"
    on(ledger, "store", f"{inside} sh -c '{full}'")
    try:
        half_more(ledger)
    finally:
        on(ledger, "store", f"{inside} sh -c '{each} umount $d; done'")


def wrong_certificate(ledger: Ledger) -> None:
    """R09: head office shows a certificate of an unknown authority; mail to it waits, and is not sent in clear text."""
    on(
        ledger,
        "headoffice",
        "cp -p /etc/outpost/host.pem /root/aside.pem; cp -p /etc/outpost/host.key /root/aside.key; "
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=mx.myertor.test -keyout /etc/outpost/host.key "
        "-out /etc/outpost/host.pem 2>/dev/null; postfix reload",
    )
    alice, head = ledger.people[0], ledger.outside[0]
    look = f"journalctl --quiet --since=@{ledger.began:.0f} -t postfix/to-headoffice/smtp"
    try:
        alice.send(
            compose(alice.address, [head.address])[0], [head.address]
        )  # the others may by chance have none for it
        half_more(ledger)
        until(
            lambda: re.search("not (trusted|verified)", on(ledger, "mta", look)),
            "the MTA does not trust it",
        )
    finally:
        on(
            ledger,
            "headoffice",
            "cat /root/aside.pem > /etc/outpost/host.pem; cat /root/aside.key > /etc/outpost/host.key; postfix reload",
        )


def killed(ledger: Ledger) -> None:
    """R10: every daemon is killed. The kernel keeps running, so the effect of a power loss on a disk is not tested."""
    chance = random.Random(ledger.seed)  # noqa: S311
    hosts = [host.name for host in ledger.lab.office.hosts]
    for _ in range(ROUNDS):
        machine = ledger.lab.container_name(chance.choice(hosts))
        ledger.until_taken(ledger.taken() + 3, patience=10)
        subprocess.run(["docker", "kill", machine], check=True, capture_output=True)
        subprocess.run(["docker", "start", machine], check=True, capture_output=True)
        subprocess.run(["docker", "exec", machine, "sh", "-c", SETTLED], check=True)


def restarted(ledger: Ledger) -> None:
    """R11: every host is restarted, one after the other, and comes up unaided."""
    for host in ledger.lab.office.hosts:
        with down(ledger.lab, host.name):
            pass


def outpost(ledger: Ledger, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "outpost", *arguments, "--name", ledger.lab.name]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def applied_again(ledger: Ledger) -> None:
    """R14: a setting is changed and changed back; no session breaks."""
    file = ledger.lab.office_file
    before, errors = file.read_text(), len(ledger.errors)
    try:
        file.write_text(before.replace("recipients_per_message = 50", "recipients_per_message = 49"))
        assert file.read_text() != before
        assert outpost(ledger, "apply", LAB, "-y", "--no-verify").returncode == 0
    finally:
        file.write_text(before)
        assert outpost(ledger, "apply", LAB, "-y", "--no-verify").returncode == 0
    assert ledger.errors[errors:] == []


def edited_by_hand(ledger: Ledger) -> None:
    """R15: drift is named with file and line, and repaired."""
    on(
        ledger,
        "mta",
        "sed -i 's/^smtpd_helo_required.*/smtpd_helo_required = no/' /etc/postfix/main.cf; postfix reload",
    )
    plan = outpost(ledger, "plan", LAB)
    assert plan.returncode == 2
    assert "/etc/postfix/main.cf" in plan.stdout
    assert "+smtpd_helo_required = yes" in plan.stdout + plan.stderr
    assert outpost(ledger, "apply", LAB, "-y", "--no-verify").returncode == 0
    assert "yes" in on(ledger, "mta", "postconf smtpd_helo_required")


def wrong_configuration(ledger: Ledger) -> None:
    """R16: a file that the daemon's own checker refuses is not installed, and the old one stays in use."""
    template = ROOT / "templates/store/etc/dovecot/dovecot.conf.j2"
    before, live = template.read_text(), on(ledger, "store", "sha256sum /etc/dovecot/dovecot.conf")
    try:
        template.write_text(before + "\nno_such_setting = yes\n")
        assert outpost(ledger, "apply", LAB, "-y", "--no-verify", "--limit", "store").returncode == 1
    finally:
        template.write_text(before)
    assert on(ledger, "store", "sha256sum /etc/dovecot/dovecot.conf") == live
    assert outpost(ledger, "apply", LAB, "-y", "--no-verify", "--limit", "store").returncode == 0


def nothing_broken(ledger: Ledger) -> None:
    """R00: for thousands of messages (--messages 2000); other tests cover the hourly limits of the policy service."""
    last = ledger.messages * 3 // 4
    for count in range(ledger.messages // 4, last, 200):
        on(ledger, "mta", "systemctl restart outpost-policy")
        ledger.until_taken(min(count + 200, last))


SCENARIOS = {
    "R00 nothing broken": Scenario(nothing_broken, every=0),
    "R01 line cut": Scenario(line_cut, told_late=True, waits=True),
    "R02 first name server down": Scenario(host_down("ns1")),
    "R03 store down": Scenario(host_down("store"), refused=True, unanswered=True, waits=True),
    "R04 webmail down": Scenario(host_down("webmail")),
    "R05 filter down": Scenario(filter_down, refused=True),
    "R06 queue volume full": Scenario(queue_full, refused=True, unanswered=True),
    "R07 store volume full": Scenario(store_full, waits=True),
    "R09 wrong certificate at a peer": Scenario(wrong_certificate, waits=True),
    "R10 kill -9 under load, 20 rounds": Scenario(
        killed, refused=True, unanswered=True, twice=True, every=3.0
    ),
    "R11 every host restarted": Scenario(restarted, refused=True, unanswered=True, every=1.5),
    "R13 MTA away, head office holds": Scenario(host_down("mta"), refused=True, unanswered=True),
    "R14 re-apply under load": Scenario(applied_again),
    "R15 edited by hand": Scenario(edited_by_hand),
    "R16 wrong configuration": Scenario(wrong_configuration),
}


@pytest.mark.control("AVL-01")
def test_every_message_that_was_taken_arrives_once(lab: Instance, town: Town, seed: int) -> None:
    balance = run(lab, town, seed=seed, messages=12, patience=60)
    logger.info("%s", balance)
    assert (balance.lost, balance.doubled, balance.returned, balance.unacknowledged) == ((), (), (), 0)
    assert balance.delivered == balance.acknowledged == 12


@pytest.mark.slow
@pytest.mark.control("AVL-01", "QUE-01")
@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_lost_whatever_breaks(
    lab: Instance, town: Town, seed: int, pytestconfig: pytest.Config, name: str
) -> None:
    scenario = SCENARIOS[name]
    messages = pytestconfig.getoption("--messages")
    balance = run(lab, town, seed=seed, messages=messages, trouble=scenario.trouble, every=scenario.every)
    keep(lab, name, balance)
    if pytestconfig.getoption("--record"):
        record(lab)
    logger.info("%s: %s", name, balance)
    assert (balance.lost, balance.returned) == ((), ())
    assert (balance.doubled_in(lab.office.domain) if scenario.twice else balance.doubled) == ()
    assert balance.delivered == balance.acknowledged == messages
    assert balance.delayed > 0 or not scenario.told_late
    assert (balance.refused > 0) == scenario.refused
    assert balance.unacknowledged == 0 or scenario.unanswered
    assert balance.deferred > 0 or not scenario.waits
