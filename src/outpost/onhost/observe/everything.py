"""All current states and faults: of the running host and of its files."""

import collections.abc
import concurrent.futures
import hashlib
import pathlib
import sys

from outpost.onhost.observe.accounts import accounts
from outpost.onhost.observe.asking import Seen
from outpost.onhost.observe.daemons import effective, libraries
from outpost.onhost.observe.declared import CONTRACT, VERIFIED, contract_of
from outpost.onhost.observe.files import files, files_among_packages
from outpost.onhost.observe.kept_answers import identity, kept
from outpost.onhost.observe.kernel import indexes
from outpost.onhost.observe.network import packet_filter
from outpost.onhost.observe.packages import conffiles, controls, packages, programs
from outpost.onhost.observe.permissions import held_below_trees, privileges, special_elsewhere
from outpost.onhost.observe.places import TREES
from outpost.onhost.observe.reading import Probes, plain
from outpost.onhost.observe.units import enabled_units, shown_units, stale


def everything(seen: Seen) -> tuple[list[str], list[str]]:
    declared_units, declared = seen.declared_units, seen.declared
    rest = (tree for tree in TREES if tree != "/usr")
    # without a readable contract it counts as a machine, so that nothing is passed over
    contained = not contract_of(CONTRACT).get("kernel", True)
    probes = Probes()
    nothing: list[str] = []
    among_packages = f"{seen.mark_of_usr}\n{sorted(declared)}" if seen.mark_of_usr else ""
    verified = among_packages and among_packages + identity(VERIFIED)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:

        def probe(
            name: str, ask: collections.abc.Callable[..., list[str]], *words: object, mark: str | None = None
        ) -> concurrent.futures.Future[list[str]]:
            """The answer of a probe is cached under a mark, if it has one."""
            answer = ask if mark is None else lambda *words: kept(name, mark, lambda: ask(*words))
            return pool.submit(probes.lines, name, answer, *words)

        no_units: dict[str, list[str]] = {}
        shown = pool.submit(
            lambda: probes("units", shown_units, declared_units, declared, otherwise=no_units)
        ).result
        installed = probe("packages", packages, mark=seen.mark)
        states = [
            installed, probe("daemons", effective, declared_units, installed.result, shown, seen.mark, seen.live),
            probe("enabled units", enabled_units), probe("accounts", accounts), probe("files", files, declared, mark=seen.mark),
            probe("files among packages", files_among_packages, declared, mark=among_packages),
            probe("conffiles", conffiles, declared, mark=seen.mark), probe("packages' control files", controls, mark=seen.mark),
            probe("programs", programs, mark=verified), probe("privileges", privileges, declared, *rest, mark=seen.mark),
            probe("privileges in usr", privileges, declared, "/usr", mark=among_packages),
            probe("privileges elsewhere", lambda: special_elsewhere(declared, seen.live["special"])),
        ]  # fmt: skip
        faults = [
            probe("stale units", stale, declared_units, declared, shown),
            probe("libraries", libraries, mark=seen.mark),
            *([] if contained else [probe("indexes of modules", indexes, mark=seen.mark_of_usr)]),
            probe("attributes", held_below_trees, declared, mark=seen.mark),
        ]
    tables, rules = probes(
        "packet filter",
        lambda: packet_filter(seen.live["filter"], seen.mark, contained=contained),
        otherwise=(nothing, nothing),
    )
    facts = {*seen.states, *tables, *(line for future in states for line in future.result())}
    wrong = [*seen.faults, *rules, *(line for future in faults for line in future.result()), *probes.blind]
    return sorted(map(plain, [f"observer\t{own_digest()}\t", *facts])), list(map(plain, wrong))


def own_digest() -> str:
    """A digest of this program and its modules: another version of the observer may report other facts."""
    sources = (pathlib.Path(sys.argv[0]), *sorted(pathlib.Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
