"""`outpost machines`: what the hosts of an office need before their first apply."""

import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from outpost.cli.console import Table, count, err, out
from outpost.cli.options import LimitOption, OfficeArgument, Option, YesOption, chosen_hosts
from outpost.cli.progress import watcher
from outpost.engine.preflight import Finding
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.machines import guests, seed, server, up
from outpost.machines import image as disk_image
from outpost.machines.guests import Image, Step
from outpost.machines.hypervisor import Guest
from outpost.machines.keys import kept_seeds, passphrases
from outpost.office import load
from outpost.target import Target, find

app = typer.Typer()
machines = typer.Typer(
    name="machines",
    help="Make the hosts of an office: seeds, images, guests of a server.",
    no_args_is_help=True,
)
app.add_typer(machines)


@machines.command(
    "seed",
    epilog="Example: `./outpost machines seed po --output /root/seeds`. Then attach HOST.iso to each machine as a CD and start it. "
    "docs/how-to/machines.md shows it for libvirt, Proxmox and clouds.",
)
def write_seeds(
    office: OfficeArgument,
    output: Annotated[
        Path, Option("--output DIR", "Directory for the seeds; keep it out of the repository.")
    ],
    limit: LimitOption = None,
) -> None:
    """Write a first-boot seed (cloud-init, NoCloud) for each host.

    It brings names, addresses, your SSH keys, and an SSH host key that is pinned in known_hosts now.
    """
    target = _real(office)
    loaded, kept = load(target.data, uncertified=True), secrets_file.read(target.data)
    hosts = [loaded.host(name) for name in chosen_hosts(loaded, limit) or loaded.hosts_by_name]
    images = seed.write(kept_seeds(target, loaded, kept, hosts), output)
    table = Table("host", "seed", "zone", "hardware address", "addresses")
    for host, image in zip(hosts, images, strict=True):
        for number, zone in enumerate(host.addresses):
            first = (host.name, escape(str(image))) if number == 0 else ("", "")
            addresses = ", ".join(map(str, loaded.interfaces(host, zone)))
            table.add_row(*first, zone, seed.mac(loaded, host, zone), addresses)
    out.print(table)
    out.print(
        "Next: give each machine one card for each zone, with that hardware address. Attach its seed as a CD and start it.\n"
        f"  ./outpost preflight {office}\n"
        f"Then detach the seeds and delete {escape(str(output))}: a seed holds the SSH host key of its host."
    )


OnOption = Annotated[str, Option("--on USER@SERVER", "The server that the guests run on, by SSH.")]


@machines.command(
    "up",
    epilog=f"Example: `./outpost machines up po --on root@192.0.2.5 --image {up.DEBIAN} --sha512 HEX`. "
    "Exit code 0: done or nothing to change, 1: failed or declined.",
)
def make_guests(
    office: OfficeArgument,
    on: OnOption,
    image: Annotated[
        str,
        Option(
            "--image FILE|URL", "For new guests: Debian's genericcloud image, or one of `machines image`."
        ),
    ] = "",
    sha512: Annotated[str, Option("--sha512 HEX", "Its SHA-512; for FILE also read from FILE.sha512.")] = "",
    limit: LimitOption = None,
    restart: Annotated[
        bool,
        Option("--restart", "Restart guests whose memory, processors or cards changed, without a question."),
    ] = False,
    yes: YesOption = False,
) -> int:
    """Make a bare Debian 13 server run the office's hosts as virtual machines.

    A second run applies changes of the office file, and nothing else. A guest is restarted only if you agree.
    """
    work = _examined(office, on, limit)
    target, loaded = work.target, work.office
    _show(list(server.judge(work.found, work.site, on)))
    new, changed = guests.new(work.site, work.found), guests.to_restart(work.site, work.found)
    of = _image(image, sha512, new, work)
    agreed = changed if restart or not yes else ()
    steps = list(guests.steps(work.site, work.found, of, agreed))
    planned = work.outcome(steps, watcher(), dry=True).expect_success("see above", "not reached:")
    certain = [change.operation for change in planned.changes if not change.conditional]
    if not certain and not guests.unfinished(work.site, work.found):
        out.print(f"{on}: nothing to change, {count(len(work.site.guests), 'guest')} as declared")
        _wait(work, changed)
        return 0
    _costs(work, new)
    for operation in certain:
        out.print(f"  {escape(operation)}")
    if not yes and not _agreed("Change the server?"):
        return 1
    allowed = _restarts(changed, asked=not yes, agreed=restart)
    keys = passphrases(target, loaded, work.site, work.found)
    with tempfile.TemporaryDirectory(prefix="outpost-seeds-") as directory:
        kept = secrets_file.read(target.data)
        made = kept_seeds(target, loaded, kept, [loaded.host(each.name) for each in new])
        images = seed.write(made, Path(directory))
        seeds = {each.name: path for each, path in zip(new, images, strict=True)}
        if of and new:
            up.upload(work, of)
        done = list(guests.steps(work.site, work.found, of, allowed, keys))
        work.outcome(done, watcher(), seeds=seeds).expect_success("run the command again", "the server:")
    return _finish(work, changed, allowed)


