"""The observer's entry: ``look``, ``remember`` and ``release``."""

from __future__ import annotations

import collections.abc
import concurrent.futures
import contextlib
import hashlib
import json
import pathlib
import sys

from outpost.onhost.observe.accounts import accounts
from outpost.onhost.observe.daemons import effective, halted
from outpost.onhost.observe.declared import CONTRACT, LOCAL, records
from outpost.onhost.observe.files import files
from outpost.onhost.observe.held import held_below_trees, held_elsewhere, release
from outpost.onhost.observe.kept_answers import kept, mark_of_files
from outpost.onhost.observe.kernel import kernel, modules, name_and_clock, settings_in_force
from outpost.onhost.observe.known import compared, remember
from outpost.onhost.observe.network import listeners, network
from outpost.onhost.observe.packages import conffiles, packages, programs
from outpost.onhost.observe.packet_filter import packet_filter
from outpost.onhost.observe.permissions import modes, privileges, privileges_elsewhere
from outpost.onhost.observe.reading import said
from outpost.onhost.observe.units import manager, shown_units, stale, troubled_units, units


def look() -> tuple[list[str], list[str]]:
    """States and faults of now."""
    declared_units, declared = records()
    contract: dict[str, object] = {}
    with contextlib.suppress(OSError, ValueError):
        contract = json.loads(CONTRACT.read_text())
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        mark = pool.submit(mark_of_files).result

        def from_files(
            name: str, ask: collections.abc.Callable[..., list[str]], *told: object
        ) -> concurrent.futures.Future[list[str]]:
            return pool.submit(lambda: kept(name, mark(), lambda: ask(*told)))

        listed_units = said(
            "systemctl list-units --no-legend --plain --full --state=failed,running,waiting,listening"
        )
        shown = pool.submit(shown_units, declared_units, declared).result
        sockets = said("ss --no-header --listening --numeric --tcp --udp --processes")
        installed = from_files("packages", packages)
        filters = pool.submit(packet_filter, mark)
        states = [
            installed, pool.submit(effective, declared_units, installed.result, shown, mark), pool.submit(units, listed_units), pool.submit(accounts), pool.submit(modes),
            pool.submit(network, sockets), pool.submit(settings_in_force, contract), pool.submit(manager),
            pool.submit(privileges_elsewhere, declared), from_files("files", files, declared),
            from_files("conffiles", conffiles, declared), from_files("programs", programs), from_files("privileges", privileges, declared),
        ]  # fmt: skip
        faults = [
            pool.submit(troubled_units, listed_units), pool.submit(kernel), pool.submit(listeners, contract, sockets),
            pool.submit(stale, declared_units, declared, shown), pool.submit(name_and_clock, contract), pool.submit(modules, contract),
            pool.submit(halted), pool.submit(held_elsewhere, declared), from_files("held", held_below_trees, declared),
        ]  # fmt: skip
    tables, rules = filters.result()
    facts = sorted({*tables, *(line for future in states for line in future.result())})
    return (
        sorted([f"observer\t{own_digest()}\t", *facts]),
        [*rules, *(line for future in faults for line in future.result())],
    )


def own_digest() -> str:
    """Of the program that was started and of all modules beside this one: another observer sees other things."""
    sources = (pathlib.Path(sys.argv[0]), *sorted(pathlib.Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


def main() -> None:
    """Look, remember, or let go of what somebody has locked."""
    if sys.argv[1:2] == ["release"]:
        release(sys.argv[2:])
        return
    LOCAL.extend(sys.argv[2:])
    states, faults = look()
    if sys.argv[1:2] == ["remember"]:
        remember(states)
        return
    json.dump(compared(states, faults), sys.stdout)
    sys.stdout.write("\n")
