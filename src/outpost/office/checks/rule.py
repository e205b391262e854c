"""What a rule is, and helpers that several rules use."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import NamedTuple

from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.role import role_of
from outpost.office.tables.topology import Host, ZoneKind
from outpost.office.tables.values import IPAddress, IPNetwork

Finder = Callable[[Office], Iterator[Problem]]
"""Finds problems in a whole office."""


class Rule(NamedTuple):
    """A rule, and the tables without which it is skipped."""

    find: Finder
    needs: frozenset[str]


def rule(*needs: str) -> Callable[[Finder], Rule]:
    """Makes a function a rule of its module."""
    return lambda find: Rule(find, frozenset(needs))


def rules_of(module: ModuleType) -> Iterator[Rule]:
    """The rules of a module, in their order there."""
    return (each for each in vars(module).values() if isinstance(each, Rule))


def placed(office: Office, host: Host) -> bool:
    """Whether a host's own zones are correct; if not, that is reported, and its consequences are not."""
    known = any(host.addresses.values()) and all(zone in office.zones for zone in host.addresses)
    return known and not any(unreached(office, host))


def unreached(office: Office, host: Host) -> Iterator[tuple[ZoneKind, list[str]]]:
    """Kinds of zones in which a host needs an address and has none, with the office's zones of the kind."""
    for kind in (*role_of(host).published(office), "management"):
        zones = [zone.name for zone in office.zones_of_kind(kind)]
        if zones and not office.addresses_of_kind(host, kind):
            yield kind, zones


def own_names(office: Office) -> set[str]:
    """Names for which mail stays here, or is never taken: the domain and its hosts."""
    return {office.domain, *(host.fqdn for host in office.hosts)}


def ends(address: IPAddress, networks: Iterable[IPNetwork]) -> str:
    """Says that an address is the network's own or its broadcast address, which no host can have; empty for any other address."""
    for net in networks:
        last = net.broadcast_address if net.version == 4 else None
        if address in net and address in (net.network_address, last) and net.num_addresses > 2:
            return f"the network's own address or the broadcast address of {net}"
    return ""


def path_back(start: str, edges: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """A shortest way from a node back to itself; empty if there is none."""
    paths: list[tuple[str, ...]] = [(start,)]
    seen: set[str] = set()
    while paths:
        path = paths.pop(0)
        for following in edges.get(path[-1], ()):
            if following == start:
                return (*path, following)
            if following not in seen:
                seen.add(following)
                paths.append((*path, following))
    return ()


def dotted(location: tuple[int | str, ...]) -> str:
    """A location as a TOML path: ``users[2].address``."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def nearest(word: str, known: list[str]) -> str:
    """The end of a remedy that guesses which known word was meant; empty if none is similar."""
    close = difflib.get_close_matches(word, [item for item in known if item], n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
