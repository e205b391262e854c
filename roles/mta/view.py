"""What an MTA's files say, derived from the office: recipients, routes, listeners, who may send as whom.

Pure: no I/O, no pyinfra. Templates below ``templates/mta/`` get one ``MtaView`` as ``mta`` and print it.
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple
from urllib.parse import SplitResult, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from outpost.office import ports
from outpost.office.base import HostView
from outpost.office.checks.limits import MAX_SCAN
from outpost.office.dns import key_digest
from outpost.office.tables.routes import Peer
from outpost.office.tables.values import IPAddress
from roles.mta import LEARNING, MIN_LEARNS, SCANNER_SOCKET

STRANGERS_RECIPIENTS = 100
"""Recipients a stranger may name in one message: RFC 5321, section 4.5.3.1.8, asks for at least 100."""

SCAN_MARGIN = 1024**2
"""Bytes by which clamd's stream may exceed the largest message: headers that Postfix adds, and framing."""


def pattern(text: str) -> str:
    """A text as a literal in Postfix's regular expressions (regexp_table(5))."""
    return re.sub(r"([][.^$*+?(){}|\\/])", r"\\\1", text)


def any_of(words: Iterable[str]) -> str:
    """A pattern for any of these words, with common beginnings once: PCRE tries the words of a list one after another (DOS-10)."""
    rests: dict[str, list[str]] = {}
    for word in words:
        rests.setdefault(word[:1], []).append(word[1:])
    branches = [re.escape(first) + any_of(rest) for first, rest in rests.items() if first]
    if len(branches) < 2 and "" not in rests:
        return "".join(branches)
    return f"(?:{'|'.join(branches)}){'?' if '' in rests else ''}" if branches else ""


class PeerRoute(NamedTuple):
    """Both directions to one peer, as Postfix sees them.

    Attributes:
        sockets: Where its mail comes in, ``address:port``, on the MTA's addresses in the peer's zone.
        next_hop: Where mail to it goes; in brackets, so that no MX record can divert it.
        policy: How the next hop must prove itself, in the terms of smtp_tls_policy_maps.
    """

    peer: Peer
    sockets: tuple[str, ...]
    next_hop: str
    policy: str

    @property
    def inward(self) -> str:
        """Name of its listener in logs."""
        return f"from-{self.peer.name}"

    @property
    def parameter(self) -> str:
        """Its listener's name within Postfix parameter names."""
        return self.inward.replace("-", "_")

    @property
    def outward(self) -> str:
        """Name of its transport, in master.cf and in logs."""
        return f"to-{self.peer.name}"


