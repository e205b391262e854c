"""What daemons write at warning or worse although nothing is wrong, each with the reason why nobody has to look at it.

An office adds its own in `[[verification.explained]]`. A line is compared as ``DAEMON: MESSAGE``, each number as ``N``.
"""

from __future__ import annotations

import re

from outpost.office import Office

STRANGERS = "anybody who reaches the port can cause it, and was refused"
RESTARTS = "an apply, an upgrade or a rollover restarted or reloaded it"
PLATFORM = "the lab's containers, whose kernel is not theirs"

EXPLAINED: dict[str, str] = {
    # Strangers
    r"^postfix/(smtpd|postscreen|tlsproxy|[\w-]+/smtpd): warning: ": STRANGERS,
    # Reloads
    r"^dovecot: master: Warning: SIGHUP received - reloading configuration$": RESTARTS,
    # Head office's collector
    r"^python3: \S+: .*; lines wait in the journal$": "it was away; whether it is now, and what waits, LOG-02's check says",
    # The lab
    r"^systemd: cgroup compatibility translation ": PLATFORM,
}


def unexplained(lines: list[str], office: Office) -> list[str]:
    """Lines, counted, that neither the project nor the office explains."""
    known = [re.compile(says) for says in EXPLAINED]
    known += [re.compile(each.says) for each in office.verification.explained]
    return [line for line in lines if not any(says.search(line.split(maxsplit=1)[1]) for says in known)]
