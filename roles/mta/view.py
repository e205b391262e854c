"""What an MTA's files say, derived from the office: recipients, routes, listeners, who may send as whom.

Pure: no I/O, no pyinfra. Templates below ``templates/mta/`` get one ``MtaView`` as ``mta`` and print it.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import SplitResult, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from outpost.office import ports
from outpost.office.checks.limits import MAX_SCAN
from outpost.office.dns import key_digest
from outpost.office.hostview import HostView
from outpost.office.tables.routes import Peer
from outpost.office.tables.values import IPAddress
from roles.mta import SCANNER_SOCKET

STRANGERS_RECIPIENTS = 100
"""Recipients a stranger may name in one message: RFC 5321, section 4.5.3.1.8, asks for at least 100."""

SCAN_MARGIN = 1024**2
"""What clamd's stream may exceed the largest message by: headers that Postfix adds, and framing."""


@dataclass(frozen=True)
class Magic:
    """How content says what it is, whatever its name: bytes that leave no doubt.

    Attributes:
        kind: The file name ending that such content ought to have.
        target: ClamAV's type of file; 0 for any.
    """

    kind: str
    offset: int
    hexadecimal: str
    target: int = 0


MAGIC = (
    Magic("7z", 0, "377abcaf271c"),
    Magic("bz2", 4, "314159265359"),
    Magic("cab", 0, "4d534346000000"),
    Magic("chm", 0, "4954534603000000"),
    Magic("class", 0, "cafebabe000000"),
    Magic("elf", 0, "7f454c46"),
    Magic("exe", 0, "4d5a*50450000", target=1),
    Magic("iso", 0x8001, "4344303031"),
    Magic("lnk", 0, "4c0000000114020000000000c000000000000046"),
    Magic("lz", 0, "4c5a4950"),
    Magic("lzma", 0, "5d0000"),
    Magic("one", 0, "e4525c7b8cd8a74daeb15378d02996d3"),
    Magic("rar", 0, "526172211a07"),
    Magic("vhd", 0, "636f6e6563746978"),
    Magic("vhdx", 0, "7668647866696c65"),
    Magic("wim", 0, "4d5357494d000000"),
    Magic("zst", 0, "28b52ffd"),
)


UNSCANNED_ZIP = {"lzma": 14, "zstd": 93, "mp3": 94, "xz": 95, "jpeg": 96, "wavpack": 97, "ppmd": 98}
"""Methods of compression in a zip archive (APPNOTE.TXT, section 4.4.5) that ClamAV passes over in silence."""

MACRO_TEXTS = (
    "<script:module ",  # OpenDocument: a module of Basic
    'w:macrosPresent="yes"',  # Word in one file of XML
    "ActiveMime",  # what Word and Excel keep macros in when they save a page ...
    "QWN0aXZlTWlt",  # ... and that in base64
)
"""What documents with macros say that ClamAV's own search (OLE2) does not find."""


def pattern(text: str) -> str:
    """A text as Postfix's regular expressions (regexp_table(5)) find it literally."""
    return re.sub(r"([][.^$*+?(){}|\\/])", r"\\\1", text)


def literal(address: IPAddress) -> str:
    """An address as Postfix writes it in a list of hosts, or in front of a port."""
    return f"[{address}]" if address.version == 6 else str(address)