@dataclass(frozen=True)
class MtaView(HostView):
    """One MTA of an office."""

    # Who is here -----------------------------------------------------------------------------------------------

    @property
    def aliases(self) -> dict[str, tuple[str, ...]]:
        """Every other address of the office → its mailboxes; in an office that closes, the address that all mail goes to."""
        if self.office.closing.forward:
            known = (*self.office.mailboxes, *(alias.address for alias in self.office.all_aliases))
            return dict.fromkeys(known, (self.office.closing.forward,))
        return self.office.expanded

    @property
    def hidden_members(self) -> tuple[str, ...]:
        """Members of aliases, as patterns: people who write to an alias must not see them (DSN-08)."""
        every = (member for members in self.aliases.values() for member in members)
        return tuple(dict.fromkeys(map(pattern, every)))

    # Listeners -------------------------------------------------------------------------------------------------

    @property
    def outer_sockets(self) -> tuple[str, ...]:
        """The addresses that strangers connect to."""
        return self._sockets(self.office.addresses_of_kind(self.me, "internet"), ports.SMTP)

    @property
    def submission_sockets(self) -> tuple[str, ...]:
        """The addresses where the store hands in users' mail."""
        return self._sockets(self.listens(ports.SUBMISSION_RELAY), ports.SUBMISSION_RELAY)

    @property
    def store_addresses(self) -> tuple[IPAddress, ...]:
        """The store's addresses on the link: LMTP goes there, submissions come from there."""
        stores = self.office.with_role("store")
        return tuple(address for store in stores for address in self.office.link_addresses(store, self.me))

    @staticmethod
    def hosts(addresses: Iterable[IPAddress]) -> str:
        """Addresses in the form of Postfix's host lists."""
        return ",".join(f"[{address}]" if address.version == 6 else str(address) for address in addresses)

    @property
    def peers(self) -> tuple[PeerRoute, ...]:
        """A listener and a route for every peer."""

        def route(peer: Peer) -> PeerRoute:
            sockets = self._sockets(self.me.in_zone(peer.zone), peer.listen)
            return PeerRoute(peer, sockets, f"[{peer.next_hop}]:{peer.port}", _policy(peer))

        return tuple(map(route, self.office.peers))

    # Routes ----------------------------------------------------------------------------------------------------

    @property
    def store_names(self) -> tuple[str, ...]:
        """Names; the store's certificate must have one of them."""
        return tuple(store.fqdn for store in self.office.with_role("store"))

    @property
    def inner_names(self) -> tuple[str, ...]:
        """Names and addresses of the store, as patterns: receivers of a notification must not see them (DSN-06)."""
        return tuple(pattern(str(name)) for name in (*self.store_names, *self.store_addresses))

    @property
    def lmtp(self) -> str:
        """The store, by address: local delivery must not wait for the DNS. The second address is for when the first is down."""
        return ", ".join(f"[{address}]:{ports.LMTP}" for address in self.store_addresses)

    @property
    def smarthost(self) -> str:
        """The smarthost as a next hop; empty if the MTA delivers by MX."""
        relay = self.office.smarthost
        return f"[{relay.host}]:{relay.port}" if relay else ""

    @property
    def finds_policies(self) -> bool:
        """Whether it queries MTA-STS policies of destination domains; a smarthost does that itself."""
        return self.office.smarthost is None

    @property
    def families(self) -> frozenset[int]:
        """IP versions that the office carries."""
        return frozenset[int]().union(*(zone.families for zone in self.office.zones.values()))

    @property
    def tls_policies(self) -> dict[str, str]:
        """Next hop → the TLS that it must offer; all others get DANE if they publish it."""
        policies = {route.next_hop: route.policy for route in self.peers}
        if self.office.smarthost:
            policies[self.smarthost] = f"secure match={self.office.smarthost.host}"
        return policies

    # Sizes and counts ------------------------------------------------------------------------------------------

    @property
    def message_size(self) -> int:
        """Largest message in bytes, encoded."""
        return int(self.office.limits.message_size)

    @property
    def queue_reserve(self) -> int:
        """Free bytes that are needed before mail is accepted: for the message itself, and its copies on the way."""
        return 4 * self.message_size

    @property
    def scan_size(self) -> int:
        """Bytes that filters read of one message at most, with room for what Postfix adds."""
        return int(self.office.limits.scan_size) + SCAN_MARGIN

    @property
    def expanded_size(self) -> int:
        """Bytes that ClamAV unpacks of one message at most; a larger one is refused as too deep, not passed."""
        return min(4 * self.scan_size, MAX_SCAN)

    @property
    def strangers_recipients(self) -> int:
        """Recipients per message on the listeners for mail from outside."""
        return max(STRANGERS_RECIPIENTS, self.office.limits.recipients_per_message)

    scanner_socket: ClassVar[str] = SCANNER_SOCKET
    """ClamAV's socket for Rspamd; systemd's socket unit makes it."""

    min_learns: ClassVar[int] = MIN_LEARNS
    controller_socket: ClassVar[str] = f"{LEARNING}/controller.sock"
    """Where Rspamd accepts lessons."""

    # Filters ---------------------------------------------------------------------------------------------------

    @property
    def local_signatures(self) -> bool:
        """Whether ClamAV has only a test signature (in the lab)."""
        return self.office.scanner.signatures == "local"

    @property
    def trusted_sealers(self) -> tuple[str, ...]:
        """Domains whose ARC seals are trusted: the peers' own, and those in the office file."""
        peers = (domain for peer in self.office.peers for domain in peer.domains)
        return tuple(dict.fromkeys((*peers, *self.office.scanner.trusted_sealers)))

    @property
    def refused_ending(self) -> str:
        """A pattern for any ending that no message may carry."""
        return any_of(self.office.policy.refused_attachments)

    @property
    def signature_proxy(self) -> SplitResult | None:
        """The HTTP proxy that freshclam uses if the host has no direct way."""
        return urlsplit(self.office.archive.proxy) if self.office.archive.proxy else None

    def _sockets(self, addresses: tuple[IPAddress, ...], port: int) -> tuple[str, ...]:
        return tuple(self.socket(address, port) for address in addresses)


def _policy(peer: Peer) -> str:
    """How a peer's next hop must prove itself, in the terms of smtp_tls_policy_maps (postconf(5))."""
    match peer.tls:
        case "dane":
            return "dane-only"
        case "fingerprint":
            return " ".join(("fingerprint", *(f"match={pin}" for pin in peer.fingerprints)))
        case "verify":
            return f"secure match={peer.next_hop}"


def dkim_ed25519_key(pem: str) -> str:
    """An Ed25519 private key as Rspamd reads it: the bare seed in base64. It takes PEM for an RSA key."""
    key = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(f"not an Ed25519 key but {type(key).__name__}")
    return base64.b64encode(key.private_bytes_raw()).decode() + "\n"


def key_fingerprint(certificate_pem: str) -> str:
    """SHA-256 of a certificate's public key as Postfix writes it; renewals keep the key, and so the fingerprint."""
    return bytes.fromhex(key_digest(certificate_pem)).hex(":").upper()
