"""What the office declares is on its hosts: files by their digests, units by systemd's state. A plan finds much more."""

from __future__ import annotations

import shlex

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.converge.declaration import Declaration, declaration
from outpost.keys import secrets_file
from outpost.office import Host, Office
from outpost.target import Target
from tests.live.systemd import properties

pytestmark = pytest.mark.looks

UNITS = "/etc/systemd/system/"
PACKAGES = "/usr/lib/systemd/"


@pytest.fixture(scope="session")
def declared(office: Office, me: Host, target: Target) -> Declaration:
    return declaration(office, secrets_file.read(target.data), me.name)


@pytest.fixture(scope="session")
def shown(host: TestinfraHost, declared: Declaration) -> list[dict[str, str]]:
    """systemd's state of each declared unit, and of the units that these start."""
    own = {path.removeprefix(UNITS) for path in declared.content if path.startswith(f"{UNITS}outpost-")}
    names = sorted({*declared.units, *(name for name in own if "/" not in name and "@." not in name)})
    asked = "Id,ActiveState,UnitFileState,FragmentPath,DropInPaths"
    return properties(host.check_output(f"systemctl show --property={asked} {' '.join(names)}"))


@pytest.mark.control("SYS-08")
def test_every_declared_file_is_unchanged(host: TestinfraHost, declared: Declaration) -> None:
    """Every file that the office declares is on the host, unchanged.

    These are configuration, tables, keys, and the office's own programs.
    """
    listed = host.run(f"sha256sum -- {shlex.join(declared.content)}").stdout
    found = {path: digest for digest, _, path in (line.partition("  ") for line in listed.splitlines())}
    assert [path for path, file in declared.content.items() if found.get(path) != file.sha256] == []


@pytest.mark.control("SYS-08", "AVL-01")
def test_every_declared_unit_runs_and_starts_at_boot(
    shown: list[dict[str, str]], declared: Declaration
) -> None:
    """Every daemon and timer that the office declares runs, and starts when the host boots."""
    states = {unit["Id"]: (unit["ActiveState"], unit["UnitFileState"]) for unit in shown}
    wanted = {("active", "enabled"), ("active", "static")}  # a static unit is started by another one
    assert {name: states.get(name) for name in declared.units if states.get(name) not in wanted} == {}


@pytest.mark.control("SYS-08", "SYS-01")
def test_nothing_elsewhere_adds_to_a_unit(
    shown: list[dict[str, str]], declared: Declaration, me: Host
) -> None:
    """Each declared unit is defined by declared files and by its package only."""
    parts = {path for unit in shown for path in f"{unit['FragmentPath']} {unit['DropInPaths']}".split()}
    theirs = [path for path in parts if not path.startswith(PACKAGES) and path not in declared.files]
    assert [path for path in theirs if not me.keeps(path)] == []
