"""Arguments and options that several commands share."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.errors import OutpostError

if TYPE_CHECKING:
    from outpost.office import Office

OfficeArgument = Annotated[
    str,
    typer.Argument(
        metavar="OFFICE",
        help="Name of an office, or path of its directory.",
        autocompletion=lambda incomplete: _complete(incomplete),
    ),
]
NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="The lab instance (default: lab).")
]
LimitOption = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="HOST", help="Only this host or role; may be repeated."),
]
ViaOption = Annotated[
    str | None,
    typer.Option("--via", metavar="CONNECTOR", help="docker, ssh or vagrant: inventory/OFFICE/CONNECTOR.py."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RefreshOption = Annotated[
    bool, typer.Option("--refresh", help="Do not use the cache of unchanged hosts: scan all of them.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _complete(incomplete: str) -> list[str]:
    from outpost.target import offices

    return [name for name in offices() if name.startswith(incomplete)]


def chosen_hosts(office: Office, patterns: list[str] | None) -> tuple[str, ...]:
    """Names of the hosts that the patterns of --limit choose by name or role."""
    chosen: dict[str, None] = {}
    for pattern in patterns or ():
        matching = [host.name for host in office.hosts if fnmatch(host.name, pattern) or host.role == pattern]
        if not matching:
            known = sorted({name for host in office.hosts for name in (host.name, host.role)})
            raise OutpostError(
                f"--limit {pattern} names no host or role of {office.domain}",
                f"choose one of: {', '.join(known)}",
            )
        chosen.update(dict.fromkeys(matching))
    return tuple(chosen)
