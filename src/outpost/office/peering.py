"""Settings for the administrator of a peer, derived from the office: the other half of each link. ``outpost peer`` prints them, and
the lab's head office is configured with them.
"""

from outpost.office.model import Office
from outpost.office.role import serving
from outpost.office.tables.routes import Peer
from outpost.target import ROOT
from outpost.templates import environment

DAY = 86400


class OtherEnd:
    """A peer's side of the route between it and the office."""

    def __init__(self, office: Office, peer: Peer) -> None:
        self.office, self.peer = office, peer
        transport = serving(office, "transport")
        self.servers = tuple(mta.fqdn for mta in office.mail_servers)
        """Names of the office's MTAs, which their certificates carry."""
        self.senders = tuple(address for mta in transport for address in mta.in_zone(peer.zone))
        """Addresses that the office's mail comes from and that its listener for this peer uses."""
        self.next_hops = ", ".join(f"[{server}]:{peer.listen}" for server in self.servers)
        """Next hop for mail to the office, as Postfix writes it; the second address is for when the first is down."""
        self.transport = office.name.replace("-", "_")
        """Name of the peer's transport to the office, and prefix of its parameters."""
        open_ones = (alias.address for alias in office.all_aliases if not alias.inside_only)
        self.recipients = (*office.mailboxes, *open_ones)
        """Every address that outsiders may write to: a backup MX must know them (DSN-01)."""
        self.message_size = int(office.limits.message_size)
        """Largest message the office takes, in bytes."""
        self.lifetime_days = max(1, office.link.queue_lifetime // DAY)
        """How long a backup MX keeps mail for the office: as long as the office would, in whole days."""
        own = "office" in {mta.certificates or office.tls.certificates for mta in transport}
        self.authority = "the office's own authority" if own else office.tls.issuer
        """The authority that issued the office's certificate."""
        self.own_proof = {
            "verify": f"a certificate for {peer.next_hop} from an authority that the office trusts",
            "dane": f"TLSA records for _{peer.port}._tcp.{peer.next_hop}, signed by DNSSEC",
            "fingerprint": f"the key {' or '.join(peer.fingerprints)}",
        }[peer.tls]
        """How the peer must prove its identity to the office."""

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
