"""Settings for the administrator of a peer, derived from the office: the other half of each link. ``outpost peer`` prints them, and
the lab's head office is configured with them.
"""

from typing import NamedTuple

from outpost.office.model import Office
from outpost.office.role import serving
from outpost.office.tables.routes import Peer
from outpost.office.tables.values import IPAddress
from outpost.target import ROOT
from outpost.templates import environment

DAY = 86400


class OtherEnd(NamedTuple):
    """A peer's side of the route between it and the office."""

    office: Office
    peer: Peer

    @property
    def servers(self) -> tuple[str, ...]:
        """Names of the office's MTAs, which their certificates carry."""
        return tuple(mta.fqdn for mta in self.office.mail_servers)

    @property
    def senders(self) -> tuple[IPAddress, ...]:
        """Addresses that the office's mail comes from and that its listener for this peer uses."""
        servers = serving(self.office, "transport")
        return tuple(address for mta in servers for address in mta.in_zone(self.peer.zone))

    @property
    def next_hops(self) -> str:
        """Next hop for mail to the office, as Postfix writes it; the second address is for when the first is down."""
        return ", ".join(f"[{server}]:{self.peer.listen}" for server in self.servers)

    @property
    def transport(self) -> str:
        """Name of the peer's transport to the office, and prefix of its parameters."""
        return self.office.name.replace("-", "_")

    @property
    def recipients(self) -> tuple[str, ...]:
        """Every address that outsiders may write to: a backup MX must know them (DSN-01)."""
        open_ones = (alias.address for alias in self.office.all_aliases if not alias.inside_only)
        return (*self.office.mailboxes, *open_ones)

    @property
    def message_size(self) -> int:
        """Largest message the office takes, in bytes."""
        return int(self.office.limits.message_size)

    @property
    def lifetime_days(self) -> int:
        """How long a backup MX keeps mail for the office: as long as the office would, in whole days."""
        return max(1, self.office.link.queue_lifetime // DAY)

    @property
    def authority(self) -> str:
        """The authority that issued the office's certificate."""
        servers = serving(self.office, "transport")
        modes = {mta.certificates or self.office.tls.certificates for mta in servers}
        return "the office's own authority" if "office" in modes else self.office.tls.issuer

    @property
    def own_proof(self) -> str:
        """How the peer must prove its identity to the office."""
        match self.peer.tls:
            case "verify":
                return f"a certificate for {self.peer.next_hop} from an authority that the office trusts"
            case "dane":
                return f"TLSA records for _{self.peer.port}._tcp.{self.peer.next_hop}, signed by DNSSEC"
            case "fingerprint":
                return f"the key {' or '.join(self.peer.fingerprints)}"

    def as_data(self) -> dict[str, object]:
        return {
            "peer": self.peer.name, "domain": self.office.domain, "servers": list(self.servers), "port": self.peer.listen,
            "addresses": [str(address) for address in self.senders], "authority": self.authority,
            "own_proof": self.own_proof, "message_size": self.message_size, "backup_mx": self.peer.backup_mx,
            "recipients": list(self.recipients) if self.peer.backup_mx else [],
        }  # fmt: skip


def rendered(template: str, end: OtherEnd) -> str:
    """Facts for the peer's administrator, for any server (`facts.j2`), or lines for Postfix's main.cf and master.cf."""
    return environment(ROOT / "templates" / "peer").get_template(template).render(end=end)


def recipients(end: OtherEnd) -> str:
    """Every recipient of the office, as a table (``texthash:``) for ``relay_recipient_maps``."""
    return "".join(f"{address} known\n" for address in end.recipients)