def _finish(work: up.Work, changed: Collection[Guest], allowed: Collection[Guest]) -> int:
    """Wait for first boots, let file systems grow, and print what is left to do."""
    grown = guests.grown(work.site, work.found)
    work = up.examined(work.target, work.office, work.login, [guest.name for guest in work.site.guests])
    if unfinished := guests.unfinished(work.site, work.found):
        slow = "" if work.found.kvm else ", some minutes where they are emulated"
        err.print(f"waiting for {', '.join(guest.name for guest in unfinished)}{slow}")
    up.await_first_boots(work, lambda text: err.print(f"  {text}", markup=False))
    for wrong in up.grow_file_systems(work, grown):
        out.print(f"[yellow]{escape(wrong)}[/]")
    _wait(work, [guest for guest in changed if guest not in allowed])
    out.print(f"{count(len(work.site.guests), 'guest')} on {work.login}. Guests start again with the server.")
    out.print(
        "One server is one point of failure. Let a name server stand elsewhere: hosts.NAME.server in office.toml."
    )
    out.print(f"  ./outpost preflight {work.target.typed}")
    return 0


def _wait(work: up.Work, late: Collection[Guest]) -> None:
    """Name the guests that still run with their old size."""
    if late:
        again = f"./outpost machines up {work.target.typed} --on {work.login} --restart"
        names = ", ".join(guest.name for guest in late)
        out.print(f"{names}: the new size takes effect after a restart. Remedy: {escape(again)}")


def _image(source: str, digest: str, new: tuple[Guest, ...], work: up.Work) -> Image | None:
    if not new:
        return None
    if not source:
        names = ", ".join(guest.name for guest in new)
        made = f"a file that ./outpost machines image {work.target.typed} made"
        remedy = f"add --image {up.DEBIAN} --sha512 HEX, or {made}"
        raise OutpostError(f"no image for the disks of {names}", remedy)
    return up.named(source, digest)


def _show(findings: list[Finding]) -> None:
    """Print what is missing, and notes.

    Raises:
        OutpostError: Something must be corrected first.
    """
    for each in findings:
        colour = {"good": "green", "note": "yellow", "bad": "red"}[each.level]
        remedy = f". Remedy: {each.remedy}" if each.remedy else ""
        out.print(f"[{colour}]{each.level:5}[/] {escape(f'{each.where}: {each.seen}{remedy}')}")
    if bad := [each for each in findings if each.level == "bad"]:
        raise OutpostError(f"{bad[0].where}: {bad[0].seen}", bad[0].remedy)


def _costs(work: up.Work, new: tuple[Guest, ...]) -> None:
    table = Table("guest", "memory", "processors", "disk", "zones", "")
    for guest in work.site.guests:
        state = "new" if guest in new else "runs" if work.found.guests[guest.name].running else "is off"
        table.add_row(
            guest.name, f"{guest.memory} MiB", str(guest.processors), f"{guest.disk} GiB",
            ", ".join(work.office.host(guest.name).addresses), state,
        )  # fmt: skip
    out.print(table)


def _restarts(changed: tuple[Guest, ...], *, asked: bool, agreed: bool) -> tuple[Guest, ...]:
    """Guests that may be restarted now: it asks for each of them."""
    if agreed:
        return changed
    return tuple(guest for guest in changed if asked and _agreed(f"Restart {guest.name} now?"))


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        problem = "this command asks a question, and standard input is not a terminal"
        raise OutpostError(problem, "agree with --yes")
    return typer.confirm(question, err=True)


@machines.command(
    "check",
    epilog="Example: `./outpost machines check po --on root@192.0.2.5`. Exit code 0: sound, 1: something is bad.",
)
def check_guests(office: OfficeArgument, on: OnOption, limit: LimitOption = None) -> int:
    """Check a server, and whether it can open its encrypted disks now.

    It changes nothing.
    """
    work = _examined(office, on, limit)
    _show([*server.judge(work.found, work.site, on), *up.reopened(work)])
    return 0


