"""Zones: one internal Docker network each, with fixed addresses, and a free slot for each instance."""

from ipaddress import IPv4Address, IPv4Network, ip_network
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from outpost_lab import world
from outpost_lab.errors import LabError
from outpost_lab.instance import LABEL, Instance


class TakenMeanwhile(LabError):  # noqa: N818 (named for what is the matter)
    """Something else took the addresses between the search for free ones and their use."""


def free_slot(client: docker.DockerClient) -> int:
    """The lowest slot whose networks do not overlap with any network of Docker."""
    for slot in range(world.SLOTS):
        if is_free(client, slot):
            return slot
    problem = "10.77.0.0/16 and all after it overlap with Docker's networks or this machine's routes"
    remedy = "`./outpost lab down --all`, or see `ip route` for a VPN that takes all of 10.0.0.0/8"
    raise LabError(problem, remedy)


def is_free(client: docker.DockerClient, slot: int) -> bool:
    """Whether a slot's networks overlap with no network of Docker and no route of this machine."""
    wanted = ip_network(f"10.{world.FIRST_NET + slot}.0.0/16")
    taken = [network for existing in client.networks.list() for network in _subnets(existing)] + _routes()
    return not any(isinstance(network, IPv4Network) and network.overlaps(wanted) for network in taken)


def ensure(client: docker.DockerClient, instance: Instance) -> dict[str, Any]:
    """The instance's networks, zone → network; missing ones are made. `TakenMeanwhile` leaves none of them."""
    existing = {network.name: network for network in mine(client, instance)}
    found: dict[str, Any] = {}
    for zone in world.zones():
        name = instance.network_name(zone)
        try:
            found[zone] = existing.get(name) or _create(client, instance, zone, name)
        except TakenMeanwhile:
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
        kind = TakenMeanwhile if "overlap" in str(error.explanation) else LabError
        remedy = "see `docker network ls` and `ip route` for what else uses the addresses, then run the command again"
        raise kind(f"the network {name} cannot be made: {error.explanation}", remedy) from error


def _subnets(network: Any) -> list[Any]:
    pools = (network.attrs.get("IPAM") or {}).get("Config") or []
    return [ip_network(pool["Subnet"], strict=False) for pool in pools if pool.get("Subnet")]


def _routes(table: Path = Path("/proc/net/route")) -> list[IPv4Network]:
    """IPv4 destinations of the kernel's routing table, without the default route (a VPN may use 10.0.0.0/8)."""
    if not table.exists():
        return []
    found = []
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        destination, mask = (IPv4Address(int(fields[column], 16).to_bytes(4, "little")) for column in (1, 7))
        if int(mask):
            found.append(IPv4Network(f"{destination}/{mask}"))
    return found
