"""Sizes of the daemons for a number of users: processes, clients, memory and tasks, each with its arithmetic.

Pure. All of it grows in steps of `STEP` users, so that one user more changes no daemon's limit, except every fiftieth.
Measured values stand where they are used (docs/adr/0028).
"""

from typing import NamedTuple

from outpost.office.model import Office

MIB = 1024**2
STEP = 50
SESSIONS_PER_USER = 6
"""IMAP sessions that one user's programs keep open, on average: a desktop with four folders, a telephone, webmail."""
ACTIVE_SHARE = 4
"""One session in this many works at the same time; the others wait in IDLE, and hibernate."""
LOGIN_MIB, SESSION_MIB = 3, 6
"""Memory of a login process, which handles a session's TLS until its end, and of the process that opens its mailbox."""
SMTPD_MIB = 5
STRANGERS = 250
"""A limit against floods: each silent client holds a process."""
OTHERS = 150
"""Postfix's and Dovecot's processes beside those that are counted here."""
DELIVERY = 80
"""smtp and relay: mail to the Internet (master.cf)."""
PER_PEER = 30
"""A peer's listener of 20 and its transport of 10 (master.cf)."""
UPLOADS = 12
"""Largest messages that webmail's users attach at the same time; each lies in memory twice, raw and encoded."""
ROOM_BEYOND_QUOTA = 100 * MIB
"""Room of a full mailbox in Trash, Sent and Drafts, for all three together: its owner can still delete (by copy and expunge) and send."""
WORKER_MIB = 32
"""A PHP process that shows a list or a message."""


class CgroupLimit(NamedTuple):
    """Most that a daemon may take of its host: memory in MiB, and tasks (systemd.resource-control(5))."""

    memory: int
    tasks: int


class Size:
    """One office's size, and what follows from it for each daemon."""

    def __init__(self, users: int, peers: int, message: int) -> None:
        self.users = users
        """As many as the daemons are made for: the office's, rounded up to `STEP`."""
        self.beyond_smallest = users - STEP
        """Users above those of the smallest office."""

        # Dovecot ------------------------------------------------------------------------------------------------

        self.sessions = SESSIONS_PER_USER * users
        """IMAP sessions of the whole office at once."""
        self.short_sessions = max(100, users)
        """Submission sessions at once, and as many of ManageSieve: they last seconds."""
        processes = 2 * (self.sessions + 2 * self.short_sessions)
        self.dovecot_clients = processes + 1000
        """Connections to Dovecot's auth, anvil and stats: each session has its login process and the process behind it."""
        self.mail_watches = self.sessions + 200
        """inotify instances of one account: a session in IDLE has its own, also after it hibernates."""
        self.dovecot_tasks = processes + OTHERS
        """Dovecot's processes when every session is in use."""

        # Postfix ------------------------------------------------------------------------------------------------

        self.strangers = STRANGERS
        """smtpd processes for strangers, in an office of any size."""
        self.submitting = max(40, users // 3)
        """Sessions at once in which the store hands users' mail to an MTA."""
        self.deliveries = max(8, users // 20)
        """Deliveries to the store at once: a message to everybody is one for each mailbox."""
        beside_users = STRANGERS + DELIVERY + PER_PEER * peers + OTHERS
        self.postfix_processes = beside_users + self.submitting + self.deliveries
        """Postfix's processes when every listener and transport is full."""

        # Webmail ------------------------------------------------------------------------------------------------

        self.php_workers = max(6, users // 10)
        """PHP processes: browsers refresh once a minute, in a tenth of a second; a tenth of the users may click at once."""
        self.pages = min(400, max(100, users))
        """Requests to PHP that one network may have at a time: all users may click at once. php-fpm's queue holds 511 (listen.backlog)."""
        self.request_memory = 64 * MIB + 4 * message
        """Memory of one PHP request, in bytes: Roundcube holds a message while it encodes it."""
        self.volatile_size = 64 * MIB + 2 * UPLOADS * message
        """Room in memory for uploads, in bytes. It does not depend on users: changing it restarts PHP and ends all sessions."""
        self.session_room = 128 * MIB
        """Room in memory for webmail's sessions, in bytes; one takes 4 to 60 KiB."""
        self.web_connections = max(1024, 4 * users)
        """Connections at once of one nginx process: two of each browser, and as many to PHP."""


EVERY_HOST = {
    # Caches of 16, 32, 8 and 2 MiB, and as much again while they are cleaned.
    "unbound.service": CgroupLimit(192, 32),
    "chrony.service": CgroupLimit(64, 16),
}


def size_of(office: Office) -> Size:
    """The size that an office's daemons are made for."""
    people = len(office.users)
    return Size(-(-people // STEP) * STEP, len(office.peers), int(office.limits.message_size))
