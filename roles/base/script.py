"""A unit of our own that starts a shell script."""

from typing import Any

from outpost.converge.declaration import Change
from outpost.converge.files import LIB, rendered
from outpost.converge.shapes import service


def script(role: str, name: str, program: str = "", **context: Any) -> Change:
    """``outpost-NAME.service`` and its script, by default of the same name: both from the role's templates."""
    path = f"{LIB}/{program or name}"
    unit = f"outpost-{name}.service"
    files = [
        rendered(role, path, mode="0755", **context),
        rendered(role, f"/etc/systemd/system/{unit}", **context),
    ]
    return service(name=name, unit=unit, files=files, check=f"sh -n {path}")
