"""Zones: one internal Docker network each, with fixed addresses, and a free slot for each instance."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_network
from typing import Any

import docker
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from outpost.lab import world
from outpost.lab.errors import LabError
from outpost.lab.instance import LABEL, Instance


def free_slot(client: docker.DockerClient) -> int:
    """The lowest slot whose networks overlap with none that Docker has.

    Raises:
        LabError: All are taken.
    """
    for slot in range(world.SLOTS):
        if is_free(client, slot):
            return slot
    raise LabError("no address range is left for another lab", "./outpost lab down --all")


def is_free(client: docker.DockerClient, slot: int) -> bool:
    """Whether no network of Docker's overlaps with a slot's."""
    wanted = ip_network(f"10.{world.FIRST_NET + slot}.0.0/16")
    taken = [network for existing in client.networks.list() for network in _subnets(existing)]
    return not any(isinstance(network, IPv4Network) and network.overlaps(wanted) for network in taken)


def ensure(client: docker.DockerClient, instance: Instance) -> dict[str, Any]:
    """The instance's networks, zone → network, made where missing.

    Raises:
        LabError: The address range is in use by something else.
    """
    existing = {network.name: network for network in mine(client, instance)}
    found = {}
    for zone in world.zones():
        name = instance.network_name(zone)
        found[zone] = existing.get(name) or _create(client, instance, zone, name)
    return found


def mine(client: docker.DockerClient, instance: Instance) -> list[Any]:
    """Every network labelled as the instance's."""
    return list(client.networks.list(filters={"label": f"{LABEL}={instance.name}"}))


def _create(client: docker.DockerClient, instance: Instance, zone: str, name: str) -> Any:
    pools = [
        IPAMPool(subnet=subnet, gateway=gateway)
        for subnet, gateway in zip(
            world.network(zone, instance.slot),
            world.address(zone, world.CONTROLLER_OCTET, instance.slot),
            strict=True,
        )
    ]
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
        raise LabError(
            f"the network {name} cannot be made: {error.explanation}",
            "see `docker network ls` and `ip route` for what else uses the addresses, then run the command again",
        ) from error


def _subnets(network: Any) -> list[Any]:
    pools = (network.attrs.get("IPAM") or {}).get("Config") or []
    return [ip_network(pool["Subnet"], strict=False) for pool in pools if pool.get("Subnet")]
