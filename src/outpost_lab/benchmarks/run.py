"""The rows of `outpost bench`: what is promised, and the function that measures it."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from outpost.engine.run import Watcher
from outpost.errors import OutpostError
from outpost.target import Target
from outpost_lab.benchmarks import fleet, manymessages, provision, reapply, size, verify
from outpost_lab.benchmarks.measure import Figures, Measurement, Sense

BARE = "bare `ssh HOST true`"
NO_OP = "no-op re-apply, all hosts, cold"


class Row(NamedTuple):
    """What a row measures; see `Measurement`."""

    measure: Callable[[Target], Figures]
    what: str
    against: str
    reach: float = 1.0
    sense: Sense = "at most"
    unit: str = "s"


ansible, near = reapply.ansible, partial(reapply.ansible, rtt=0.0)
fleet_of = f"plan of {fleet.OFFICES} offices, {5 * fleet.OFFICES} simulated hosts, per office"
scan = f"nightly scan, {manymessages.USERS} users, {manymessages.DAILY} messages a day each"
MANY, USERS = manymessages.MESSAGES, size.USERS
ROWS = {
    "reapply-cold": Row(reapply.cold, NO_OP, BARE, 1.25),
    "reapply-open": Row(reapply.opened, "no-op re-apply, connections open", "cold `ssh HOST true`", 0.6),
    "reapply-t1": Row(reapply.thin, "no-op re-apply, cold, 1.544 Mbit/s", BARE, 1.25),
    "ansible-150ms": Row(partial(ansible, rtt=reapply.RTT), NO_OP, "Ansible, equal content, 150 ms", 120, "times faster"),
    "ansible-0ms": Row(near, NO_OP, "Ansible, equal content, no delay", 50, "times faster"),
    "mitogen-0ms": Row(partial(near, mitogen=True), NO_OP, "Ansible with mitogen, no delay", 8, "times faster"),
    "traffic": Row(reapply.traffic, "bytes of a no-op on the link, per host", "8 kB", unit="B"),
    "one-template": Row(reapply.one_template, "one changed file on every host", "no-op (raw pyinfra both)", 2.0),
    "verify": Row(verify.white_box, "white-box checks of all hosts, cold", BARE, 2.0),
    "provision": Row(
        provision.provision, "cold provision of all hosts, apt cache warm", "default `apt-get install` of the same packages", 1.2
    ),
    "fleet": Row(fleet.fleet, fleet_of, "plan of one office"),
    "logins-300": Row(size.logins, f"{USERS} clients log in at once, until the last one has", "a minute"),
    "no-op-300": Row(size.unchanged, f"comparison without a difference, {USERS} users", "the same with the lab's users", 1.5),
    "search-50000": Row(manymessages.search, f"search in the text of {MANY} messages", f"{manymessages.ANSWER:.0f} s"),
    "backup-50000": Row(manymessages.frozen, f"delivery stopped by a backup, {MANY} messages", "a second"),
    "rescan-300": Row(manymessages.rescanned, scan, "six hours"),
}  # fmt: skip


def measured(target: Target, rows: Sequence[str], watcher: Watcher) -> Iterator[Measurement]:
    """Measure the requested rows, one after the other; `watcher` shows the progress of a provision."""
    for name in rows or ROWS:
        if name not in ROWS:
            raise OutpostError(f"there is no row {name}", f"choose one of: {', '.join(ROWS)}")
    for name in rows or ROWS:
        row, load = ROWS[name], os.getloadavg()[0]
        measure = partial(provision.provision, watcher=watcher) if name == "provision" else row.measure
        ours, peer, samples, notes = measure(target)
        yield Measurement(
            name,
            row.what,
            row.against,
            row.unit,
            ours,
            peer,
            row.sense,
            row.reach,
            samples,
            notes,
            round(load, 1),
        )
