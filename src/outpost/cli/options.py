"""How a function becomes a command, and the common arguments OFFICE, --name, --via and --limit."""

from __future__ import annotations

import inspect
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from outpost.cli import COMMANDS, PROGRAM
from outpost.errors import OutpostError
from outpost.target import LAB, Target, find, labs, offices

if TYPE_CHECKING:
    from outpost.office import Office

Command = TypeVar("Command", bound=Callable[..., Any])


def _complete(incomplete: str) -> list[str]:
    return [name for name in offices() if name.startswith(incomplete)]


OfficeArgument = Annotated[
    str,
    typer.Argument(
        metavar="OFFICE",
        help="Name of an office (its directory's, or the one in its file), or path of its directory.",
        autocompletion=_complete,
    ),
]


class At:
    """The office, the instance and the connector that a command's OFFICE, --name and --via choose."""

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
    """Commands, or a group of them, with texts and options from ``commands.toml``; some commands are about an office."""

    def __init__(self, group: str = "", **options: Any) -> None:
        self._tables = (COMMANDS[group],) if group else ()
        about = {"name": group, "help": COMMANDS[group]["help"], "no_args_is_help": True} if group else {}
        super().__init__(**about, **options)

    def group(self, name: str, **options: Any) -> App:
        """Add a group of commands."""
        group = App(name, **options)
        self.add_typer(group)
        return group

    def named(self, name: str, **options: Any) -> Callable[[Command], Command]:
        """Add a command; each of its parameters is an option or an argument."""
        own = (self._tables[0] if self._tables else COMMANDS)[name]
        described = ChainMap(own, *self._tables, PROGRAM)

        def with_text(each: inspect.Parameter) -> inspect.Parameter:
            if hasattr(each.annotation, "__metadata__"):
                return each
            return each.replace(annotation=Annotated[each.annotation, declared(*described[each.name])])

        def add(command: Command) -> Command:
            parameters = inspect.signature(command, eval_str=True).parameters.values()
            texts = {"help": own["help"], "epilog": own.get("examples")}
            self.command(name, **texts, **options)(takes(command, map(with_text, parameters)))
            return command

        return add

    def of_office(self, name: str, *, asks_hosts: bool = True) -> Callable[[Command], Command]:
        """Add a command with OFFICE, --name and --via; it gets them as its first parameter."""

        def add(command: Command) -> Command:
            def called(
                office: OfficeArgument, name: str | None = None, via: str | None = None, **given: Any
            ) -> Any:
                return command(At(office, name, via), **given)

            shared = inspect.signature(called, eval_str=True).parameters
            _, *own = inspect.signature(command, eval_str=True).parameters.values()
            ends = [shared["name"], *([shared["via"]] if asks_hosts else [])]
            self.named(name)(takes(called, [shared["office"], *own, *ends]))
            return command

        return add


def declared(names: str, about: str, more: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """An option as `--help` shows it (`--yes -y`, `--limit HOST`), or an argument (`HOST`)."""
    if not names.startswith("-"):
        return typer.Argument(metavar=names, help=about)
    words = names.split()
    given = [word for word in words if word.startswith("-")]
    metavar = next((word for word in words if word not in given), None)
    return typer.Option(*given, metavar=metavar, help=about, **more)


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
