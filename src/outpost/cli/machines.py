"""`outpost machines`: what the hosts of an office need before their first apply."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from outpost.cli.console import Table, out
from outpost.cli.options import LimitOption, OfficeArgument, chosen_hosts
from outpost.errors import OutpostError
from outpost.keys import pairs, secrets_file
from outpost.machines import seed
from outpost.office import load
from outpost.target import find, shown

app = typer.Typer()
machines = typer.Typer(name="machines", help="Prepare the first boot of new machines.", no_args_is_help=True)
app.add_typer(machines)


@machines.callback()
def _group() -> None:
    """Keeps `seed` a command of a group."""


@machines.command(
    "seed",
    epilog="Example: `./outpost machines seed po --output /root/seeds`. Then attach HOST.iso to each machine as a CD and start it. "
    "docs/how-to/machines.md shows it for libvirt, Proxmox and clouds.",
)
def write_seeds(
    office: OfficeArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output", metavar="DIR", help="Directory for the seeds; keep it out of the repository."
        ),
    ],
    limit: LimitOption = None,
) -> None:
    """Write a first-boot seed (cloud-init, NoCloud) for each host.

    It brings names, addresses, your SSH keys, and an SSH host key that is pinned in known_hosts now.
    """
    target = find(office)
    if target.instance:
        raise OutpostError("the lab's hosts are containers", "name an office of yours")
    loaded, kept = load(target.data, uncertified=True), secrets_file.read(target.data)
    hosts = [loaded.host(name) for name in chosen_hosts(loaded, limit) or loaded.hosts_by_name]
    keys = {host.name: kept.ssh_hosts.get(host.name) or pairs.new_ssh_key() for host in hosts}
    for host in hosts:
        known = set(loaded.ssh.host_keys.get(host.name, ()))
        if known - {pairs.ssh_public(keys[host.name])}:
            raise OutpostError(
                f"{host.name} is in known_hosts with a key of its own: its machine exists already",
                f"remove its lines from {shown(target.data / 'known_hosts')} if you replace it, or choose other hosts with --limit",
            )
    made = [seed.seed(loaded, host, keys[host.name]) for host in hosts]
    images = seed.write(made, output)
    if {host.name for host in hosts} - set(kept.ssh_hosts):
        kept = kept.model_copy(update={"ssh_hosts": {**kept.ssh_hosts, **keys}})
        secrets_file.write(target.data, kept, loaded.secrets.recipients)
    _pin(target.data / "known_hosts", seed.pins(loaded, keys))
    table = Table("host", "seed", "zone", "hardware address", "addresses")
    for host, image in zip(hosts, images, strict=True):
        for number, zone in enumerate(host.addresses):
            first = (host.name, escape(str(image))) if number == 0 else ("", "")
            table.add_row(
                *first, zone, seed.mac(loaded, host, zone), ", ".join(map(str, loaded.interfaces(host, zone)))
            )
    out.print(table)
    out.print(
        "Next: give each machine one card for each zone, with that hardware address. Attach its seed as a CD and start it.\n"
        f"  ./outpost preflight {office}\n"
        f"Then detach the seeds and delete {escape(str(output))}: a seed holds the SSH host key of its host."
    )


def _pin(file: Path, lines: dict[str, str]) -> None:
    """Add the lines to ``known_hosts`` that it lacks."""
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    new = [line for line in lines.values() if line not in before.splitlines()]
    if before and not before.endswith("\n"):
        before += "\n"
    file.write_text(before + "".join(f"{line}\n" for line in new), encoding="utf-8")
