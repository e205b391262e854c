"""The users' guide (one page), and a profile that configures Apple's mail programs."""

import plistlib
import uuid
from dataclasses import dataclass
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

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


def apple_profile(office: Office, *, authority: str) -> str:
    """Settings for Mail on iOS and macOS; the program asks for name, address and password itself.

    Args:
        authority: The office's authority, PEM; in the profile where its certificates are the office's own.
    """
    guide = Guide(office)
    payloads: list[dict[str, Any]] = [
        {
            "PayloadType": "com.apple.mail.managed",
            "PayloadVersion": 1,
            **_identity(office, "mail"),
            "PayloadDisplayName": office.organisation,
            "EmailAccountType": "EmailTypeIMAP",
            "EmailAccountDescription": office.organisation,
            "IncomingMailServerHostName": guide.store.fqdn,
            "IncomingMailServerPortNumber": ports.IMAPS,
            "IncomingMailServerUseSSL": True,
            "IncomingMailServerAuthentication": "EmailAuthPassword",
            "OutgoingMailServerHostName": guide.store.fqdn,
            "OutgoingMailServerPortNumber": ports.SUBMISSIONS,
            "OutgoingMailServerUseSSL": True,
            "OutgoingMailServerAuthentication": "EmailAuthPassword",
            "OutgoingPasswordSameAsIncomingPassword": True,
        }
    ]
    if guide.calendars:
        for kind, label in (("CalDAV", "Calendar"), ("CardDAV", "Contacts")):
            payloads.append(
                {
                    "PayloadType": f"com.apple.{kind.lower()}.account",
                    "PayloadVersion": 1,
                    **_identity(office, kind.lower()),
                    "PayloadDisplayName": label,
                    f"{kind}AccountDescription": office.organisation,
                    f"{kind}HostName": guide.calendars.fqdn,
                    f"{kind}Port": ports.HTTPS,
                    f"{kind}UseSSL": True,
                }
            )
    if guide.own_authority:
        der = x509.load_pem_x509_certificate(authority.encode()).public_bytes(Encoding.DER)
        payloads.append(
            {
                "PayloadType": "com.apple.security.root",
                "PayloadVersion": 1,
                **_identity(office, "authority"),
                "PayloadDisplayName": f"Authority of {office.organisation}",
                "PayloadContent": der,
            }
        )
    profile = {
        "PayloadType": "Configuration",
        "PayloadVersion": 1,
        **_identity(office, "profile"),
        "PayloadDisplayName": f"Mail of {office.organisation}",
        "PayloadOrganization": office.organisation,
        "PayloadDescription": f"Sets up mail for an address of {office.domain}.",
        "PayloadContent": payloads,
    }
    return plistlib.dumps(profile).decode()


def _identity(office: Office, part: str) -> dict[str, str]:
    """The same office always gives the same profile, so that a new version replaces the old one."""
    name = f"{part}.{office.domain}"
    return {"PayloadIdentifier": name, "PayloadUUID": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)).upper()}


def page(office: Office, language: str = "en") -> File:
    """The guide in one of `LANGUAGES`."""
    path = "/var/www/webmail/guide.html" if language == "en" else f"/var/www/webmail/guide.{language}.html"
    return rendered("webmail", path, guide=Guide(office), idle_minutes=IDLE_MINUTES)
