"""A site's server as the office declares it: a bridge for each zone, a guest for each host. Pure.

Guests are sized by their roles and by the number of users (`Role.memory`, `Role.disk`, quotas), unless the office file says otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from uuid import NAMESPACE_DNS, uuid5

from outpost.machines import alarms, hardening
from outpost.machines.seed import mac
from outpost.office.model import Office
from outpost.office.role import role_of
from outpost.office.size import MIB, size_of
from outpost.office.tables.topology import Host, Zone
from outpost.templates import environment, render

DIRECTORY = "/var/lib/libvirt/images/outpost"
"""On the server: disks, seeds until the first boot is over, and the image that disks are made from."""
MARK = "/etc/outpost-site"
"""On the server: a file with the domain of the office that it belongs to."""
PACKAGES = ("libvirt-daemon-system", "python3", "qemu-system-x86", "qemu-utils", *hardening.PACKAGES)
UNITS = ("outpost-bridges.service", "outpost-guests.service")
SETTINGS = "/etc/sysctl.d/60-outpost-site.conf"
"""On the server: kernel settings of the bridges."""
START = "/usr/local/lib/outpost-site/start.sh"
"""On the server: starts a guest whose disk is encrypted."""
SYSTEM = 2048
"""MiB of a disk that Debian itself takes."""
NAME_LENGTH = 15
"""Most characters of a network interface's name (IFNAMSIZ)."""
Virtualization = Literal["kvm", "qemu"]
_TEMPLATES = environment(Path(__file__).parent)


@dataclass(frozen=True)
class Bridge:
    """A zone on the server.

    Attributes:
        name: Of the bridge.
        card: The server's network card that carries it; empty where it stays within the server.
        vlan: The VLAN on that card; empty where it is all of the card.
        member: The interface that is put into the bridge.
    """

    zone: str
    name: str
    card: str = ""
    vlan: str = ""
    member: str = ""


@dataclass(frozen=True, order=True)
class Card:
    """A guest's network card."""

    mac: str
    bridge: str


@dataclass(frozen=True)
class Guest:
    """A host of the office as a guest; memory in MiB, disk in GiB.

    Attributes:
        encrypted: Whether its disk is encrypted.
        pins: What clevis binds the disk's passphrase to, as JSON; empty: only `machines up` opens the disk.
    """

    name: str
    office: str
    memory: int
    processors: int
    disk: int
    cards: tuple[Card, ...]
    kind: Virtualization = "kvm"
    encrypted: bool = False
    pins: str = ""

    @property
    def image(self) -> str:
        """Its disk, on the server."""
        return f"{DIRECTORY}/{self.name}.qcow2"

    @property
    def seed(self) -> str:
        """Its seed, on the server. It exists exactly until the first boot is over."""
        return f"{DIRECTORY}/{self.name}.iso"

    @property
    def bound(self) -> str:
        """The passphrase of its disk, on the server, which only the declared tang servers or the TPM decrypt; empty if there are none."""
        digest = hashlib.sha256(self.pins.encode()).hexdigest()[:12]
        return f"{DIRECTORY}/{self.name}.{digest}.jwe" if self.encrypted and self.pins else ""

    @property
    def unit(self) -> str:
        """The unit that starts it with the server, if its disk is encrypted."""
        return f"outpost-guest-{self.name}.service"

    @property
    def secret(self) -> str:
        """libvirt's name for the passphrase of its disk; empty if the disk is not encrypted."""
        return str(uuid5(NAMESPACE_DNS, f"disk.{self.name}.{self.office}")) if self.encrypted else ""

    @property
    def uuid(self) -> str:
        """Its name in libvirt."""
        return str(uuid5(NAMESPACE_DNS, f"{self.name}.{self.office}"))

    @property
    def description(self) -> str:
        """Marks a guest as Outpost's, and shows an outdated definition."""
        template = Path(__file__).with_name("guest.xml.j2").read_bytes() + self.kind.encode()
        return f"Outpost, {self.office}, {hashlib.sha256(template).hexdigest()[:12]}"

    @property
    def definition(self) -> str:
        """Its definition for libvirt (libvirt.org/formatdomain.html)."""
        return render(_TEMPLATES, "guest.xml.j2", {"site": {"virtualization": self.kind}, "guest": self})


