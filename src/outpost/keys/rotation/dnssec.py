"""DNSSEC keys roll by themselves on the primary name server; the office's secrets keep a copy of them.

Without the copy a lost primary means a new KSK and a zone that is bogus until the parent has its DS. The copy is
fetched after every apply that reaches the primary, and by ``outpost rotate due``; it is put back only onto a
primary that has no keys at all (docs/adr/0009).
"""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from pydantic import SecretStr

from outpost.errors import OutpostError
from outpost.keys.model import SigningKey, public_keys
from outpost.keys.rotation.engine import Desk, Rows
from outpost.office.dns import office_zones
from outpost.office.role import serving
from outpost.transport import answers
from outpost.transport.remote import run_script

KEYS = "/var/lib/knot/keys/keys"
MOST = 1024**2
"""Bytes: keys of a few zones, some hundred bytes each."""
SLACK = 300
"""Seconds by which two clocks may differ."""
FLAGS = {"zone", "id", "ksk", "zsk", "tag", "algorithm", "size", "public-only", "missing"}
"""Fields of ``keymgr --json`` for a key, apart from its timers."""


class UnexplainedError(OutpostError):
    """The primary has keys that no rollover explains, and no person has confirmed them."""


def keep(desk: Desk, *, seen: bool = False) -> bool:
    """Update the copy; returns whether it was out of date.

    Args:
        seen: A person has asked for it, and sees the keys that no rollover explains.

    Raises:
        UnexplainedError: No person has, and the primary has such keys.
    """
    found = fetch(desk)
    if found == desk.secrets.dnssec:
        return False
    unexplained = list(_unexplained(desk, found))
    if unexplained and not seen:
        primary = serving(desk.office, "names")[0].name
        raise UnexplainedError(
            f"no rollover explains the keys of {primary}: {'; '.join(unexplained)}",
            f"examine {primary}: an intruder on it could have made them. If they are yours, run ./outpost rotate dnssec {desk.target.typed}",
        )
    for line in unexplained:
        desk.report(f"kept, though no rollover explains it: {line}")
    desk.change(dnssec=found)
    number = sum(map(len, found.values()))
    desk.report(f"kept {number} DNSSEC keys of {len(found)} zones in the office's secrets")
    return True


# DNS-01: without it a key of an intruder on the primary becomes the copy that a new primary gets, and the DS that people enter.
def _unexplained(desk: Desk, found: dict[str, tuple[SigningKey, ...]]) -> Iterator[str]:
    """Keys of the primary that are neither as stored nor the result of a rollover.

    A new key-signing key is expected only when the stored one has reached its lifetime, by this controller's clock. A private key never changes.
    """
    lifetime, now = desk.office.dns.ksk_lifetime, desk.now().timestamp()
    for zone, kept in desk.secrets.dnssec.items():
        before = {key.id: key for key in kept}
        entries = [key for key in kept if "ksk" in key.roles]
        due = any(lifetime and _began(key) + lifetime <= now + SLACK for key in entries)
        for key in found.get(zone, ()):
            old = before.get(key.id)
            if old is None and "ksk" in key.roles and entries and not due:
                yield f"{zone} has a new key-signing key, {key.id[:8]}, before the old one's time is over"
            elif old and (old.key.get_secret_value(), old.roles) != (key.key.get_secret_value(), key.roles):
                yield f"{zone}: key {key.id[:8]} has another private key or role than before"
            elif old and _began(key) < _began(old):
                yield f"{zone}: key {key.id[:8]} is now dated earlier than before"


def _began(key: SigningKey) -> int:
    return max(key.timers.get(name, 0) for name in ("publish", "ready", "active"))


def fetch(desk: Desk) -> dict[str, tuple[SigningKey, ...]]:
    """Zone → keys, as the primary has them now."""
    zones = [zone.name for zone in office_zones(desk.office, public_keys(desk.secrets))]
    primary = serving(desk.office, "names")[0]
    listing = (f"keymgr --json {zone} list | tr -d '\\n'; echo" for zone in zones)
    pem = f"for key in {KEYS}/*.pem; do basename $key .pem; base64 -w0 $key; echo; done"
    script = "\n".join(("set -eu", *listing, pem))
    lines = run_script(desk.target, desk.office, primary, script, desk.via, most=MOST).splitlines()
    listed, pems = lines[: len(zones)], lines[len(zones) :]
    private = dict(zip(pems[::2], pems[1::2], strict=False))
    found: dict[str, tuple[SigningKey, ...]] = {}
    for zone, text in zip(zones, listed, strict=False):
        entries = answers.parsed(text or "[]", list[dict[str, Any]], primary.name)
        keys = [entry for entry in entries if entry.get("id") in private]
        if not keys:
            problem = f"{primary.name} has no key for {zone}"
            raise OutpostError(problem, f"./outpost apply {desk.target.typed}")
        try:  # they are stored, and given to the next primary
            found[zone] = tuple(_key(entry, private[entry["id"]]) for entry in keys)
        except (ValueError, KeyError, UnsupportedAlgorithm):
            raise answers.unexpected(primary.name) from None
    if len(found) < len(zones):
        raise answers.unexpected(primary.name)
    return found


def status(desk: Desk) -> Rows:
    """Key, stage and zone, as the primary has them now."""
    kept = {key.id for keys in desk.secrets.dnssec.values() for key in keys}

    def row(zone: str, key: SigningKey) -> tuple[str, str, str]:
        copy = "kept" if key.id in kept else "not kept yet: ./outpost rotate due OFFICE"
        return f"{zone} {'/'.join(key.roles).upper()} {key.id[:8]}", _stage(key.timers), copy

    return [row(zone, key) for zone, keys in fetch(desk).items() for key in keys]


def _key(entry: dict[str, Any], pem: str) -> SigningKey:
    timers = {
        name.replace("-", "_"): when
        for name, when in entry.items()
        if name not in FLAGS and isinstance(when, int) and when
    }
    return SigningKey(
        id=str(entry["id"]),
        roles=("ksk",) * bool(entry["ksk"]) + ("zsk",) * bool(entry["zsk"]),
        algorithm=int(str(entry["algorithm"])),
        timers=timers,
        key=SecretStr(base64.b64decode(pem).decode()),
    )


def _stage(timers: dict[str, int]) -> str:
    now = datetime.now(UTC).timestamp()
    reached = [name for name, when in timers.items() if when <= now]
    return max(reached, key=lambda name: (timers[name], list(timers).index(name)), default="generated")
