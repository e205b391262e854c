"""What the product knows of a role stands in its package; nothing else names it (docs/adr/0033)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from outpost.office.load import load
from outpost.office.role import every_role
from outpost.office.size import size_of
from outpost.office.tables.topology import ROLE_NAMES
from outpost.target import INVENTORY
from tests.lint.test_project import ROOT, files

FREE = ("roles/", "src/outpost_lab/", "src/outpost/office/ports.py", "src/outpost/office/flows.py")
"""The packages themselves; the lab, whose attacks and benchmarks break and measure what they name; ports and flows."""
LEFT = {
    # words that are not a role's name here: a command, a table of the office file, a route that people type
    "src/outpost/cli/office.py": ("dns",),
    "src/outpost/office/checks/limits.py": ("dns",),
    "src/outpost/mail/queues.py": ("store",),
    # examples of keys in the reference
    "src/outpost/office/tables/topology.py": ("knot.service", "mta"),
    # the address of webmail, printed when a lab is up
    "src/outpost/cli/lab.py": ("webmail",),
    # the MTAs that are given mail: used by templates of every role
    "src/outpost/office/model.py": ("mta",),
    # programs on the hosts, which import nothing: each reads the journal or the state of daemons that it knows
    "src/outpost/onhost/mailtrace.py": ("dovecot.service", "postfix.service", "rspamd.service"),
    "src/outpost/onhost/observe/daemons.py": (
        "dovecot.service", "knot.service", "nginx.service", "php8.4-fpm.service", "postfix.service", "redis-server.service",
    ),
    "src/outpost/onhost/observe/kept_by_daemons.py": ("redis-server.service",),
    "src/outpost/onhost/watch.py": (
        "clamav-daemon.service", "clamav-daemon.service", "dovecot.service", "dovecot.service", "outpost-accounts.service",
        "outpost-logins.service",
    ),
}  # fmt: skip
"""The names that are left. This list may only shrink: a new name goes into a role's package."""


def units() -> set[str]:
    """Every unit that a role declares as its own."""
    size = size_of(load(INVENTORY / "harbour"))
    found: set[str] = set()
    for role in every_role().values():
        found |= {*role.limits(size), *role.stopped, *role.reloads.values()}
    return {unit for unit in found if "*" not in unit}


UNIT = re.compile("|".join(re.escape(unit) for unit in sorted(units())))


def named(source: str) -> list[str]:
    """What a file names of a role: the role, a unit or a module of it, except in docstrings and comments."""
    tree = ast.parse(source)
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            found += [node.value] if node.value in ROLE_NAMES else UNIT.findall(node.value)
        modules = (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
        found += [module for module in modules if re.match(rf"roles\.({'|'.join(ROLE_NAMES)})\b", module)]
    return sorted(found)


def product() -> dict[str, Path]:
    every = {str(file.relative_to(ROOT)): file for file in files("*.py")}
    return {
        name: file
        for name, file in every.items()
        if (name.startswith("src/") or name == "deploy.py") and not name.startswith(FREE)
    }


def test_nothing_outside_its_package_names_a_role() -> None:
    found = {name: tuple(names) for name, file in product().items() if (names := named(file.read_text()))}
    assert found == LEFT


def test_a_name_would_be_found() -> None:
    source = 'from roles.mta.view import MtaView\nif host.role == "store":\n    run("systemctl reload nginx.service")\n'
    assert named(source) == ["nginx.service", "roles.mta.view", "store"]
    assert named('"""mta"""\nsay("the store", "dnsmasq")\n') == []


def test_the_value_of_a_role_is_there_without_pyinfra() -> None:
    """Commands that must start at once read it, and so does the check of hosts' answers."""
    program = "import sys; from outpost.office.role import every_role; every_role(); print('pyinfra' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
        == "False\n"
    )


def lost(source: str) -> list[str]:
    """Calls without use of the result: a shape that is called and not yielded is not declared."""
    calls = (
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    )
    return [ast.unparse(call.func) for call in calls if not isinstance(call.func, ast.Attribute)]


@pytest.mark.parametrize("name", ["base", *ROLE_NAMES])
def test_every_role_declares_and_loses_nothing_of_it(name: str) -> None:
    place = ROOT / "roles" / name
    assert (place / "declare.py").is_file(), "`declare` yields what its hosts are to have"
    assert {file.name: found for file in place.glob("*.py") if (found := lost(file.read_text()))} == {}


def test_a_shape_that_is_not_yielded_would_be_found() -> None:
    assert lost("def declare():\n    yield packages('a')\n    service(name='b')\n    files.append(c)\n") == [
        "service"
    ]


def test_every_package_of_roles_is_one() -> None:
    packages = {file.parent.name for file in (ROOT / "roles").glob("*/*.py")}
    assert packages == {"base", *ROLE_NAMES}, "a role has a declare.py"
