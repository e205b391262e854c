"""The rules of an office file that no single field can state, each with a remedy.

``schema_problem`` puts pydantic's findings into the reader's words; ``cross_checks`` holds the rules that
span tables. Nothing here stops at the first finding.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from outpost.office.certificates import mode
from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.tables.routes import Peer
from outpost.office.tables.topology import ROLES, Host
from outpost.office.tables.values import IPAddress, IPNetwork

_SECRET_KEY = re.compile(r"(^|_)(password|passwd|passphrase|secret|private_key|token|hash|credential)s?($|_)")
_SECRET_VALUE = re.compile(
    r"PRIVATE KEY|AGE-SECRET-KEY-|\$argon2|\$2[aby]\$|\$[156y]\$|\{(SSHA|ARGON2|PLAIN|CRYPT|BLF|SHA)",
    re.IGNORECASE,
)
MESSAGES_IN_QUEUE = 20
"""Largest messages that the queue must have room for at least: a morning's mail while the line is down."""


# What the schema finds ----------------------------------------------------------------------------------------


def schema_problem(detail: ErrorDetails) -> Problem:
    """One of pydantic's findings as field, value, message and remedy."""
    location = tuple(
        step for step in detail["loc"] if not (isinstance(step, str) and step.startswith("function-"))
    )
    named_by_table = location[0] in ("hosts", "zones") and location[-1] == "name"
    field, value = dotted(location[:-1] if named_by_table else location), _shown(detail)
    kind, message = detail["type"], detail["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return _unknown_key(location, value)
    if kind == "missing":
        return Problem(field, "", _missing_message(location), f"add {location[-1]} ({_help(location)})")
    if "two roles" in message:
        return Problem(
            field, value, message, f"declare one host for each role; a role is one of {', '.join(ROLES)}"
        )
    if kind == "literal_error":
        wanted = str(detail.get("ctx", {}).get("expected", "")).replace("'", "")
        guess = _nearest(value.strip("'"), re.split(r", | or ", wanted))
        return Problem(field, value, "not one of the known values", f"choose one of {wanted}{guess}")
    if "IP address" in message or "IP network" in message:
        return Problem(field, value, message, f"write it like {_example(location)}")
    if "full path" in message:
        return Problem(field, value, message, f"write it like {_example(location)}, without wildcards")
    if "duration" in message:
        return Problem(field, value, message, "write it like 90s, 15m, 6h or 30d")
    if "domain name" in message or "host label" in message or "mailbox address" in message:
        return Problem(field, value, message, f"write it like {_example(location)}")
    if kind == "byte_size":
        return Problem(field, value, "not a size", "write a number with a unit, like 25MiB or 2GiB")
    return Problem(field, value, message[:1].lower() + message[1:], f"see {_help(location)}")


def syntax_problem(file: Path, error: tomllib.TOMLDecodeError) -> Problem:
    """A file that is not TOML; a table that is declared twice is the mistake worth naming."""
    text = str(error)
    if "Cannot declare" in text or "overwrite" in text:
        return Problem(
            str(file),
            "",
            f"the same table or key stands twice ({text})",
            "one host has one table and one role: merge or rename",
        )
    return Problem(
        str(file),
        "",
        f"not valid TOML ({text})",
        "mend the line named; strings need quotes, tables need brackets",
    )


def derived(location: tuple[int | str, ...], pruned: set[str]) -> bool:
    """Whether a finding only follows from an entry that was reported and left out."""
    return len(location) == 1 and str(location[0]) in pruned


def dotted(location: tuple[int | str, ...]) -> str:
    """A location as a TOML path: ``users[2].address``."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _shown(detail: ErrorDetails) -> str:
    value = detail.get("input")
    if detail["type"] == "missing" or isinstance(value, dict):
        return ""
    return repr(value) if isinstance(value, str) else str(value)


def _unknown_key(location: tuple[int | str, ...], value: str) -> Problem:
    key = str(location[-1])
    known = sorted(_known_keys(location[:-1]))
    if key == "roles":
        return Problem(
            dotted(location),
            value,
            "unknown key; a host has one role",
            'write role = "…" and one host for each role',
        )
    guess = _nearest(key, known).removeprefix("; ")
    listed = f"remove it, or use one of {', '.join(known)}"
    return Problem(dotted(location), value, "unknown key", f"{guess} Else {listed}" if guess else listed)


def _missing_message(location: tuple[int | str, ...]) -> str:
    if location[0] == "peers" and location[-1] == "next_hop":
        return "a peer without a route"
    if location[0] == "peers" and location[-1] == "tls":
        return "a peer without a TLS policy"
    if location[0] == "hosts" and location[-1] == "addresses":
        return "a host in no zone"
    return "required, and not there"


def _model_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    """The model of the table at a location: through lists and named tables."""
    model: type[BaseModel] = Office
    for step in location:
        if isinstance(step, int):
            continue
        by_alias = {info.alias or name: info for name, info in model.model_fields.items()}
        if step not in by_alias:
            continue  # the name of a host or zone
        nested = [
            item
            for item in _flatten(by_alias[step].annotation)
            if isinstance(item, type) and issubclass(item, BaseModel)
        ]
        if nested:
            model = nested[0]
    return model


def _flatten(annotation: Any) -> Iterator[Any]:
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for item in inner:
        yield from _flatten(item)


def _known_keys(location: tuple[int | str, ...]) -> set[str]:
    return {info.alias or name for name, info in _model_at(location).model_fields.items() if not info.exclude}


def _field_info(location: tuple[int | str, ...]) -> Any:
    names = [step for step in location if isinstance(step, str)]
    for end in range(len(names), 0, -1):
        fields = {
            info.alias or name: info for name, info in _model_at(tuple(names[: end - 1])).model_fields.items()
        }
        if names[end - 1] in fields:
            return fields[names[end - 1]]
    return None


def _help(location: tuple[int | str, ...]) -> str:
    info = _field_info(location)
    return (
        f"{str(info.description).rstrip('.')}; like {_example(location)}"
        if info
        else "docs/reference/office.md"
    )


def _example(location: tuple[int | str, ...]) -> str:
    info = _field_info(location)
    example = info.examples[0] if info and info.examples else ""
    return (
        f'"{example}"'
        if isinstance(example, str) and example
        else str(example)
        if example
        else "the reference page shows"
    )


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, [item for item in known if item], n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


# Secrets that stand in the data file --------------------------------------------------------------------------


def secrets_in(data: Mapping[str, Any]) -> list[Problem]:
    """Keys and values that look like secrets; their values are never repeated."""
    return [
        Problem(
            dotted(location),
            "",
            "a secret in the data file, which is not encrypted",
            "keep it in secrets.age (outpost secrets)",
        )
        for location, value in _leaves(data, ())
        if _looks_secret(location, value)
    ]


def without_secrets(data: dict[str, Any], found: list[Problem]) -> dict[str, Any]:
    """A copy of the data in which the secrets that were found are left out, so that nothing can show them."""
    fields = {problem.field for problem in found}

    def strip(node: Any, location: tuple[int | str, ...]) -> Any:
        if isinstance(node, dict):
            return {
                key: strip(item, (*location, key))
                for key, item in node.items()
                if dotted((*location, key)) not in fields
            }
        if isinstance(node, list):
            kept = [
                (index, item) for index, item in enumerate(node) if dotted((*location, index)) not in fields
            ]
            return [strip(item, (*location, index)) for index, item in kept]
        return node

    stripped: dict[str, Any] = strip(data, ())
    return stripped


def _leaves(node: Any, location: tuple[int | str, ...]) -> Iterator[tuple[tuple[int | str, ...], Any]]:
    if isinstance(node, Mapping):
        for key, item in node.items():
            yield from _leaves(item, (*location, key))
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from _leaves(item, (*location, index))
    else:
        yield location, node


def _looks_secret(location: tuple[int | str, ...], value: Any) -> bool:
    key = next((str(step) for step in reversed(location) if isinstance(step, str)), "")
    return bool(_SECRET_KEY.search(key.lower()) and location[0] != "secrets") or (
        isinstance(value, str) and bool(_SECRET_VALUE.search(value))
    )


# Rules that span tables ---------------------------------------------------------------------------------------


def cross_checks(office: Office, pruned: set[str]) -> list[Problem]:
    """Findings of every rule; a rule is passed over where the tables it needs were left out for other mistakes."""
    return [problem for rule, needs in _RULES if not needs & pruned for problem in rule(office)]


def _zones_apart(office: Office) -> Iterator[Problem]:
    seen: list[tuple[str, IPNetwork]] = []
    for zone in office.zones.values():
        for network in zone.networks:
            for other, taken in seen:
                if network.version == taken.version and network.overlaps(taken):
                    yield Problem(
                        f"zones.{zone.name}.networks",
                        str(network),
                        f"overlaps {taken} of zone {other}",
                        "give each zone networks of its own: trust is told by address",
                    )
            seen.append((zone.name, network))


def _zones_wanted(office: Office) -> Iterator[Problem]:
    for kind, why in (
        ("internet", "mail comes from there"),
        ("servers", "the hosts' links cross it"),
        ("management", "SSH is open only there"),
        ("users", "people read mail there"),
    ):
        if not any(zone.kind == kind for zone in office.zones.values()):
            yield Problem("zones", ", ".join(office.zones), f"no zone of kind {kind}", f"declare one: {why}")


def _hosts_in_zones(office: Office) -> Iterator[Problem]:
    for host in office.hosts:
        field = f"hosts.{host.name}.addresses"
        if not any(host.addresses.values()):
            yield Problem(
                field, "{}", "a host in no zone", f"give it an address in one of {', '.join(office.zones)}"
            )
        for zone_name, addresses in host.addresses.items():
            zone = office.zones.get(zone_name)
            if zone is None:
                guess = _nearest(zone_name, list(office.zones))
                yield Problem(
                    f"{field}.{zone_name}", "", "no such zone", f"use one of {', '.join(office.zones)}{guess}"
                )
                continue
            yield from _addresses_fit(f"{field}.{zone_name}", addresses, zone.networks)


LOCAL_PLACES = ("/etc/", "/usr/", "/root/", "/home/", "/var/spool/cron/", "/run/systemd/")
OUTPOST_OWN = ("/etc/outpost/", "/usr/local/lib/outpost/")


def _local_files(office: Office) -> Iterator[Problem]:
    for host in office.hosts:
        for index, path in enumerate(host.local):
            field = f"hosts.{host.name}.local[{index}]"
            if path.startswith(OUTPOST_OWN) or f"{path}/".startswith(OUTPOST_OWN):
                yield Problem(field, path, "Outpost's own place", "put the file beside the daemon it is for")
            elif not path.startswith(LOCAL_PLACES):
                yield Problem(
                    field, path, "not looked at there", f"local files stand below {', '.join(LOCAL_PLACES)}"
                )
            elif path in ("/etc/", "/usr/local/", "/root/"):
                yield Problem(
                    field,
                    path,
                    "so no change by hand would be seen any more",
                    "name the files, or a directory of their own",
                )


def _placed(office: Office, host: Host) -> bool:
    """Whether a host's own zones are in order; if not, that is reported, and what follows from it is not."""
    return any(host.addresses.values()) and all(zone in office.zones for zone in host.addresses)


def _addresses_fit(
    field: str, addresses: tuple[IPAddress, ...], networks: tuple[IPNetwork, ...]
) -> Iterator[Problem]:
    wanted = {network.version for network in networks}
    shown = ", ".join(map(str, addresses))
    counts = {version: sum(address.version == version for address in addresses) for version in (4, 6)}
    for version, count in counts.items():
        if count > 1:
            yield Problem(field, shown, f"{count} IPv{version} addresses", "give one address of each family")
        elif count == 0 and version in wanted and max(counts.values()) <= 1:
            yield Problem(
                field,
                shown,
                f"no IPv{version} address though the zone carries IPv{version}",
                f"add one of the zone's IPv{version} network",
            )
        elif count and version not in wanted:
            yield Problem(
                field,
                shown,
                f"an IPv{version} address in a zone without IPv{version}",
                "use the family of the zone's networks",
            )
    for address in addresses:
        if address.version in wanted and not any(address in network for network in networks):
            yield Problem(
                field,
                str(address),
                "outside the zone's networks",
                f"use an address in {', '.join(map(str, networks))}",
            )


def _addresses_unique(office: Office) -> Iterator[Problem]:
    owner: dict[IPAddress, str] = {}
    for host in office.hosts:
        for zone, addresses in host.addresses.items():
            for address in addresses:
                if address in owner:
                    yield Problem(
                        f"hosts.{host.name}.addresses.{zone}",
                        str(address),
                        f"{owner[address]} has this address already, so two roles would share one machine",
                        "give every host its own address",
                    )
                owner.setdefault(address, host.name)


def _roles_present(office: Office) -> Iterator[Problem]:
    for role in ROLES:
        count = len(office.with_role(role))
        if count == 0:
            yield Problem(
                "hosts", "", f"no host has the role {role}", f'declare one: [hosts.NAME] with role = "{role}"'
            )
        elif role == "mta" and not office.mail_servers:
            yield Problem(
                f"hosts.{office.with_role(role)[0].name}.retiring",
                "true",
                "every MTA retires: nobody takes mail",
                "leave one in service",
            )
        elif role == "dns" and count == 1:
            yield Problem(
                f"hosts.{office.with_role(role)[0].name}.role",
                role,
                "one name server only: its failure takes the domain off the net (RFC 2182)",
                "declare a second host with role dns",
            )
        elif role == "store" and count > 1:
            yield Problem(
                f"hosts.{office.with_role(role)[1].name}.role",
                role,
                "a second store: mailboxes are not replicated between stores",
                "keep one store (a lost one is rebuilt from its backup)",
            )


def _hosts_where_their_work_is(office: Office) -> Iterator[Problem]:
    for host in office.hosts:
        kinds = {office.zones[zone].kind for zone in host.addresses if zone in office.zones}
        if host.role == "store" and "internet" in kinds:
            yield Problem(
                f"hosts.{host.name}.addresses",
                "",
                "the store has an address in the Internet's zone",
                "keep it in the servers', users' and management zones: the Internet must not reach where passwords are checked",
            )


def _addresses_of(office: Office) -> Iterator[tuple[str, str]]:
    yield from ((f"users[{index}].address", user.address) for index, user in enumerate(office.users))
    yield from ((f"shared[{index}].address", mailbox.address) for index, mailbox in enumerate(office.shared))
    yield from ((f"aliases[{index}].address", alias.address) for index, alias in enumerate(office.aliases))


def _recipients_unique(office: Office) -> Iterator[Problem]:
    owner: dict[str, str] = {}
    for field, address in _addresses_of(office):
        if address in owner:
            message = f"declared already, as {owner[address]}"
            yield Problem(field, address, message, "remove one, or give it another address")
        owner.setdefault(address, field)


def _recipients_ours(office: Office) -> Iterator[Problem]:
    for field, address in _addresses_of(office):
        local, _, domain = address.partition("@")
        if domain != office.domain:
            yield Problem(field, address, "not in the office's domain", f"write {local}@{office.domain}")


def _alias_members(office: Office) -> Iterator[Problem]:
    known = [alias.address for alias in office.all_aliases] + list(office.mailboxes)
    for index, alias in enumerate(office.aliases):
        for member in alias.members:
            if member not in known:
                guess = _nearest(member, known)
                yield Problem(
                    f"aliases[{index}].members",
                    member,
                    "neither a user nor an alias of this office",
                    f"name a declared one{guess}",
                )


def _shared_mailboxes(office: Office) -> Iterator[Problem]:
    people = [user.address for user in office.users]
    folders = [mailbox.folder for mailbox in office.shared]
    for index, mailbox in enumerate(office.shared):
        if mailbox.folder in folders[:index]:
            yield Problem(
                f"shared[{index}].address",
                mailbox.address,
                f"the same folder Shared/{mailbox.folder} as another one",
                "give it another name",
            )
        for key, addresses in (("members", mailbox.members), ("readers", mailbox.readers)):
            for address in addresses:
                if address not in people:
                    yield Problem(
                        f"shared[{index}].{key}",
                        address,
                        "not a user of this office",
                        f"name a declared one{_nearest(address, people)}",
                    )


def _users_rights(office: Office) -> Iterator[Problem]:
    ours = [alias.address for alias in office.all_aliases] + list(office.mailboxes)
    for index, user in enumerate(office.users):
        for address in user.send_as:
            if address not in ours:
                yield Problem(
                    f"users[{index}].send_as",
                    address,
                    "not an address of this office: its mail would be refused elsewhere as forged",
                    f"name one of its users, aliases or shared mailboxes{_nearest(address, ours)}",
                )
        for address in user.forward:
            if address.endswith(f"@{office.domain}"):
                yield Problem(
                    f"users[{index}].forward",
                    address,
                    "an address of this office",
                    "forwarding is for addresses outside: make an alias with both members",
                )
        if len(user.forward) > office.limits.redirects:
            yield Problem(
                f"users[{index}].forward",
                str(len(user.forward)),
                f"more copies than limits.redirects ({office.limits.redirects}) lets leave",
                "name fewer",
            )


def _alias_loops(office: Office) -> Iterator[Problem]:
    members = {alias.address: alias.members for alias in office.aliases}
    for index, alias in enumerate(office.aliases):
        path = _path_back(alias.address, members)
        if path:
            yield Problem(
                f"aliases[{index}].members",
                " -> ".join(path),
                "an alias that leads back to itself",
                "break the circle",
            )


def _path_back(start: str, edges: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """A shortest way from a node back to itself; empty when there is none."""
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


def _postmaster(office: Office) -> Iterator[Problem]:
    people = [user.address for user in office.users]
    if office.postmaster not in people:
        guess = _nearest(office.postmaster, people)
        yield Problem("postmaster", office.postmaster, "not one of the users", f"name a declared user{guess}")


def _verification(office: Office) -> Iterator[Problem]:
    canary, domains = office.verification.canary, {domain for peer in office.peers for domain in peer.domains}
    people = [user.address for user in office.users]
    if canary and canary not in people:
        guess = _nearest(canary, people)
        yield Problem("verification.canary", canary, "not one of the users", f"name a declared one{guess}")
    for index, address in enumerate(office.verification.correspondents):
        if address.partition("@")[2] in {office.domain, *domains}:
            yield Problem(
                f"verification.correspondents[{index}]", address, "not on the Internet: the office's own or a peer's",
                "remove it (peers are asked in any case)",
            )  # fmt: skip


def _peer_zones(office: Office) -> Iterator[Problem]:
    for index, peer in enumerate(office.peers):
        zone = office.zones.get(peer.zone)
        if zone is None:
            guess = _nearest(peer.zone, list(office.zones))
            yield Problem(
                f"peers[{index}].zone",
                peer.zone,
                "no such zone",
                f"use one of {', '.join(office.zones)}{guess}",
            )
            continue
        if zone.kind not in ("internet", "partner"):
            yield Problem(
                f"peers[{index}].zone",
                peer.zone,
                "a peer inside the office",
                "peers are reached in a partner's or the Internet's zone",
            )
        for mta in office.with_role("mta"):
            if _placed(office, mta) and peer.zone not in mta.addresses:
                yield Problem(
                    f"peers[{index}].zone",
                    peer.zone,
                    f"{mta.name} has no address there, so there is no route",
                    f"give hosts.{mta.name}.addresses one in {peer.zone}",
                )
        if zone.kind == "partner":
            for relay in peer.relays:
                if not any(relay in network for network in zone.networks):
                    yield Problem(
                        f"peers[{index}].relays",
                        str(relay),
                        f"outside zone {peer.zone}",
                        f"use its address in {', '.join(map(str, zone.networks))}",
                    )


def _peer_fingerprints(office: Office) -> Iterator[Problem]:
    for index, peer in enumerate(office.peers):
        if (peer.tls == "fingerprint") == bool(peer.fingerprints):
            continue
        yield Problem(
            f"peers[{index}].fingerprints",
            ", ".join(peer.fingerprints) or "(none)",
            "no key is pinned, so no mail would ever leave"
            if peer.tls == "fingerprint"
            else f'not looked at with tls = "{peer.tls}"',
            "give the SHA-256 of the next hop's public key"
            if peer.tls == "fingerprint"
            else 'leave them out, or choose tls = "fingerprint"',
        )


def _peer_waits(office: Office) -> Iterator[Problem]:
    for index, peer in enumerate(office.peers):
        if peer.lifetime and peer.lifetime > office.link.queue_lifetime:
            yield Problem(
                f"peers[{index}].lifetime",
                f"{peer.lifetime}s",
                f"the queue gives up after {office.link.queue_lifetime} s (link.queue_lifetime)",
                "shorten it, or lengthen link.queue_lifetime",
            )
        zone = office.zones.get(peer.zone)
        if peer.backup_mx and zone is not None and zone.kind != "internet":
            yield Problem(
                f"peers[{index}].backup_mx",
                "true",
                f"strangers cannot reach a next hop in {peer.zone}",
                "only a peer in the Internet's zone can be an MX",
            )
    if office.link.retry_soonest > office.link.retry_latest:
        yield Problem(
            "link.retry_soonest",
            f"{office.link.retry_soonest}s",
            "longer than link.retry_latest",
            "shorten it",
        )


def _peer_listeners(office: Office) -> Iterator[Problem]:
    taken: dict[tuple[str, int], str] = {}
    for index, peer in enumerate(office.peers):
        zone = office.zones.get(peer.zone)
        if zone is not None and zone.kind == "internet" and peer.listen == 25:
            yield Problem(
                f"peers[{index}].listen",
                "25",
                "the Internet's own port: a flood there would starve this peer",
                "choose another port, like 2525",
            )
        other = taken.setdefault((peer.zone, peer.listen), peer.name)
        if other != peer.name:
            yield Problem(
                f"peers[{index}].listen",
                str(peer.listen),
                f"{other} has this listener already",
                "give each peer of a zone its own port",
            )


def _peer_domains(office: Office) -> Iterator[Problem]:
    owner: dict[str, str] = {}
    names: set[str] = set()
    for index, peer in enumerate(office.peers):
        if peer.name in names:
            yield Problem(f"peers[{index}].name", peer.name, "declared twice", "give each peer its own name")
        names.add(peer.name)
        for domain in peer.domains:
            if domain == office.domain:
                yield Problem(
                    f"peers[{index}].domains",
                    domain,
                    "the office's own domain would be sent away: a mail loop",
                    "remove it",
                )
            elif domain in owner:
                yield Problem(
                    f"peers[{index}].domains",
                    domain,
                    f"routed to {owner[domain]} already",
                    "keep it with one peer",
                )
            owner.setdefault(domain, peer.name)


def _peer_loops(office: Office) -> Iterator[Problem]:
    own = {host.fqdn for host in office.hosts}
    edges = {peer.name: tuple(_routed_through(office, peer)) for peer in office.peers}
    for index, peer in enumerate(office.peers):
        if peer.next_hop in own:
            yield Problem(
                f"peers[{index}].next_hop",
                peer.next_hop,
                "one of this office's own hosts: a mail loop",
                "name the peer's own relay",
            )
        own_relays = [
            relay for relay in peer.relays if any(relay in host.all_addresses for host in office.hosts)
        ]
        for relay in own_relays:
            yield Problem(
                f"peers[{index}].relays",
                str(relay),
                "an address of one of this office's own hosts: a mail loop",
                "name the peer's own relays",
            )
        path = _path_back(peer.name, edges)
        if path:
            yield Problem(
                f"peers[{index}].next_hop",
                peer.next_hop,
                f"peers that lead to each other ({' -> '.join(path)})",
                "send each peer's mail to a host of its own",
            )


def _routed_through(office: Office, peer: Peer) -> Iterator[str]:
    """Other peers whose domains the next hop's name lies in: its mail is handed to them."""
    for other in office.peers:
        elsewhere = not any(_inside(peer.next_hop, domain) for domain in peer.domains)
        if (
            other.name != peer.name
            and elsewhere
            and any(_inside(peer.next_hop, name) for name in other.domains)
        ):
            yield other.name


def _inside(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}")


def _limits_hold(office: Office) -> Iterator[Problem]:
    limits = office.limits
    message = int(limits.message_size)
    if message > limits.scan_size:
        yield Problem(
            "limits.message_size",
            _size(message),
            f"larger than the scanner reads ({_size(limits.scan_size)}): it would pass unscanned",
            "lower it, or raise limits.scan_size",
        )
    if message * MESSAGES_IN_QUEUE > limits.queue_volume:
        yield Problem(
            "limits.message_size",
            _size(message),
            f"the queue ({_size(limits.queue_volume)}) holds fewer than {MESSAGES_IN_QUEUE} such messages",
            "lower it, or raise limits.queue_volume",
        )
    if limits.scan_size > MAX_SCAN:
        yield Problem(
            "limits.scan_size",
            _size(limits.scan_size),
            "more than ClamAV can scan",
            f"use at most {_size(MAX_SCAN)}",
        )
    if message > limits.message_budget:
        yield Problem(
            "limits.message_budget",
            _size(limits.message_budget),
            "smaller than one message of limits.message_size: nobody could send it to anybody",
            "raise it, or lower limits.message_size",
        )
    if limits.same_signature < len(office.users):
        yield Problem(
            "limits.same_signature",
            str(limits.same_signature),
            f"fewer than the {len(office.users)} users: a list that writes to each of them would be stopped",
            "raise it",
        )
    for user in office.users:
        if office.quota(user) < message:
            yield Problem(
                f"users[{user.address}].quota",
                _size(office.quota(user)),
                "smaller than one message of limits.message_size",
                "raise the quota",
            )


MAX_SCAN = 2 * 1024**3 - 1
"""ClamAV refuses to scan files of 2 GiB and more (clamd.conf(5), MaxFileSize)."""


def _reachable_services(office: Office) -> Iterator[Problem]:
    """A forwarder or proxy in one of the office's zones serves only hosts of that zone."""
    for host in office.hosts:
        if not _placed(office, host):
            continue
        zones = [office.zones[zone] for zone in host.addresses]
        own = [network for zone in zones for network in zone.networks]
        inside = [
            address
            for address in office.resolver.forwarders
            if any(address in network for zone in office.zones.values() for network in zone.networks)
        ]
        outside = len(office.resolver.forwarders) > len(inside)
        if inside and not outside and not any(address in network for address in inside for network in own):
            yield Problem(
                "resolver.forwarders",
                ", ".join(map(str, inside)),
                f"{host.name} is in none of their zones",
                f"add a forwarder that {host.name} reaches",
            )


def _collector_reached(office: Office) -> Iterator[Problem]:
    logs = office.logs
    if logs.addresses and not logs.collector:
        yield Problem(
            "logs.addresses",
            ", ".join(map(str, logs.addresses)),
            "a collector without a name",
            "give logs.collector, the name in its certificate",
        )
    if not logs.collector or not logs.addresses:
        return
    every = [network for zone in office.zones.values() for network in zone.networks]
    for host in office.hosts:
        if not _placed(office, host):
            continue
        own = [network for zone in host.addresses for network in office.zones[zone].networks]
        if not any(
            any(address in network for network in own) or not any(address in network for network in every)
            for address in logs.addresses
        ):
            yield Problem(
                "logs.addresses",
                ", ".join(map(str, logs.addresses)),
                f"{host.name} is in none of their zones",
                f"add an address that {host.name} reaches; all hosts are in the management zone",
            )


def _alarms_leave(office: Office) -> Iterator[Problem]:
    """Every host tells its own alarms: one that is not on the Internet needs a path to an address near it."""
    for host in office.hosts:
        if not _placed(office, host) or not office.alarms.tell or office.addresses_of_kind(host, "internet"):
            continue
        networks = [network for zone in host.addresses for network in office.zones[zone].networks]
        addresses = [address for path in office.alarms.tell if (address := _literal(path)) is not None]
        if not any(address in network for address in addresses for network in networks):
            yield Problem(
                "alarms.tell",
                ", ".join(office.alarms.tell),
                f"{host.name} is not on the Internet and reaches none of them",
                "add a relay or webhook by its address in a zone of that host, the administrators' best",
            )
    for index, path in enumerate(office.alarms.tell):
        if path.startswith("http:") and _literal(path) is None:
            yield Problem(
                f"alarms.tell[{index}]", path, "in clear across the Internet", "write https:// for a name"
            )
        asked = parse_qs(urlsplit(path).query)
        if path.startswith("smtp") and not (asked.get("to") and asked.get("from")):
            yield Problem(
                f"alarms.tell[{index}]",
                path,
                "a message from nobody, or to nobody",
                "write smtp://RELAY/?to=ADDRESS&from=ADDRESS",
            )


def _literal(url: str) -> IPAddress | None:
    try:
        return ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return None


def _reverse_zones(office: Office) -> Iterator[Problem]:
    for index, network in enumerate(office.dns.reverse):
        step, unit = (8, "an octet") if network.version == 4 else (4, "a nibble")
        if network.prefixlen % step or not network.prefixlen:
            yield Problem(
                f"dns.reverse[{index}]",
                str(network),
                f"its prefix does not end on {unit}, so it is no reverse zone of its own",
                f"give the delegated networks with a prefix that {step} divides (RFC 2317 delegations stay with the provider)",
            )


def _certificates_come(office: Office) -> Iterator[Problem]:
    given = {item.host for item in office.tls.provided}
    for host in office.hosts:
        chosen = mode(office, host)
        field = f"hosts.{host.name}.certificates"
        if not _placed(office, host):
            continue
        if chosen == "acme" and not office.addresses_of_kind(host, "internet") and not office.acme.proxy:
            yield Problem(
                field,
                "acme",
                f"{host.name} has no address on the Internet, so it cannot ask the authority",
                'name a proxy in acme.proxy, or give the host certificates = "office"',
            )
        if chosen == "provided" and host.name not in given:
            yield Problem(
                field,
                "provided",
                f"no certificate in {host.name}.pem beside office.toml",
                f"put it there with its chain; its request: outpost secrets csr OFFICE {host.name}",
            )


def _backup_fits(office: Office) -> Iterator[Problem]:
    """Every host reaches the other end, and a backup may be as old as two of them are apart."""
    backup = office.backup
    if backup is None:
        return
    zone = next(
        (zone for zone in office.zones.values() if any(backup.server in net for net in zone.networks)), None
    )
    for host in office.hosts:
        if zone and _placed(office, host) and zone.name not in host.addresses:
            yield Problem(
                "backup.server",
                str(backup.server),
                f"{host.name} has no address in its zone {zone.name}",
                f"give {host.name} one there, or name a server that is reached by routing",
            )
    if backup.oldest <= backup.every + backup.jitter:
        yield Problem(
            "backup.oldest",
            f"{backup.oldest}s",
            f"two backups may lie {backup.every + backup.jitter} s apart (every and jitter)",
            f"more than {backup.every + backup.jitter}s",
        )


def _rolls_fit(office: Office) -> Iterator[Problem]:
    """A key must live longer than its replacement takes, a signature longer than a cache keeps it."""
    dns = office.dns
    step = dns.propagation + dns.ttl
    for field, value, needed, what in (
        ("zsk_lifetime", dns.zsk_lifetime, 2 * step, "two steps of propagation and TTL"),
        (
            "ksk_lifetime",
            dns.ksk_lifetime,
            2 * step + dns.parent_propagation,
            "two steps of propagation and TTL, and the parent's time",
        ),
        ("signature_lifetime", dns.signature_lifetime, 2 * step, "twice propagation and TTL"),
        ("dkim_lifetime", dns.dkim_lifetime, 2 * dns.ttl + dns.dkim_retention, "two TTLs and dkim_retention"),
    ):
        if value <= needed:
            yield Problem(
                f"dns.{field}",
                f"{value}s",
                f"shorter than a roll takes: {needed} s ({what})",
                f"more than {needed}s",
            )
    if dns.dkim_retention < office.link.queue_lifetime:
        yield Problem(
            "dns.dkim_retention",
            f"{dns.dkim_retention}s",
            f"mail signed with the old key may wait in a queue for {office.link.queue_lifetime} s (link.queue_lifetime)",
            f"at least {office.link.queue_lifetime}s, or shorten link.queue_lifetime",
        )


def _keys_are_public(office: Office) -> Iterator[Problem]:
    for index, key in enumerate(office.ssh.authorized_keys):
        if not re.match(r"(ssh-ed25519|ecdsa-sha2-|sk-ssh-|sk-ecdsa-|ssh-rsa) ?\S+", key):
            yield Problem(
                f"ssh.authorized_keys[{index}]",
                key[:24],
                "not a public SSH key",
                "paste the line of the .pub file",
            )
    for index, recipient in enumerate(office.secrets.recipients):
        if not re.fullmatch(r"age1[0-9a-z]{58}", recipient):
            yield Problem(
                f"secrets.recipients[{index}]",
                recipient,
                "not an age public key",
                "paste the age1… line that outpost secrets prints",
            )


def _size(value: int) -> str:
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if value >= factor and value % factor == 0:
            return f"{value // factor}{unit}"
    return f"{value} bytes"


_Rule = Callable[[Office], Iterator[Problem]]
_RULES: tuple[tuple[_Rule, set[str]], ...] = (
    (_zones_apart, set()),
    (_zones_wanted, {"zones"}),
    (_hosts_in_zones, {"zones"}),
    (_local_files, set()),
    (_addresses_unique, set()),
    (_roles_present, {"hosts"}),
    (_hosts_where_their_work_is, set()),
    (_recipients_unique, set()),
    (_recipients_ours, {"domain"}),
    (_alias_members, {"users", "aliases", "shared", "domain", "postmaster"}),
    (_shared_mailboxes, {"users"}),
    (_users_rights, {"users", "aliases", "shared", "domain", "limits"}),
    (_alias_loops, set()),
    (_postmaster, {"users", "postmaster"}),
    (_verification, {"users", "peers", "domain", "verification"}),
    (_peer_zones, {"zones", "hosts"}),
    (_peer_listeners, set()),
    (_peer_fingerprints, set()),
    (_peer_waits, {"link"}),
    (_peer_domains, {"domain"}),
    (_peer_loops, set()),
    (_limits_hold, {"limits"}),
    (_reachable_services, {"zones", "hosts"}),
    (_collector_reached, {"zones", "hosts", "logs"}),
    (_alarms_leave, {"zones", "hosts", "alarms"}),
    (_reverse_zones, set()),
    (_rolls_fit, {"dns", "link"}),
    (_backup_fits, {"hosts", "zones", "backup"}),
    (_certificates_come, {"hosts", "zones"}),
    (_keys_are_public, set()),
)

__all__ = [
    "cross_checks",
    "derived",
    "dotted",
    "schema_problem",
    "secrets_in",
    "syntax_problem",
    "without_secrets",
]
