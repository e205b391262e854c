"""The office's DNS as data: every record from the model, each with the reason for it.

Pure. The dns role renders these zones into Knot's zone files; `tests/live/test_dns.py` asks every
authoritative server for every record; ``outpost dns`` prints them for offices whose DNS lives elsewhere.

**Which addresses are published.** There is one view of the zone for everybody, signed once; no split horizon
that could answer one side wrongly. A name carries the addresses of the zone its users come from: name servers
and MTAs their Internet-zone addresses; the store, webmail and client set-up (``autoconfig``) their users'-zone addresses (private addresses,
harmless in public: nobody outside has a route to them), because people on the LAN type those names and the
certificates carry them; webmail also its Internet addresses once the office opens it; ``mta-sts`` only
Internet addresses, because other mail systems fetch the policy. The servers' zone is never published: the
office's hosts find each other by /etc/hosts, so that internal links survive the loss of the DNS.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, product
from typing import NamedTuple, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from outpost.office import ports
from outpost.office.certificates import caa_issuer, public_names, tls_services
from outpost.office.model import Office
from outpost.office.role import role_of, serves, serving
from outpost.office.tables.topology import Host
from outpost.office.tables.values import IPAddress, IPNetwork

CLIENT_SETUP = ("autoconfig", "autodiscover")
"""Labels below the domain that mail programs query for their settings (Thunderbird, Outlook)."""
POLICY_MAX_AGE = {"none": 86400, "testing": 86400, "enforce": 28 * 86400}
"""How long others keep the MTA-STS policy: a day while it may still change, four weeks once it is enforced."""


@dataclass(frozen=True)
class Record:
    """One resource record and why it exists.

    Attributes:
        name: Owner, absolute (``mta.po.example.com.``).
        type: Record type (``MX``).
        data: Record data in presentation format, names absolute.
        reason: Control id where there is one, and what breaks without the record.
        ttl: Seconds it may be cached; the zone sets it.
    """

    name: str
    type: str
    data: str
    reason: str
    ttl: int = 0

    def __post_init__(self) -> None:
        if not (self.name + self.data).isprintable():  # a line feed would start another record
            shown = f"{self.name!r} {self.data!r}"
            raise ValueError(f"a record of type {self.type} with a control character: {shown}")


class ZoneData(NamedTuple):
    """A zone the office is authoritative for: its absolute name and its records, SOA first."""

    name: str
    records: tuple[Record, ...]

    @property
    def file_name(self) -> str:
        """Name of its zone file (``po.example.com.zone``)."""
        return f"{self.name.rstrip('.')}.zone"

    def find(self, name: str, rtype: str) -> tuple[Record, ...]:
        return tuple(record for record in self.records if (record.name, record.type) == (name, rtype))


class DkimKey(NamedTuple):
    """The public half of a DKIM key: selector, algorithm (``rsa`` or ``ed25519``), the ``p=`` value (empty: revoked)."""

    selector: str
    algorithm: str
    public: str


class Account(Protocol):
    """An account with a certification authority, by its URL; another authority does not know it."""

    @property
    def directory(self) -> str: ...
    @property
    def url(self) -> str: ...


@dataclass(frozen=True)
class PublicKeys:
    """The zone's records about keys; nothing secret.

    Attributes:
        dkim: Every key under which mail is or will be signed.
        tls: Per host name the SHA-256 (hex) of the public keys it shows to outsiders: current, then next.
        accounts: Per host name its account with the authority that certifies them.
    """

    dkim: tuple[DkimKey, ...] = ()
    tls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    accounts: Mapping[str, Account] = field(default_factory=dict)

    def account(self, office: Office, host: Host) -> str:
        """URL of a host's account with the authority that the office uses now; empty if none is known."""
        known = self.accounts.get(host.name)
        return known.url if known and known.directory == office.acme.directory else ""


def dkim_selector(selector: str, algorithm: str) -> str:
    """The selector a key is published and signed under; one TXT record per key (RFC 8463, section 5)."""
    return f"{selector}-{algorithm}"


def dkim_public(private_pem: str) -> str:
    """The ``p=`` value of a DKIM key: RSA as SubjectPublicKeyInfo (RFC 6376), Ed25519 raw (RFC 8463)."""
    key = load_pem_private_key(private_pem.encode(), password=None)
    if isinstance(key, Ed25519PrivateKey):
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    elif isinstance(key, RSAPrivateKey):
        raw = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        raise TypeError(f"DKIM keys are RSA or Ed25519, not {type(key).__name__}")
    return base64.b64encode(raw).decode()