@machines.command(
    "down",
    epilog="Example: `./outpost machines down po --on root@192.0.2.5`. The disks are kept: `machines up` starts the same guests again.",
)
def remove_guests(
    office: OfficeArgument,
    on: OnOption,
    limit: LimitOption = None,
    erase_disks: Annotated[
        str, Option("--erase-disks DOMAIN", "The office's domain: its disks are deleted, too.")
    ] = "",
    yes: YesOption = False,
) -> int:
    """Shut down and remove an office's guests. Their disks are kept."""
    target = _real(office)
    loaded = load(target.data, uncertified=True)
    if erase_disks not in ("", loaded.domain):
        problem = f"{erase_disks} is not the office's domain, nothing was deleted"
        raise OutpostError(problem, f"type {loaded.domain}")
    work = up.examined(target, loaded, on, chosen_hosts(loaded, limit))
    if bad := [each for each in server.judge(work.found, work.site, on) if "not made" in each.seen]:
        _show(bad)
    steps: list[Step] = list(guests.removal(work.site, work.found, disks=bool(erase_disks)))
    if not steps:
        out.print(f"{on}: nothing to change, it runs none of these guests")
        return 0
    for step in steps:
        out.print(f"  {escape(step.name)}")
    if not yes and not _agreed("Shut them down?"):
        return 1
    work.outcome(steps, watcher(), files=False).expect_success("run the command again", "the server:")
    if not erase_disks:
        out.print("The disks are kept: ./outpost machines up starts the same guests again.")
    return 0


@machines.command(
    "image",
    epilog="Examples: `./outpost machines image po --output /root/images`; `./outpost machines image po --output /root/images --host mta "
    "--write /dev/sdb`.",
)
def build_image(
    office: OfficeArgument,
    output: Annotated[
        Path, Option("--output DIR", "Directory for the image; keep it out of the repository.")
    ],
    host: Annotated[
        str,
        Option("--host HOST", "Put this host's seed into the image, for a machine without a second medium."),
    ] = "",
    epoch: Annotated[
        int | None,
        Option(
            "--epoch SECONDS",
            "Timestamp of all files (default: the last midnight, UTC). The same timestamp and archive make the same image.",
        ),
    ] = None,
    tools: Annotated[
        str, Option("--tools default|DIR", "For mkosi's --tools-tree: `default` fetches its tools.")
    ] = "",
    device: Annotated[
        Path | None,
        Option("--write DEVICE", "Write it to this disk, whose content is lost, and read it back."),
    ] = None,
    yes: YesOption = False,
) -> int:
    """Build a disk image of Debian that starts by UEFI and BIOS, with mkosi.

    For a stick, a disk, an import, or the guests of `machines up`. It needs root or user namespaces.
    """
    target = _real(office)
    loaded, kept = load(target.data, uncertified=True), secrets_file.read(target.data)
    if device is not None:
        disk_image.describe(device, 0)
    chosen = chosen_hosts(loaded, [host]) if host else ()
    if len(chosen) > 1:
        raise OutpostError(f"{host} is several hosts", f"choose one of: {', '.join(chosen)}")
    brings = kept_seeds(target, loaded, kept, [loaded.host(name) for name in chosen])
    names = disk_image.packages(loaded, kept)
    files = disk_image.recipe(loaded, names, brings[0] if brings else None)
    name = chosen[0] if chosen else target.name
    when = int(time.time()) // 86400 * 86400 if epoch is None else epoch
    with err.status("building, some minutes"):
        built = disk_image.build(files, output, name, epoch=when, tools=tools)
    table = Table("file", "size", "takes on disk")
    for file in (built.raw, built.compressed):
        sizes = file.stat().st_size, file.stat().st_blocks * 512
        table.add_row(escape(str(file)), *(f"{size / 1e6:.0f} MB" for size in sizes))
    out.print(table)
    if brings:
        remedy = "keep it secret, and delete it after the first boot."
        out.print(f"It holds the SSH host key of {chosen[0]}: {remedy}")
    if device is None:
        return 0
    described = disk_image.describe(device, built.raw.stat().st_size)
    out.print(escape(described))
    if not yes and not _agreed(f"Overwrite all of {device}?"):
        return 1
    disk_image.write(built.raw, device)
    out.print(f"{escape(str(device))} holds the image: it was read back and compared")
    return 0


def _examined(office: str, on: str, limit: list[str] | None) -> up.Work:
    target = _real(office)
    loaded = load(target.data, uncertified=True)
    return up.examined(target, loaded, on, chosen_hosts(loaded, limit))


def _real(office: str) -> Target:
    target = find(office)
    if target.instance:
        raise OutpostError("the lab's hosts are containers", "name an office of yours")
    return target
