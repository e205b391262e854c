"""The users' guide (one page), and a profile that configures Apple's mail programs."""

from dataclasses import dataclass
from typing import ClassVar
from uuid import NAMESPACE_DNS, uuid5

from outpost.converge.files import File, rendered
from outpost.office import ports
from outpost.office.certificates import mode
from outpost.office.model import Office
from outpost.office.size import MIB
from outpost.office.tables.topology import Host
from outpost.onhost.passwords import LEAST
from roles.webmail import CLIENT_SETUP
from roles.webmail.view import IDLE_MINUTES, WebmailView

PROFILE = "/mail/apple.mobileconfig"
"""Path of the profile, below the names that mail programs query."""


LANGUAGES = ("en", "de")
"""Languages of the guide; nginx chooses by the browser's language, English if there is none."""


@dataclass(frozen=True)
class Guide:
    """The facts on the page."""

    office: Office
    password_length: ClassVar[int] = LEAST

    @property
    def webmail(self) -> Host:
        """The host that users open in a browser."""
        return self.office.with_role("webmail")[0]

    @property
    def store(self) -> Host:
        """The host that mail programs connect to."""
        return self.office.with_role("store")[0]

    @property
    def site(self) -> str:
        return f"https://{self.webmail.fqdn}/"

    @property
    def profile(self) -> str:
        """The URL of the Apple profile."""
        return f"https://{CLIENT_SETUP[0]}.{self.office.domain}{PROFILE}"

    @property
    def servers(self) -> tuple[tuple[str, str, int], ...]:
        """Service, server, port: for programs that are configured by hand."""
        return (
            ("Incoming mail (IMAP)", self.store.fqdn, ports.IMAPS),
            ("Outgoing mail (SMTP)", self.store.fqdn, ports.SUBMISSIONS),
        )

    @property
    def calendars(self) -> Host | None:
        """The host with calendars and address books."""
        return next(iter(self.office.with_role("groupware")), None)

    @property
    def own_authority(self) -> bool:
        """Whether users' programs must import the office's authority before they trust its certificates."""
        return any(
            mode(self.office, host) == "office" for host in (self.store, self.webmail, self.calendars) if host
        )

    @property
    def file_mib(self) -> int:
        """Largest file in a message, MiB."""
        return WebmailView(self.office, self.webmail).file_size // MIB

    def uuid(self, part: str) -> str:
        """The identity of a part of the profile: always the same for one office, so that a new profile replaces the old one."""
        return str(uuid5(NAMESPACE_DNS, f"{part}.{self.office.domain}")).upper()


def apple_profile(office: Office, *, authority: str) -> File:
    """Settings for Mail on iOS and macOS.

    Args:
        authority: The office's authority, PEM; in the profile where its certificates are the office's own.
    """
    own = "".join(authority.splitlines()[1:-1])
    path = f"/var/www/autoconfig{PROFILE}"
    return rendered("webmail", path, guide=Guide(office), office=office, ports=ports, authority=own)


def page(office: Office, language: str = "en") -> File:
    path = "/var/www/webmail/guide.html" if language == "en" else f"/var/www/webmail/guide.{language}.html"
    return rendered("webmail", path, guide=Guide(office), idle_minutes=IDLE_MINUTES)
