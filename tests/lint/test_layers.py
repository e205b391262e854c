"""Imports between packages go one way only, and each package says what is in it (docs/adr/0032)."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.lint.test_project import ROOT, files, imports

ORDER = (
    "outpost", "outpost.errors", "outpost.units", "outpost.target", "outpost.templates", "outpost.tools", "outpost.onhost", "outpost.office",
    "outpost.office_file", "outpost.transport", "outpost.verification", "outpost.engine", "outpost.keys", "outpost.hosts",
    "outpost.drift", "outpost.converge", "roles", "outpost.mail", "outpost.machines", "outpost.recovery", "outpost.evidence", "outpost_lab", "outpost_lab.attack",
    "outpost_lab.benchmarks", "outpost.cli", "outpost.__main__",
)  # fmt: skip
"""From the bottom up: a package imports only what stands before it. The top of the command line may import the lab."""
LONG = 400
"""Lines. A longer module has two subjects, or its docstring says why it is one file."""
ALONE = {"src/outpost/bootstrap.py"}
"""Run by the system's Python before there is an environment."""
SOURCES = [
    file
    for file in files("*.py")
    if file.relative_to(ROOT).parts[0] in ("src", "roles") and str(file.relative_to(ROOT)) not in ALONE
]


def name_of(file: Path) -> str:
    """The module that a file is."""
    parts = (
        file.relative_to(ROOT / "src" if file.is_relative_to(ROOT / "src") else ROOT).with_suffix("").parts
    )
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package(module: str) -> str:
    """The entry of `ORDER` that a module belongs to; empty where it is not ours."""
    found = [
        entry for entry in ORDER if module == entry or (entry != "outpost" and module.startswith(f"{entry}."))
    ]
    return max(found, key=len, default="")


MODULES = {name_of(file) for file in SOURCES}


def imported(file: Path) -> set[str]:
    """Our modules that a file imports, at any level or by a literal name; `from a import b` is `a.b` where that is a module."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                both = f"{node.module}.{alias.name}"
                found.add(both if both in MODULES else node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            # a computed name is that of a role, which is imported when a function asks (ADR 0033)
            found.add(str(getattr(node.args[0], "value", "")))
    return {module for module in found | set(imports(file)) if package(module)}


def upward(name: str, others: set[str]) -> list[str]:
    """What a module may not import."""
    mine = ORDER.index(package(name))
    return sorted(other for other in others if ORDER.index(package(other)) > mine)


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: name_of(file))
def test_imports_go_down_only(file: Path) -> None:
    assert package(name_of(file)), f"{name_of(file)} has no place in ORDER: put it into a package"
    assert upward(name_of(file), imported(file)) == []


def test_the_deploy_and_inventories_import_the_product_only() -> None:
    for file in (ROOT / "deploy.py", *files("inventory/**/*.py")):
        lab = ORDER.index("outpost_lab")
        assert [module for module in imported(file) if ORDER.index(package(module)) >= lab] == []


def test_an_upward_import_would_be_found() -> None:
    assert upward("outpost.engine.run", {"outpost.office.load", "outpost_lab.up", "outpost.cli.console"}) == [
        "outpost.cli.console",
        "outpost_lab.up",
    ]
    assert upward("outpost_lab.up", {"outpost_lab.attack.runner"}) == ["outpost_lab.attack.runner"]
    assert upward("outpost.cli.lab", {"outpost_lab.up", "outpost.converge.files"}) == []


def test_every_package_says_what_is_in_it() -> None:
    for file in SOURCES:
        if file.name == "__init__.py":
            assert ast.get_docstring(ast.parse(file.read_text())), f"{name_of(file)}: a map is missing"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: name_of(file))
def test_a_module_is_short_or_says_why_not(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= LONG or "one file" in (ast.get_docstring(ast.parse(text)) or "").lower()


def test_no_module_has_a_name_of_pythons_own_library() -> None:
    ours = {name: name.rpartition(".")[2] for name in MODULES if not name.endswith("__main__")}
    assert [name for name, last in ours.items() if last in sys.stdlib_module_names] == []
