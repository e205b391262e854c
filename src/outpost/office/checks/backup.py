"""The other end of backups, and how old one may be."""

from __future__ import annotations

from collections.abc import Iterator

from outpost.office.checks.rule import Rule, placed
from outpost.office.model import Office
from outpost.office.problems import Problem


def _backup_fits(office: Office) -> Iterator[Problem]:
    """Every host reaches the other end, and a backup may be as old as two of them are apart."""
    backup = office.backup
    if backup is None:
        return
    zone = next(
        (zone for zone in office.zones.values() if any(backup.server in net for net in zone.networks)), None
    )
    for host in office.hosts:
        if zone and placed(office, host) and zone.name not in host.addresses:
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
            f"give more than {backup.every + backup.jitter}s",
        )


RULES: tuple[Rule, ...] = ((_backup_fits, {"hosts", "zones", "backup"}),)
