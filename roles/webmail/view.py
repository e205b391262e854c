"""What a webmail host derives from the office: which names it answers where, its limits, its way to the store."""

from dataclasses import dataclass
from typing import ClassVar

from outpost.office.base import FrontView
from outpost.office.size import MIB, ROOM_BEYOND_QUOTA, UPLOADS
from outpost.office.tables.values import IPAddress
from roles.webmail import CLIENT_SETUP

FORM_ROOM = MIB
"""Room in a request beside the file: the form around an upload, the text of a message."""
IDLE_MINUTES = 30
"""A session ends after this long without a click (WEB-03); a browser's own refreshes do not count."""
SESSION_HOURS = 12
"""No session lasts longer than a working day (WEB-03)."""


@dataclass(frozen=True)
class WebmailView(FrontView):
    """Derivations for the templates of one webmail host."""

    idle_minutes: ClassVar[int] = IDLE_MINUTES
    session_hours: ClassVar[int] = SESSION_HOURS
    room_beyond_quota: ClassVar[int] = ROOM_BEYOND_QUOTA
    uploads: ClassVar[int] = UPLOADS
    """Uploads of one network at a time: half of what there is room for (`outpost.office.size`)."""

    @property
    def calendars(self) -> str:
        """Where calendars and address books are; empty where the office has none."""
        return next((host.fqdn for host in self.office.with_role("groupware")), "")

    @property
    def policy_name(self) -> str:
        """Host name of the MTA-STS policy (RFC 8461, section 3.3)."""
        return f"mta-sts.{self.office.domain}"

    @property
    def discovery_names(self) -> tuple[str, ...]:
        """Host names at which mail programs search for their settings."""
        return tuple(f"{label}.{self.office.domain}" for label in CLIENT_SETUP)

    @property
    def webmail_addresses(self) -> tuple[IPAddress, ...]:
        """Addresses that answer to webmail's name: not those on the Internet, unless the office opens webmail."""
        if self.office.webmail.open_to_internet:
            return self.addresses
        outer = self.office.addresses_of_kind(self.me, "internet")
        return tuple(address for address in self.addresses if address not in outer)

    @property
    def file_size(self) -> int:
        """Largest file that a user can attach: base64 turns 3 bytes into 4, and each line of 76 ends in 2 more."""
        return int(self.office.limits.message_size) * 57 // 78

    @property
    def request_size(self) -> int:
        """Largest HTTP request: one largest file and its form."""
        return self.file_size + FORM_ROOM

    @property
    def people(self) -> dict[str, str]:
        """Address → name of everybody to write to: the users, and the shared addresses by their local part."""
        users = {user.address: user.full_name or user.name for user in self.office.users}
        others = [alias.address for alias in self.office.aliases]
        others += [mailbox.address for mailbox in self.office.shared]
        return users | {address: address.partition("@")[0] for address in others}

    @property
    def shared_addresses(self) -> dict[str, tuple[str, ...]]:
        """Login → further addresses it may send from (SPO-02); names of RFC 2142 only if the file declares them."""
        implied = {alias.address for alias in self.office.all_aliases[len(self.office.aliases) :]}
        shared: dict[str, tuple[str, ...]] = {}
        for address, logins in self.office.senders.items():
            for login in logins:
                if address != login and address not in implied:
                    shared[login] = (*shared.get(login, ()), address)
        return {user.address: shared[user.address] for user in self.office.users if user.address in shared}

    @staticmethod
    def php(text: str) -> str:
        """Text for use inside a single-quoted PHP string."""
        return text.replace("\\", "\\\\").replace("'", "\\'")
