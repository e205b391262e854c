"""Name servers: Knot, authoritative only; the first one signs, the others hold transferred copies."""

from __future__ import annotations

from pyinfra.api.deploy import deploy

from outpost.office import Host, Office
from outpost.office.dns import DnsView, office_zone, public_keys, reverse_zone, zone_text
from outpost.secrets import Secrets
from roles.shapes import directory, packages, rendered, service, settings, text

ZONES = "/etc/knot/zones"


@deploy("dns")
def dns(*, office: Office, me: Host, secrets: Secrets) -> None:
    """Answer for the office's domain, signed (F31, F32)."""
    zones = (
        office_zone(office, public_keys(secrets)),
        *(reverse_zone(office, network) for network in office.dns.reverse),
    )
    view = DnsView(office, me, zones)
    packages("Knot DNS", ["knot", "knot-dnsutils", "knot-dnssecutils"])
    directory(ZONES, group="knot", mode="0750")
    if view.is_primary:
        # A changed zone is loaded beside the running one and sent as a difference; nothing restarts.
        settings(
            name="zones",
            files=[
                text(f"{ZONES}/{zone.file_name}", zone_text(zone), mode="0640", group="knot")
                for zone in zones
            ],
            check=" && ".join(f"kzonecheck --origin {zone.name} {ZONES}/{zone.file_name}" for zone in zones),
            activate="! systemctl is-active --quiet knot.service || knotc --blocking zone-reload",
        )
    service(
        name="knot",
        unit="knot.service",
        files=[
            rendered(
                "dns",
                "/etc/knot/tsig.conf",
                mode="0640",
                group="knot",
                secret=True,
                secret_key=secrets.tsig["transfer"].get_secret_value(),
            ),
            rendered("dns", "/etc/knot/knot.conf", mode="0640", group="knot", view=view),
        ],
        check="knotc conf-check",
    )
