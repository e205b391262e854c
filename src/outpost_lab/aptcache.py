"""The apt cache of all instances and image builds on this machine."""

from contextlib import suppress
from typing import Any

import docker
from docker.errors import APIError, NotFound

from outpost.errors import OutpostError

NAME = "outpost-apt-cache"  # container and volume
PORT = 3142


def ensure(client: docker.DockerClient, image: str) -> Any:
    """The running cache container, on the default bridge; its data is in a volume that outlives it."""
    try:
        container = client.containers.get(NAME)
        if container.image.tags and image not in container.image.tags and not attached(container):
            container.remove(force=True)
            raise NotFound("outdated")
    except NotFound:
        cached = {NAME: {"bind": "/var/cache/apt-cacher-ng"}}
        try:
            container = client.containers.create(
                image, name=NAME, hostname=NAME, labels={"outpost.cache": "apt"}, volumes=cached
            )
        except APIError as error:
            if error.status_code != 409:  # another `up` has made it meanwhile
                raise
            container = client.containers.get(NAME)
    if container.status != "running":
        try:
            container.start()
        except NotFound:  # a network that it served was removed by another tool (`docker network prune`)
            container.remove(force=True)
            return ensure(client, image)
    container.reload()
    answers = f"until (exec 3<>/dev/tcp/127.0.0.1/{PORT}) 2>/dev/null; do sleep 0.1; done"
    if container.exec_run(["timeout", "20", "bash", "-c", answers])[0]:
        raise OutpostError("the apt cache does not answer", f"docker logs {NAME}")
    return container


def bridge_url(container: Any) -> str:
    """Its proxy URL for containers on Docker's default bridge (image builds)."""
    return f"http://{container.attrs['NetworkSettings']['Networks']['bridge']['IPAddress']}:{PORT}"


def attached(container: Any) -> list[str]:
    """The instance networks that it serves."""
    return [name for name in container.attrs["NetworkSettings"]["Networks"] if name != "bridge"]


def attach(client: docker.DockerClient, network: Any, ipv4: str, ipv6: str) -> None:
    """Connects the cache to an instance's management network, unless it is connected."""
    container = client.containers.get(NAME)
    if network.name not in attached(container):
        network.connect(container, ipv4_address=ipv4, ipv6_address=ipv6)


def release(client: docker.DockerClient) -> bool:
    """Removes the container, but not its volume, when no instance uses it; returns True if it was removed."""
    with suppress(NotFound):
        container = client.containers.get(NAME)
        if not attached(container):
            container.remove(force=True)
            return True
    return False
