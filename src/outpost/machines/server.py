"""The state of a site's server: one script reads it and changes nothing; its output is hostile input."""

from __future__ import annotations

import binascii
import re
import shlex
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from outpost.engine.preflight import RELEASE, Finding
from outpost.errors import OutpostError
from outpost.machines.hardening import QUESTIONS
from outpost.machines.hypervisor import DIRECTORY, MARK, Card, Guest, Site
from outpost.office.tables.topology import parted
from outpost.transport import answers, ssh
from outpost.transport.remote import NAMELESS, UNKNOWN, carried_out

if TYPE_CHECKING:
    from outpost.target import Target

NAME = "server"
"""Its name in the configuration for ssh and pyinfra."""
PATIENCE = 60.0  # seconds
MOST = 4 * 1024**2
"""Most bytes of its answer."""
OWN_MEMORY = 1024
"""MiB that the server keeps for itself."""
MOST_PORTS = 8
FIRST_DISK = 3
"""GiB that a guest's disk takes before it has mail."""
_SCRIPT = Path(__file__).with_suffix(".sh").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Shape:
    """The part of a guest's definition that follows from the office; memory in MiB.

    Attributes:
        disks: File of each disk, with libvirt's name for its passphrase if it is encrypted.
    """

    memory: int
    processors: int
    cards: tuple[Card, ...]
    disks: tuple[tuple[str, str], ...]
    description: str = ""

    @property
    def hardware(self) -> tuple[object, ...]:
        """The properties that a running guest gets only by a restart."""
        return (self.memory, self.processors, self.cards, self.disks)


@dataclass(frozen=True)
class Present:
    """A guest on the server. Its shapes are None if it is not defined. The size of its disk is 0 if it has no disk.

    Attributes:
        seed: Whether its seed exists, because its first boot is not finished.
        encrypted: Whether its disk is encrypted.
    """

    running: bool = False
    live: Shape | None = None
    defined: Shape | None = None
    disk: int = 0
    seed: bool = False
    encrypted: bool = False


@dataclass(frozen=True)
class Server:
    """A server's answer.

    Attributes:
        links: Network interface → the bridge that it is a port of, or nothing.
        addressed: Interfaces with an address of the server.
        ports: Of SSH.
        holds: Controls of the baseline that are kept.
    """

    release: str = ""
    machine: str = ""
    kvm: bool = False
    tpm: bool = False
    memory: int = 0
    processors: int = 0
    ports: tuple[int, ...] = ()
    free: int = 0
    swap: bool = False
    site: str = ""
    links: dict[str, str] = field(default_factory=dict)
    addressed: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    holds: frozenset[str] = frozenset()
    guests: dict[str, Present] = field(default_factory=dict)


def shell_command(login: str, target: Target) -> list[str]:
    """The command that starts a root shell on a server."""
    user = parted(login)[0]
    shell = f"{ssh.LANGUAGE} {'sh -s' if user in ('', 'root') else 'sudo -n sh -s'}"
    return ["ssh", "-F", str(ssh.server_configuration(login, NAME, target.data)), NAME, shell]


def run(login: str, target: Target, script: str, *, patience: float = PATIENCE) -> str:
    """Run a script as root on a server; returns its output.

    Raises:
        OutpostError: It was not reached, or the script failed.
    """
    command = shell_command(login, target)
    try:
        return carried_out(
            login, command, script, "read its journal: journalctl -b", patience=patience, most=MOST
        )
    except OutpostError as error:
        if UNKNOWN in error.message:  # a server has no place beside the office file
            raise OutpostError(
                f"the SSH host key of {login} is not known",
                f"log in to it once (ssh {login}) and compare the fingerprint with the one on its console or at your provider",
            ) from None
        if NAMELESS in error.message:  # nor is it one of the office's hosts
            raise OutpostError(
                error.message, "write --on user@ADDRESS, or a name from your ~/.ssh/config"
            ) from None
        raise


