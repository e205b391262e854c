"""The store: Dovecot with the office's mailboxes and accounts, the only host that gets users' passwords.

The MTA delivers over mutual TLS (stunnel in front of LMTP). Users read, filter and submit, and the store hands their
mail to the MTA's trusted listener. Nothing here deletes a mailbox: the mail of a user who leaves the office file is
archived.
"""

import hashlib
import shlex
from collections.abc import Sequence
from typing import Any

import outpost.onhost.accounts
import outpost.onhost.attachment
import outpost.onhost.davlogins
import outpost.onhost.learn
import outpost.onhost.logins
import outpost.onhost.passkeys
import outpost.onhost.passwords
import outpost.onhost.rescan
import outpost.onhost.twice
from outpost.converge.declaration import Items
from outpost.converge.files import LIB, File, as_json, program, rendered, stunnel, text
from outpost.converge.shapes import account, confined, directory, job, once, own, packages, service, settings
from outpost.drift.differences import Finding
from outpost.keys.model import Secrets
from outpost.office import Host, Office, ports
from outpost.office.size import ROOM_BEYOND_QUOTA
from outpost.office.tables.recipients import SharedMailbox
from outpost.units import restarted
from roles.base.declare import tls_files
from roles.base.script import script
from roles.mta import MIN_LEARNS
from roles.store import MAIL, OWN, TAUGHT
from roles.store.view import (
    DELIVERIES_PER_USER,
    FOLDERS,
    QUOTA_GRACE,
    StoreView,
    decoy,
    office_words,
)
from roles.webmail.guide import Guide
from roles.webmail.view import SESSION_HOURS

PACKAGES = (
    "dovecot-auth-lua", "dovecot-flatcurve", "dovecot-imapd", "dovecot-lmtpd", "dovecot-managesieved",
    "dovecot-sieve", "dovecot-submissiond", "python3-argon2", "python3-fido2", "python3-pypdf", "python3-segno", "stunnel4",
)  # fmt: skip
RELAY_SOCKET = "/run/outpost-relay/socket"
"""Between the two halves of the listener that takes users' mail when there are several MTAs."""
RESCANNED_DAYS = 14
"""The time within which all earlier messages are scanned with new signatures."""
ACCOUNTS = "/usr/local/lib/outpost/accounts"
WORDS = "/etc/outpost/words.json"
USERS = "/etc/dovecot/users"
ACCOUNTS_SOCKET = "/run/outpost-accounts/socket"
ENDED = "/run/outpost-ended"
USED = "/var/lib/dovecot/used"
"""A file for each program's password: its time is when the password was last used."""
DAV = "/run/outpost-davlogins/socket"
SHARED = f"{MAIL}/.shared"
BEFORE = ("again", "junk", "spam", "ham", "block", "unblock", "block_domain", "unblock_domain")
"""The office's own Sieve scripts."""
INDEXES_IN_USE = "/var/lib/outpost-search/in-use"
"""Exists from the start of the machine until it is stopped."""
UNWRITTEN = 300
"""Seconds after which a change of a search index is on the disk, whatever happens."""
READERS = 4
"""Attachments that are read at the same time for the search."""
FORMER = "/usr/local/lib/outpost/former"
FORWARD = "/etc/dovecot/sieve/forward"
OPENSSL = "/etc/dovecot/openssl.cnf"
PIPES = "/usr/local/lib/outpost/sieve"
"""Programs that the office's own Sieve scripts may start."""
LESSONS = "/var/lib/dovecot/learn"
LESSON_SIZE = 1024**2
"""Bytes of a message that are learnt."""
LESSONS_DAILY = 25
"""Messages of one user that the filter learns in a day (JNK-02)."""
# `doveconf` succeeds with a warning for a setting that Dovecot ignores: here that is an error.
CHECK_DOVECOT = 'output=$(doveconf -n 2>&1 >/dev/null) && [ -z "$output" ] || { echo "$output"; exit 1; }'


