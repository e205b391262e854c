"""One walk over a declaration: an ordinary pyinfra operation for each item, with the item's name."""

from collections.abc import Callable
from typing import Any
from zlib import crc32

from pyinfra.api.host import Host
from pyinfra.context import ctx_host

from outpost.converge import drift, operations
from outpost.converge.declaration import Account, Change, Declaration, Directory, Group, Item, Once, Packages
from outpost.converge.observation import begin, run

OPERATIONS: dict[type[Item], Callable[..., Any]] = {
    Account: operations.account,
    Change: operations.converge,
    Directory: operations.directory,
    Group: operations.group,
    Once: operations.once,
    Packages: operations.install,
}


def converge(known: Declaration, *, local: tuple[str, ...]) -> None:
    """Apply what is declared for the current host, and remove what is no longer declared.

    Args:
        local: Files that belong to the host (`hosts.NAME.local`).
    """
    begin(known, local=local)
    drift.first()
    items()
    operations.retire(name="what is no longer declared")
    drift.last()


def items() -> None:
    """Apply only the items, in their order.

    pyinfra merges operations of several hosts if line and position in a loop are the same (`Host.loop`). Here the name
    gives the position: items with the same name run side by side.
    """
    host: Host = ctx_host.get()  # type: ignore[no-untyped-call]
    known = run().known
    first = next(known.of(Packages), None)
    for title, item in known.titles.items():
        if isinstance(item, Packages) and item is not first:
            continue
        name = title if item is not first else f"{title.partition(' | ')[0]} | packages"
        host.loop_position = [crc32(name.encode())]
        OPERATIONS[type(item)](item, name=name)
    host.loop_position = []