def key_digest(certificate_pem: str) -> str:
    """SHA-256 of a certificate's public key, as TLSA 3 1 1 wants it (RFC 7672, section 3.1.1)."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).hexdigest()


def private_key_digest(private_pem: str) -> str:
    """The same for a key that has no certificate yet."""
    public = load_pem_private_key(private_pem.encode(), password=None).public_key()
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def mta_sts_policy(office: Office) -> str:
    """The policy file served at https://mta-sts.DOMAIN/.well-known/mta-sts.txt (RFC 8461, section 3.2)."""
    lines = ["version: STSv1", f"mode: {office.tls.mta_sts}"]
    lines += [f"mx: {target}" for _, target in mail_exchangers(office)]
    lines += [f"max_age: {POLICY_MAX_AGE[office.tls.mta_sts]}"]
    return "".join(f"{line}\r\n" for line in lines)


def mail_exchangers(office: Office) -> tuple[tuple[int, str], ...]:
    """Preference and host name of every MX: the office's MTAs, then peers that queue mail while these are down."""
    own = [(10, mta.fqdn) for mta in office.mail_servers]
    backup = [(20, peer.next_hop) for peer in office.peers if peer.backup_mx]
    return (*own, *backup)


def published_addresses(office: Office, host: Host) -> tuple[IPAddress, ...]:
    """The addresses of a host's name in the DNS (see the module's docstring)."""
    kinds = role_of(host).published(office)
    return tuple(address for kind in kinds for address in office.addresses_of_kind(host, kind))


def office_zones(office: Office, keys: PublicKeys) -> tuple[ZoneData, ...]:
    """Every zone the office is authoritative for: its domain, then the reverse zones."""
    return (office_zone(office, keys), *(reverse_zone(office, network) for network in office.dns.reverse))


def office_zone(office: Office, keys: PublicKeys) -> ZoneData:
    """The zone of the office's domain, without the records that the signer adds."""
    apex = f"{office.domain}."
    if office.closing.ended:  # GOV-02: without it anybody can send as a domain that was given up
        revoked = (record for record in _policies(office, apex, keys) if "._domainkey." in record.name)
        return _zone(office, apex, chain(_name_servers(office), _no_mail(office.domain), revoked))
    of_mail = chain(_mail(office, apex), _policies(office, apex, keys))
    return _zone(office, apex, chain(_hosts(office), of_mail, _clients(office, apex), _tlsa(office, keys)))


