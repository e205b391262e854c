"""The store: Dovecot's mailboxes, and everything that knows a password."""

from __future__ import annotations

from typing import Any

from outpost.office import ports
from outpost.office.model import Office
from outpost.office.role import NewHost, Role, Shown
from outpost.office.size import ACTIVE_SHARE, LOGIN_MIB, SESSION_MIB, CgroupLimit, Size
from outpost.office.tables.topology import Host

MAIL = "/srv/mail"
SNAPSHOT = f"{MAIL}/.snapshot"
"""On the same file system as the mail, because its messages are hard links to it."""
OWN = "/var/lib/outpost-accounts"
"""What users chose themselves. The host's own: no apply writes there."""


def _limits(size: Size) -> dict[str, CgroupLimit]:
    sessions = LOGIN_MIB * size.sessions + SESSION_MIB * size.sessions // ACTIVE_SHARE
    short = 2 * (LOGIN_MIB + SESSION_MIB) * size.short_sessions // ACTIVE_SHARE
    links = 2 * size.deliveries + 2 * size.php_workers + 100
    return {
        # Indexing, four password checks of 64 MiB, and the cache of the mail that is being read take 1 GiB.
        "dovecot.service": CgroupLimit(1024 + sessions + short, size.dovecot_tasks),
        "stunnel@lmtp.service": CgroupLimit(128, links),
        "stunnel@accounts.service": CgroupLimit(128, links),
        # Argon2id takes 64 MiB; each change of a password is one.
        "outpost-accounts.service": CgroupLimit(512, 128),
    }


def _kept(_office: Office, _host: Host) -> tuple[dict[str, Any], ...]:
    return (
        {"kind": "mail", "path": MAIL, "snapshot": SNAPSHOT, "still": "dovecot.service", "owner": "vmail"},
        # what users chose (docs/adr/0015)
        {"kind": "copy", "path": OWN, "owner": "outpost-accounts", "mode": "0640"},
    )


ROLE = Role(
    name="store",
    trust=30,
    hosts=(
        NewHost("store", 31, ("core", "lan", "mgmt"), "mailboxes and accounts; no address on the Internet"),
    ),
    published=lambda _office: ("users",),
    disk=6144,
    # Three sessions of a user are open at a time; measured: 4 MiB each, 2 once they hibernate.
    memory=lambda size: 1024 + size.beyond_smallest * 8,
    limits=_limits,
    data=(MAIL,),
    watched=("logins", "damaged"),
    shown=Shown(
        unit="dovecot.service",
        ports=lambda _office: (ports.SUBMISSIONS, ports.IMAPS, ports.MANAGESIEVE),
        probe="993",
    ),
    kept=_kept,
    owners={"vmail": MAIL, "outpost-accounts": "/nonexistent"},
    erased=(MAIL, OWN, "/etc/dovecot/users", "/var/lib/dovecot"),
    stopped=("dovecot.service", "outpost-accounts.service", "outpost-logins.service", "stunnel@*.service"),
    traced=True,
)
