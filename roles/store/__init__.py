"""The store: Dovecot's mailboxes, and everything that knows a password."""

from collections.abc import Iterator
from typing import Any

from outpost.office import ports
from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.role import NewHost, Role, Shown
from outpost.office.size import ACTIVE_SHARE, LOGIN_MIB, SESSION_MIB, CgroupLimit, Size
from outpost.office.tables.topology import Host

MAIL = "/srv/mail"
SNAPSHOT = f"{MAIL}/.snapshot"
"""On the same file system as the mail, because its messages are hard links to the mail."""
OWN = "/var/lib/outpost-accounts"
"""What users chose themselves. It belongs to the host: no apply writes there."""

TAUGHT = "/var/lib/outpost-learn"


def _limits(size: Size) -> dict[str, CgroupLimit]:
    sessions = LOGIN_MIB * size.sessions + SESSION_MIB * size.sessions // ACTIVE_SHARE
    short = 2 * (LOGIN_MIB + SESSION_MIB) * size.short_sessions // ACTIVE_SHARE
    links = 2 * size.deliveries + 2 * size.php_workers + 100
    return {
        # Indexing, four password checks of 64 MiB, and the cache of the mail that is being read take 1 GiB.
        "dovecot.service": CgroupLimit(1024 + sessions + short, size.dovecot_tasks),
        "stunnel@lmtp.service": CgroupLimit(128, links),
        "stunnel@accounts.service": CgroupLimit(128, links),
        # Each PHP process of webmail asks one thing at a time, in a thread. Changing a password takes 64 MiB (Argon2id), one user after another.
        "outpost-accounts.service": CgroupLimit(256 + 64 + 2 * size.php_workers, 64 + 2 * size.php_workers),
    }


def _kept(_office: Office, _host: Host) -> tuple[dict[str, Any], ...]:
    return (
        {"kind": "mail", "path": MAIL, "snapshot": SNAPSHOT, "still": "dovecot.service", "owner": "vmail"},
        # what users chose themselves (docs/adr/0015)
        {"kind": "copy", "path": OWN, "owner": "outpost-accounts", "mode": "0640"},
        # how much each user has taught the filter (JNK-02)
        {"kind": "copy", "path": TAUGHT, "owner": "vmail"},
    )


def _fits(office: Office, hosts: tuple[Host, ...]) -> Iterator[Problem]:
    if len(hosts) > 1:
        message = "a second store: mailboxes are not replicated between stores"
        remedy = "keep one store (a lost one is rebuilt from its backup)"
        yield Problem(f"hosts.{hosts[1].name}.role", "store", message, remedy)
    for host in hosts:
        if office.addresses_of_kind(host, "internet"):
            message = "the store has an address in the Internet's zone"
            inner = "the servers', users' and management zones"
            remedy = f"remove it: keep the host that checks passwords in {inner}"
            yield Problem(f"hosts.{host.name}.addresses", "", message, remedy)


ROLE = Role(
    name="store",
    trust=30,
    hosts=(
        NewHost("store", 31, ("core", "lan", "mgmt"), "mailboxes and accounts; no address on the Internet"),
    ),
    published=lambda _office: ("users",),
    duties=("mailboxes",),
    fits=_fits,
    disk=6144,
    processors=2,
    # Three sessions of a user are open at a time; measured: 4 MiB each, 2 once they hibernate.
    memory=lambda size: 1024 + size.beyond_smallest * 8,
    limits=_limits,
    # DOS-13: Debian allows 128. Above that a session polls its mailbox, does not hibernate, and keeps its memory.
    kernel=lambda size: {"fs.inotify.max_user_instances": size.mail_watches},
    data=(MAIL,),
    watched=("logins", "damaged"),
    shown=Shown(
        unit="dovecot.service",
        ports=lambda _office: (ports.SUBMISSIONS, ports.IMAPS, ports.MANAGESIEVE),
        probe="993",
    ),
    kept=_kept,
    restored=lambda _office, _host: (
        f"chown -R outpost-accounts:dovecot {OWN}",
        "doveadm index -A -q '*'",  # no backup has a search index: it is made now, not while a user waits for an answer
    ),
    owners={"vmail": MAIL, "outpost-accounts": "/nonexistent"},
    erased=(MAIL, OWN, TAUGHT, "/etc/dovecot/users", "/var/lib/dovecot"),
    stopped=("dovecot.service", "outpost-accounts.service", "outpost-logins.service", "stunnel@*.service"),
    reloads={
        "/etc/dovecot/": "dovecot.service",
        "/etc/stunnel/accounts": "stunnel@accounts.service",
        "/etc/stunnel/": "stunnel@lmtp.service",
    },
    programs=("dovecot", "imap-login", "managesieve-logi", "stunnel4", "submission-logi"),
    traced=True,
)