def declare(*, office: Office, me: Host, secrets: Secrets) -> Items:
    view = StoreView(office, me)
    yield packages(*PACKAGES)
    yield account("vmail", home="/srv/mail")
    yield directory("/srv/mail", owner="vmail", group="vmail", mode="0700")
    # its service also makes it, but a restore may run before that
    yield directory(TAUGHT, owner="vmail", group="vmail", mode="0700")
    yield account("outpost-accounts", home="/nonexistent")
    yield directory(OWN, owner="outpost-accounts", group="dovecot", mode="2750")
    yield directory(USED, owner="outpost-accounts", group="dovecot", mode="2770")
    if view.calendars:
        yield account("outpost-davlogins", home="/nonexistent")
    yield from _accounts(view, secrets)
    certificates = tls_files(office=office, me=me, secrets=secrets)
    some_hash = next(iter(secrets.passwords.values())).get_secret_value()
    yield from _logins(view)
    yield from _attachments()
    if view.has_relay_listener:  # before Dovecot hands over mail there
        yield from _listener("relay", view, certificates, runtime=RELAY_SOCKET.split("/")[2])
    yield from _mailboxes(
        view, certificates, some_hash=some_hash, secret=secrets.seal_of(me.name) or some_hash
    )
    yield from _chosen(view)
    yield from _ended()
    yield from _learning(view)
    yield from _listener("lmtp", view, certificates)
    yield from _listener("accounts", view, certificates)
    if view.calendars:
        # whether a login opens calendars, which are on a host of their own
        content = {"auth": "/run/dovecot/auth-calendars", "socket": DAV, "realm": view.office.domain}
        yield own("store", "davlogins", outpost.onhost.davlogins, content)
        yield from _listener("calendars", view, certificates)
    # deleted messages leave the indexes every night
    yield job(
        "store", "outpost-forget", rendered("store", "/usr/local/lib/outpost/forget", mode="0755", store=view)
    )
    # what the filter put into Junk, every week (JNK-06)
    digest = rendered("store", "/usr/local/lib/outpost/digest", mode="0755", store=view)
    yield job("store", "outpost-digest", digest)
    yield from _departed(view)
    yield from _rescanning(view)
    yield from _search()
    # a message that was delivered twice, because the store was killed, leaves the mailbox (QUE-02)
    yield job("store", "outpost-twice", program("/usr/local/lib/outpost/twice", outpost.onhost.twice))
    yield job("store", "outpost-clock")  # Dovecot restarts when somebody sets the clock


def _accounts(view: StoreView, secrets: Secrets) -> Items:
    """Users and their hashes. Dovecot checks the file's time at each login, so nothing needs a reload."""
    hashes = {address: hashed.get_secret_value() for address, hashed in secrets.passwords.items()}
    context: dict[str, Any] = {
        "own": OWN, "shared_root": SHARED, "one_time": secrets.one_time, "passwords": hashes
    }  # fmt: skip
    yield settings(
        name="accounts",
        activate="/usr/local/lib/outpost/end-sessions",
        files=[
            rendered("store", "/usr/local/lib/outpost/end-sessions", mode="0755", own=OWN),
            rendered("store", "/usr/local/lib/outpost/reset-factor", mode="0755", own=OWN),
            rendered("store", USERS, mode="0640", group="dovecot", secret=True, store=view, **context),
        ],
    )


def _logins(view: StoreView) -> Items:
    """The service that Dovecot asks before it tries a password."""
    limits = view.office.limits
    content = {
        "port": ports.LOGINS,
        "domain": view.office.domain,
        "failures": limits.login_failures,
        "ban": limits.login_ban,
        "accounts": view.size.users,
    }
    yield own("store", "logins", outpost.onhost.logins, content)


def _attachments() -> Items:
    """The converter of attachments for the search: started for each one, and it reaches nothing of the host (STO-04)."""
    places = (f"/etc/systemd/system/outpost-text{kind}" for kind in (".socket", "@.service"))
    given: dict[str, Any] = {"socket": outpost.onhost.attachment.SOCKET, "readers": READERS}
    units = (rendered("store", place, **given) for place in places)
    yield service(
        name="attachments",
        unit="outpost-text.socket",
        files=[program("/usr/local/lib/outpost/attachment", outpost.onhost.attachment), *units],
    )


