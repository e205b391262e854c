"""A time server for the office's hosts: their clocks agree even while the line is down. Optional."""

from collections.abc import Iterator

from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.role import Role
from outpost.office.tables.topology import Host


def _fits(office: Office, hosts: tuple[Host, ...]) -> Iterator[Problem]:
    for host in hosts:
        if not office.addresses_of_kind(host, "servers"):
            message = "a time server without an address in the servers' zone"
            remedy = "give it one: chrony answers at one address of each family, and the hosts ask it there"
            yield Problem(f"hosts.{host.name}.addresses", "", message, remedy)


ROLE = Role(
    name="timeserver",
    trust=15,
    hosts=(),  # a new office has no such host
    published=lambda _office: (),
    optional=True,
    fits=_fits,
    disk=3072,
    memory=lambda _size: 512,
    limits=lambda _size: {},  # chrony's limits are those of every host
)
