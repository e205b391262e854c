"""What each host looks at to see whether it needs a human, derived from the office (``outpost.onhost.watch``).

Pure: no I/O, no pyinfra.
"""

from __future__ import annotations

from typing import Any

from outpost.office.backup import STATE, backup_of
from outpost.office.dns import reverse_zone
from outpost.office.model import Office
from outpost.office.mta import MtaView
from outpost.office.roles import role_of
from outpost.office.tables.topology import Host

EVERYWHERE = ("certificates", "disks", "backup", "units", "memory")
RECENT = 3600
"""Seconds for which what a journal tells once is an alarm."""
VOLUMES = ("/", "/var", "/var/spool/postfix", "/srv/mail", "/var/log")
VIRUS_SIGNATURES = ("/var/lib/clamav/daily.c[lv]d", "/var/lib/clamav/main.c[lv]d")


def watch_settings(office: Office, me: Host) -> dict[str, Any]:
    """``/etc/outpost/watch.json``."""
    wanted, kept = office.alarms, backup_of(office, me)
    return {
        "host": me.fqdn,
        "tell": list(wanted.tell),
        "looks": [*EVERYWHERE, *role_of(me).watched, *(("logs",) if office.logs.collector else ())],
        "recent": RECENT,
        "applied": "/var/lib/outpost/applied",
        "scanner": MtaView.scanner_socket,
        "corrupt": "/var/spool/postfix/corrupt",
        "volumes": list(VOLUMES),
        "tls": "/etc/outpost/tls",
        "zones": [office.domain, *_reverse(office)] if me.role == "dns" else [],
        "asked": str(next(iter(me.all_addresses))),
        "virus_signatures": list(VIRUS_SIGNATURES) if office.scanner.signatures == "freshclam" else [],
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
    }


def _reverse(office: Office) -> tuple[str, ...]:
    return tuple(reverse_zone(office, network).name for network in office.dns.reverse)
