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


class Size(NamedTuple):
    """One office's size.

    Attributes:
        users: As many as the daemons are made for: the office's, rounded up to `STEP`.
        peers: Mail systems with a listener of their own.
        message: The largest message, in bytes.
    """

    users: int
    peers: int
    message: int

    # Dovecot ----------------------------------------------------------------------------------------------------

    @property
    def sessions(self) -> int:
        """IMAP sessions of the whole office at once."""
        return SESSIONS_PER_USER * self.users

    @property
    def short_sessions(self) -> int:
        """Submission sessions at once, and as many of ManageSieve: they last seconds."""
        return max(100, self.users)

    @property
    def dovecot_clients(self) -> int:
        """Connections to Dovecot's auth, anvil and stats: each session has its login process and the process behind it."""
        return 2 * (self.sessions + 2 * self.short_sessions) + 1000

    @property
    def mail_watches(self) -> int:
        """inotify instances of one account: a session in IDLE has its own, also after it hibernates."""
        return self.sessions + 200

    @property
    def dovecot_tasks(self) -> int:
        """Dovecot's processes when every session is in use."""
        return 2 * (self.sessions + 2 * self.short_sessions) + OTHERS

    # Postfix ----------------------------------------------------------------------------------------------------

    @property
    def strangers(self) -> int:
        """smtpd processes for strangers, in an office of any size."""
        return STRANGERS

    @property
    def submitting(self) -> int:
        """Sessions at once in which the store hands users' mail to an MTA."""
        return max(40, self.users // 3)

    @property
    def deliveries(self) -> int:
        """Deliveries to the store at once: a message to everybody is one for each mailbox."""
        return max(8, self.users // 20)

    @property
    def postfix_processes(self) -> int:
        """Postfix's processes when every listener and transport is full."""
        return STRANGERS + self.submitting + self.deliveries + DELIVERY + PER_PEER * self.peers + OTHERS

    # Webmail ----------------------------------------------------------------------------------------------------

    @property
    def php_workers(self) -> int:
        """PHP processes: browsers refresh once a minute, in a tenth of a second; a tenth of the users may click at once."""
        return max(6, self.users // 10)

    @property
    def pages(self) -> int:
        """Requests to PHP that one network may have at a time: all users may click at once. php-fpm's queue holds 511 (listen.backlog)."""
        return min(400, max(100, self.users))

    @property
    def request_memory(self) -> int:
        """Memory of one PHP request, in bytes: Roundcube holds a message while it encodes it."""
        return 64 * MIB + 4 * self.message

    @property
    def volatile_size(self) -> int:
        """Room in memory for uploads, in bytes. It does not depend on users: changing it restarts PHP and ends all sessions."""
        return 64 * MIB + 2 * UPLOADS * self.message

    @property
    def session_room(self) -> int:
        """Room in memory for webmail's sessions, in bytes; one takes 4 to 60 KiB."""
        return 128 * MIB

    @property
    def web_connections(self) -> int:
        """Connections at once of one nginx process: two of each browser, and as many to PHP."""
        return max(1024, 4 * self.users)

    @property
    def beyond_smallest(self) -> int:
        """Users above those of the smallest office."""
        return self.users - STEP


EVERY_HOST = {
    # Caches of 16, 32, 8 and 2 MiB, and as much again while they are cleaned.
    "unbound.service": CgroupLimit(192, 32),
    "chrony.service": CgroupLimit(64, 16),
}


def size_of(office: Office) -> Size:
    """The size that an office's daemons are made for."""
    people = len(office.users)
    return Size(-(-people // STEP) * STEP, len(office.peers), int(office.limits.message_size))
