"""What the templates of a name server may print."""

from dataclasses import dataclass

from outpost.office import ports
from outpost.office.base import HostView
from outpost.office.certificates import updaters
from outpost.office.dns import ZoneData
from outpost.office.role import serving
from outpost.office.tables.topology import Host
from outpost.office.tables.values import IPAddress


@dataclass(frozen=True)
class DnsView(HostView):
    """One name server of an office, as its configuration sees it."""

    zones: tuple[ZoneData, ...]
    transfer_keys: tuple[str, ...] = ("transfer",)
    transfer_key: str = "transfer"

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """The addresses it answers on: those of the role contract, no wildcard."""
        return self.listens(ports.DNS)

    @property
    def primary(self) -> Host:
        """The name server that signs."""
        return serving(self.office, "names")[0]

    @property
    def is_primary(self) -> bool:
        return self.me == self.primary

    @property
    def partners(self) -> tuple[Host, ...]:
        """Servers it exchanges zones with: a primary's secondaries, a secondary's primary."""
        return serving(self.office, "names")[1:] if self.is_primary else (self.primary,)

    @property
    def known(self) -> tuple[IPAddress, ...]:
        """Its own addresses, and the office's hosts on inner links, where nobody outside can use their addresses (NET-02)."""
        outer = [net for zone in self.office.zones_of_kind("internet") for net in zone.networks]
        others = [host for host in self.office.hosts if host != self.me]
        known = [address for host in others for address in self.office.link_addresses(host, self.me)]
        inner = [address for address in known if not any(address in net for net in outer)]
        return tuple(dict.fromkeys((*self.addresses, *inner)))

    @property
    def updaters(self) -> tuple[tuple[str, str, str], ...]:
        """Who may write challenges of the ACME authority: key, addresses, names."""
        if not self.is_primary:
            return ()
        known = updaters(self.office)
        return tuple((key, ", ".join(map(str, at)), ", ".join(names)) for key, at, names in known)

    def link(self, partner: Host) -> str:
        """A partner's addresses on the link between the two."""
        return ", ".join(map(str, self.office.link_addresses(partner, self.me)))

    def own_link(self, partner: Host) -> str:
        """This server's addresses on the same link; only they pass the partner's packet filter."""
        return ", ".join(map(str, self.office.link_addresses(self.me, partner)))
