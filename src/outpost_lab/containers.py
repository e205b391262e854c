"""Machines as systemd containers: created with their files inside, started, waited for, repaired."""

import hashlib
import io
import tarfile
from collections.abc import Iterable
from typing import Any

import docker
from docker.errors import NotFound

from outpost.errors import OutpostError
from outpost_lab import images
from outpost_lab.instance import Instance
from outpost_lab.render import File, files
from outpost_lab.world import Machine

RECIPE = "outpost.recipe"
RECIPE_VERSION = 2  # raised when `_create` makes containers differently than before
LATER = tuple(f"{name}-ca.{kind}" for name in ("office", "acme") for kind in ("pem", "crt"))
PEERS = ("headoffice", "clientsite")
"""Machines whose mail servers get the office's settings while they run (`update_peers`): a new container would lose their mail."""
PEER_SETTINGS = ("/etc/postfix/", "/etc/exim4/", "/etc/hosts")
RELOADS = "systemctl try-reload-or-restart postfix.service exim4.service 2>/dev/null || true"
BOOTED = "until [ -S /run/systemd/private ]; do sleep 0.05; done; exec systemctl is-system-running --wait"


def ensure(
    client: docker.DockerClient, instance: Instance, machine: Machine, networks: dict[str, Any]
) -> None:
    """Makes and starts a machine's container if needed.

    A machine of the world whose recipe has changed is made again. A host of the office that has ever run is not made again: its
    data belong to the office.
    """
    content = files(instance, machine)
    recipe = _digest(machine, content)
    try:
        container = client.containers.get(instance.container_name(machine.name))
        fresh = not machine.office or container.status == "created"
        if missing := fresh and container.labels.get(RECIPE) != recipe:
            container.remove(force=True, v=True)
    except NotFound:
        missing = True
    if missing:
        container = _create(client, instance, machine, networks, recipe)
        put(container, content)
    container.reload()
    attached = container.attrs["NetworkSettings"]["Networks"]
    for zone, (ipv4, ipv6) in machine.addresses.items():
        if instance.network_name(zone) not in attached:
            networks[zone].connect(container, ipv4_address=ipv4, ipv6_address=ipv6)
    if container.status != "running":
        container.start()


def update_peers(client: docker.DockerClient, instance: Instance) -> None:
    """Give the peers' mail servers the settings of the office file, as `outpost peer` prints them for their administrators."""
    for name in PEERS:
        container = instance.container(name, client)
        settings = [
            file for file in files(instance, instance.machine(name)) if file.path.startswith(PEER_SETTINGS)
        ]
        held = [container.exec_run(["cat", file.path])[1] for file in settings]
        if [file.content for file in settings] != held:
            # Docker mounts /etc/hosts: it is overwritten, not replaced
            put(container, [file._replace(path=f"/root/settings{file.path}") for file in settings])
            for file in settings:
                run(container, "sh", "-c", f"cat /root/settings{file.path} > {file.path}")
            run(container, "sh", "-c", RELOADS)


def wait(container: Any, machine: Machine) -> None:
    """Returns when a machine has booted. A host of the office may have failed units, which verification reports."""
    state = container.exec_run(["sh", "-c", BOOTED])[1].decode().strip()
    if machine.office and state in ("running", "degraded"):
        return
    # a service between two start attempts does not count as failed
    active = container.exec_run(["systemctl", "is-active", "--quiet", "ssh.service", *machine.units])[0] == 0
    if state != "running" or not active:
        units = ["systemctl", "list-units", "--plain", "--no-legend", "--state=failed,activating"]
        listed = container.exec_run(units)[1].decode().splitlines()
        names = " ".join(line.split()[0] for line in listed if line.strip()) or state
        remedy = f"docker exec {container.name} systemctl status {names}"
        raise OutpostError(f"{container.name} started with failed units: {names}", remedy)


def put(container: Any, content: Iterable[File]) -> None:
    """Writes files into a container, running or not; owner root. It cannot write to /run and /tmp (tmpfs)."""
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
    """Runs a command in a container as root; returns its output."""
    code, output = container.exec_run(list(command))
    text: str = output.decode(errors="replace")
    if code:
        last = (text.strip().splitlines() or ["no message"])[-1]
        problem = f"{container.name}: {' '.join(command)}: {last}"
        raise OutpostError(problem, f"docker exec -it {container.name} bash")
    return text


SYSTEMD: dict[str, Any] = {
    "privileged": True,
    "cgroupns": "host",
    "volumes": {"/sys/fs/cgroup": {"bind": "/sys/fs/cgroup", "mode": "rw"}},
    "tmpfs": {"/run": "mode=755", "/tmp": "exec,mode=1777"},  # noqa: S108
}
"""What a container needs in which systemd runs. No ulimits: it sets Debian's own, and the engine may not raise them."""


def _create(
    client: docker.DockerClient, instance: Instance, machine: Machine, networks: dict[str, Any], recipe: str
) -> Any:
    first, (ipv4, ipv6) = next(iter(machine.addresses.items()))
    network = networks[first].name
    labels = instance.labels | {"outpost.machine": machine.name, "outpost.role": machine.role, RECIPE: recipe}
    return client.containers.create(
        images.tag(machine.image),
        name=instance.container_name(machine.name),
        hostname=machine.fqdn,
        labels=labels,
        network=network,
        networking_config={network: client.api.create_endpoint_config(ipv4_address=ipv4, ipv6_address=ipv6)},
        restart_policy={"Name": "no"},
        **SYSTEMD,
    )


def _digest(machine: Machine, content: list[File]) -> str:
    recipe = hashlib.sha256(repr((RECIPE_VERSION, images.tag(machine.image), machine)).encode())
    for file in content:
        settings = machine.name in PEERS and file.path.startswith(PEER_SETTINGS)
        if not settings and not file.path.endswith(LATER):  # arrives later, and is installed then
            recipe.update(repr(file).encode())
    return recipe.hexdigest()[:16]