@dataclass(frozen=True)
class Site:
    """The declared state of one server; guests in the order in which they start.

    Attributes:
        ports: Of SSH on the server.
        watched: Path on the server → content, of what sends its alarms.
        every: Seconds between two checks for alarms.
        tpm: Whether the server's TPM opens encrypted disks.
    """

    domain: str
    bridges: tuple[Bridge, ...]
    guests: tuple[Guest, ...]
    ports: tuple[int, ...] = (22,)
    watched: dict[str, str] = field(default_factory=dict)
    every: int = 0
    tpm: bool = False

    @property
    def packages(self) -> tuple[str, ...]:
        """What the server needs from Debian."""
        bound = any(guest.bound for guest in self.guests)
        return (*PACKAGES, *(["clevis"] if bound else []), *(["clevis-tpm2"] if self.tpm else []))

    def files(self) -> dict[str, str]:
        """Path → content of files on the server, besides packages, disks and definitions."""

        def made(template: str, **more: object) -> str:
            context = {"site": self, "settings": SETTINGS, "directory": DIRECTORY, "start": START}
            return render(_TEMPLATES, f"{template}.j2", context | more)

        encrypted = [guest for guest in self.guests if guest.encrypted]
        files = {MARK: f"{self.domain}\n", SETTINGS: made("sysctl.conf"), **self.watched}
        files |= {path: made(template) for path, template in hardening.FILES.items()}
        units = (hardening.FILTER, *UNITS, *alarms.UNITS)
        files |= {f"/etc/systemd/system/{unit}": made(unit.removeprefix("outpost-")) for unit in units}
        files |= {START: made("start.sh")} if encrypted else {}
        bound = {guest.unit: made("guest.service", guest=guest) for guest in encrypted if guest.bound}
        return files | {f"/etc/systemd/system/{unit}": content for unit, content in bound.items()}

    def only(self, names: Collection[str]) -> Site:
        """The same with only some of its guests."""
        return replace(self, guests=tuple(guest for guest in self.guests if guest.name in names))

    def on(self, kind: Virtualization, ports: tuple[int, ...] = (22,)) -> Site:
        """The same on a server that supports it, and has SSH on these ports."""
        return replace(self, guests=tuple(replace(guest, kind=kind) for guest in self.guests), ports=ports)


def site_of(office: Office, hosts: tuple[Host, ...]) -> Site:
    """The server of these hosts."""
    bridges = {zone.name: _bridge(zone) for zone in office.zones.values()}
    used = {zone for host in hosts for zone in host.addresses}
    ordered = sorted(hosts, key=lambda host: role_of(host).trust)
    return Site(
        office.domain,
        tuple(bridge for zone, bridge in bridges.items() if zone in used),
        tuple(_guest(office, host, bridges) for host in ordered),
        watched=alarms.files(office, [host.name for host in ordered], DIRECTORY),
        every=office.alarms.every,
        tpm=office.disks is not None and office.disks.tpm,
    )


def _guest(office: Office, host: Host, bridges: dict[str, Bridge]) -> Guest:
    role, gib = role_of(host), 1024
    quotas = [*map(office.quota, office.users), *map(office.quota, office.shared)]
    mail = sum(quotas) // MIB if role.data else 0
    disks = office.disks
    tang = [{"url": each.url, "thp": each.thumbprint} for each in disks.tang] if disks else []
    pins: dict[str, object] = {"tang": tang} if tang else {}
    pins |= {"tpm2": {}} if disks and disks.tpm else {}
    disk = host.disk // MIB if host.disk else SYSTEM + role.disk + mail
    return Guest(
        name=host.name,
        office=office.domain,
        memory=host.memory // MIB if host.memory else role.memory(size_of(office)),
        processors=role.processors,
        disk=-(-disk // gib),
        cards=tuple(Card(mac(office, host, zone), bridges[zone].name) for zone in host.addresses),
        encrypted=disks is not None and host.name in disks.encrypted,
        pins=json.dumps({"t": 1, "pins": pins}) if pins else "",
    )


def _bridge(zone: Zone) -> Bridge:
    card, _, vlan = zone.port.partition(".")
    member = _short(f"{card}.{vlan}") if vlan else card
    return Bridge(zone.name, _short(f"zone-{zone.name}"), card, vlan, member)


def _short(name: str) -> str:
    """The bridge's name; if it is too long for an interface, a unique name from its digest."""
    if len(name) <= NAME_LENGTH:
        return name
    return f"zone-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
