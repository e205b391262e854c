"""The command line: puts the commands together, and reports failures."""

import errno
import os
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from outpost import __version__
from outpost.cli import COMMANDS, PROGRAM
from outpost.cli.options import declared
from outpost.target import OFFICES_VARIABLE, expect_checkout

INTERRUPTED = 130
_SPACE, _WRITABLE = "free some space on this machine: df -h shows where", "make it writable for your account"
OUT_OF_ROOM = {
    errno.ENOSPC: _SPACE, errno.EDQUOT: _SPACE, errno.EROFS: _WRITABLE, errno.EACCES: _WRITABLE,
}  # fmt: skip
"""An error of this machine, and the remedy; it is not a fault of Outpost."""
RENAMED = {
    "--afresh": "--refresh", "--anyway": "--force", "--host": "--limit", "--tell": "--notify", "--thin-out": "--prune"
}  # fmt: skip
"""Options of 1.0.0rc1 → their new names. 2.0 removes the old ones (docs/stability.md)."""


class LazyGroup(TyperGroup):
    """Imports a command's module when the command is used."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            if name in ("reference", "test", "bench"):
                expect_checkout()
            alike = typer.Typer(rich_markup_mode="markdown")
            alike.add_typer(import_module(f"outpost.cli.{COMMANDS[name]['module']}").app)
            command = typer.main.get_group(alike).commands[name]
        return name, command, rest


app = typer.Typer(
    cls=LazyGroup,
    name="outpost",
    help=PROGRAM["help"],
    epilog=PROGRAM["examples"],
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"outpost {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version_option: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    offices: Annotated[Path | None, declared(*PROGRAM["offices"])] = None,
) -> None:
    if offices:
        os.environ[OFFICES_VARIABLE] = str(offices.absolute())


for command, about in COMMANDS.items():

    @app.command(command, help=about["help"], rich_help_panel=about["task"])
    def _resolved() -> None:
        raise AssertionError("LazyGroup resolves this command")


def _renamed(arguments: list[str]) -> list[str]:
    """Replace deprecated option names in the command line, with a note for each."""
    if arguments[:1] == ["lab"]:  # words after -- may be a command for a machine
        return arguments
    named: list[str] = []
    for number, word in enumerate(arguments):
        if word == "--":
            return named + arguments[number:]
        option, equals, value = word.partition("=")
        if new := RENAMED.get(option):
            typer.echo(f"outpost: {option} is deprecated: use {new}", err=True)
            word = f"{new}{equals}{value}"
        named.append(word)
    return named


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every failure is reported in one line with a remedy.

    Raises:
        KeyboardInterrupt: Somebody interrupted it.
        BrokenPipeError: Nobody reads its output any more.
    """
    try:
        status = int(app(_renamed(arguments), prog_name="outpost", standalone_mode=False) or 0)
        if status == INTERRUPTED:  # typer's own answer to it
            raise KeyboardInterrupt
        return status
    except typer.TyperException as error:
        from typer.rich_utils import rich_format_error

        rich_format_error(error)  # type: ignore[arg-type]  # what typer itself raises for wrong usage
        return 64
    except typer.Abort:
        raise KeyboardInterrupt from None
    except BrokenPipeError:
        raise
    except Exception as error:
        if str(error).rstrip(": \n").endswith("KeyboardInterrupt"):
            raise KeyboardInterrupt from None  # pydantic passes it on so while models are made
        _report(error)
        if os.environ.get("OUTPOST_DEBUG"):
            raise
        return 1


def _report(error: Exception) -> None:
    """Print what is wrong and what to do."""
    from outpost.cli.console import say_error

    if hasattr(error, "remedy"):
        say_error(getattr(error, "message", str(error)), error.remedy)
    elif hasattr(error, "problems"):
        from outpost.cli.office import show_problems

        show_problems(error.problems)
    elif isinstance(error, UnicodeEncodeError):  # Python keeps octets that are not UTF-8 as surrogates
        say_error("an argument or an answer is not in UTF-8", "run locale, and set LANG to one with UTF-8")
    elif isinstance(error, OSError) and (cure := OUT_OF_ROOM.get(error.errno or 0)):
        place = f"{error.filename}: " if error.filename else ""
        say_error(f"{place}{error.strerror}", f"{cure}; then run the same command again")
    elif type(error).__module__ == "docker.errors":
        reason = getattr(error, "explanation", None) or error
        say_error(f"Docker: {reason}", "run the command again; it goes on where it stopped")
    else:
        say_error(
            f"{type(error).__name__}: {error}" if str(error) else type(error).__name__,
            "run it again with OUTPOST_DEBUG=1, and report this bug in Outpost with what it prints",
        )
