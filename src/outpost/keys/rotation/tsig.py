"""The TSIG key of zone transfers rolls in one call: accept both keys, use the new one, remove the old one.

Nobody outside holds it, so nothing has to be waited for; each step is applied to every name server before the next
is written down, and an interrupted run continues where it stopped.
"""

from outpost.errors import OutpostError
from outpost.keys.model import TRANSFER, public_keys
from outpost.keys.rotation.engine import Desk, Rows
from outpost.keys.secrets_file import random_key
from outpost.office.dns import office_zones
from outpost.office.role import serving
from outpost.transport.remote import run_script


def roll(desk: Desk) -> None:
    """Replace the key.

    Raises:
        OutpostError: A name server could not be changed; transfers continue with the old key.
    """
    servers = serving(desk.office, "names")
    old = min(desk.secrets.transfer_keys, key=_number)
    new = max(desk.secrets.transfer_keys, key=_number)
    if old == new:
        new = f"{TRANSFER}-{_number(old) + 1}"
        desk.change(tsig=desk.secrets.tsig | {new: random_key()})
        desk.report(f"generated {new}")
    if desk.secrets.transfer_key != new:
        desk.apply(servers)
        desk.report(f"every name server accepts {old} and {new}")
        desk.change(transfer_key=new)
    desk.apply(servers)
    prove(desk)
    desk.report(f"zones are transferred with {new}")
    kept = {
        name: key
        for name, key in desk.secrets.tsig.items()
        if name == new or name not in desk.secrets.transfer_keys
    }
    desk.change(tsig=kept)
    desk.apply(servers)
    prove(desk)
    desk.report(f"{old} is gone")


def prove(desk: Desk) -> None:
    """Have every secondary fetch every zone again."""
    zones = [zone.name for zone in office_zones(desk.office, public_keys(desk.secrets))]
    for server in serving(desk.office, "names")[1:]:
        for zone in zones:
            script = f"knotc --blocking --timeout 30 zone-retransfer {zone} 2>&1"
            try:
                run_script(desk.target, desk.office, server, script, desk.via)
            except OutpostError as error:
                message = f"{server.name} cannot fetch {zone} with the key {desk.secrets.transfer_key}: {error.message}"
                remedy = "run the same command again; both keys are accepted until it succeeds"
                raise OutpostError(message, remedy) from error


def status(desk: Desk) -> Rows:
    """Key, stage, what comes next."""
    return [
        (
            name,
            "used" if name == desk.secrets.transfer_key else "accepted",
            "a roll was interrupted: run ./outpost rotate tsig OFFICE"
            if len(desk.secrets.transfer_keys) > 1
            else "",
        )
        for name in desk.secrets.transfer_keys
    ]


def _number(name: str) -> int:
    return int(name.removeprefix(TRANSFER).removeprefix("-") or 1)
