"""What the templates of a time server may print, derived from the flows to it."""

from dataclasses import dataclass

from outpost.office import ports
from outpost.office.base import HostView
from outpost.office.flows import inbound
from outpost.office.tables.values import IPNetwork


@dataclass(frozen=True)
class TimeView(HostView):
    """One time server."""

    @property
    def addresses(self) -> tuple[IPNetwork, ...]:
        """The addresses it answers on: one of each family."""
        return self._ends(source=False)

    @property
    def clients(self) -> tuple[IPNetwork, ...]:
        """The networks that it answers."""
        return self._ends(source=True)

    def _ends(self, *, source: bool) -> tuple[IPNetwork, ...]:
        flows = (flow for flow in inbound(self.office, self.me) if flow.port == ports.NTP)
        ends = (flow.source if source else flow.destination for flow in flows)
        return tuple(dict.fromkeys(network for end in ends for network in end.networks))
