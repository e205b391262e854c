"""Alarms are sent past the mail queue: each kind is caused on a running host, received, and ended."""

from __future__ import annotations

import gc
import imaplib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
from imap_tools import MailboxLoginError

from outpost_lab.instance import Instance
from outpost_lab.post import OfficeUser, Town, compose
from tests.awaiting import on_host
from tests.journeys.test_operating import on, outpost

HEARD = "/run/alarms-heard"
LISTENER = f"""
import http.server

class Ear(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        open("{HEARD}", "ab").write(body + b"\\n")
        self.send_response(204)
        self.end_headers()

http.server.HTTPServer(("", 8025), Ear).serve_forever()
"""
SETTINGS, STATE = "/etc/outpost/watch.json", "/var/lib/outpost-watch/state.json"


@dataclass(frozen=True)
class Trouble:
    """Something that an alarm is about.

    Attributes:
        settings: Thresholds that are reached at once.
        begins: Shell on the host that causes it.
        ends: Shell on the host that repairs it.
        cause: Shell on the host that removes its cause; the commands in the alarm must repair the rest. None: the alarm names no command.
        acts: What people do besides.
        over: Settings that end it, if its end takes an hour.
        needs: Shell on the host that says whether it can be caused there.
    """

    host: str
    about: str
    settings: dict[str, object] = field(default_factory=dict)
    begins: str = "true"
    ends: str = "true"
    cause: str | None = None
    acts: Callable[[Town], None] = lambda _town: None
    over: dict[str, object] = field(default_factory=dict)
    needs: str = "true"


def message_that_waits(town: Town) -> None:
    alice, head = town.user("alice"), town.head_office
    message, _ = compose(alice.address, [head.address])
    alice.send(message, [head.address])


def guess(town: Town) -> None:
    for name in ("alice", "bob", "carol"):
        wrong: OfficeUser = replace(town.user(name), password="a-guess")
        with suppress(MailboxLoginError, imaplib.IMAP4.error), wrong.mailbox():
            pass
    gc.collect()  # close the connection: Dovecot logs it only then


def remedies(text: str) -> str:
    """The commands that an alarm names as its remedy, as shell, without those that only show something, like journalctl."""
    return "; ".join(
        re.findall(r"`((?:systemctl re(?:start|set-failed)|rm|mv|mount|redis-cli) [^`]+)`", text)
    )


def read_it(town: Town) -> None:
    """The fault: each session that fetches the damaged message ends."""
    with suppress(imaplib.IMAP4.abort), town.user("bob").mailbox() as mailbox:
        list(mailbox.fetch("SUBJECT damage", mark_seen=False))
    gc.collect()


DEFERRING = (
    "cp -p /etc/postfix/main.cf /root/main.aside; postconf defer_transports=to-headoffice; postfix reload"
)
AS_BEFORE = "cat /root/main.aside > /etc/postfix/main.cf; rm /root/main.aside; systemctl reload postfix"
UNREADABLE = (
    "echo text | sendmail -f postmaster@po.myertor.test somebody@myertor.test; "
    + on_host('[ -n "$(find /var/spool/postfix/deferred -type f)" ]', 60)
    + "; truncate -s 200 $(find /var/spool/postfix/deferred -type f | head -n 1); postqueue -f; "
    + on_host('[ -n "$(ls /var/spool/postfix/corrupt)" ]', 60)
)
LOOPING = "[ $(systemctl show --property=NRestarts --value outpost-policy.service) -ge 3 ]"
BROKEN_MAIL = (
    "printf 'From: a@b.example\\nSubject: damage\\n\\n%4000s\\n' x | doveadm save -u bob@po.myertor.test; "
    "truncate -s 100 $(grep -rl 'Subject: damage' /srv/mail/bob/Maildir/new /srv/mail/bob/Maildir/cur)"
)
FULL = (
    "mount -t tmpfs -o size=64k,mode=0700 trial /var/lib/outpost-watch; "
    "head -c 128k /dev/zero > /var/lib/outpost-watch/trial || true"
)
REDIS = "redis-cli -s /run/redis/redis.sock"
TAUGHT = (
    f"step=0; until {REDIS} info | awk -F: '/^used_memory:/ {{ used = $2 + 0 }} /^maxmemory:/ {{ most = $2 + 0 }} "
    "END { exit used < 0.9 * most }'; do step=$((step + 1)); "
    f"{REDIS} eval \"for token = 1, 20000 do redis.call('HSET', 'RS_trial_' .. ARGV[1] .. '_' .. token, 'S', string.rep('1', 1000)) end\" "
    "0 $step >/dev/null; done"
)
"""Tokens until 90 % of the memory that Redis may use is taken."""
UNLOADABLE = "/var/lib/clamav/unloadable.ndb"
RELOADED = "journalctl --quiet --unit=clamav-daemon --lines=5 --output=cat | grep -q {}"

