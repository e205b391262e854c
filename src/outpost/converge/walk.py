"""One walk over a declaration: each item by an ordinary pyinfra operation that has its name."""

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
    """What is declared for the current host, and nothing beyond it.

    Args:
        local: Files that are the host's own (`hosts.NAME.local`).
    """
    begin(known, local=local)
    drift.first()
    items()
    operations.retire(name="what is no longer declared")
    drift.last()


def items() -> None:
    """The items alone, in their order.

    pyinfra takes operations of several hosts for one where line and position in a loop are the same (`Host.loop`). Here the name
    stands for the position: what is called the same is done side by side.
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
