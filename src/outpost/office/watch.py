"""What each host checks every few minutes for alarms, derived from the office (``outpost.onhost.watch``).

Pure: no I/O, no pyinfra.
"""

from typing import Any

from outpost.office.backup import STATE, backup_of
from outpost.office.model import Office
from outpost.office.role import every_role, role_of
from outpost.office.tables.topology import Host

EVERYWHERE = ("certificates", "disks", "backup", "units", "memory")
RECENT = 3600
"""Seconds for which an event in the journal stays an alarm."""
VOLUMES = ("/", "/var", "/var/spool/postfix", "/srv/mail", "/var/log")


def watch_settings(office: Office, me: Host) -> dict[str, Any]:
    """``/etc/outpost/watch.json``."""
    wanted, kept = office.alarms, backup_of(office, me)
    of_roles = {
        key: value for role in every_role().values() for key, value in role.watching(office, me).items()
    }
    return {
        "host": me.fqdn,
        "tell": list(wanted.tell),
        "probes": [*EVERYWHERE, *role_of(me).watched, *(("logs",) if office.logs.collector else ())],
        "recent": RECENT,
        "applied": "/var/lib/outpost/applied",
        "scanner": of_roles.pop("scanner"),
        "corrupt": of_roles.pop("corrupt"),
        "volumes": list(VOLUMES),
        "tls": "/etc/outpost/tls",
        "zones": of_roles.pop("zones"),
        "asked": str(next(iter(me.all_addresses))),
        "virus_signatures": of_roles.pop("virus_signatures"),
        "queue_age": wanted.queue_age,
        "certificate_age": wanted.certificate_age,
        "signature_age": wanted.signature_age,
        "virus_age": wanted.virus_age,
        "disk_percent": wanted.disk_percent,
        "wrong_logins": wanted.wrong_logins,
        "logs": "/var/lib/outpost-logs/sent",
        "logs_age": wanted.logs_age,
        "backup": f"{STATE}/last.json" if kept else "",
        "backup_age": kept.backup.oldest if kept else 0,
        **of_roles,
    }