TROUBLES = (
    Trouble(
        "mta", "unit outpost-policy.service", {},
        f"mv /etc/outpost/policy.json /root/policy.aside; systemctl restart outpost-policy; {on_host(LOOPING, 60)}",
        "mv /root/policy.aside /etc/outpost/policy.json; systemctl restart outpost-policy",
        "cp -p /root/policy.aside /etc/outpost/policy.json",
    ),
    Trouble("ns2", "unit unbound.service", {}, "systemctl stop unbound", "systemctl start unbound", "true"),
    Trouble("store", "unit stunnel@lmtp.service", {}, "systemctl stop stunnel@lmtp", "systemctl start stunnel@lmtp", "true"),
    Trouble("mta", "filter memory", {}, TAUGHT, f"{REDIS} --scan --pattern 'RS_trial_*' | xargs -r {REDIS} del >/dev/null", "true"),
    Trouble("mta", "corrupt", {}, f"{DEFERRING}; {UNREADABLE}", f"{AS_BEFORE}; rm -f /var/spool/postfix/corrupt/*", "true"),
    Trouble(
        "store", "damaged bob", {}, BROKEN_MAIL,
        "rm -f $(grep -rl 'Subject: damage' /root/*.* /srv/mail/bob/Maildir/new /srv/mail/bob/Maildir/cur)",
        "true",
        acts=read_it,
    ),
    Trouble(
        "mta", "memory outpost-greedy.service", {},
        "systemd-run --wait --quiet --unit=outpost-greedy --property=MemoryMax=30M --property=MemorySwapMax=0 "
        "python3 -c 'bytearray(10**9)' || true",
        "systemctl reset-failed outpost-greedy.service || true", over={"recent": 0},
        needs="[ $(stat --file-system --format=%T /sys/fs/cgroup) = cgroup2fs ]",
    ),
    Trouble(
        "mta", "queue", {"queue_age": 0},
        DEFERRING,
        f"{AS_BEFORE}; postqueue -f; " + on_host("postqueue -p | grep -q 'queue is empty'", 60),
        acts=message_that_waits,
    ),
    Trouble(
        "mta", "hold", {},
        DEFERRING,
        f"{AS_BEFORE}; postsuper -H ALL; postqueue -f",
        acts=message_that_waits,
    ),
    Trouble("mta", "certificate public.pem", {"certificate_age": 10**10}),
    Trouble("mta", "virus signatures", {"virus_signatures": ["/var/lib/clamav/local.hdb"], "virus_age": 0}),
    Trouble(
        "mta", "scanner signatures", {},
        f"printf 'no signature at all\\n' > {UNLOADABLE}; systemctl reload clamav-daemon; {on_host(RELOADED.format('failed'), 60)}",
        f"rm -f {UNLOADABLE}; systemctl reload clamav-daemon; {on_host(RELOADED.format('correctly'), 60)}",
        f"rm {UNLOADABLE}",
    ),
    Trouble("mta", "scanner", {}, "systemctl stop clamav-daemon.socket clamav-daemon", "systemctl start clamav-daemon.socket clamav-daemon", "true"),
    Trouble("mta", "unit rspamd.service", {}, "systemctl stop rspamd", "systemctl start rspamd", "true"),
    Trouble("ns1", "signatures po.myertor.test", {"signature_age": 10**9}),
    Trouble("ns2", "unit knot.service", {}, "systemctl stop knot", "systemctl start knot", "true"),
    Trouble("store", "disk / space", {"disk_percent": 0}),
    Trouble(
        "webmail", "disk /run/trial read-only", {"volumes": ["/run/trial"]},
        "mkdir /run/trial; mount -t tmpfs -o ro trial /run/trial", "umount /run/trial; rmdir /run/trial", "true",
    ),
    Trouble("ns2", "clock", {"clock_age": 0}, "chronyc offline", "chronyc online", over={"clock_age": 10**6}),
    Trouble("ns1", "disk /var/lib/outpost-watch space", {"volumes": ["/var/lib/outpost-watch"]}, FULL, "umount /var/lib/outpost-watch"),
    Trouble("store", "backup", {"backup": "/no/such/backup", "backup_age": 60}),
    Trouble("store", "logins", {"wrong_logins": 2}, acts=guess),
    Trouble("webmail", "logs", {"logs_age": 0}, "systemctl stop outpost-logs; logger waits", "systemctl start outpost-logs"),
    Trouble("webmail", "unit nginx.service", {}, "systemctl stop nginx", "systemctl start nginx", "true"),
)  # fmt: skip


