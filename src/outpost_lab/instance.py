"""An instance of the lab: its state between two commands."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import docker
import tomlkit
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from docker.errors import NotFound

from outpost.errors import OutpostError
from outpost.office.certificates import acme_hosts
from outpost.office.load import load
from outpost.office.model import Office
from outpost.target import ROOT, labs, written
from outpost_lab import engine, keys, world
from outpost_lab.world import Machine

OFFICE = ROOT / "inventory" / "lab" / "office.toml"
DEFAULT = "lab"
LABEL = "outpost.instance"
CHECKOUT = "outpost.checkout"
VAULT = "vault"
"""The test environment's machine that keeps backups."""


class _Kept:
    """A file of an instance's state."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: "Instance", _owner: type) -> Path:
        return instance.directory / self._name


@dataclass(frozen=True)
class Instance:
    """A lab by name, in a slot of the address plan: 0 is 10.77.0.0/16 and fd00:77::/32, 1 is 10.78.0.0/16 …

    Attributes:
        delegated: Whether the parents of the office's zones name its servers.
    """

    name: str
    slot: int
    delegated: bool = True

    @classmethod
    def load(cls, name: str = DEFAULT) -> "Instance":
        """The instance of that name; raises `OutpostError` if there is none, or its containers are gone or stopped."""
        found, remedy = cls.stored(name), f"run ./outpost lab up{_option(name)}"
        if found is None:
            raise OutpostError(f"the lab instance {name} does not run", remedy)
        containers = found.containers(engine.connect())
        running = {container.name for container in containers if container.status == "running"}
        names = [machine.name for machine in found.contained]
        if absent := [each for each in names if found.container_name(each) not in running]:
            raise OutpostError(f"{', '.join(absent)} of the lab {name}: not running", remedy)
        return found

    @classmethod
    def stored(cls, name: str) -> "Instance | None":
        """The instance from this checkout's state, running or not."""
        path = directory(name) / "instance.json"
        return cls(name=name, slot=int(json.loads(path.read_text())["slot"])) if path.exists() else None

    @property
    def directory(self) -> Path:
        """Its state: ``.lab/<name>/`` in the checkout."""
        return directory(self.name)

    @property
    def office_file(self) -> Path:
        """The office's ``office.toml`` with this instance's addresses and trust anchor."""
        return self.directory / "office.toml"

    ssh_key = _Kept("ssh_key")  # opens root on every machine; ``.pub`` beside it
    known_hosts = _Kept("known_hosts")  # SSH host keys of every machine
    world_ca = _Kept("world-ca.pem")  # authority of the certificates of the test environment's mail servers
    office_ca = _Kept("ca.pem")  # authority of the office, once it has its secrets
    acme_ca = _Kept("acme-ca.pem")  # root of the test environment's ACME authority, once it was asked for

    @property
    def users_ca(self) -> Path:
        """The authority that users and strangers must trust to accept the office's hosts, PEM."""
        return self.acme_ca if acme_hosts(self.office) else self.office_ca

    @cached_property
    def office(self) -> Office:
        return load(self.office_file)

    @cached_property
    def machines(self) -> tuple[Machine, ...]:
        """Every machine: the test environment's first, then the office's."""
        return world.around(self.slot) + world.hosts(self.office)

    @property
    def contained(self) -> tuple[Machine, ...]:
        """The machines that are containers: all except hosts that ``lab vm`` has made virtual machines."""
        virtual = {host.name for host in self.office.hosts if host.platform == "vagrant"}
        return tuple(machine for machine in self.machines if machine.name not in virtual)

    def machine(self, name: str) -> Machine:
        machines = {machine.name: machine for machine in self.machines}
        if name not in machines:
            raise OutpostError(f"no machine {name} in the lab", f"choose one of: {', '.join(machines)}")
        return machines[name]

    def container_name(self, machine: str) -> str:
        return f"outpost-{self.name}-{machine}"

    def network_name(self, zone: str) -> str:
        return f"outpost-{self.name}-{zone}"

    def container(self, machine: str, client: docker.DockerClient | None = None) -> Any:
        """A machine's container (docker SDK)."""
        try:
            return (client or engine.connect()).containers.get(self.container_name(machine))
        except NotFound as error:
            problem = f"{machine} of the lab {self.name} does not exist"
            raise OutpostError(problem, f"./outpost lab up{_option(self.name)}") from error

    def containers(self, client: docker.DockerClient) -> list[Any]:
        """Every container with the instance's label, running or not, even after an incomplete start."""
        return list(client.containers.list(all=True, filters={"label": f"{LABEL}={self.name}"}))

    def world_authority(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Certificate and key of the authority that the world's mail servers have theirs from, made on first use."""
        path = self.directory / "world" / "ca.key"
        return keys.authority(self.world_ca, path, f"Lab {self.name} world authority"), keys.ec_key(path)

    def credentials(self, machine: Machine) -> tuple[Path, bytes]:
        """Key file and PEM certificate of one of the world's mail servers, made on first use."""
        key = self.directory / "world" / f"{machine.name}.key"
        return key, keys.certificate(key, machine.certificate_names, *self.world_authority())

    @property
    def labels(self) -> dict[str, str]:
        """Docker labels of everything that belongs to the instance."""
        return {LABEL: self.name, "outpost.slot": str(self.slot), CHECKOUT: str(ROOT)}

    def save(self) -> None:
        """Stores the slot for later commands."""
        state = {"name": self.name, "slot": self.slot}
        written(self.directory / "instance.json", json.dumps(state, indent=2) + "\n")

    def write_office(self, trust_anchor: list[str], source: Path = OFFICE) -> None:
        """Writes the instance's office file from the shipped one, which has slot 0: addresses, trust anchor, SSH key."""
        document: Any = tomlkit.parse(world.shifted(source.read_text(), self.slot))
        document.setdefault("resolver", tomlkit.table())["trust_anchor"] = trust_anchor
        own_key = keys.ssh_key(self.ssh_key, f"outpost-lab {self.name}")
        document.setdefault("ssh", tomlkit.table())["authorized_keys"] = [own_key]
        if "backup" in document:
            vault = keys.ssh_key(self.directory / "hosts" / VAULT, VAULT)
            document["backup"]["host_keys"] = [vault.rpartition(" ")[0]]
        if (before := self.office_file).exists():  # keep values that a later step has added
            old: Any = tomlkit.parse(before.read_text())
            if "secrets" in old and "secrets" not in document:
                document["secrets"] = old["secrets"]
            for host, data in old["hosts"].items():
                if "platform" in data and host in document["hosts"]:
                    document["hosts"][host]["platform"] = data["platform"]
        text = tomlkit.dumps(document)
        if not before.exists() or before.read_text() != text:
            before.write_text(text)


def directory(name: str) -> Path:
    """Where an instance of that name keeps its state."""
    if not re.fullmatch(r"[a-z][a-z0-9]{0,15}", name):
        remedy = "choose a name of at most 16 lower-case letters and digits that begins with a letter"
        raise OutpostError(f"{name!r} cannot name a lab", remedy)
    return labs() / name


def _option(name: str) -> str:
    return "" if name == DEFAULT else f" --name {name}"


def info(instance: Instance) -> dict[str, Any]:
    """What a script needs to use an instance.

    Returns:
        ``office`` and ``domain``; ``ca``, the PEM file of the authority that users' programs must trust; ``users``, address →
        password; ``hosts`` and ``world``, name → ``role``, ``container``, ``addresses`` (zone → [IPv4, IPv6]).
    """
    passwords = instance.directory / "passwords.json"
    shapes: dict[str, dict[str, Any]] = {"hosts": {}, "world": {}}
    for machine in instance.machines:
        shapes["hosts" if machine.office else "world"][machine.name] = {
            "role": machine.role,
            "container": instance.container_name(machine.name),
            "addresses": {zone: list(pair) for zone, pair in machine.addresses.items()},
        }
    return {
        "office": instance.office.name,
        "domain": instance.office.domain,
        "ca": str(instance.users_ca),
        "users": json.loads(passwords.read_text()) if passwords.exists() else {},
        **shapes,
    }
