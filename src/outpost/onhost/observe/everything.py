"""All states and faults of now: what the running host tells, and what its files say."""

from __future__ import annotations

import collections.abc
import concurrent.futures
import hashlib
import pathlib
import sys

from outpost.onhost.observe.accounts import accounts
from outpost.onhost.observe.daemons import effective, libraries
from outpost.onhost.observe.declared import VERIFIED
from outpost.onhost.observe.files import files, files_among_packages
from outpost.onhost.observe.held import held_below_trees
from outpost.onhost.observe.kept_answers import identity, kept
from outpost.onhost.observe.packages import conffiles, controls, packages, programs
from outpost.onhost.observe.packet_filter import packet_filter
from outpost.onhost.observe.permissions import privileges, special_elsewhere
from outpost.onhost.observe.places import TREES
from outpost.onhost.observe.probing import Probes
from outpost.onhost.observe.reading import plain
from outpost.onhost.observe.seen import Seen
from outpost.onhost.observe.units import enabled_units, shown_units, stale


def everything(seen: Seen) -> tuple[list[str], list[str]]:
    declared_units, declared = seen.declared_units, seen.declared
    rest = (tree for tree in TREES if tree != "/usr")
    probes = Probes()
    nothing: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(8) as pool:

        def probe(
            name: str, ask: collections.abc.Callable[..., list[str]], *words: object
        ) -> concurrent.futures.Future[list[str]]:
            return pool.submit(lambda: probes(name, ask, *words, otherwise=nothing))

        def from_files(
            name: str, ask: collections.abc.Callable[..., list[str]], *words: object
        ) -> concurrent.futures.Future[list[str]]:
            return probe(name, lambda: kept(name, seen.mark, lambda: ask(*words)))

        among_packages = f"{seen.mark_of_usr}\n{sorted(declared)}" if seen.mark_of_usr else ""

        def from_usr(
            name: str, beside: str, ask: collections.abc.Callable[..., list[str]], *words: object
        ) -> concurrent.futures.Future[list[str]]:
            return probe(
                name, lambda: kept(name, among_packages and among_packages + beside, lambda: ask(*words))
            )

        no_units: dict[str, list[str]] = {}
        shown = pool.submit(
            lambda: probes("units", shown_units, declared_units, declared, otherwise=no_units)
        ).result
        installed = from_files("packages", packages)
        states = [
            installed, probe("daemons", effective, declared_units, installed.result, shown, seen.mark, seen.live),
            probe("enabled units", enabled_units), probe("accounts", accounts), from_files("files", files, declared),
            from_usr("files among packages", "", files_among_packages, declared), from_files("conffiles", conffiles, declared), from_files("packages' control files", controls),
            from_usr("programs", identity(VERIFIED), programs), from_files("privileges", privileges, declared, *rest),
            from_usr("privileges in usr", "", privileges, declared, "/usr"),
            probe("privileges elsewhere", lambda: special_elsewhere(declared, seen.live["special"])),
        ]  # fmt: skip
        faults = [
            probe("stale units", stale, declared_units, declared, shown), from_files("libraries", libraries),
            from_files("attributes", held_below_trees, declared),
        ]  # fmt: skip
    tables, rules = probes(
        "packet filter", packet_filter, seen.live.get("filter", []), seen.mark, otherwise=(nothing, nothing)
    )
    facts = {*seen.states, *tables, *(line for future in states for line in future.result())}
    wrong = [*seen.faults, *rules, *(line for future in faults for line in future.result()), *probes.blind]
    return sorted(map(plain, [f"observer\t{own_digest()}\t", *facts])), list(map(plain, wrong))


def own_digest() -> str:
    """Of the program that was started and of all modules beside this one: another observer sees other things."""
    sources = (pathlib.Path(sys.argv[0]), *sorted(pathlib.Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
