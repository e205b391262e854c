"""The certificates that users and strangers see: their names, their issuer, and how a host gets its own.

Every public key exists twice: the current one, and the next one, whose TLSA record stands in the DNS long before
the key is used (RFC 7671, section 8.1). Keys are the office's (``secrets.age``), no matter who certifies them, so that the
records can be derived and a rebuilt host comes back with the same key. Pure.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from outpost.office.model import Office
from outpost.office.role import role_of, serving
from outpost.office.tables.topology import CertificateMode, Host
from outpost.office.tables.values import IPAddress

CHALLENGE = "_acme-challenge"
"""The label under which control over a name is proven (RFC 8555, section 8.4)."""


def public_names(office: Office, host: Host) -> tuple[str, ...]:
    """Names on the certificate that a host shows to users and strangers; empty for name servers."""
    shown = role_of(host).shown
    return (host.fqdn, *(f"{label}.{office.domain}" for label in shown.labels)) if shown else ()


def tls_services(office: Office, host: Host) -> Iterator[tuple[str, int]]:
    """Name and port of every TLS service under a public name."""
    shown = role_of(host).shown
    yield from product(public_names(office, host), shown.ports(office) if shown else ())


def daemon(host: Host) -> str:
    """The unit that shows the host's public certificate; empty for a host without one."""
    shown = role_of(host).shown
    return shown.unit if shown else ""


def mode(office: Office, host: Host) -> CertificateMode | None:
    """The source of a host's public certificate; None for a host without a public name."""
    return (host.certificates or office.tls.certificates) if public_names(office, host) else None


def signing_service(host: Host) -> str:
    """The unit to check if a host does not show the right certificate."""
    return f"outpost-certificate.service {daemon(host)}"


def acme_hosts(office: Office) -> tuple[Host, ...]:
    """Hosts that fetch their certificate by ACME."""
    return tuple(host for host in office.hosts if mode(office, host) == "acme")


def tsig_name(host: Host) -> str:
    """The key with which a host proves its names: it may write only their challenges."""
    return f"acme-{host.name}"


def challenges(office: Office, host: Host) -> tuple[str, ...]:
    """The names that a host's key may write, relative to the office's zone."""
    labels = (name.removesuffix(f".{office.domain}") for name in public_names(office, host))
    return tuple(f"{CHALLENGE}.{label}" for label in labels)


def caa_issuer(office: Office, host: Host, account: str = "") -> str:
    """Value of CAA ``issue`` for a host's public names (RFC 8659; its parameters: RFC 8657).

    The domain itself and whatever has no record of its own stay closed to every authority.
    """
    match mode(office, host):
        case "acme":
            bound = f"; accounturi={account}" if account else ""
            return f"{office.tls.issuer}{bound}; validationmethods=dns-01"
        case "provided":
            return office.tls.issuer
        case _:
            return ";"


class AcmeView(NamedTuple):
    """A host that fetches its certificate, as its configuration sees it."""

    office: Office
    me: Host

    @property
    def names(self) -> tuple[str, ...]:
        """The certificate's names, the host's own first."""
        return public_names(self.office, self.me)

    @property
    def primary(self) -> IPAddress:
        """The name server that takes the challenges, as this host reaches it."""
        return self.servers[0]

    @property
    def servers(self) -> tuple[IPAddress, ...]:
        """Every name server, at addresses that this host reaches: the authority may ask any of them."""
        servers = serving(self.office, "names")
        return tuple(self.office.link_addresses(server, self.me)[0] for server in servers)

    @property
    def unit(self) -> str:
        """The daemon that loads the certificate."""
        return daemon(self.me)

    @property
    def proxy(self) -> str:
        """The proxy that this host needs; a host on the Internet needs none."""
        outside = self.office.addresses_of_kind(self.me, "internet")
        return "" if outside else self.office.acme.proxy


def updaters(office: Office) -> Iterator[tuple[str, tuple[IPAddress, ...], tuple[str, ...]]]:
    """Who may write challenges on the primary: key, addresses it comes from, names."""
    primary = serving(office, "names")[0]
    for host in acme_hosts(office):
        yield tsig_name(host), office.link_addresses(host, primary), challenges(office, host)
