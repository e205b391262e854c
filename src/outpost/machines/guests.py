"""What has to be done on a site's server, as steps. Pure: `outpost.machines.deploy` runs them."""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from outpost.machines.hardening import BASELINE
from outpost.machines.hypervisor import DIRECTORY, START, UNITS, Guest, Site
from outpost.machines.server import Present, Server, bridged, wanted

VIRSH = "virsh --connect qemu:///system"
CDROM = "sda"
ENDS = {"kvm": 36, "qemu": 108}
"""How often a guest is asked to shut down, every five seconds; an emulated one is slow."""


@dataclass(frozen=True)
class Step:
    """One step, and its shell command, which runs as root."""

    name: str
    command: str
    stdin: str = field(default="", repr=False)


@dataclass(frozen=True)
class Image:
    """The image that new disks are made from.

    Attributes:
        source: A path on the controller, or a URL from which the server fetches it.
        digest: Its SHA-512.
    """

    source: str
    digest: str

    @property
    def is_remote(self) -> bool:
        return self.source.startswith(("https://", "http://"))

    @property
    def name(self) -> str:
        """Its file in `DIRECTORY` on the server."""
        return f"image-{self.digest[:32]}"


def new(site: Site, server: Server) -> tuple[Guest, ...]:
    """Guests without a disk: they get a disk and a seed."""
    return tuple(guest for guest in site.guests if not server.guests[guest.name].disk)


def unfinished(site: Site, server: Server) -> tuple[Guest, ...]:
    """Guests whose seed still exists."""
    return tuple(guest for guest in site.guests if server.guests[guest.name].seed)


def to_restart(site: Site, server: Server) -> tuple[Guest, ...]:
    """Guests that run with other hardware than declared."""
    return tuple(
        guest
        for guest in site.guests
        if (live := server.guests[guest.name].live)
        and server.guests[guest.name].running
        and live.hardware != wanted(guest).hardware
    )


def grown(site: Site, server: Server) -> tuple[Guest, ...]:
    """Guests whose disk is smaller than declared."""
    return tuple(guest for guest in site.guests if 0 < server.guests[guest.name].disk < guest.disk * 1024**3)


def steps(
    site: Site,
    server: Server,
    image: Image | None,
    restart: Collection[Guest],
    passphrases: Mapping[str, str] | None = None,
) -> Iterator[Step]:
    """The steps that make the guests what is declared, guest after guest in the order in which they start.

    Args:
        restart: Those of `to_restart` that may be restarted now.
        passphrases: Of encrypted disks, by guest; a plan does without.
    """
    keys = passphrases or {}
    for part in BASELINE:
        if part.control not in server.holds:
            yield Step(part.name, part.step)
    if not bridged(server, site):
        yield Step("bridges of the zones", f"systemctl restart {UNITS[0]}")
    if image and new(site, server) and image.is_remote and image.name not in server.files:
        place = f"{DIRECTORY}/{image.name}"
        fetch = f"/usr/lib/apt/apt-helper -qq download-file {shlex.quote(image.source)} {place}.new SHA512:{image.digest}"
        yield Step("image of the disks", f"{fetch} && mv {place}.new {place}")
    for guest in site.guests:
        present = server.guests[guest.name]
        if not present.disk:
            assert image
            kind = "encrypted disk" if guest.encrypted else "disk"
            key = keys.get(guest.name, "")
            yield Step(f"{guest.name}: {kind} of {guest.disk} GiB", disk(guest, image), key)
        if present.defined != wanted(guest):
            what = f"definition with {guest.memory} MiB, {guest.processors} CPU"
            yield Step(f"{guest.name}: {what}", f"{VIRSH} define --validate /dev/stdin", guest.definition)
        if (not present.disk or present.seed) and not present.running:
            insert = f"{VIRSH} change-media {guest.name} {CDROM} {guest.seed} --update --config"
            yield Step(f"{guest.name}: seed", insert)
        opening = f"sh {START} {guest.name} {guest.secret}"
        start = opening if guest.encrypted else f"{VIRSH} start {guest.name}"
        if guest in restart:
            ended = f"{{ {stop(guest)}; }} < /dev/null"
            yield Step(f"{guest.name}: restart", f"{ended} && {start}", keys.get(guest.name, ""))
        elif not present.running:
            yield Step(f"{guest.name}: start", start, keys.get(guest.name, ""))
        if guest in grown(site, server):
            grow = f"{VIRSH} blockresize {guest.name} vda {guest.disk}G"
            yield Step(f"{guest.name}: disk grows to {guest.disk} GiB", grow)
    # last, because head office may be out of reach, and the guests shall run
    for guest in site.guests:
        yield from bindings(guest, server, keys.get(guest.name, ""))


