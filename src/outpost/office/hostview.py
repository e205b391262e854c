"""One host of an office for the templates of its role: what all of these views share."""

from dataclasses import dataclass

from outpost.office.flows import listeners
from outpost.office.model import Office
from outpost.office.size import Size, size_of
from outpost.office.tables.topology import Host
from outpost.office.tables.values import IPAddress


@dataclass(frozen=True)
class HostView:
    """A host, and its office."""

    office: Office
    me: Host

    @property
    def size(self) -> Size:
        """What the limits of its daemons are derived from."""
        return size_of(self.office)

    def listens(self, port: int) -> tuple[IPAddress, ...]:
        """Addresses of the role contract on which it listens on a port; never a wildcard."""
        here = (entry.address for entry in listeners(self.office, self.me) if entry.port == port)
        return tuple(dict.fromkeys(here))

    @staticmethod
    def socket(address: IPAddress, port: int) -> str:
        """An address and a port, as daemons write them."""
        return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
