"""Junk that learns: messages that users move into Junk and out of it are sent to the MTAs' filter (JNK-01)."""

from typing import Any

import outpost.onhost.learn
from outpost.converge.declaration import Items
from outpost.converge.files import as_json, program, rendered
from outpost.converge.shapes import directory, job, settings
from outpost.office import ports
from roles.mta import MIN_LEARNS
from roles.store.view import StoreView

PIPES = "/usr/local/lib/outpost/sieve"
"""Programs that the office's own Sieve scripts may start."""
LESSONS = "/var/lib/dovecot/learn"
LESSON_SIZE = 1024**2
"""Bytes of a message that are learnt."""
LESSONS_DAILY = 25
"""Messages of one user that the filter learns in a day (JNK-02)."""


def learning(view: StoreView) -> Items:
    """Send what users move into Junk and out of it to the MTAs' filter (JNK-01)."""
    yield directory(LESSONS, owner="vmail", group="vmail", mode="0700")
    content = {
        "filters": [
            {"address": str(address), "name": mta.fqdn, "spam": ports.LEARN_SPAM, "ham": ports.LEARN_HAM}
            for mta in view.mtas
            for address in view.office.link_addresses(mta, view.me)[:1]
        ],
        "spool": LESSONS,
        "largest": LESSON_SIZE,
        "daily": LESSONS_DAILY,
        "alone": MIN_LEARNS // 2,
        "domain": view.office.domain,
    }
    context: dict[str, Any] = {
        "spool": LESSONS,
        "largest": LESSON_SIZE,
        "waiting": LESSONS_DAILY,
        "domain": view.office.domain,
    }
    files = [rendered("store", f"{PIPES}/{name}", mode="0755", **context) for name in ("learn", "allowed")]
    yield settings(name="learning", files=files, check=f"sh -n {PIPES}/learn && sh -n {PIPES}/allowed")
    learn = program("/usr/local/lib/outpost/learn", outpost.onhost.learn)
    yield job("store", "outpost-learn", learn, as_json("/etc/outpost/learn.json", content), spool=LESSONS)