def bindings(guest: Guest, server: Server, key: str) -> Iterator[Step]:
    """Let the declared tang servers, and the TPM, open an encrypted disk, and nothing else."""
    name = guest.bound.rpartition("/")[2]
    old = [each for each in sorted(server.files) if re.fullmatch(rf"{guest.name}\.[0-9a-f]{{12}}\.jwe", each)]
    gone = "".join(f"rm -f {DIRECTORY}/{each}\n" for each in old if each != name)
    if name and name not in server.files:
        bind = f"clevis encrypt sss {shlex.quote(guest.pins)} > {guest.bound}.new\nmv {guest.bound}.new {guest.bound}\n"
        yield Step(f"{guest.name}: the server can open its disk", f"set -e; umask 077\n{bind}{gone}", key)
    elif gone:
        yield Step(f"{guest.name}: former tang servers or TPM no longer open its disk", gone)


def disk(guest: Guest, image: Image) -> str:
    """Shell: make a disk, and move it to its place when it is complete. An encrypted one gets its passphrase from standard input."""
    new = f"{guest.image}.new"
    if guest.encrypted:
        # a passphrase of 256 random bits needs no slow derivation (iter-time, in milliseconds)
        program = '[ -n "$key" ]; printf %s "$key" | qemu-img'
        given = "--object secret,id=disk,file=/dev/stdin"
        luks = "encrypt.format=luks,encrypt.key-secret=disk,encrypt.iter-time=100"
        target = f"driver=qcow2,encrypt.key-secret=disk,file.filename={new}"
        return (
            f"set -e; umask 077; rm -f {new}; key=$(cat)\n"
            f"{program} create -q -f qcow2 {given} -o {luks} {new} {guest.disk}G\n"
            f"{program} convert -n {given} --target-image-opts {DIRECTORY}/{image.name} {target}\n"
            f"mv {new} {guest.image}\n"
        )
    return (
        f"umask 077; qemu-img convert -O qcow2 {DIRECTORY}/{image.name} {new} && "
        f"qemu-img resize -q {new} {guest.disk}G && mv {new} {guest.image}"
    )


def stop(guest: Guest) -> str:
    """Shell: shut the guest down, and wait until it is off. It repeats the request: a guest that is just starting misses it."""
    off = f"[ \"$({VIRSH} domstate {guest.name} | head -n 1)\" = 'shut off' ]"
    return f"for try in $(seq {ENDS[guest.kind]}); do {VIRSH} shutdown {guest.name} >/dev/null 2>&1; sleep 5; {off} && break; done; {off}"


def forget_seed(guest: Guest, present: Present) -> str:
    """Shell: the first boot is over, so detach the seed and erase it."""
    kinds = "--config --live" if present.running else "--config"
    return f"{VIRSH} change-media {guest.name} {CDROM} --eject --force {kinds}\nshred --remove {guest.seed}\n"


def removal(site: Site, server: Server, *, disks: bool) -> Iterator[Step]:
    """Shut the guests down in reverse order and remove their definitions; erase disks only on request."""
    if all(name in {guest.name for guest in site.guests} for name in server.guests) and any(
        server.guests[guest.name].defined for guest in site.guests
    ):
        yield Step("guests no longer start", "systemctl disable --quiet outpost-guests.service")
    for guest in reversed(site.guests):
        present = server.guests[guest.name]
        if present.running:
            yield Step(f"{guest.name}: shut down", f"{{ {stop(guest)}; }} || {VIRSH} destroy {guest.name}")
        if present.defined:
            yield Step(f"{guest.name}: forgotten by libvirt", f"{VIRSH} undefine {guest.name}")
        if disks and (present.disk or present.seed):
            erase = f"rm -f {guest.image} {guest.seed} {DIRECTORY}/{guest.name}.????????????.jwe"
            yield Step(f"{guest.name}: disk erased", erase)
