"""Peers: reachable, distinct, without loops."""

from collections.abc import Iterator
from functools import partial

from outpost.office.checks.rule import nearest, own_names, path_back, placed, rule
from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.role import serving
from outpost.office.tables.routes import Peer


@rule("zones", "hosts")
def _peer_zones(office: Office) -> Iterator[Problem]:
    for index, peer in enumerate(office.peers):
        zone, wrong = office.zones.get(peer.zone), partial(Problem, f"peers[{index}].zone", peer.zone)
        if zone is None and any(peer.zone in host.addresses for host in office.hosts):
            continue  # reported there
        if zone is None:
            guess = nearest(peer.zone, list(office.zones))
            yield wrong("no such zone", f"use one of {', '.join(office.zones)}{guess}")
            continue
        if zone.kind not in ("internet", "partner"):
            yield wrong("a peer inside the office", "name a partner's zone or the Internet's")
            continue
        for mta in serving(office, "transport"):
            if placed(office, mta) and peer.zone not in mta.addresses:
                message = f"{mta.name} has no address there, so there is no route"
                yield wrong(message, f"give hosts.{mta.name}.addresses one in {peer.zone}")
        if zone.kind == "partner":
            for relay in peer.relays:
                if relay.version in zone.families and not any(relay in net for net in zone.networks):
                    message = f"outside zone {peer.zone}"
                    remedy = f"use its address in {', '.join(map(str, zone.networks))}"
                    yield Problem(f"peers[{index}].relays", str(relay), message, remedy)


@rule()
def _peer_listeners(office: Office) -> Iterator[Problem]:
    taken: dict[tuple[str, int], str] = {}
    for index, peer in enumerate(office.peers):
        zone = office.zones.get(peer.zone)
        if zone is not None and zone.kind == "internet" and peer.listen == 25:
            message = "the Internet's own port: a flood there would block this peer"
            yield Problem(f"peers[{index}].listen", "25", message, "choose another port, like 2525")
        other = taken.setdefault((peer.zone, peer.listen), peer.name)
        if other != peer.name:
            message = f"{other} has this listener already"
            remedy = "give each peer of a zone its own port"
            yield Problem(f"peers[{index}].listen", str(peer.listen), message, remedy)


@rule()
def _peer_fingerprints(office: Office) -> Iterator[Problem]:
    for index, peer in enumerate(office.peers):
        if (peer.tls == "fingerprint") == bool(peer.fingerprints):
            continue
        wrong = partial(Problem, f"peers[{index}].fingerprints", ", ".join(peer.fingerprints) or "(none)")
        if peer.tls == "fingerprint":
            message = "no key is pinned, so no mail would ever leave"
            yield wrong(message, "give the SHA-256 of the next hop's public key")
        else:
            message = f'not used with tls = "{peer.tls}"'
            yield wrong(message, 'leave them out, or choose tls = "fingerprint"')


@rule("link")
def _peer_waits(office: Office) -> Iterator[Problem]:
    for index, peer in enumerate(office.peers):
        if peer.lifetime and peer.lifetime > office.link.queue_lifetime:
            message = f"the queue gives up after {office.link.queue_lifetime} s (link.queue_lifetime)"
            remedy = "shorten it, or lengthen link.queue_lifetime"
            yield Problem(f"peers[{index}].lifetime", f"{peer.lifetime}s", message, remedy)
        elif peer.lifetime and peer.lifetime <= office.link.retry_soonest:
            message = f"mail bounces before it is tried a second time (link.retry_soonest: {office.link.retry_soonest} s)"
            yield Problem(f"peers[{index}].lifetime", f"{peer.lifetime}s", message, "lengthen it")
        if peer.large is not None and len(set(peer.large_hours.split("-"))) == 1:
            message = "ends when it begins: is that the whole day, or never?"
            remedy = "write two different times"
            yield Problem(f"peers[{index}].large_hours", peer.large_hours, message, remedy)
        zone = office.zones.get(peer.zone)
        if peer.backup_mx and zone is not None and zone.kind == "partner":
            message = f"strangers cannot reach a next hop in {peer.zone}"
            remedy = "leave it out, or place the peer in the Internet's zone"
            yield Problem(f"peers[{index}].backup_mx", "true", message, remedy)


@rule("link")
def _link_waits(office: Office) -> Iterator[Problem]:
    link = office.link
    if link.retry_soonest > link.retry_latest:
        message = "longer than link.retry_latest"
        yield Problem("link.retry_soonest", f"{link.retry_soonest}s", message, "shorten it")
    if link.queue_lifetime <= link.delay_warning:
        message = f"not longer than link.delay_warning ({link.delay_warning} s): mail bounces before its sender gets a notice"
        remedy = "lengthen it, or shorten link.delay_warning"
        yield Problem("link.queue_lifetime", f"{link.queue_lifetime}s", message, remedy)


@rule("domain")
def _peer_domains(office: Office) -> Iterator[Problem]:
    owner: dict[str, str] = {}
    names: set[str] = set()
    for index, peer in enumerate(office.peers):
        if peer.name in names:
            yield Problem(f"peers[{index}].name", peer.name, "declared twice", "give each peer its own name")
            continue
        names.add(peer.name)
        for domain in peer.domains:
            wrong = partial(Problem, f"peers[{index}].domains", domain)
            if domain in own_names(office):
                yield wrong("the office's own domain would be sent away: a mail loop", "remove it")
            elif domain in owner:
                yield wrong(f"routed to {owner[domain]} already", "keep it with one peer")
            owner.setdefault(domain, peer.name)


@rule()
def _peer_loops(office: Office) -> Iterator[Problem]:
    own = own_names(office)
    addresses = {address for host in office.hosts for address in host.all_addresses}
    edges = {peer.name: tuple(_routed_through(office, peer)) for peer in office.peers}
    for index, peer in enumerate(office.peers):
        if peer.next_hop in own:
            message = "one of this office's own hosts: a mail loop"
            yield Problem(f"peers[{index}].next_hop", peer.next_hop, message, "name the peer's own relay")
        for relay in (relay for relay in peer.relays if relay in addresses):
            message = "an address of one of this office's own hosts: a mail loop"
            yield Problem(f"peers[{index}].relays", str(relay), message, "name the peer's own relays")
        path = path_back(peer.name, edges)
        if path:
            message = f"peers that lead to each other ({' -> '.join(path)})"
            remedy = "send each peer's mail to a host of its own"
            yield Problem(f"peers[{index}].next_hop", peer.next_hop, message, remedy)


def _routed_through(office: Office, peer: Peer) -> Iterator[str]:
    """Other peers whose domains contain the next hop's name: they get its mail."""
    for other in office.peers:
        here, there = (any(_inside(peer.next_hop, name) for name in each.domains) for each in (peer, other))
        if other.name != peer.name and there and not here:
            yield other.name


def _inside(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}")
