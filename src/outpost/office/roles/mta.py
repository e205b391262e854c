"""MTAs: Postfix with Rspamd and ClamAV, the only hosts that take mail from outside."""

from __future__ import annotations

from outpost.office import ports
from outpost.office.model import Office
from outpost.office.roles.role import NewHost, Role, Shown
from outpost.office.size import SMTPD_MIB, CgroupLimit, Size


def _limits(size: Size) -> dict[str, CgroupLimit]:
    return {
        "postfix.service": CgroupLimit(SMTPD_MIB * size.postfix_processes, 2 * size.postfix_processes),
        "rspamd.service": CgroupLimit(1024, 64),
        "redis-server.service": CgroupLimit(384, 32),
        # ClamAV's own signatures take 1.3 GB, twice that while it loads new ones beside the old.
        "clamav-daemon.service": CgroupLimit(3584, 64),
        "stunnel@scanner.service": CgroupLimit(128, 64),
    }


def _listeners(office: Office) -> tuple[int, ...]:
    outside = [zone.name for zone in office.zones_of_kind("internet")]
    return tuple(sorted({ports.SMTP} | {peer.listen for peer in office.peers if peer.zone in outside}))


MTA = Role(
    name="mta",
    hosts=(NewHost("mta", 21, ("wan", "core", "mgmt"), "the only listener for mail; holds no password"),),
    published=lambda _office: ("internet",),
    disk=8192,
    # ClamAV's signatures take 1.3 GB, twice that while new ones are loaded.
    memory=lambda size: 4096 + size.beyond_smallest * SMTPD_MIB // 3,
    limits=_limits,
    watched=("queue", "corrupt", "virus_signatures", "scanner"),
    shown=Shown(unit="postfix.service", ports=_listeners, probe="25 -starttls smtp", zone="internet"),
    erased=(
        "/var/spool/postfix",
        "/var/lib/rspamd",
        "/var/lib/redis",
        "/var/lib/outpost-policy",
        "/etc/rspamd",
    ),
    stopped=("postfix.service", "rspamd.service", "redis-server.service", "outpost-policy.service"),
    traced=True,
)
