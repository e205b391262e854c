"""``outpost lab …``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from docker.errors import DockerException
from rich.console import Console
from rich.table import Table

from outpost.lab import LabError
from outpost.lab import up as lab
from outpost.lab.info import info as lab_info
from outpost.lab.instance import DEFAULT, Instance
from outpost.lab.progress import Lines

app = typer.Typer(help="The lab: an office and an Internet in a box, on Docker.", no_args_is_help=True)

Name = Annotated[str, typer.Option("--name", help="Which lab; several can run side by side.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command()
def up(
    name: Name = DEFAULT,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", "--install-docker", help="Install Docker and mmdebstrap where they are missing."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring the lab's containers up: the world and the office's hosts. A second run repairs."""
    with shown() as progress:
        instance = lab.up(name, progress=progress, install=yes)
    if as_json:
        sys.stdout.write(json.dumps(lab_info(instance), indent=2) + "\n")


@app.command()
def down(
    name: Name = DEFAULT,
    every: Annotated[bool, typer.Option("--all", help="Every lab on this machine.")] = False,
) -> None:
    """Remove a lab: containers, networks, state. Image and package caches stay."""
    with shown() as progress:
        if every:
            lab.down_all(progress=progress)
        else:
            lab.down(name, progress=progress)


@app.command("info")
def info_(name: Name = DEFAULT, as_json: Json = False) -> None:
    """Show machines, addresses, users and passwords."""
    with shown():
        instance = Instance.load(name)
        data = lab_info(instance)
    if as_json:
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
        return
    console = Console()
    table = Table("machine", "role", "container", "addresses", title=f"{data['domain']} in the lab {name}")
    for group in ("hosts", "world"):
        for machine, shape in data[group].items():
            where = "\n".join(f"{zone}: {', '.join(pair)}" for zone, pair in shape["addresses"].items())
            table.add_row(machine, shape["role"], shape["container"], where)
        table.add_section()
    console.print(table)
    for user, password in data["users"].items():
        console.print(f"{user}  {password}", highlight=False)
    console.print(f"authority: {data['ca']}", highlight=False)


@app.command()
def shell(
    host: Annotated[str, typer.Argument(help="A machine, such as mta, or attacker.")],
    command: Annotated[
        list[str] | None, typer.Argument(help="What to run; a login shell if not given.")
    ] = None,
    name: Name = DEFAULT,
) -> None:
    """Open a root shell on one of the lab's machines, or run a command there."""
    with shown():
        instance = Instance.load(name)
        container = instance.container_name(instance.machine(host).name)
    terminal = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    arguments = ["docker", "exec", "--interactive", *terminal, container, *(command or ["bash", "-l"])]
    os.execvp("docker", arguments)  # noqa: S606


@contextmanager
def shown() -> Iterator[Lines]:
    """Progress on standard error; a ``LabError`` becomes its line and its remedy, and exit code 1."""
    progress = Lines()
    try:
        yield progress
    except (LabError, DockerException) as caught:
        progress.close()
        error = caught if isinstance(caught, LabError) else _refused(caught)
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(f"[red]outpost:[/] {error.message}", markup=True)
        console.print(f"  remedy: {error.remedy}", markup=False)
        raise typer.Exit(1) from caught
    finally:
        progress.close()


def _refused(error: DockerException) -> LabError:
    said = getattr(error, "explanation", None) or str(error)
    return LabError(f"Docker: {said}", "run the command again; it takes up where it stopped")


if __name__ == "__main__":
    app()
