"""Arguments and options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from outpost.errors import OutpostError
from outpost.target import LAB, Target, find, labs

if TYPE_CHECKING:
    from outpost.office import Office

Command = TypeVar("Command", bound=Callable[..., Any])


def Option(names: str, about: str, **more: Any) -> Any:  # noqa: N802 (as typer's own)
    """An option as `--help` shows it (`--yes -y`, `--limit HOST`), and what it is about."""
    words = names.split()
    given = [word for word in words if word.startswith("-")]
    metavar = next((word for word in words if word not in given), None)
    return typer.Option(*given, metavar=metavar, help=about, **more)


def Argument(metavar: str, about: str) -> Any:  # noqa: N802 (as typer's own)
    return typer.Argument(metavar=metavar, help=about)


OfficeArgument = Annotated[
    str,
    typer.Argument(
        metavar="OFFICE",
        help="Name of an office, or path of its directory.",
        autocompletion=lambda incomplete: _complete(incomplete),
    ),
]
NameOption = Annotated[str | None, Option("--name NAME", "The lab instance (default: lab).")]
LimitOption = Annotated[list[str] | None, Option("--limit HOST", "Only this host or role; may be repeated.")]
ViaOption = Annotated[
    str | None, Option("--via CONNECTOR", "docker, ssh or vagrant: inventory/OFFICE/CONNECTOR.py.")
]
JsonOption = Annotated[bool, Option("--json", "Print the result as JSON.")]
RefreshOption = Annotated[
    bool, Option("--refresh", "Do not use the cache of unchanged hosts: scan all of them.")
]
YesOption = Annotated[bool, Option("--yes -y", "Do not ask.")]


class At:
    """What OFFICE, --name and --via of a command mean."""

    def __init__(self, office: str, name: str | None = None, via: str | None = None) -> None:
        self.typed, self.name, self.via = office, name, via

    @cached_property
    def target(self) -> Target:
        return find(self.typed, self.name)

    @cached_property
    def office(self) -> Office:
        from outpost.office import load  # slow to load, and a no-op does not read the office file

        return load(self.target.data)

    @property
    def pictured(self) -> Office:
        """The office; for a lab that does not run, the case study's file as it is."""
        if self.typed == LAB and self.name is None and not (labs() / LAB / "office.toml").is_file():
            from outpost.evidence.reference import case_study

            return case_study()
        return self.office


def takes(command: Command, parameters: Iterable[inspect.Parameter]) -> Command:
    """The command with these arguments and options, in this order, for typer."""
    listed = [each.replace(kind=each.KEYWORD_ONLY) for each in parameters]
    command.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
    return command


class App(typer.Typer):
    """Typer commands, some of them about an office."""

    def of_office(
        self, name: str, *, asks_hosts: bool = True, **options: Any
    ) -> Callable[[Command], Command]:
        """Add a command with OFFICE, --name and --via; it gets them as its first parameter."""

        def add(command: Command) -> Command:
            def called(
                office: OfficeArgument, name: NameOption = None, via: ViaOption = None, **given: Any
            ) -> Any:
                return command(At(office, name, via), **given)

            shared = inspect.signature(called, eval_str=True).parameters
            _, *own = inspect.signature(command, eval_str=True).parameters.values()
            ends = [shared["name"], *([shared["via"]] if asks_hosts else [])]
            called.__doc__ = command.__doc__
            self.command(name, **options)(takes(called, [shared["office"], *own, *ends]))
            return command

        return add


def _complete(incomplete: str) -> list[str]:
    from outpost.target import offices

    return [name for name in offices() if name.startswith(incomplete)]


def chosen_hosts(office: Office, patterns: list[str] | None) -> tuple[str, ...]:
    """Hosts that --limit selects by name or role."""
    chosen: dict[str, None] = {}
    for pattern in patterns or ():
        matching = [host.name for host in office.hosts if fnmatch(host.name, pattern) or host.role == pattern]
        if not matching:
            known = sorted({name for host in office.hosts for name in (host.name, host.role)})
            remedy = f"choose one of: {', '.join(known)}"
            raise OutpostError(f"--limit {pattern} names no host or role of {office.domain}", remedy)
        chosen.update(dict.fromkeys(matching))
    return tuple(chosen)
