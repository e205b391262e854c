"""pyinfra's host list for an office: what ``inventory/<office>/<connector>.py`` returns.

An inventory file is one call, so that every connector reaches the same office with the same data. The files of offices outside
this checkout import `outpost.hosts`, so this module keeps its name and place.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.office import OfficeError, load
from outpost.office.model import Office
from outpost.target import INSTANCE_VARIABLE, LAB, labs
from outpost.transport import ssh as openssh

Inventory = list[tuple[str, dict[str, Any]]]


def lab_directory() -> Path:
    """State of the lab instance that $OUTPOST_LAB names (default: ``lab``)."""
    instance = os.environ.get(INSTANCE_VARIABLE, LAB)
    directory = labs() / instance
    if not (directory / "office.toml").is_file():
        raise SystemExit(
            f"The lab instance {instance} does not run. Remedy: ./outpost lab up --name {instance}"
        )
    return directory


def docker(directory: Path) -> Inventory:
    instance = os.environ.get(INSTANCE_VARIABLE, LAB)
    given = _given(directory)
    return [
        (f"@container/outpost-{instance}-{host.name}", given | {"machine": host.name})
        for host in given["office"].hosts
    ]


def ssh(directory: Path) -> Inventory:
    """Hosts over SSH with host keys pinned in ``known_hosts`` beside the office file."""
    given = _given(directory)
    office: Office = given["office"]
    given["openssh_config"] = str(openssh.configuration(office, directory))
    return [
        (
            f"@openssh/{host.name}",
            given | {"machine": host.name, "_sudo": openssh.target(office, host)[0] != "root"},
        )
        for host in office.hosts
    ]


def _given(directory: Path) -> dict[str, Any]:
    """What the data of each host has."""
    try:
        return {"office": load(directory), "secrets": secrets_file.read(directory)}
    except OfficeError as error:
        raise SystemExit(f"{directory}/office.toml cannot be used:\n{error}") from None
    except OutpostError as error:
        raise SystemExit(str(error)) from None


def expect_hosts(office: Office, names: Iterable[str] | None) -> None:
    """Refuse the name of a host that the office does not have."""
    for name in names or ():
        if name not in office.hosts_by_name:
            known = ", ".join(office.hosts_by_name)
            raise OutpostError(f"{office.domain} has no host {name}", f"choose one of: {known}")
