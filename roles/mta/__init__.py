"""MTAs: Postfix with Rspamd and ClamAV, the only hosts that take mail from outside."""

from collections.abc import Iterator
from typing import Any

from outpost.office import ports
from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.role import NewHost, Role, Shown
from outpost.office.size import SMTPD_MIB, CgroupLimit, Size
from outpost.office.tables.topology import Host

SCANNER_SOCKET = "/run/clamav/clamd.ctl"
LEARNING = "/var/spool/outpost-learning"
"""Where Rspamd's controller listens for lessons from the store."""
MIN_LEARNS = 200
"""Bayes has no weight before so many messages of each kind were learnt; Rspamd's own default."""
REDIS_DATA = "/var/lib/redis"
VIRUS_SIGNATURES = ("/var/lib/clamav/daily.c[lv]d", "/var/lib/clamav/main.c[lv]d")


def _limits(size: Size) -> dict[str, CgroupLimit]:
    return {
        "postfix.service": CgroupLimit(SMTPD_MIB * size.postfix_processes, 2 * size.postfix_processes),
        "rspamd.service": CgroupLimit(1024, 64),
        "redis-server.service": CgroupLimit(384, 32),
        # ClamAV's own signatures take 1.3 GB, twice that while it loads new ones beside the old.
        "clamav-daemon.service": CgroupLimit(3584, 64),
        "stunnel@scanner.service": CgroupLimit(128, 64),
        "stunnel@learning.service": CgroupLimit(256, 64),
    }


def _listeners(office: Office) -> tuple[int, ...]:
    outside = [zone.name for zone in office.zones_of_kind("internet")]
    return tuple(sorted({ports.SMTP} | {peer.listen for peer in office.peers if peer.zone in outside}))


def _kept(_office: Office, _host: Host) -> tuple[dict[str, Any], ...]:
    # JNK-01: without it a new MTA has to be taught again. BKP-02: nothing but the snapshot, or Redis runs commands from the archive.
    return ({"kind": "copy", "path": REDIS_DATA, "owner": "redis", "only": "dump.rdb"},)


def _watching(office: Office, _host: Host) -> dict[str, Any]:
    return {
        "scanner": SCANNER_SOCKET,
        "corrupt": "/var/spool/postfix/corrupt",
        "redis": "/run/redis/redis.sock",
        "virus_signatures": list(VIRUS_SIGNATURES) if office.scanner.signatures == "freshclam" else [],
    }


def _fits(office: Office, hosts: tuple[Host, ...]) -> Iterator[Problem]:
    if not office.mail_servers:
        message = "every MTA retires: no host would accept mail"
        yield Problem(f"hosts.{hosts[0].name}.retiring", "true", message, "leave one in service")


ROLE = Role(
    name="mta",
    trust=20,
    hosts=(NewHost("mta", 21, ("wan", "core", "mgmt"), "the only listener for mail; holds no password"),),
    published=lambda _office: ("internet",),
    duties=("transport",),
    fits=_fits,
    disk=8192,
    processors=2,
    # ClamAV's signatures take 1.3 GB, twice that while new ones are loaded.
    memory=lambda size: 4096 + size.beyond_smallest * SMTPD_MIB // 3,
    limits=_limits,
    watched=("queue", "corrupt", "virus_signatures", "scanner", "filter_memory"),
    watching=_watching,
    shown=Shown(unit="postfix.service", ports=_listeners, probe="25 -starttls smtp", zone="internet"),
    kept=_kept,
    owners={"redis": REDIS_DATA},
    erased=(
        "/var/spool/postfix",
        "/var/lib/rspamd",
        REDIS_DATA,
        "/var/lib/outpost-policy",
        "/etc/rspamd",
    ),
    stopped=("postfix.service", "rspamd.service", "redis-server.service", "outpost-policy.service"),
    reloads={
        "/etc/postfix/": "postfix.service",
        "/var/spool/postfix/": "postfix.service",
        "/etc/rspamd/": "rspamd.service",
        "/etc/redis/": "redis-server.service",
        "/etc/stunnel/scanner": "stunnel@scanner.service",
        "/etc/stunnel/learning": "stunnel@learning.service",
    },
    programs=("clamd", "master", "redis-server", "rspamd", "smtpd", "stunnel4"),
    traced=True,
)
