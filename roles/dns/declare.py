"""Name servers: Knot, authoritative only; the first one signs, the others hold transferred copies."""

from typing import Any

from outpost.converge.declaration import Items
from outpost.converge.files import rendered, text
from outpost.converge.shapes import confined, directory, once, packages, service, settings
from outpost.keys.model import Secrets, public_keys
from outpost.office import Host, Office
from outpost.office.dns import ZoneData, office_zones, zone_text
from roles.dns.view import DnsView

ZONES = "/etc/knot/zones"
KEYS = "/var/lib/knot/keys"
TIMERS = (
    "created", "pre_active", "publish", "ready", "active", "retire_active", "retire", "post_active", "revoke",
    "remove",
)  # fmt: skip
"""All timers of a key. keymgr takes a timer that is not given for "now": a key that is still waiting would sign at once."""


def declare(*, office: Office, me: Host, secrets: Secrets) -> Items:
    """Answer for the office's domain, signed (F31, F32)."""
    zones = office_zones(office, public_keys(secrets))
    view = DnsView(office, me, zones, tuple(secrets.transfer_keys), secrets.transfer_key)
    yield packages("knot", "knot-dnsutils", "knot-dnssecutils")
    yield directory(ZONES, group="knot", mode="0750")
    if view.is_primary:
        yield from _signing_keys(secrets)
        yield from _zone_files(zones)
    drop_in = rendered("dns", "/etc/systemd/system/knot.service.d/outpost.conf")
    yield confined("knot-sandbox", "knot.service", [drop_in])
    for_knot: dict[str, Any] = {"mode": "0640", "group": "knot"}
    updating = {name: secrets.tsig[name] for name, *_ in view.updaters}
    keys: dict[str, Any] = {"transfer_keys": secrets.transfer_keys, "update_keys": updating}
    tsig = rendered("dns", "/etc/knot/tsig.conf", secret=True, **for_knot, **keys)
    knot = rendered("dns", "/etc/knot/knot.conf", view=view, **for_knot)
    yield service(name="knot", files=[tsig, knot], check="knotc conf-check")


def _zone_files(zones: tuple[ZoneData, ...]) -> Items:
    """A changed zone is loaded beside the running one and sent as a difference; nothing restarts."""
    files = {f"{ZONES}/{zone.file_name}": zone for zone in zones}
    yield settings(
        name="zones",
        files=[text(path, zone_text(zone), mode="0640", group="knot") for path, zone in files.items()],
        check=" && ".join(f"kzonecheck --origin {zone.name} {path}" for path, zone in files.items()),
        # the restart with the new knot.conf handles a zone that is new or no longer declared
        activate="if systemctl is-active --quiet knot.service; then "
        f"for zone in {' '.join(zone.name for zone in zones)}; do "
        "if knotc zone-status $zone >/dev/null 2>&1; then knotc --blocking zone-reload $zone; fi; done; fi",
    )


def _signing_keys(secrets: Secrets) -> Items:
    """A primary that was rebuilt signs with the keys it had before, so that its DS stays valid. If it has keys, they stay.

    All or nothing: keys are imported into a directory of their own, which then becomes the database.
    """
    kept = [(zone, key) for zone, keys in secrets.dnssec.items() for key in keys]
    if not kept:
        return
    imports = [
        f"keymgr -D {KEYS}.new {zone} import-pem $STAGE/{zone}{key.id}.pem algorithm={key.algorithm} "
        + " ".join(f"{role}={'yes' if role in key.roles else 'no'}" for role in ("ksk", "zsk"))
        + "".join(f" {timer}={key.timers.get(timer, 0)}" for timer in TIMERS)
        for zone, key in kept
    ]
    pems = {f"/{zone}{key.id}.pem": key.key.get_secret_value() for zone, key in kept}
    moving = f"chown -R knot:knot {KEYS}.new\nrm -rf {KEYS}\nmv -T {KEYS}.new {KEYS}"
    yield once(
        "DNSSEC keys from the office's secrets",
        unless=f"keymgr -D {KEYS} -l | grep .",
        untouched=(f"{KEYS}/data.mdb",),
        files=[text(path, pem, mode="0600", secret=True) for path, pem in pems.items()],
        command="\n".join(["systemctl stop knot.service", f"rm -rf {KEYS}.new", *imports, moving]),
    )
