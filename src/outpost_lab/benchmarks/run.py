"""The rows of `outpost bench`, their order, and the picture of their results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from outpost.engine.run import Watcher
from outpost.errors import OutpostError
from outpost.target import Target
from outpost_lab.benchmarks import fleet, flood, mailpath, manymessages, provision, reapply, size, verify
from outpost_lab.benchmarks.measure import Measurement

Row = Callable[[Target], Measurement]
ROWS: dict[str, Row] = {
    "reapply-cold": reapply.cold,
    "reapply-open": reapply.opened,
    "reapply-t1": reapply.thin,
    "ansible-150ms": reapply.ansible,
    "ansible-0ms": reapply.ansible_near,
    "mitogen-0ms": reapply.mitogen,
    "stock-150ms": reapply.stock,
    "traffic": reapply.traffic,
    "one-template": reapply.one_template,
    "verify": verify.white_box,
    "provision": provision.provision,
    "fleet": fleet.fleet,
    "mail-path": mailpath.mail_path,
    "flood-p95": flood.flood_p95,
    "logins-300": size.logins,
    "no-op-300": size.unchanged,
    "search-50000": manymessages.search,
    "backup-50000": manymessages.frozen,
    "rescan-300": manymessages.rescanned,
}


def measured(target: Target, rows: Sequence[str], watcher: Watcher) -> Iterator[Measurement]:
    """The rows that are asked for, as they are done; `watcher` shows the progress of a provision."""
    for row in rows or ROWS:
        if row not in ROWS:
            raise OutpostError(f"there is no row {row}", f"choose one of: {', '.join(ROWS)}")
    called = ROWS | {"provision": partial(provision.provision, watcher=watcher)}
    for row in rows or ROWS:
        load = os.getloadavg()[0]
        yield replace(called[row](target), load=round(load, 1))
