"""`outpost machines`: what the hosts of an office need before their first apply."""

import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from rich.markup import escape

from outpost.cli.console import Table, agreed, count, err, out
from outpost.cli.options import App, OfficeArgument, chosen_hosts
from outpost.cli.progress import watcher
from outpost.engine.preflight import Finding
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.machines import guests, seed, server, up
from outpost.machines import image as disk_image
from outpost.machines.guests import Image, Step
from outpost.machines.hypervisor import Guest
from outpost.office import Office, load
from outpost.target import Target, find

app = App()
machines = app.group("machines")


@machines.named("seed")
def write_seeds(office: OfficeArgument, output: Path, limit: list[str] | None = None) -> None:
    target, loaded = _real(office)
    kept = secrets_file.read(target.data)
    hosts = [loaded.host(name) for name in chosen_hosts(loaded, limit) or loaded.hosts_by_name]
    images = seed.write(seed.kept(target, loaded, kept, hosts), output)
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


@machines.named("up")
def make_guests(
    office: OfficeArgument,
    on: str,
    image: str = "",
    sha512: str = "",
    limit: list[str] | None = None,
    restart: bool = False,
    yes: bool = False,
) -> int:
    work = _examined(office, on, limit)
    target, loaded = work.target, work.office
    _show(list(server.judge(work.found, work.site, on)))
    new, changed = guests.new(work.site, work.found), guests.to_restart(work.site, work.found)
    of = _image(image, sha512, new, work)
    steps = list(guests.steps(work.site, work.found, of, changed if restart or not yes else ()))
    planned = work.outcome(steps, watcher(), dry=True).expect_success("run the command again", "not reached:")
    certain = [change.operation for change in planned.changes if not change.conditional]
    if not certain and not guests.unfinished(work.site, work.found):
        out.print(f"{on}: nothing to change, {count(len(work.site.guests), 'guest')} as declared")
        _wait(work, changed)
        return 0
    _costs(work, new)
    for operation in certain:
        out.print(f"  {escape(operation)}")
    if not yes and not agreed("Change the server?"):
        return 1
    allowed = [
        guest
        for guest in changed
        if restart or (not yes and agreed(f"Restart {guest.name} now?", f"{guest.name} stays on"))
    ]
    keys = up.passphrases(target, loaded, work.site, work.found)
    with tempfile.TemporaryDirectory(prefix="outpost-seeds-") as directory:
        kept = secrets_file.read(target.data)
        made = seed.kept(target, loaded, kept, [loaded.host(each.name) for each in new])
        images = seed.write(made, Path(directory))
        seeds = {each.name: path for each, path in zip(new, images, strict=True)}
        if of and new:
            up.upload(work, of)
        done = list(guests.steps(work.site, work.found, of, allowed, keys))
        work.outcome(done, watcher(), seeds=seeds).expect_success("run the command again", "the server:")
    _finish(work, changed, allowed)
    return 0


def _finish(work: up.Work, changed: Collection[Guest], allowed: Collection[Guest]) -> None:
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


@machines.named("check")
def check_guests(office: OfficeArgument, on: str, limit: list[str] | None = None) -> None:
    work = _examined(office, on, limit)
    judged = server.judge(work.found, work.site, on)
    _show([*judged, *up.drift(work, watcher()), *up.hardened(work), *up.reopened(work)])


@machines.named("down")
def remove_guests(
    office: OfficeArgument, on: str, limit: list[str] | None = None, erase_disks: str = "", yes: bool = False
) -> int:
    target, loaded = _real(office)
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
    if not yes and not agreed("Shut them down?"):
        return 1
    work.outcome(steps, watcher(), files=False).expect_success("run the command again", "the server:")
    if not erase_disks:
        out.print("The disks are kept: ./outpost machines up starts the same guests again.")
    return 0


@machines.named("image")
def build_image(
    office: OfficeArgument,
    output: Path,
    limit: str = "",
    epoch: int | None = None,
    tools: str = "",
    device: Path | None = None,
    yes: bool = False,
) -> int:
    target, loaded = _real(office)
    kept = secrets_file.read(target.data)
    if device is not None:
        disk_image.describe(device, 0)
    chosen = chosen_hosts(loaded, [limit]) if limit else ()
    if len(chosen) > 1:
        raise OutpostError(f"{limit} is several hosts", f"choose one of: {', '.join(chosen)}")
    brings = seed.kept(target, loaded, kept, [loaded.host(name) for name in chosen])
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
    if not yes and not agreed(f"Overwrite all of {device}?", f"{device} was not changed"):
        return 1
    disk_image.write(built.raw, device)
    out.print(f"{escape(str(device))} holds the image: it was read back and compared")
    return 0


def _examined(office: str, on: str, limit: list[str] | None) -> up.Work:
    target, loaded = _real(office)
    return up.examined(target, loaded, on, chosen_hosts(loaded, limit))


def _real(office: str) -> tuple[Target, Office]:
    """An office with hosts of its own; its provided certificates may be missing yet."""
    target = find(office)
    if target.instance:
        raise OutpostError("the lab's hosts are containers", "name an office of yours")
    return target, load(target.data, uncertified=True)
