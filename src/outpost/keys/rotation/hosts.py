"""Certificates of the links between the office's hosts, issued by its own authority.

A new certificate for the same key needs no order: every host verifies the authority. A new key does, because the
MTA's listener for users' mail names the store's key: first the MTAs accept both, then every host shows its new one,
then the old one is forgotten. Each step is applied before the next is written down.
"""

from outpost.keys.rotation.engine import Desk, Rows
from outpost.keys.secrets_file import complete, renewed_hosts
from outpost.office.role import serving


def due(desk: Desk) -> bool:
    """Whether a certificate is to be renewed, or a roll was interrupted."""
    return (
        bool(desk.secrets.hosts_past)
        or complete(desk.office, desk.secrets, now=desk.now()).secrets.hosts != desk.secrets.hosts
    )


def roll(desk: Desk, *, keys: bool) -> None:
    """Issue every host's certificate again; with `keys` for a new key."""
    kept = desk.secrets
    if not kept.hosts_past:
        past = {name: pair.certificate for name, pair in kept.hosts.items()} if keys else {}
        fresh = renewed_hosts(desk.office, kept, desk.now(), keys=keys)
        desk.change(hosts=fresh, hosts_past=past)
        desk.report(f"issued {len(fresh)} certificates{' for new keys' if keys else ''}")
    if desk.secrets.hosts_past:
        desk.apply(serving(desk.office, "transport"))
        desk.report("the MTAs accept the store's old and new key")
    desk.apply(desk.office.hosts)
    desk.report("every host shows its new certificate")
    if desk.secrets.hosts_past:
        desk.change(hosts_past={})
        desk.apply(serving(desk.office, "transport"))
        desk.report("the old keys are no longer accepted")


def status(desk: Desk) -> Rows:
    """Host, stage, end of its certificate."""
    stage = "rolling" if desk.secrets.hosts_past else "in use"
    return [
        (name, stage, f"valid until {pair.loaded.not_valid_after_utc:%Y-%m-%d}, renewed 30 days before")
        for name, pair in desk.secrets.hosts.items()
    ]
