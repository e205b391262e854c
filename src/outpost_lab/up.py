"""``lab up`` and ``lab down``."""

import fcntl
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound
from rich.console import Console
from rich.markup import escape

from outpost.errors import OutpostError
from outpost.target import ROOT, labs
from outpost_lab import aptcache, containers, engine, images, keys, networks, room, trust, world
from outpost_lab.dnszones import trust_anchor
from outpost_lab.instance import CHECKOUT, DEFAULT, LABEL, OFFICE, Instance
from outpost_lab.world import Machine

AT_ONCE = 4  # containers created or booted side by side
RESOLVES = ("kdig", "@127.0.0.1", "+retry=3", "+timeout=2", "+cd", "a.nic.test", "A")


class Progress:
    """Shows steps, one after the other: with a spinner on a terminal, as plain lines elsewhere, not at all without a console."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(quiet=True)
        self._status = self._console.status("")
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """A step, and a function to call for its parts. An interrupted step has no time."""
        started = time.monotonic()
        self._status.update(name)
        with self._status:
            yield partial(self.note, name)
        self.seconds[name] = round(time.monotonic() - started, 1)
        self._console.print(f"[green]✓[/] {name} [dim]{self.seconds[name]:.1f} s[/]")

    def note(self, step: str, text: str) -> None:
        """Report a part of a running step that takes a while."""
        if not self._console.is_terminal:
            self._console.print(f"  {step}: {text}", markup=False)
        self.doing(step, text)

    def doing(self, step: str, text: str) -> None:
        """Report the present work of a running step; shown only where the line can be overwritten."""
        self._status.update(f"{step} [dim]{escape(text)}[/]")


def up(
    name: str = DEFAULT, *, progress: Progress | None = None, install: bool = False, source: Path = OFFICE
) -> Instance:
    """Brings an instance up: images, networks, the test environment, the office's hosts (an empty Debian each).

    May be repeated: what is right stays, what is missing or stopped is repaired, and an interrupted start continues.

    Args:
        install: The user agrees to Docker and mmdebstrap on this machine, and to higher limits until the next boot.
        source: Office file written for slot 0.
    """
    progress = progress or Progress()
    with _alone(progress):
        with progress.step("Docker") as note:
            client = engine.ensure(install=install, note=note)
            _only_ours(client, name)
        with progress.step("room on this machine") as note:
            machines = len(world.around(0)) + len(tomllib.loads(source.read_text(encoding="utf-8"))["hosts"])
            room.ensure(client, machines, name, consent=install, note=note)
        with progress.step("images") as note:
            wanted = ("base", "postfix", "exim", "acme", "collector", "vault", "apt-cache")
            images.build(client, wanted, install=install, note=note)
            aptcache.ensure(client, images.tag("apt-cache"))
        with progress.step("networks"):
            instance, zones = _networks(client, name, source)
            cache = world.address("mgmt", world.APT_CACHE_OCTET, instance.slot)
            aptcache.attach(client, zones["mgmt"], *cache)

    def booted(machine: Machine) -> None:
        containers.wait(instance.container(machine.name, client), machine)

    def made(machine: Machine) -> None:
        containers.ensure(client, instance, machine, zones)

    _each(progress, "test environment and hosts", instance, made)
    _each(progress, "boot", instance, booted)
    containers.run(instance.container("gw", client), *RESOLVES)
    trust.learn_acme_root(instance)
    return instance


def down(name: str = DEFAULT, *, progress: Progress | None = None) -> None:
    """Removes an instance: containers, networks and state; image and apt caches stay.

    Finds everything by label, even after an interrupted ``up``. Nothing to remove is no error.
    """
    progress, client, instance = progress or Progress(), engine.connect(), Instance(name=name, slot=0)
    with _alone(progress):
        with progress.step(f"{name}: containers"), ThreadPoolExecutor(AT_ONCE) as pool:
            for found in [
                pool.submit(item.remove, force=True, v=True) for item in instance.containers(client)
            ]:
                with suppress(NotFound):
                    found.result()
        with progress.step(f"{name}: networks"):
            for network in networks.mine(client, instance):
                with suppress(APIError):  # not connected to it
                    network.disconnect(aptcache.NAME, force=True)
                network.remove()
            if aptcache.release(client):  # the last one on this machine
                images.prune(client)
        if instance.directory.exists():
            shutil.rmtree(instance.directory)


def down_all(*, progress: Progress | None = None) -> None:
    """Removes every instance on this machine: those with anything in Docker, and those in this checkout's state."""
    client = engine.connect()
    known = {path.parent.name for path in labs().glob("*/instance.json")}
    known |= {item.labels[LABEL] for item in client.containers.list(all=True, filters={"label": LABEL})}
    known |= {item.attrs["Labels"][LABEL] for item in client.networks.list(filters={"label": LABEL})}
    for name in sorted(known):
        down(name, progress=progress)


def _each(progress: Progress, step: str, instance: Instance, work: Callable[[Machine], object]) -> None:
    """Does something for each machine, a few at a time; raises the first exception."""

    def one(machine: Machine) -> None:
        progress.doing(step, machine.name)
        work(machine)

    with progress.step(step), ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(one, machine) for machine in instance.contained]:
            done.result()


def _networks(client: docker.DockerClient, name: str, source: Path) -> tuple[Instance, dict[str, Any]]:
    """The instance with its networks: in the slot that it has; else in the one that it had, or in the first one that is free."""
    stored, existing = Instance.stored(name), networks.mine(client, Instance(name=name, slot=0))
    if existing:
        instance = Instance(name=name, slot=int(existing[0].attrs["Labels"]["outpost.slot"]))
        zones = networks.ensure(client, instance)
    else:
        slots = [*([stored.slot] if stored else []), *range(world.SLOTS)]
        instance, zones = networks.settle(client, partial(Instance, name), slots)
    _write_state(instance, source)
    return instance, zones


def _write_state(instance: Instance, source: Path) -> None:
    instance.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    instance.save()
    instance.world_authority()
    if not instance.acme_ca.exists():  # the office file has its root, which it makes at its start
        instance.acme_ca.write_bytes(instance.world_ca.read_bytes())
    instance.write_office(trust_anchor(instance), source)
    lines = []
    for machine in instance.machines:
        public = keys.ssh_key(instance.directory / "hosts" / machine.name, machine.fqdn).rpartition(" ")[0]
        where = [item for pair in machine.addresses.values() for item in pair]
        lines.append(f"{','.join([*where, machine.fqdn, instance.container_name(machine.name)])} {public}\n")
    instance.known_hosts.write_text("".join(lines))


def _only_ours(client: docker.DockerClient, name: str) -> None:
    for item in Instance(name=name, slot=0).containers(client):
        if (owner := item.labels.get(CHECKOUT)) != str(ROOT):
            remedy = "use another name (--name), or run ./outpost lab down in that checkout first"
            raise OutpostError(f"the lab {name} belongs to another checkout, {owner}", remedy)


@contextmanager
def _alone(progress: Progress) -> Iterator[None]:
    """Only one command at a time assigns slots and builds images."""
    labs().mkdir(parents=True, exist_ok=True)
    with (labs() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step("waiting for another lab command"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
