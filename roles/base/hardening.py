"""What every host has besides SSH: packet filter, kernel, resolver, clock, sandboxes, limits, modules, audit, hours of upgrades."""

import re
from typing import Any

from outpost.converge.declaration import Items
from outpost.converge.files import File, rendered
from outpost.converge.shapes import once, packages, service, settings
from outpost.drift.differences import Finding
from outpost.office import Host, Office
from outpost.office.base import NOTHING_RUNS, UNUSED_MODULES, BaseView
from outpost.office.role import cgroup_limits, role_of
from outpost.office.size import size_of
from outpost.units import restarted
from roles.base.script import script

TABLE = re.compile(r"packet filter table ((?!inet outpost$)[a-z0-9]+ [A-Za-z_][\w./-]*)", re.ASCII)
SYSCTL = "/etc/sysctl.d/90-outpost.conf"
IN_FORCE = r"""sed -n 's/^-\?\([^#; =]*\) *=.*/\1/p' "$STAGE"/etc/sysctl.d/90-outpost.conf | tr . / | while read -r key; do
  for path in /proc/sys/$key; do [ ! -r "$path" ] || echo "echo '$(cat "$path")' > $path || true"; done
done"""
"""Prints commands that set the kernel settings named in the new file to their present values (`shapes.settings`, live)."""


def network(view: BaseView) -> Items:
    """Deny by default in both directions, before any daemon of the role starts."""
    yield settings(
        name="sysctl",
        files=[rendered("base", SYSCTL, view=view)],
        activate="/usr/lib/systemd/systemd-sysctl",
        live=IN_FORCE,
        guarded=True,
    )
    # NET-03: without it the table of the package's example stays loaded, where the unit was enabled before the first apply; its rules allow all.
    yield once(
        "no packet filter of the package's example",
        unless="! systemctl is-active --quiet nftables.service || dpkg --verify nftables | grep -q ' c /etc/nftables.conf$'",
        untouched=("/etc/nftables.conf",),
        command="nft 'add table inet filter; delete table inet filter'",
    )
    yield service(
        name="nftables",
        files=[rendered("base", "/etc/nftables.conf", mode="0755", view=view)],
        check="nft --check --file /etc/nftables.conf",
        on_change="reload",
        guarded=True,
    )
    # NET-01: without it a table that the office file refuses drops the daemons' first connections until the first apply ends;
    # Knot then waits for minutes before it asks again for the zone
    if tables := [match[1] for thing in view.me.refused if (match := TABLE.fullmatch(thing))]:
        yield once(
            "no packet filter but the office's",
            unless=" && ".join(f"! nft list table {table}" for table in tables),
            command="; ".join(f"nft 'add table {table}; delete table {table}'" for table in tables),
        )


def names_and_clock(view: BaseView) -> Items:
    """A validating resolver of the host's own, and the time."""
    if not view.office.resolver.trust_anchor:
        yield once(
            "trust anchor of the root",  # Unbound keeps it up to date from then on (RFC 5011)
            unless="test -s /var/lib/unbound/root.key",
            # SYS-01: its own directory, so with its own rights
            command="runuser -u unbound -- install -m 0644 /usr/share/dns/root.key /var/lib/unbound/root.key",
        )
    yield service(
        name="unbound",
        files=[rendered("base", "/etc/unbound/unbound.conf", view=view)],
        check="unbound-checkconf",
        on_change="reload",
    )
    yield settings(name="resolv.conf", files=[rendered("base", "/etc/resolv.conf")])
    # DNS-07: without it answers come from a resolver that does not validate. Its package is removed once resolv.conf names Unbound.
    yield once(
        "no resolver but Unbound",
        unless="! dpkg-query --show --showformat '${db:Status-Abbrev}|${Package}\\n' systemd-resolved libnss-resolve | grep ^ii",
        untouched=(),
        command="DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 purge systemd-resolved libnss-resolve </dev/null",
    )
    yield service(
        name="chrony",
        files=[
            rendered("base", f"/etc/{name}", view=view) for name in ("chrony/chrony.conf", "default/chrony")
        ],
        check="chronyd -p -f /etc/chrony/chrony.conf >/dev/null",
    )