def reverse_zone(office: Office, network: IPNetwork) -> ZoneData:
    """PTR data for a network whose reverse zone is delegated to the office."""
    step = 8 if network.version == 4 else 4
    if network.prefixlen % step:
        problem = f"does not end on a {step}-bit boundary: its reverse zone cannot be delegated whole"
        raise ValueError(f"{network} {problem}")
    labels = network.network_address.reverse_pointer.split(".")
    width = network.max_prefixlen // step
    apex = ".".join(labels[width - network.prefixlen // step :]) + "."
    why = "SPO-05: receivers refuse a client without a name"
    pointers = (
        Record(f"{address.reverse_pointer}.", "PTR", f"{host.fqdn}.", why)
        for host in office.hosts
        for address in host.all_addresses
        if address in network
    )
    return _zone(office, apex, pointers)


def _zone(office: Office, apex: str, records: Iterable[Record]) -> ZoneData:
    """Records in their zone, each once, behind those of its authority, with the office's TTL."""
    every = chain(_authority(office, apex), records)
    unique = {(record.name, record.type, record.data): record for record in every}
    return ZoneData(apex, tuple(replace(record, ttl=office.dns.ttl) for record in unique.values()))


def zone_text(zone: ZoneData) -> str:
    """The zone file. Its serial is a placeholder: the primary numbers its versions itself (unixtime)."""
    lines = [f"$ORIGIN {zone.name}", f"$TTL {zone.records[0].ttl}"]
    lines += [f"{r.name} {r.ttl} IN {r.type} {r.data} ; {r.reason}" for r in zone.records]
    return "".join(f"{line}\n" for line in lines)


def _authority(office: Office, apex: str) -> Iterable[Record]:
    servers = serving(office, "names")
    why = "Secondaries refresh hourly and answer for two weeks without the primary"
    data = f"{servers[0].fqdn}. hostmaster.{office.domain}. 1 3600 900 {14 * 86400} {office.dns.ttl}"
    yield Record(apex, "SOA", data, why)
    why = "DNS-08: with one name server, its failure stops all mail"
    for server in servers:
        yield Record(apex, "NS", f"{server.fqdn}.", why)


def _name_servers(office: Office) -> Iterable[Record]:
    for host in serving(office, "names"):
        yield from _addresses(host.fqdn, published_addresses(office, host), "DNS-08: name server")
        yield from _no_mail(host.fqdn)


def _hosts(office: Office) -> Iterable[Record]:
    for host in office.hosts:
        named = f"SPO-05: name of the {host.role}, as in its certificate"
        reason = "DNS-08: name server" if serves(host, "names") else named
        yield from _addresses(host.fqdn, published_addresses(office, host), reason)
        if serves(host, "transport"):
            why = "SPF-01: the MTA's HELO name is checked too (RFC 7208, section 2.3)"
            yield from _no_mail(host.fqdn, _spf(office), why)
        else:
            yield from _no_mail(host.fqdn)
        yield from _host_keys(office, host)


def _no_mail(name: str, spf: str = "v=spf1 -all", why: str = "SPO-04: never sends") -> Iterable[Record]:
    """Records for a name without mail: no recipient (RFC 7505), no sender, no From."""
    reason = "SPO-04: without it mail forged as or sent to this name is queued for days"
    yield Record(f"{name}.", "MX", "0 .", reason)
    yield Record(f"{name}.", "TXT", _text(spf), why)
    # A receiver of RFC 7489 asks here, and then at the organisational domain, which may belong to others.
    reject = _text("v=DMARC1; p=reject; adkim=s; aspf=s")
    forged = "SPO-04: forged mail from this name is delivered without it"
    yield Record(f"_dmarc.{name}.", "TXT", reject, forged)


SSHFP_ALGORITHMS = {"ssh-rsa": 1, "ecdsa-sha2-nistp256": 3, "ecdsa-sha2-nistp384": 3, "ssh-ed25519": 4}
"""Numbers of host key types (RFC 4255, 6594, 7479)."""


def _host_keys(office: Office, host: Host) -> Iterable[Record]:
    for line in office.ssh.host_keys.get(host.name, ()):
        kind, key = line.split()
        if kind in SSHFP_ALGORITHMS:
            digest = hashlib.sha256(base64.b64decode(key)).hexdigest()
            why = "SSH-01: administrators would trust anybody who answers first (RFC 4255)"
            yield Record(f"{host.fqdn}.", "SSHFP", f"{SSHFP_ALGORITHMS[kind]} 2 {digest}", why)


def _mail(office: Office, apex: str) -> Iterable[Record]:
    for preference, target in mail_exchangers(office):
        yield Record(apex, "MX", f"{preference} {target}.", "Where mail for the office goes")
    yield Record(apex, "TXT", _text(_spf(office)), "SPF-01: without it anybody sends as the office")


def _spf(office: Office) -> str:
    """One SPF policy without look-ups: the MTAs' addresses on every side they send from, and the smarthost's."""
    senders = [
        f"ip{address.version}:{address}"
        for mta in serving(office, "transport")
        for kind in ("internet", "partner")
        for address in office.addresses_of_kind(mta, kind)
    ]
    if office.smarthost:
        senders.append(f"a:{office.smarthost.host}")
    return " ".join(["v=spf1", *senders, "-all"])


def _policies(office: Office, apex: str, keys: PublicKeys) -> Iterable[Record]:
    for key in keys.dkim:
        control = "DKM-02" if key.algorithm == "ed25519" else "DKM-01"
        why = f"{control}: receivers cannot verify our signatures without it"
        if not key.public:
            why = "DKM-04: revoked, so that a stolen old key signs nothing"
        data = _text(f"v=DKIM1; k={key.algorithm}; t=s; p={key.public}")
        yield Record(f"{key.selector}._domainkey.{apex}", "TXT", data, why)
    dmarc = f"v=DMARC1; p=reject; sp=reject; adkim=s; aspf=s; rua=mailto:dmarc-reports@{office.domain}"
    yield Record(f"_dmarc.{apex}", "TXT", _text(dmarc), "DMC-01: receivers deliver forged mail without it")
    report = f"v=TLSRPTv1; rua=mailto:tls-reports@{office.domain}"
    why = "TLS-08: without it nobody reports that TLS to us fails"
    yield Record(f"_smtp._tls.{apex}", "TXT", _text(report), why)
    for tag in ("issue", "issuewild"):
        reason = "TLS-11: any public authority may issue for the office without it"
        yield Record(apex, "CAA", f'0 {tag} ";"', reason)
    iodef = f'0 iodef "mailto:security@{office.domain}"'
    yield Record(apex, "CAA", iodef, "TLS-11: nobody here would hear of an attempt")
    yield from _issuers(office, keys)
    yield from _mta_sts(office, apex)


def _issuers(office: Office, keys: PublicKeys) -> Iterable[Record]:
    """The names that an authority may certify; it may not certify the domain itself."""
    for host in office.hosts:
        issuer = caa_issuer(office, host, keys.account(office, host))
        for name in public_names(office, host) if issuer != ";" else ():
            why = "TLS-11: any other authority, account or kind of proof would do without it"
            yield Record(f"{name}.", "CAA", f'0 issue "{issuer}"', why)
            yield Record(f"{name}.", "CAA", '0 issuewild ";"', "TLS-11: no certificate for what lies below")


def _mta_sts(office: Office, apex: str) -> Iterable[Record]:
    hosts = [a for host in serving(office, "browsers") for a in office.addresses_of_kind(host, "internet")]
    if not hosts:
        return
    version = hashlib.sha256(mta_sts_policy(office).encode()).hexdigest()[:32]
    why = "TLS-07: the id follows the policy's content"
    yield Record(f"_mta-sts.{apex}", "TXT", _text(f"v=STSv1; id={version}"), why)
    name = f"mta-sts.{office.domain}"
    yield from _addresses(name, hosts, "TLS-07: other mail systems fetch the policy here")
    yield from _no_mail(name)


def _clients(office: Office, apex: str) -> Iterable[Record]:
    absent = ("SRV", "0 0 0 .", "REL-03: the office does not offer it; nothing to fall back to")
    offered = {"imaps": ports.IMAPS, "submissions": ports.SUBMISSIONS, "sieve": ports.MANAGESIEVE}
    for (service, port), store in product(offered.items(), serving(office, "mailboxes")):
        why = "Mail programs set themselves up (RFC 6186, 8314)"
        yield Record(f"_{service}._tcp.{apex}", "SRV", f"0 1 {port} {store.fqdn}.", why)
    for service in ("imap", "submission", "pop3", "pop3s"):
        yield Record(f"_{service}._tcp.{apex}", *absent)
    for host, service in product(serving(office, "calendars"), ("caldav", "carddav")):
        why = "Calendars and address books set themselves up (RFC 6764)"
        yield Record(f"_{service}s._tcp.{apex}", "SRV", f"0 1 {ports.HTTPS} {host.fqdn}.", why)
        yield Record(f"_{service}s._tcp.{apex}", "TXT", _text("path=/"), why)
        yield Record(f"_{service}._tcp.{apex}", *absent)
    addresses = [a for host in serving(office, "browsers") for a in published_addresses(office, host)]
    for name in (f"{label}.{office.domain}" for label in CLIENT_SETUP):
        yield from _addresses(name, addresses, "Mail programs fetch their settings here")
        yield from _no_mail(name)


def _tlsa(office: Office, keys: PublicKeys) -> Iterable[Record]:
    for host in office.hosts:
        for name, port in tls_services(office, host):
            for digest in keys.tls.get(host.name, ()):
                why = "TLS-05: senders fall back to unverified TLS without it"
                yield Record(f"_{port}._tcp.{name}.", "TLSA", f"3 1 1 {digest}", why)


def _addresses(name: str, addresses: Iterable[IPAddress], reason: str) -> Iterable[Record]:
    for address in addresses:
        yield Record(f"{name}.", "A" if address.version == 4 else "AAAA", str(address), reason)


def _text(value: str) -> str:
    """A TXT value as quoted strings of at most 255 octets (RFC 1035, section 3.3.14)."""
    chunks = [value[start : start + 255] for start in range(0, len(value), 255)]
    return " ".join(f'"{chunk}"' for chunk in chunks)