def survey(login: str, target: Target, site: Site) -> Server:
    """The server's state, as far as this site needs it."""
    names = tuple(guest.name for guest in site.guests)
    given = {"directory": DIRECTORY, "mark": MARK, "names": " ".join(names)}
    head = "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items())
    return read(run(login, target, head + _SCRIPT + QUESTIONS), names)


def read(output: str, names: tuple[str, ...]) -> Server:
    """The script's lines as data; lines of unknown form are left out."""
    lines = [tuple(line.split(" ", 1)) for line in output.splitlines() if " " in line]
    first = {key: answers.line(value, 300) for key, value in reversed(lines)}
    several = {
        key: frozenset(value for found, value in lines if found == key and len(value) < 300)
        for key in ("link", "address", "file", "encrypted", "port", "holds")
    }
    files = frozenset(text.partition(" ")[2] for text in several["file"])
    return Server(
        release=first.get("release", ""),
        machine=first.get("machine", ""),
        kvm="kvm" in first,
        tpm="tpm" in first,
        memory=_number(first.get("memory", "")),
        processors=_number(first.get("processors", "")),
        ports=tuple(sorted({port for text in several["port"] if 0 < (port := _number(text)) < 65536}))[
            :MOST_PORTS
        ],
        free=_number(first.get("disk", "")),
        swap="swap" in first,
        site=first.get("site", ""),
        links={name: master for name, _, master in (text.partition(" ") for text in several["link"])},
        addressed=frozenset(text.split("@")[0] for text in several["address"]),
        files=files,
        holds=several["holds"],
        guests={
            name: _present(name, [value for _, value in lines], files, name in several["encrypted"])
            for name in names
        },
    )


def _present(name: str, values: list[str], files: frozenset[str], encrypted: bool) -> Present:
    about = [value.split(" ") for value in values if value.startswith(f"{name} ")]
    shapes = {words[1]: shape(words[2]) for words in about if len(words) == 3}
    states = [words[1:] for words in about if words[1] in ("running", "paused", "in")]
    sizes = [_number(words[1]) for words in about if len(words) == 2]
    return Present(
        running=bool(states),
        live=shapes.get("--live"),
        defined=shapes.get("--inactive"),
        disk=max(sizes, default=0),
        seed=f"{name}.iso" in files,
        encrypted=encrypted,
    )


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,15}", text) else 0


