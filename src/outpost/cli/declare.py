"""`outpost declare`: what the code and the office file declare, and what another revision declares differently."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from outpost.cli.console import count, err, out, say_json
from outpost.cli.options import App, At, JsonOption
from outpost.converge import revisions
from outpost.converge.declaration import declaration
from outpost.converge.declaration import shown as printable
from outpost.errors import OutpostError
from outpost.hosts import expect_hosts
from outpost.keys import secrets_file
from outpost.target import ROOT

app = App()

SAME, DIFFERENT = 0, 2
COLOURS = {"+": "green", "-": "red"}
LOCK = "requirements.lock"


@app.of_office(
    "declare",
    asks_hosts=False,
    epilog="Examples: `./outpost declare po mta --json`; `./outpost declare po --against v1.0.0` after a change of the code. Exit code 0: "
    "printed, or nothing differs, 2: `--against` found differences.",
)
def print_declaration(
    at: At,
    host: Annotated[
        str, typer.Argument(metavar="HOST", help="A host; with --against, all hosts by default.")
    ] = "",
    against: Annotated[
        str,
        typer.Option("--against", metavar="REV", help="Compare with a git revision; its code is run."),
    ] = "",
    as_json: JsonOption = False,
) -> int:
    """Print what is declared for a host, or what a change of code alters.

    Packages, accounts, files, units. No host is asked, and no secret is printed. Commands that an apply runs are not compared.
    """
    loaded, directory = at.office, at.target.data
    expect_hosts(loaded, [host] if host else [])
    if against:
        return _compare(against, directory, [host] if host else list(loaded.hosts_by_name), as_json=as_json)
    if not host:
        raise OutpostError(
            "no host is named", f"choose one of: {', '.join(loaded.hosts_by_name)}; or add --against REV"
        )
    declared = printable(declaration(loaded, secrets_file.read(directory), host))
    if as_json:
        say_json({"host": host, **declared})
        return SAME
    for kind, things in declared.items():
        for thing, value in things.items():
            sys.stdout.write(f"{kind} {thing} {' '.join(value)}".rstrip() + "\n")
    return SAME


def _compare(revision: str, directory: Path, hosts: list[str], *, as_json: bool) -> int:
    with revisions.checkout(revision) as before:
        if (before / LOCK).read_bytes() != (ROOT / LOCK).read_bytes():
            err.print(f"{LOCK} of {revision} differs: its code runs with today's packages", markup=False)
        found = revisions.differences(directory, hosts, before)
    if as_json:
        listed = {host: [asdict(each) for each in found[host]] for host in hosts}
        say_json({"against": revision, "hosts": listed})
        return DIFFERENT if any(found.values()) else SAME
    for host, different in found.items():
        found_here = count(len(different), "difference") if different else "no differences"
        out.print(f"{host}: {found_here}", markup=False, style="bold")
        for each in different:
            out.print(f"  {each.change} {each.kind} {each.thing}", markup=False)
            for line in each.diff:
                out.print(f"    {line}", style=COLOURS.get(line[:1], "dim"), markup=False)
    return DIFFERENT if any(found.values()) else SAME