@pytest.fixture(scope="module")
def ear(lab: Instance) -> Iterator[Callable[[str], list[dict[str, object]]]]:
    """What a machine on the administrators' network receives from a host."""
    command = ["docker", "exec", "--interactive", lab.container_name("gw"), "python3", "-"]
    listener = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    assert listener.stdin is not None
    listener.stdin.write(LISTENER)
    listener.stdin.close()
    on(lab, "gw", f"rm -f {HEARD}; {on_host('nc -z 127.0.0.1 8025')}")

    def heard(host: str) -> list[dict[str, object]]:
        output = on(lab, "gw", f"cat {HEARD} 2>/dev/null || true")
        return [
            printed
            for line in output.splitlines()
            if (printed := json.loads(line))["host"].startswith(f"{host}.")
        ]

    yield heard
    on(lab, "gw", "kill $(ss -ltnpH 'sport = :8025' | grep -o 'pid=[0-9]*' | cut -d= -f2)")
    listener.wait(timeout=20)


@pytest.mark.slow
@pytest.mark.control("LOG-04")
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: f"{trouble.host} {trouble.about}")
def test_alarms_arrive_by_a_path_beside_the_queue(
    lab: Instance, town: Town, ear: Callable[[str], list[dict[str, object]]], trouble: Trouble
) -> None:
    host, look = trouble.host, "systemctl start outpost-watch.service"
    if on(lab, host, f"if {trouble.needs}; then echo yes; fi").strip() != "yes":
        pytest.skip(
            "systemd notices what the kernel ends by cgroups of version 2 only, and this machine has version 1"
        )
    before = on(lab, host, f"cat {SETTINGS}; cp -p {SETTINGS} /root/watch.aside")
    on(
        lab,
        host,
        f"systemctl stop outpost-watch.timer outpost-watch.service; rm -f {STATE}; {trouble.begins}",
    )
    try:
        written = json.dumps(json.loads(before) | trouble.settings)
        on(lab, host, f"cat > {SETTINGS} <<'END'\n{written}\nEND\n")
        trouble.acts(town)
        if trouble.about == "logins":
            count = "journalctl --quiet --unit=dovecot --since=-2min | grep -c auth.failed"
            on(lab, host, on_host(f"[ $({count}) -ge 3 ]"))
        if trouble.about == "hold":
            outpost(lab, "queue", "lab", "--hold", "headoffice")
        earlier = len(ear(host))
        on(lab, host, look)
        printed = {alarm["about"]: alarm["text"] for news in ear(host)[earlier:] for alarm in news["alarms"]}  # type: ignore[attr-defined]
        assert trouble.about in printed
        earlier = len(ear(host))
        on(lab, host, look)
        assert ear(host)[earlier:] == [], "reported once, not every five minutes"
        if trouble.cause is not None:
            typed = remedies(printed[trouble.about])
            assert typed
            on(lab, host, f"{trouble.cause}; {typed}; {look}")
            assert trouble.about not in on(lab, host, f"cat {STATE}"), typed
    finally:
        on(lab, host, trouble.ends)
        last = json.dumps(json.loads(before) | trouble.over)
        on(lab, host, f"cat > {SETTINGS} <<'END'\n{last}\nEND\n{look}")
        on(lab, host, f"cat /root/watch.aside > {SETTINGS}; rm /root/watch.aside")
        on(lab, host, "systemctl start outpost-watch.timer")
    assert trouble.about in [about for news in ear(host)[earlier:] for about in news["over"]]  # type: ignore[attr-defined]
    assert trouble.about not in on(lab, host, f"cat {STATE}")


@pytest.mark.slow
@pytest.mark.control("LOG-04")
def test_every_host_can_send_its_alarms(lab: Instance, ear: Callable[[str], list[dict[str, object]]]) -> None:
    assert outpost(lab, "alarms", "lab", "--test") == []
    for host in lab.office.hosts:
        assert ear(host.name)