def hardening(*, office: Office, me: Host) -> Items:
    """Keep a break-in or a flood from spreading."""
    view = BaseView(office, me)
    yield service(
        name="outpost-undo",  # a change that waits for its confirmation does not survive a restart (outpost.converge.guard)
        files=[rendered("base", "/etc/systemd/system/outpost-undo.service")],
    )
    yield from _mounts(me)
    yield from _sandboxes()
    yield from _limits(office, me)
    yield settings(name="sessions' limits", files=[rendered("base", "/etc/security/limits.d/outpost.conf")])
    modules = rendered("base", "/etc/modprobe.d/outpost.conf", modules=UNUSED_MODULES)
    yield settings(name="kernel modules", files=[modules])
    # SYS-10: without it a machine on the host's network that answers as a cloud's metadata server adds accounts and keys at the next boot.
    cause = "cloud-init is not disabled"
    consequence = "anybody who answers as a metadata server can add accounts and keys at the next boot"
    yield once(
        "cloud-init is off",
        unless="[ ! -d /etc/cloud ] || [ -e /etc/cloud/cloud-init.disabled ]",
        untouched=("/etc/cloud",),
        command="touch /etc/cloud/cloud-init.disabled",
        finding=Finding("file", "/etc/cloud/cloud-init.disabled", cause, consequence, ("SYS-10",)),
    )
    yield settings(
        name="hours of upgrades",
        files=[_unit_file("apt-daily-upgrade.timer", upgrades_at=office.maintenance.upgrades_at)],
        activate=restarted("apt-daily-upgrade.timer", only_running=True),
    )
    if view.is_machine:
        yield from _machine()


def timers() -> Items:
    """Start now what packages do regularly (rotate logs, delete old sessions), not only after the next restart.

    Packages are installed while nothing may start, and are configured after that; so this comes after the roles.
    If a timer ran once and does not run now, somebody has stopped it: that is drift.
    """
    consequence = "logs are not rotated, and old sessions are not removed"
    yield once(
        "packages' timers run",
        unless="( cd /etc/systemd/system/timers.target.wants && systemctl show "
        "--property=LoadState,ActiveState,ConditionTimestampMonotonic -- * ) | awk -v RS= "
        r"'/^LoadState=loaded\nActiveState=inactive\nConditionTimestampMonotonic=0$/ { waits = 1 } END { exit waits }'",
        untouched=(),  # a timer that has run since the boot has such a file; a new timer has none
        command="systemctl start timers.target",
        finding=Finding("unit", "timers.target", "a timer was never started", consequence, ("LOG-01",)),
    )


def _machine() -> Items:
    """AppArmor and audit: a container has those of its machine."""
    yield packages("apparmor", "auditd")
    rules = rendered("base", "/etc/audit/rules.d/outpost.rules", mode="0640")
    yield service(name="auditd", files=[rules], on_change="reload")
    # SYS-03: without it an intruder in a daemon has one barrier less to pass.
    yield once(
        "AppArmor's profiles are loaded",
        unless="! [ -d /sys/module/apparmor ] || systemctl is-active --quiet apparmor.service",
        command="systemctl enable --now --quiet apparmor.service",
    )


def _mounts(me: Host) -> Items:
    """Nothing can be executed where everybody may write, or where mail is stored."""
    yield script("base", "mounts", places=[*NOTHING_RUNS, *role_of(me).data])


def _sandboxes() -> Items:
    for name in ("unbound", "ssh"):
        activate = restarted(f"{name}.service", only_running=True)
        yield settings(name=f"{name}-sandbox", files=[_unit_file(f"{name}.service")], activate=activate)


def _limits(office: Office, me: Host) -> Items:
    """Apart from the sandboxes: systemd applies these to a running daemon without a restart."""
    yield settings(
        name="cgroup limits",
        files=[
            rendered("base", f"/etc/systemd/system/{unit}.d/limits.conf", template="limits.conf", limit=limit)
            for unit, limit in cgroup_limits(me.role, size_of(office)).items()
        ],
        activate="systemctl daemon-reload",
    )


def _unit_file(unit: str, **context: Any) -> File:
    return rendered("base", f"/etc/systemd/system/{unit}.d/outpost.conf", **context)
