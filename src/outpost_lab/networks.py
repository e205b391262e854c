"""Zones: one internal Docker network each, with fixed addresses, and a free slot for each instance."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, ip_network
from pathlib import Path
from typing import Any, TypeVar

import docker
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from outpost.errors import OutpostError
from outpost_lab import world
from outpost_lab.instance import LABEL, Instance

Site = TypeVar("Site", bound=Instance)


class TakenError(OutpostError):
    """Something else on this machine has the addresses."""


def settle(
    client: docker.DockerClient, instance_in: Callable[[int], Site], slots: Iterable[int]
) -> tuple[Site, dict[str, Any]]:
    """The instance and its networks in the first slot whose addresses no network of Docker and no route of this machine has."""
    for slot in slots:
        wanted = ip_network(f"10.{world.FIRST_NET + slot}.0.0/16")
        if not any(route.overlaps(wanted) for route in _routes()):
            with suppress(TakenError):
                return (instance := instance_in(slot)), ensure(client, instance)
    problem = "10.77.0.0/16 and all after it overlap with Docker's networks or this machine's routes"
    remedy = "`./outpost lab down --all`, or see `ip route` for a VPN that takes all of 10.0.0.0/8"
    raise OutpostError(problem, remedy)


def ensure(client: docker.DockerClient, instance: Instance) -> dict[str, Any]:
    """The instance's networks, zone → network; missing ones are made. `TakenError` leaves none of them."""
    existing = {network.name: network for network in mine(client, instance)}
    found: dict[str, Any] = {}
    for zone in world.ZONES:
        name = instance.network_name(zone)
        try:
            found[zone] = existing.get(name) or _create(client, instance, zone, name)
        except TakenError:
            for made in found.values() if not existing else ():
                made.remove()  # nothing is in them yet
            raise
    return found


def mine(client: docker.DockerClient, instance: Instance) -> list[Any]:
    """Every network labelled as the instance's."""
    return list(client.networks.list(filters={"label": f"{LABEL}={instance.name}"}))


def _create(client: docker.DockerClient, instance: Instance, zone: str, name: str) -> Any:
    subnets = world.network(zone, instance.slot)
    gateways = world.address(zone, world.CONTROLLER_OCTET, instance.slot)
    pools = [IPAMPool(subnet=net, gateway=gateway) for net, gateway in zip(subnets, gateways, strict=True)]
    try:
        return client.networks.create(
            name,
            driver="bridge",
            internal=True,  # no way out, and no routing between zones
            enable_ipv6=True,
            ipam=IPAMConfig(pool_configs=pools),
            labels={**instance.labels, "outpost.zone": zone},
        )
    except APIError as error:
        kind = TakenError if "overlap" in str(error.explanation) else OutpostError
        remedy = "see `docker network ls` and `ip route` for what else uses the addresses, then run the command again"
        raise kind(f"the network {name} cannot be made: {error.explanation}", remedy) from error


def _routes() -> Iterator[IPv4Network]:
    """IPv4 destinations of the kernel's routing table, without the default route (a VPN may use 10.0.0.0/8)."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        destination, mask = (IPv4Address(int(fields[column], 16).to_bytes(4, "little")) for column in (1, 7))
        if int(mask):
            yield IPv4Network(f"{destination}/{mask}")
