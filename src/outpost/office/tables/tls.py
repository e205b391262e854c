"""Zones and encryption: how long keys live, and where certificates come from."""

from typing import Literal, NamedTuple

from pydantic import Field

from outpost.office.tables.topology import CertificateMode
from outpost.office.tables.values import Duration, Fqdn, MailAddress, Network, Part, Proxy, lasting

TlsProfile = Literal["intermediate", "old"]

_AEAD = (
    "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
)  # fmt: skip
_CBC = ("ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA")
_LEGACY = "@SECLEVEL=0"
"""OpenSSL's setting that makes TLS 1.0 and 1.1 possible at all (their handshake is signed with SHA-1)."""


class TlsLevel(NamedTuple):
    """What a server accepts.

    Attributes:
        versions: TLS versions, the oldest first, as nginx writes them.
        ciphers: Suites of TLS 1.2 and before, the preferred ones first, as OpenSSL writes them.
    """

    versions: tuple[str, ...]
    ciphers: str

    @property
    def oldest(self) -> str:
        return self.versions[0]


INTERMEDIATE = TlsLevel(("TLSv1.2", "TLSv1.3"), ":".join(_AEAD))
OLD = TlsLevel(("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"), ":".join((*_AEAD, *_CBC, _LEGACY)))
LEVELS: dict[TlsProfile, TlsLevel] = {"intermediate": INTERMEDIATE, "old": OLD}


class TrustedAuthority(Part):
    """A certificate authority the hosts trust besides Debian's (a PEM file named in `tls.trusted_authorities`)."""

    judged_elsewhere = frozenset({"pem"})
    name: str = Field(description="File name beside office.toml.")
    pem: str = Field(description="Its content, read when the office is loaded.", repr=False)


class ProvidedCertificate(Part):
    """A public certificate that an authority issued by hand (`HOST.pem` beside office.toml)."""

    judged_elsewhere = frozenset({"pem"})
    host: str = Field(description="The host whose key it certifies.")
    pem: str = Field(description="Certificate and chain, read when the office is loaded.", repr=False)


class Acme(Part):
    """The authority that issues certificates by ACME (`[acme]`, RFC 8555), proven by DNS-01 on the office's name
    servers."""

    directory: str = Field(
        default="https://acme-v02.api.letsencrypt.org/directory",
        pattern=r"^https://[a-z0-9.-]+(:[0-9]+)?/\S*$",
        examples=["https://acme-staging-v02.api.letsencrypt.org/directory"],
    )
    """Its directory; the default is Let's Encrypt."""
    contact: MailAddress | None = Field(default=None, examples=["security@po.example.com"])
    """Address for messages of the authority; empty: security@ the office's domain."""
    proxy: Proxy = Field(default="", examples=["http://192.0.2.9:8888"])
    """HTTP proxy (CONNECT) to it, for hosts that must not reach the Internet themselves (the store)."""


class Tls(Part):
    """Encryption and certificates (`[tls]`)."""

    profile: TlsProfile = Field(default="intermediate", examples=["old"])
    """Mozilla's profile for users and strangers (ports 25, 993, 465, 4190 and 443): `intermediate` is TLS 1.2 and 1.3
    with forward secrecy and authenticated ciphers. `old` also accepts TLS 1.0 and 1.1 and AES-CBC. Some old
    clients need it: Outlook on Windows 7 without KB3140245, the mail program of Android 4.4, scanners and copiers of
    that age. Testers (internet.nl, sslyze) then give lower grades, so remove it when the last such client is gone. It
    does not apply to links between the hosts and to the peers."""

    certificates: CertificateMode = "office"
    """Source of the certificates for users and other mail servers: `acme` (each host requests and renews them, see
    `[acme]`), `office` (the office's own authority, for users who trust it) or `provided` (an authority that you ask
    by hand: save `HOST.pem` beside office.toml, for the request of `./outpost secrets csr`). A host may differ."""
    issuer: Fqdn = Field(default="letsencrypt.org", examples=["letsencrypt.org"])
    """Name of the authority in CAA records (RFC 8659) where `certificates` is `acme` or `provided`: no other may
    issue for these names."""
    key_lifetime: Duration = lasting("365d")
    """Age at which `./outpost rotate due` switches a public key to the next one, whose TLSA record has been published
    since the last switch. Certificates are renewed far more often, with the same key."""
    provided: tuple[ProvidedCertificate, ...] = Field(default=(), exclude=True)
    """Read from `HOST.pem` beside the office file."""
    trusted_authorities: tuple[TrustedAuthority, ...] = Field(default=(), examples=[["world-ca.pem"]])
    """PEM files beside office.toml whose authorities the hosts trust too."""
    mta_sts: Literal["none", "testing", "enforce"] = "testing"
    """Mode of the published MTA-STS policy (RFC 8461): `testing` first, `enforce` once reports are clean."""

    @property
    def level(self) -> TlsLevel:
        """What users and strangers may use."""
        return LEVELS[self.profile]

    @property
    def links(self) -> TlsLevel:
        """What the office's hosts and its peers use among themselves."""
        return INTERMEDIATE


class Dns(Part):
    """The office's zones (`[dns]`)."""

    reverse: tuple[Network, ...] = Field(default=(), examples=[["192.0.2.0/24", "2001:db8:40::/48"]])
    """Networks whose reverse zones are delegated to the office; prefixes end on an octet (IPv4) or a nibble (IPv6),
    as the delegation does."""
    ttl: Duration = lasting("1h")
    """TTL: how long others may cache a record. Every rollover waits two TTLs before it goes on."""
    signature_lifetime: Duration = lasting("14d")
    """How long a DNSSEC signature is valid; renewed at half of it, so the zone outlasts that long without its primary
    (14d: a week)."""
    zsk_lifetime: Duration = lasting("30d")
    """Age at which the zone-signing key rolls, by itself (RFC 6781, section 4.1.1)."""
    ksk_lifetime: Duration = lasting("365d")
    """Age at which the key-signing key rolls. The rollover goes on once the parent shows the new DS. If your parent
    zone does not read CDS (RFC 8078), enter the DS there by hand."""
    propagation: Duration = lasting("15m")
    """Time for a change to reach every name server of the office, with a margin."""
    parent_propagation: Duration = lasting("1d")
    """Time the parent's servers and caches may still show the old DS after the new one was seen; at least the TTL of
    the DS record there."""
    parent_interval: Duration = lasting("1h")
    """How often the parent is asked for the new DS while a key rolls."""
    dkim_lifetime: Duration = lasting("180d")
    """Age at which `./outpost rotate due` begins a new pair of DKIM keys."""
    dkim_retention: Duration = lasting("14d")
    """How long an old DKIM key stays published after the last signature with it: at least `link.queue_lifetime`,
    because mail that waited is verified when it arrives. After that it stays revoked for the same time (empty `p=`,
    RFC 6376, section 3.6.1)."""
