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
    gone = desk.secrets.transfer_keys.keys() - {new}
    desk.change(tsig={name: key for name, key in desk.secrets.tsig.items() if name not in gone})
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
    names, used = desk.secrets.transfer_keys, desk.secrets.transfer_key
    following = "a roll was interrupted: run ./outpost rotate tsig OFFICE" if len(names) > 1 else ""
    return [(name, "used" if name == used else "accepted", following) for name in names]


def _number(name: str) -> int:
    return int(name.removeprefix(TRANSFER).removeprefix("-") or 1)