def _mailboxes(view: StoreView, certificates: Sequence[File], *, some_hash: str, secret: str) -> Items:
    """Dovecot.

    Args:
        secret: A secret that does not change with the users: otherwise Dovecot would be reloaded, and lose its counts of guesses.
    """
    drop_in = rendered("store", "/etc/systemd/system/dovecot.service.d/outpost.conf")
    yield confined("dovecot-unit", "dovecot.service", [drop_in])
    if view.office.shared:
        yield from _shared(view)
    if view.forwards:
        scripts = {
            login: "".join(f'redirect :copy "{address}";\n' for address in addresses)
            for login, addresses in view.forwards.items()
        }
        yield settings(
            name="forwards",
            files=[
                text(f"{FORWARD}/{login}.sieve", f'require "copy";\n{body}')
                for login, body in scripts.items()
            ],
            activate=f"for script in {FORWARD}/*.sieve; do sievec $script; done",
        )
    context: dict[str, Any] = {
        "store": view, "ports": ports, "shared_root": SHARED, "deliveries_per_user": DELIVERIES_PER_USER,
        "quota_grace": QUOTA_GRACE, "folders": FOLDERS, "room_beyond_quota": ROOM_BEYOND_QUOTA, "logins_port": ports.LOGINS,
        "readers": READERS, "own": OWN, "used": USED, "decoy": decoy(some_hash), "calendars": bool(view.calendars),
        "logins_nonce": hashlib.sha256(b"logins " + secret.encode()).hexdigest(),
    }  # fmt: skip
    yield service(
        name="dovecot",
        files=[
            rendered("store", "/etc/dovecot/dovecot.conf", **context),
            rendered("store", "/etc/dovecot/accounts.lua", **context),
            rendered("store", OPENSSL),
            rendered("store", "/usr/local/lib/outpost/quota-warning", mode="0755", store=view),
        ],
        watches=certificates,
        check=CHECK_DOVECOT,
        on_change="reload",
    )
    # Dovecot cannot write the compiled form itself, and would complain at each delivery. It must first know the extensions that they require.
    yield settings(
        name="before",
        files=[rendered("store", f"/etc/dovecot/sieve/{name}.sieve", store=view) for name in BEFORE],
        activate=f"for name in {' '.join(BEFORE)}; do sievec /etc/dovecot/sieve/$name.sieve || exit 1; done",
    )
    # Observed: Dovecot 2.4 loses all of anvil's sockets when a reload removes one, and then nobody can log in.
    yield once(
        "no penalty per address",
        unless="! [ -S /run/dovecot/anvil-auth-penalty ]",
        untouched=("/run/dovecot/anvil-auth-penalty",),
        command=restarted("dovecot.service"),
    )


def _shared(view: StoreView) -> Items:
    """Mailboxes that several users read, and each user's rights in them."""
    yield directory(SHARED, owner="vmail", group="vmail", mode="0700")
    for mailbox in view.office.shared:
        yield directory(f"{SHARED}/.{mailbox.folder}", owner="vmail", group="vmail", mode="0700")

    def acl(mailbox: SharedMailbox) -> File:
        lines = "".join(f"user={address} {rights}\n" for address, rights in view.rights(mailbox).items())
        path = f"{SHARED}/.{mailbox.folder}/dovecot-acl"
        return text(path, lines, mode="0640", owner="vmail", group="vmail")

    # A folder that a user makes in one gets a copy of the rights, and keeps it when they change (AUT-07). Then Dovecot's caches are forgotten.
    spread = 'for each in .[!.]*.*/dovecot-acl; do [ ! -e "$each" ] || { top=${each#.}; cp ".${top%%.*}/dovecot-acl" "$each"; }; done'
    forget = "find . -name dovecot-acl-list -delete"
    activate = f"runuser -u vmail -- sh -c {shlex.quote(f'cd {SHARED} && {spread}; {forget}')}"
    yield settings(name="shared-mailboxes", files=list(map(acl, view.office.shared)), activate=activate)


def _chosen(view: StoreView) -> Items:
    """The service with which users change their own accounts."""
    content = {
        "domain": view.office.domain,
        "words": WORDS,
        "declared": USERS,
        "own": OWN,
        "used": USED,
        "session_seconds": SESSION_HOURS * 3600,
        "auth": "/run/dovecot/auth-accounts",
        "socket": ACCOUNTS_SOCKET,
        "ended": ENDED,
        "server": (view.me.fqdn, ports.IMAPS, ports.SUBMISSIONS),
        "profile": Guide(view.office).profile,
        "site": Guide(view.office).webmail.fqdn,
    }
    # separate from the service: a change of users need not restart a service in use
    yield settings(name="words", files=[as_json(WORDS, sorted(office_words(view.office)))])
    yield service(
        name="accounts-service",
        unit="outpost-accounts.service",
        files=[
            text(f"{ACCOUNTS}/outpost/__init__.py", ""),
            text(f"{ACCOUNTS}/outpost/onhost/__init__.py", ""),
            program(f"{ACCOUNTS}/outpost/onhost/passkeys.py", outpost.onhost.passkeys),
            program(f"{ACCOUNTS}/outpost/onhost/passwords.py", outpost.onhost.passwords),
            program(f"{ACCOUNTS}/outpost/onhost/accounts.py", outpost.onhost.accounts),
            text(f"{ACCOUNTS}/__main__.py", "from outpost.onhost.accounts import main\n\nmain()\n"),
            as_json("/etc/outpost/accounts.json", content),
            rendered("store", "/etc/systemd/system/outpost-accounts.service", own=OWN, used=USED),
        ],
    )


