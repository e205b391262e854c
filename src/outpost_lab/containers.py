"""Machines as systemd containers: created with their files inside, started, waited for, repaired."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import docker
from docker.errors import NotFound

from outpost_lab import images
from outpost_lab.errors import LabError
from outpost_lab.instance import Instance
from outpost_lab.render import File, files
from outpost_lab.world import Machine

RECIPE = "outpost.recipe"
RECIPE_VERSION = 2  # raised when `_create` makes containers otherwise than before
LATER = tuple(f"{name}-ca.{kind}" for name in ("office", "acme") for kind in ("pem", "crt"))
LEARNT = ("headoffice", "clientsite")
"""Machines whose mail servers are told of the office while they run (`learn`): made anew they would lose what they hold."""
TOLD = ("/etc/postfix/", "/etc/exim4/", "/etc/hosts")
RELOADS = "systemctl try-reload-or-restart postfix.service exim4.service 2>/dev/null || true"
BOOTED = "until [ -S /run/systemd/private ]; do sleep 0.05; done; exec systemctl is-system-running --wait"


def ensure(
    client: docker.DockerClient, instance: Instance, machine: Machine, networks: dict[str, Any]
) -> bool:
    """Makes and starts a machine's container where needed; True if it was created.

    A machine of the world whose recipe has changed is made anew. A host of the office that
    has ever run is not: what is on it is the office's.

    Args:
        networks: Zone → Docker network.
    """
    content = files(instance, machine)
    recipe = _digest(machine, content)
    container = _existing(client, instance, machine)
    fresh = container is not None and (not machine.office or container.status == "created")
    if container is not None and fresh and container.labels.get(RECIPE) != recipe:
        container.remove(force=True, v=True)
        container = None
    created = container is None
    if container is None:
        container = _create(client, instance, machine, networks, recipe)
        put(container, content)
    missing = [zone for zone in machine.addresses if instance.network_name(zone) not in _attached(container)]
    for zone in missing:
        ipv4, ipv6 = machine.addresses[zone]
        networks[zone].connect(container, ipv4_address=ipv4, ipv6_address=ipv6)
    if container.status != "running":
        container.start()
    return created


def learn(client: docker.DockerClient, instance: Instance) -> None:
    """The peers' mail servers are told what the office file says of it now, as `outpost peer` tells their administrators."""
    for name in LEARNT:
        container = instance.container(name, client)
        told = [file for file in files(instance, instance.machine(name)) if file.path.startswith(TOLD)]
        held = [container.exec_run(["cat", file.path])[1] for file in told]
        if [file.content for file in told] != held:
            # Docker mounts /etc/hosts: what is there is written over, not replaced
            put(container, [replace(file, path=f"/root/told{file.path}") for file in told])
            for file in told:
                run(container, "sh", "-c", f"cat /root/told{file.path} > {file.path}")
            run(container, "sh", "-c", RELOADS)


def wait(container: Any, machine: Machine) -> None:
    """Returns when a machine has booted. A host of the office may have failed units, which verification names."""
    state = container.exec_run(["sh", "-c", BOOTED])[1].decode().strip()
    if machine.office and state in ("running", "degraded"):
        return
    # a service between two attempts to start does not count as failed
    active = container.exec_run(["systemctl", "is-active", "--quiet", "ssh.service", *machine.units])[0] == 0
    if state != "running" or not active:
        listed = container.exec_run(
            ["systemctl", "list-units", "--plain", "--no-legend", "--state=failed,activating"]
        )
        names = " ".join(line.split()[0] for line in listed[1].decode().splitlines() if line.strip()) or state
        raise LabError(
            f"{container.name} has not booted well: {names}",
            f"docker exec {container.name} systemctl status {names}",
        )


def put(container: Any, content: Iterable[File]) -> None:
    """Writes files into a container, running or not; owner root. Does not reach /run and /tmp (tmpfs)."""
    container.put_archive("/", packed(content))


def packed(content: Iterable[File]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in content:
            if file.path.startswith("/root/.ssh/"):  # sshd refuses keys in a directory that others may write
                directory = tarfile.TarInfo("root/.ssh")
                directory.type, directory.mode = tarfile.DIRTYPE, 0o700
                archive.addfile(directory)
            member = tarfile.TarInfo(file.path.lstrip("/"))
            member.mode, member.size = file.mode, len(file.content)
            if file.target:
                member.type, member.linkname, member.size = tarfile.SYMTYPE, file.target, 0
            archive.addfile(member, io.BytesIO(file.content))
    return buffer.getvalue()


def run(container: Any, *command: str) -> str:
    """Runs a command in a container as root; gives its output."""
    code, output = container.exec_run(list(command))
    text: str = output.decode(errors="replace")
    if code:
        last = (text.strip().splitlines() or ["no message"])[-1]
        raise LabError(
            f"{container.name}: {' '.join(command)}: {last}", f"docker exec -it {container.name} bash"
        )
    return text


def _create(
    client: docker.DockerClient, instance: Instance, machine: Machine, networks: dict[str, Any], recipe: str
) -> Any:
    first = next(iter(machine.addresses))
    ipv4, ipv6 = machine.addresses[first]
    network = networks[first].name
    return client.containers.create(
        images.tag(machine.image),
        name=instance.container_name(machine.name),
        hostname=machine.fqdn,
        labels={
            **instance.labels,
            "outpost.machine": machine.name,
            "outpost.role": machine.role,
            RECIPE: recipe,
        },
        privileged=True,
        cgroupns="host",
        volumes={"/sys/fs/cgroup": {"bind": "/sys/fs/cgroup", "mode": "rw"}},
        tmpfs={"/run": "mode=755", "/tmp": "exec,mode=1777"},  # noqa: S108
        # no ulimits: systemd sets Debian's own for what it starts, and the engine may not raise them
        network=network,
        networking_config={network: client.api.create_endpoint_config(ipv4_address=ipv4, ipv6_address=ipv6)},
        restart_policy={"Name": "no"},
    )


def _existing(client: docker.DockerClient, instance: Instance, machine: Machine) -> Any | None:
    try:
        return client.containers.get(instance.container_name(machine.name))
    except NotFound:
        return None


def _attached(container: Any) -> set[str]:
    container.reload()
    return set(container.attrs["NetworkSettings"]["Networks"])


def _digest(machine: Machine, content: list[File]) -> str:
    recipe = hashlib.sha256(repr((RECIPE_VERSION, images.tag(machine.image), machine)).encode())
    for file in content:
        told = machine.name in LEARNT and file.path.startswith(TOLD)
        if not told and not file.path.endswith(LATER):  # arrives later, and is put in place then
            recipe.update(repr(file).encode())
    return recipe.hexdigest()[:16]
