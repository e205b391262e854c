"""What templates and certificates are made from."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from jinja2 import Environment

from outpost import templates
from outpost_lab import keys, world
from outpost_lab.instance import Instance
from outpost_lab.paths import WORLD
from outpost_lab.world import Machine


def credentials(instance: Instance, machine: Machine) -> tuple[Path, bytes]:
    """Key file and PEM certificate of one of the world's mail servers, made on first use."""
    key = instance.directory / "world" / f"{machine.name}.key"
    return key, keys.certificate(key, machine.certificate_names, *world_authority(instance))


def world_authority(instance: Instance) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Certificate and key of the authority that the world's mail servers have theirs from, made on first use."""
    path = instance.directory / "world" / "ca.key"
    return keys.authority(instance.world_ca, path, f"Lab {instance.name} world authority"), keys.ec_key(path)


def environment() -> Environment:
    """Jinja2 as the lab's templates expect it, with the types of DNS records."""
    made = templates.environment(WORLD)
    made.filters["rrtype"] = world.rrtype
    return made
