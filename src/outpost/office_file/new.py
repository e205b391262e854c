"""A new office file from a few answers: an office of five hosts, with addresses counted from its networks."""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from outpost.errors import OutpostError
from outpost.office.role import NewHost, every_role
from outpost.office.tables.topology import RoleName
from outpost.office.tables.values import IPNetwork
from outpost.target import written

INVENTORY_FILE = '''"""The office's hosts over SSH, host keys pinned in known_hosts beside this file."""

from pathlib import Path as _Path

from outpost.hosts import ssh as _ssh

office = _ssh(_Path(__file__).resolve().parent)
'''


BLOCKS = range(16, 77)
"""Second byte of an office's inner networks; labs use those from 77 on."""
INNER = {"core": 2, "lan": 3, "mgmt": 4}


@dataclass(frozen=True)
class Plan:
    """The answers.

    Attributes:
        given: All of them, by question, as they were typed.
        people: The address of each user, the postmaster's first.
        networks: Zone → its networks.
        forwarders: Resolvers that the hosts ask; empty: they ask from the root on.
    """

    name: str
    given: Mapping[str, str]
    domain: str
    people: tuple[str, ...]
    networks: Mapping[str, tuple[IPNetwork, ...]]
    rate_kbit: int
    forwarders: tuple[str, ...]
    authorized_keys: tuple[str, ...]

    @property
    def hosts(self) -> tuple[tuple[RoleName, NewHost], ...]:
        """Role and place of each host."""
        return tuple((role.name, host) for role in every_role().values() for host in role.hosts)

    def addresses(self, new: NewHost, zone: str) -> str:
        """A host's addresses in a zone, counted from its networks, as TOML."""
        found = []
        every = [host for _, host in self.hosts]
        for network in self.networks[zone]:
            place = new.number
            if network.num_addresses <= max(host.number for host in every) + 1:
                place = 2 + every.index(new)  # 1 is the router's
            if place >= network.num_addresses - 1:
                remedy = "give a larger network: /28 holds an office"
                raise OutpostError(f"{network} has no room for {new.name} and a router", remedy)
            found.append(str(network[place]))
        return json.dumps(found)

    @staticmethod
    def listed(values: Iterable[object]) -> str:
        """Values as a list of TOML."""
        return json.dumps([str(value) for value in values])

    @staticmethod
    def quoted(text: str) -> str:
        """A text of TOML as a person would write it."""
        return json.dumps(text, ensure_ascii=False)


def networks(text: str, what: str) -> tuple[IPNetwork, ...]:
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        try:
            found.append(ip_network(part))
        except ValueError as error:
            remedy = "write it like 192.0.2.0/28 or 2001:db8:1::/64"
            raise OutpostError(f"{what} {part}: {error}", remedy) from None
    if not found:
        raise OutpostError(f"no network for {what}", "write it like 192.0.2.0/28,2001:db8:1::/64")
    return tuple(found)


def number(text: str, what: str) -> int:
    if not text.strip().isdecimal():
        raise OutpostError(f"{what} {text}: not a whole number", "write digits only, like 10000")
    return int(text)


def inner_networks(name: str, inventory: Path) -> dict[str, str]:
    """Inner networks that no other office of the inventory has: a tunnel may connect both one day.

    Spread by name, so that offices of two inventories seldom have the same ones.
    """
    taken = set(_networks_of(inventory))
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    for turn in range(len(BLOCKS)):
        block = ip_network(f"10.{BLOCKS[(start + turn) % len(BLOCKS)]}.0.0/16")
        if not any(network.overlaps(block) for network in taken if network.version == 4):
            break
    return {zone: f"10.{block.network_address.packed[1]}.{number}.0/24" for zone, number in INNER.items()}


def _networks_of(inventory: Path) -> Iterator[IPNetwork]:
    for file in inventory.glob("*/office.toml"):
        try:
            zones = tomllib.loads(file.read_text(encoding="utf-8"))["zones"]
            yield from [ip_network(net) for zone in zones.values() for net in zone["networks"]]
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue  # no valid office: `check` reports it


def keys_of(text: str) -> tuple[str, ...]:
    """An SSH public key, given directly or as the path of its file."""
    if not text or " " in text.strip():
        return tuple(filter(None, [text.strip()]))
    try:
        return tuple(filter(None, Path(text).expanduser().read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        remedy = "write the line of the .pub file, or the path of that file"
        raise OutpostError(f"key {text}: {error}", remedy) from None


def public_keys(home: Path) -> tuple[str, ...]:
    files = sorted((home / ".ssh").glob("id_*.pub"))
    return tuple(file.read_text(encoding="utf-8").strip() for file in files)


def write(directory: Path, text: str) -> None:
    file = directory / "office.toml"
    if file.exists():
        raise OutpostError(f"{file} exists already", "choose another name, or edit it")
    directory.mkdir(parents=True, exist_ok=True)
    written(directory / "ssh.py", INVENTORY_FILE, mode=0o644)
    (directory / "known_hosts").touch()
    written(file, text, mode=0o644)