def _learning(view: StoreView) -> Items:
    """Send what users move into Junk and out of it to the MTAs' filter (JNK-01)."""
    yield directory(LESSONS, owner="vmail", group="vmail", mode="0700")
    content = {
        "filters": [
            {"address": str(address), "name": mta.fqdn, "spam": ports.LEARN_SPAM, "ham": ports.LEARN_HAM}
            for mta in view.mtas
            for address in view.office.link_addresses(mta, view.me)[:1]
        ],
        "spool": LESSONS,
        "largest": LESSON_SIZE,
        "daily": LESSONS_DAILY,
        "alone": MIN_LEARNS // 2,
        "domain": view.office.domain,
    }
    context: dict[str, Any] = {
        "spool": LESSONS,
        "largest": LESSON_SIZE,
        "waiting": LESSONS_DAILY,
        "domain": view.office.domain,
    }
    files = [rendered("store", f"{PIPES}/{name}", mode="0755", **context) for name in ("learn", "allowed")]
    yield settings(name="learning", files=files, check=f"sh -n {PIPES}/learn && sh -n {PIPES}/allowed")
    learn = program("/usr/local/lib/outpost/learn", outpost.onhost.learn)
    yield job("store", "outpost-learn", learn, as_json("/etc/outpost/learn.json", content), spool=LESSONS)


def _listener(name: str, view: StoreView, certificates: Sequence[File], *, runtime: str = "") -> Items:
    """stunnel, which requires a client certificate: Dovecot's LMTP also accepts clients without one (docs/adr/0007)."""
    sockets: dict[str, Any] = {"socket": ACCOUNTS_SOCKET, "dav": DAV, "relay_socket": RELAY_SOCKET}
    yield service(
        name=f"{name}-listener",
        unit=f"stunnel@{name}.service",
        files=[
            rendered("store", f"/etc/stunnel/{name}.conf", store=view, ports=ports, **sockets),
            stunnel(name, after="dovecot.service", openssl=OPENSSL, runtime=runtime),
        ],
        watches=[*certificates, rendered("store", OPENSSL)],
    )


def _departed(view: StoreView) -> Items:
    """Archive the mail of users who are no longer declared, and remove their passwords."""
    yield directory(f"{MAIL}/.former", owner="vmail", group="vmail", mode="0700")
    places: dict[str, Any] = {"root": MAIL, "shared_root": SHARED, "own": OWN, "lib": LIB}
    former = rendered("store", FORMER, mode="0755", store=view, **places)
    yield settings(name="former", files=[former], check=f"sh -n {FORMER}")
    shared = (f"shared:{mailbox.folder}" for mailbox in view.office.shared)
    declared = shlex.join((*view.office.mailboxes, *shared))
    cause = "the store has a mailbox that is not in the office file: the user was removed there, or it was added by hand"
    consequence = "its mail moves to /srv/mail/.former; its passwords and sessions end"
    yield once(
        "mail of former users is archived",
        unless=f'! [ -x {FORMER} ] || [ -z "$({FORMER} list {declared})" ]',
        untouched=(f"{MAIL}/*", f"{SHARED}/.*", f"{OWN}/*"),
        command=f"{FORMER} archive {declared}",
        finding=Finding("mailbox", "that the office does not declare", cause, consequence, ("AUT-07",)),
    )


def _rescanning(view: StoreView) -> Items:
    """Scan mailboxes again at night, with the MTA's scanner (VIR-04)."""
    content = {
        "scanners": [
            {"address": str(address), "port": ports.SCANNER, "name": mta.fqdn}
            for mta in view.mtas
            for address in view.office.link_addresses(mta, view.me)[:1]
        ],
        "days": RESCANNED_DAYS,
        "largest": int(view.office.limits.scan_size),
        "domain": view.office.domain,
        "organisation": view.office.organisation,
        "postmaster": view.office.postmaster,
    }
    rescan = program("/usr/local/lib/outpost/rescan", outpost.onhost.rescan)
    yield job("store", "outpost-rescan", rescan, as_json("/etc/outpost/rescan.json", content))


def _search() -> Items:
    """After a loss of power, remove the search indexes that may be damaged (AVL-04)."""
    yield script("store", "search", mail=MAIL, mark=INDEXES_IN_USE, unwritten=UNWRITTEN)


def _ended() -> Items:
    """End open sessions when a password is removed or changed, and when the second factor is turned on."""
    places = (f"/etc/systemd/system/outpost-ended.{kind}" for kind in ("service", "path"))
    yield service(
        name="ended",
        unit="outpost-ended.path",
        files=[
            rendered("store", "/usr/local/lib/outpost/ended", mode="0755", ended=ENDED),
            *(rendered("store", place, ended=ENDED) for place in places),
        ],
    )