@dataclass(frozen=True)
class PeerRoute:
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
        """Every other address of the office, with the mailboxes it stands for; of an office that closes, where all mail goes."""
        if self.office.closing.forward:
            known = (*self.office.mailboxes, *(alias.address for alias in self.office.all_aliases))
            return dict.fromkeys(known, (self.office.closing.forward,))
        return self.office.expanded

    @property
    def hidden_members(self) -> tuple[str, ...]:
        """Who is behind an alias, as patterns: not for those who write to it (DSN-08)."""
        return tuple(
            dict.fromkeys(pattern(member) for members in self.aliases.values() for member in members)
        )

    # Listeners -------------------------------------------------------------------------------------------------

    @property
    def outer_sockets(self) -> tuple[str, ...]:
        """Where strangers connect."""
        return self._sockets(self.office.addresses_of_kind(self.me, "internet"), ports.SMTP)

    @property
    def submission_sockets(self) -> tuple[str, ...]:
        """Where the store hands over users' mail."""
        addresses = dict.fromkeys(
            address
            for store in self.office.with_role("store")
            for address in self.office.link_addresses(self.me, store)
        )
        return self._sockets(tuple(addresses), ports.SUBMISSION_RELAY)

    @property
    def store_addresses(self) -> tuple[IPAddress, ...]:
        """Where the store's side of the link is: LMTP goes there, submissions come from there."""
        return tuple(
            address
            for store in self.office.with_role("store")
            for address in self.office.link_addresses(store, self.me)
        )

    @property
    def store_hosts(self) -> str:
        """The store's addresses as Postfix lists hosts."""
        return ",".join(map(literal, self.store_addresses))

    @property
    def own_hosts(self) -> str:
        """Its own addresses, as Postfix lists hosts: what `outpost verify` asks from, and nobody else can have."""
        return ",".join(map(literal, self.me.all_addresses))

    @property
    def own_spellings(self) -> tuple[str, ...]:
        """The domain and this host in ways that a table does not find by their usual name (RFC 5321, section 4.1.3)."""
        literals = (
            f"[ipv6:{address}]" if address.version == 6 else f"[{address}]"
            for address in self.me.all_addresses
        )
        return (f"{self.office.domain}.", f".{self.office.domain}.", *literals)

    @property
    def peers(self) -> tuple[PeerRoute, ...]:
        """A listener and a route for every peer."""
        return tuple(
            PeerRoute(
                peer=peer,
                sockets=self._sockets(self.me.in_zone(peer.zone), peer.listen),
                next_hop=f"[{peer.next_hop}]:{peer.port}",
                policy=_policy(peer),
            )
            for peer in self.office.peers
        )

    @property
    def peer_relays(self) -> tuple[IPAddress, ...]:
        """Addresses that peers' mail comes from."""
        return tuple(address for peer in self.office.peers for address in peer.relays)

    # Routes ----------------------------------------------------------------------------------------------------

    @property
    def scanner_addresses(self) -> tuple[IPAddress, ...]:
        """Where the store has mailboxes scanned again."""
        return self.listens(ports.SCANNER)

    @property
    def store_names(self) -> tuple[str, ...]:
        """Names one of which the store's certificate must carry."""
        return tuple(store.fqdn for store in self.office.with_role("store"))

    @property
    def inner_names(self) -> tuple[str, ...]:
        """Names and addresses of the store, as patterns: not for those who get a notification (DSN-06)."""
        return tuple(pattern(str(name)) for name in (*self.store_names, *self.store_addresses))

    @property
    def lmtp(self) -> str:
        """The store, by address: local delivery must not wait for the DNS. The second is for when the first is down."""
        return ", ".join(f"[{address}]:{ports.LMTP}" for address in self.store_addresses)

    @property
    def smarthost(self) -> str:
        """The relay for Internet mail as a next hop; empty where the MTA delivers by MX."""
        relay = self.office.smarthost
        return f"[{relay.host}]:{relay.port}" if relay else ""

    @property
    def smarthost_speaks_tls_first(self) -> bool:
        """Whether the smarthost expects TLS from the first byte."""
        return self.office.smarthost is not None and self.office.smarthost.port == ports.SUBMISSIONS

    @property
    def default_transport(self) -> str:
        """Where mail to everybody else goes."""
        return f"smarthost:{self.smarthost}" if self.smarthost else "smtp"

    @property
    def finds_policies(self) -> bool:
        """Whether it asks the domains it delivers to for their MTA-STS policy; with a smarthost that is its task."""
        return self.office.smarthost is None

    @property
    def protocols(self) -> str:
        """IP versions of Postfix's listeners: that of its own listener is 4, whatever the office carries."""
        return "ipv4" if self._families == {4} else "all"

    @property
    def preferred(self) -> str:
        """IP version that Postfix tries first, as it names them."""
        return "ipv6" if self._families == {6} else "any"

    @property
    def _families(self) -> frozenset[int]:
        return frozenset[int]().union(*(zone.families for zone in self.office.zones.values()))

    @property
    def tls_policies(self) -> dict[str, str]:
        """Next hop to the TLS it must show; whatever is not here gets DANE where there is DANE."""
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
        """Bytes that must be free before mail is accepted: the message that is coming, and its copies on the way."""
        return 4 * self.message_size

    @property
    def scan_size(self) -> int:
        """Most that the filters read of one message, with room for what Postfix adds to it."""
        return int(self.office.limits.scan_size) + SCAN_MARGIN

    @property
    def expanded_size(self) -> int:
        """Most that ClamAV unpacks of one message; what goes beyond is refused as too deep, not passed."""
        return min(4 * self.scan_size, MAX_SCAN)

    @property
    def strangers_recipients(self) -> int:
        """Recipients per message on the listeners that are not for users."""
        return max(STRANGERS_RECIPIENTS, self.office.limits.recipients_per_message)

    scanner_socket: ClassVar[str] = SCANNER_SOCKET
    """Where Rspamd finds ClamAV; systemd's socket unit makes it."""

    # Filters ---------------------------------------------------------------------------------------------------

    @property
    def local_signatures(self) -> bool:
        """Whether ClamAV has only the test signature (the lab)."""
        return self.office.scanner.signatures == "local"

    @property
    def trusted_sealers(self) -> tuple[str, ...]:
        """Domains whose ARC seals are believed: the peers' own, and those that the office file names."""
        peers = (domain for peer in self.office.peers for domain in peer.domains)
        return tuple(dict.fromkeys((*peers, *self.office.scanner.trusted_sealers)))

    @property
    def backup_domains(self) -> tuple[str, ...]:
        """Domains whose own mail comes from those addresses, too."""
        return tuple(domain for peer in self.office.peers if peer.backup_mx for domain in peer.domains)

    @property
    def refused_in_any_case(self) -> str:
        """Refused endings as ClamAV's container signatures want them: alternatives, with either case spelt out."""
        return "|".join(
            "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in ending)
            for ending in self.office.policy.refused_attachments
        )

    @property
    def refused_in_any_width(self) -> str:
        """The same for names in 8 bits and in UTF-16, as alternatives of a pattern."""
        return "|".join(r"\x00?".join(ending) for ending in self.office.policy.refused_attachments)

    @property
    def unscanned_zip(self) -> tuple[str, ...]:
        """Methods of compression as they stand in the header of a zip archive's member."""
        return tuple(method.to_bytes(2, "little").hex() for method in UNSCANNED_ZIP.values())

    macro_texts: ClassVar[tuple[str, ...]] = MACRO_TEXTS

    @property
    def refused_magic(self) -> tuple[Magic, ...]:
        """Content that is refused: by Rspamd as an attachment, by ClamAV inside one, however deep."""
        refused = set(self.office.policy.refused_attachments)
        return tuple(magic for magic in MAGIC if magic.kind in refused)

    @property
    def signature_proxy(self) -> SplitResult | None:
        """The HTTP proxy by which freshclam leaves, where the host must not do so itself."""
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