def shape(encoded: str) -> Shape | None:
    """Parse libvirt's XML in base64. A document type is not read, because its entities could grow without bound."""
    try:
        text = b64decode(encoded, validate=True).decode()
        if len(text) > 200_000 or "<!" in text:
            return None
        found = ElementTree.fromstring(text)  # noqa: S314 (bounded, and without a document type)
        kib = int(found.findtext("memory", "0"))
        processors = int(found.findtext("vcpu", "0"))
    except (binascii.Error, ValueError, ElementTree.ParseError):
        return None
    cards = tuple(
        Card(_of(each, "mac", "address"), _of(each, "source", "bridge"))
        for each in found.findall("devices/interface")
    )
    disks = tuple(
        (_of(each, "source", "file"), _of(each, "source/encryption/secret", "uuid"))
        for each in found.findall("devices/disk")
        if each.get("device") != "cdrom"
    )
    return Shape(kib // 1024, processors, cards, disks, found.findtext("description", ""))


def _of(element: ElementTree.Element, child: str, attribute: str) -> str:
    found = element.find(child)
    return "" if found is None else found.get(attribute, "")


def wanted(guest: Guest) -> Shape:
    """The declared shape of a guest."""
    return Shape(
        guest.memory, guest.processors, guest.cards, ((guest.image, guest.secret),), guest.description
    )


def bridged(server: Server, site: Site) -> bool:
    """Whether every zone's bridge exists, with its port."""
    return all(
        bridge.name in server.links and (not bridge.member or server.links.get(bridge.member) == bridge.name)
        for bridge in site.bridges
    )


def judge(server: Server, site: Site, login: str) -> Iterator[Finding]:
    """Findings about the server and the needs of its guests."""
    bad, note = partial(Finding, login, "bad"), partial(Finding, login, "note")
    if server.release != f"debian {RELEASE}" or server.machine != "x86_64":
        seen = f"runs {server.release or 'an unknown system'} on {server.machine or 'an unknown machine'}"
        yield bad(seen, f"install Debian {RELEASE} for amd64 on it")
    if server.site not in ("", site.domain):
        yield bad(f"already runs the office {server.site}", "use a server of its own for each office")
    if not server.ports:
        yield bad("no port of SSH found: its packet filter would cut it off", "install openssh-server on it")
    if not server.kvm:
        yield note(
            "its processors offer no virtualization (KVM): guests are emulated, many times slower, for a trial only",
            "turn on VT-x or AMD-V in its firmware; on a virtual server ask the provider for nested virtualization",
        )
    if site.tpm and not server.tpm:
        yield bad("has no TPM 2.0", "turn it on in the firmware, or remove tpm from [disks] in office.toml")
    yield from _room(server, site, login)
    yield from _cards(server, site, login)
    for guest in site.guests:
        present = server.guests[guest.name]
        if present.defined and not present.defined.description.startswith(f"Outpost, {site.domain}, "):
            yield bad(
                f"has a guest {guest.name} that Outpost has not made for {site.domain}",
                f"rename it on the server: virsh domrename {guest.name} NEW-NAME",
            )
        if present.disk > guest.disk * 1024**3:
            seen = f"the disk of {guest.name} has {present.disk // 1024**3} GiB, more than {guest.disk}"
            yield note(seen, "keep it: a disk can only grow")
        if present.disk and present.encrypted != guest.encrypted:
            wrong = "is not encrypted, and" if guest.encrypted else "is encrypted, and not"
            yield bad(
                f"the disk of {guest.name} {wrong} named in disks.encrypted",
                f"correct disks.encrypted, or make {guest.name} again from its backup: docs/how-to/site-server.md, encrypted disks",
            )
    if server.swap and any(guest.encrypted for guest in site.guests):
        yield note(
            "has swap: what guests with encrypted disks have in memory may reach its disk",
            "run swapoff -a on the server, and remove the swap from /etc/fstab",
        )


def _room(server: Server, site: Site, login: str) -> Iterator[Finding]:
    others = sum(
        present.defined.memory
        for name, present in server.guests.items()
        if present.defined and name not in {guest.name for guest in site.guests}
    )
    guests = others + sum(guest.memory for guest in site.guests)
    need = guests + OWN_MEMORY
    seen = f"{server.memory} MiB of memory; its guests need {guests}"
    if server.memory < need:
        remedy = f"give it {need} MiB, or set hosts.NAME.memory, or move hosts to another server: hosts.NAME.server"
        yield Finding(login, "bad", seen, remedy)
    else:
        yield Finding(login, "good", seen)
    new = [guest for guest in site.guests if not server.guests[guest.name].disk]
    whole = sum(guest.disk for guest in new) * 1024
    seen = f"{server.free} MiB of free disk; {len(new)} new disks may grow to {whole}"
    if server.free < len(new) * FIRST_DISK * 1024:
        yield Finding(login, "bad", seen, f"enlarge the file system of {DIRECTORY}")
    elif server.free < whole:
        yield Finding(login, "note", seen, f"enlarge the file system of {DIRECTORY} before it is full")
    else:
        yield Finding(login, "good", seen)


def _cards(server: Server, site: Site, login: str) -> Iterator[Finding]:
    own = sorted(link for link in server.links if link != "lo" and not link.startswith(("zone-", "vnet")))
    some = answers.line(", ".join(own[:20]), 300)
    for bridge in site.bridges:
        if bridge.card and bridge.card not in server.links:
            seen = f"has no network card {bridge.card} for zone {bridge.zone}"
            yield Finding(login, "bad", seen, f"name one of these in zones.{bridge.zone}.port: {some}")
        elif bridge.card and bridge.member in server.addressed:
            seen = f"{bridge.member} carries an address of the server: as a bridge's port it would cut the server off"
            remedy = f"name another card or a VLAN of this one in zones.{bridge.zone}.port"
            yield Finding(login, "bad", seen, remedy)
