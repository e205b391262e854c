"""Delegated reverse zones, and lifetimes of keys: a key must live longer than its roll takes."""

from collections.abc import Iterator

from outpost.office.checks.rule import Rule
from outpost.office.model import Office
from outpost.office.problems import Problem


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
            message = f"shorter than a roll takes: {needed} s ({what})"
            yield Problem(f"dns.{field}", f"{value}s", message, f"give more than {needed}s")
    if dns.dkim_retention < office.link.queue_lifetime:
        yield Problem(
            "dns.dkim_retention",
            f"{dns.dkim_retention}s",
            f"mail signed with the old key may wait in a queue for {office.link.queue_lifetime} s (link.queue_lifetime)",
            f"give at least {office.link.queue_lifetime}s, or shorten link.queue_lifetime",
        )


RULES: tuple[Rule, ...] = ((_reverse_zones, set()), (_rolls_fit, {"dns", "link"}))
