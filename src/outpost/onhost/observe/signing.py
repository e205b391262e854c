"""DNSSEC keys whose times somebody has set by hand: Knot notes when it did something, and never when it will."""

from __future__ import annotations

import json
import os
import shlex
import time

from outpost.onhost.observe.kept_answers import identity, kept
from outpost.onhost.observe.reading import BlindError, said

DATABASE = "/var/lib/knot/keys/data.mdb"
TIMERS = ("publish", "ready", "active", "retire-active", "retire", "post-active", "revoke", "remove")
SLACK = 300
"""Seconds that a clock may have been set back."""


def set_by_hand() -> list[str]:
    """Times that are still to come; a zone without a key that signs now."""
    if not os.path.exists(DATABASE):
        return []
    return kept("keys", f"{identity(DATABASE)} {int(time.time() // 3600)}", _asked)


def _asked() -> list[str]:
    found = []
    for zone in said("keymgr --list"):
        found += times_to_come(zone, "\n".join(said(f"keymgr --json {shlex.quote(zone)} list")), time.time())
    return found


def times_to_come(zone: str, listed: str, now: float) -> list[str]:
    """Facts of one zone, from its keys as keymgr(8) prints them in JSON."""
    if not listed:
        raise BlindError(f"keymgr(8) did not answer for {zone}")
    keys = json.loads(listed)
    found = [
        f"timer\t{zone}\t{key['id']} {name} {key[name]}"
        for key in keys
        for name in TIMERS
        if key.get(name, 0) > now + SLACK
    ]
    signs = [
        key for key in keys
        if 0 < (key["active"] or key["ready"]) <= now and not any(0 < key[end] <= now for end in ("retire", "remove"))
    ]  # fmt: skip
    if keys and not all(any(key[role] for key in signs) for role in ("ksk", "zsk")):
        found.append(f"timer\t{zone}\tno key signs")
    return found
