"""``lab info``: the facts that scripts rely on."""

import json
from typing import Any

from outpost_lab.instance import Instance
from outpost_lab.world import Machine


def info(instance: Instance) -> dict[str, Any]:
    """What a script needs to use an instance.

    Returns:
        ``office`` and ``domain``; ``ca``, the PEM file of the authority that users' programs must trust; ``users``, address →
        password; ``hosts`` and ``world``, name → ``role``, ``container``, ``addresses`` (zone → [IPv4, IPv6]).
    """
    passwords = instance.directory / "passwords.json"
    return {
        "office": instance.office.name,
        "domain": instance.office.domain,
        "ca": str(instance.users_ca),
        "users": json.loads(passwords.read_text()) if passwords.exists() else {},
        "hosts": {item.name: _shape(instance, item) for item in instance.machines if item.office},
        "world": {item.name: _shape(instance, item) for item in instance.machines if not item.office},
    }


def _shape(instance: Instance, machine: Machine) -> dict[str, Any]:
    return {
        "role": machine.role,
        "container": instance.container_name(machine.name),
        "addresses": {zone: list(pair) for zone, pair in machine.addresses.items()},
    }
