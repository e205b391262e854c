"""The network side of every host: packet filter, kernel settings, resolver, clock."""

from outpost.converge.declaration import Items
from outpost.converge.files import rendered
from outpost.converge.shapes import once, service, settings
from outpost.office.base import BaseView

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
    yield service(
        name="nftables",
        files=[rendered("base", "/etc/nftables.conf", mode="0755", view=view)],
        check="nft --check --file /etc/nftables.conf",
        on_change="reload",
        guarded=True,
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
    # DNS-07: without it answers come from a resolver that does not validate. Its package goes when resolv.conf names Unbound.
    yield once(
        "no resolver but Unbound",
        unless="! dpkg-query --show --showformat '${db:Status-Abbrev}|${Package}\\n' systemd-resolved libnss-resolve | grep ^ii",
        untouched=(),
        command="DEBIAN_FRONTEND=noninteractive apt-get -qq -y purge systemd-resolved libnss-resolve </dev/null",
    )
    yield service(
        name="chrony",
        files=[
            rendered("base", path, view=view) for path in ("/etc/chrony/chrony.conf", "/etc/default/chrony")
        ],
        check="chronyd -p -f /etc/chrony/chrony.conf >/dev/null",
    )
