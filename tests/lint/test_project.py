"""The project's rules about itself that no linter knows; CONTRIBUTING.md has them by number."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from outpost.office.tables.topology import ROLE_NAMES

ROOT = Path(__file__).resolve().parents[2]
PURE = ROOT / "src" / "outpost" / "office"


def files(pattern: str) -> list[Path]:
    """Files of the project, without what is made (environment, lab instances, caches)."""
    made = {
        ".git",
        ".venv",
        ".lab",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
        "__pycache__",
    }
    found = (file for file in ROOT.rglob(pattern) if not made & set(file.relative_to(ROOT).parts))
    return sorted(file for file in found if file.is_file())


def imports(file: Path) -> Iterator[str]:
    """Modules that a file imports, at any level."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def calls(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every call in a file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def test_every_locked_package_has_hashes_and_comes_from_the_configured_index() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    blocks = re.findall(r"^[a-z0-9].*(?:\n[ \t]+.*)*", lock, flags=re.MULTILINE)
    assert len(blocks) > 30
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block or "==" not in block] == []
    assert not re.search(r"https?://|file:|--index|--find-links| @ ", lock)


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    lock = (ROOT / "requirements.lock").read_text()
    names = [re.split(r"[<>=\[ ]", requirement)[0] for requirement in wanted]
    assert [name for name in names if not re.search(rf"^{re.escape(name)}==", lock, flags=re.MULTILINE)] == []


VALUES = [file for file in (ROOT / "roles").rglob("*.py") if file.parent.name != "roles"]


@pytest.mark.parametrize(
    "file", sorted([*PURE.rglob("*.py"), *VALUES]), ids=lambda file: str(file.relative_to(ROOT))
)
def test_the_model_is_pure(file: Path) -> None:
    """Rule 3: no files, no network, no pyinfra; only load.py reads. Declarations of roles may read templates only."""
    outside = {"pyinfra", "docker", "subprocess", "socket", "os", "shutil", "requests", "urllib.request"}
    assert outside & set(imports(file)) == set()
    if file.name != "load.py":
        reading = {"open", "print", "input"}
        assert [
            call
            for call in calls(file)
            if call[1] in reading or call[1].endswith((".read_text", ".write_text"))
        ] == []


DEPLOYS = sorted([*(ROOT / "roles").rglob("*.py"), *(ROOT / "src" / "outpost" / "converge").glob("*.py")])


@pytest.mark.parametrize("file", DEPLOYS, ids=lambda file: str(file.relative_to(ROOT)))
def test_hosts_are_changed_only_by_the_operations_of_a_declaration(file: Path) -> None:
    """Rule 6: no shell operation, no upload by itself."""
    if file.name != "operations.py":
        assert [module for module in imports(file) if module.startswith("pyinfra.operations")] == []


@pytest.mark.parametrize(
    "file",
    [*DEPLOYS, ROOT / "src" / "outpost" / "drift" / "repairs.py"],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_units_are_restarted_only_past_their_start_limit(file: Path) -> None:
    """By `outpost.units.restarted`: an apply must not fail because the unit was restarted often just before."""
    assert re.findall(r"systemctl (?:try-)?restart", file.read_text()) == []


@pytest.mark.parametrize(
    "file",
    [file for file in files("*.py") if file.relative_to(ROOT).parts[0] in ("src", "roles")],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_no_table_is_keyed_by_the_names_of_roles(file: Path) -> None:
    """What the product knows of a role stands in its value (docs/adr/0031): a table elsewhere is forgotten with the next role."""
    tables = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Dict)]
    keys = [{key.value for key in table.keys if isinstance(key, ast.Constant)} for table in tables]
    assert [names for names in keys if len(names & set(ROLE_NAMES)) > 1] == []


def test_the_deploy_fits_one_screen() -> None:
    assert len((ROOT / "deploy.py").read_text().splitlines()) <= 48


AWAITING = ROOT / "tests" / "awaiting.py"


def test_tests_await_events_and_never_a_fixed_time() -> None:
    """Rule 15: the pause between two checks is in one place, which everything else calls (`until`, `on_host`)."""
    found = []
    for file in (file for file in files("tests/**/*.py") if file not in (AWAITING, Path(__file__))):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.expr):
                continue
            python = isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "time.sleep",
                "asyncio.sleep",
                "sleep",
            )
            shell = (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                # "turn in $(seq 9); do …; sleep 1; done" checks in between; a unit that sleeps for ever is a running unit
                and re.search(r"\bsleep\b[ (]*[\d.]+(?![\d.])(?!; done)", node.value)
            )
            if python or shell:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def test_every_decision_is_in_the_index() -> None:
    directory = ROOT / "docs" / "adr"
    index = (directory / "README.md").read_text()
    pages = sorted(directory.glob("[0-9]*.md"))
    numbers = [page.name[:4] for page in pages]
    assert len(set(numbers)) == len(numbers), "two decisions have one number"
    for page in pages:
        text = page.read_text()
        assert f"({page.name})" in index
        for part in ("**Context.**", "**Decision.**", "**Consequences.**", "**Alternatives.**"):
            assert part in text, f"{page.name} lacks {part}"


def test_every_decision_has_a_date_and_the_index_names_what_superseded_it() -> None:
    directory = ROOT / "docs" / "adr"
    rows = (directory / "README.md").read_text().splitlines()
    superseded = 0
    for page in directory.glob("[0-9]*.md"):
        line = page.read_text().splitlines()[2]
        assert re.match(r"(Date: )?\d{4}-\d\d-\d\d", line), f"{page.name}: write its date into the third line"
        for former in re.findall(r"[Ss]upersedes [^.:]*?\[?(\d{4})", line):
            (row,) = [row for row in rows if row.startswith(f"| [{former}]")]
            assert f"superseded by {page.name[:4]}" in row
            superseded += 1
    assert superseded > 3


def test_commit_hooks_fetch_nothing() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: (\S+)", text) == ["local"]
    assert set(re.findall(r"language: (\S+)", text)) == {"system"}


def test_continuous_integration_runs_the_readmes_command() -> None:
    command = (ROOT / ".ci" / "run").read_text().splitlines()[-1].removeprefix("exec ")
    assert f"```sh\n{command}\n```" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    "name", [".gitlab-ci.yml", ".github/workflows/test.yml", ".github/workflows/nightly.yml"]
)
def test_workflows_do_nothing_but_call_what_anybody_can_run(name: str) -> None:
    read = yaml.safe_load((ROOT / name).read_text())
    jobs = read.get("jobs", read)
    steps = [step["run"] for job in jobs.values() for step in job.get("steps", ()) if "run" in step]
    scripts = [*steps, *(line for job in jobs.values() for line in job.get("script", ()))]
    assert scripts
    assert set(scripts) <= {".ci/run", ".ci/nightly"}


def test_programs_can_be_run() -> None:
    for name in ("outpost", ".ci/run", ".ci/nightly", ".ci/commit-msg"):
        assert (ROOT / name).stat().st_mode & 0o111, name


def test_no_secret_is_in_version_control() -> None:
    """Rule 10."""
    secret = re.compile(r"AGE-SECRET-KEY-1[A-Z0-9]{20}|PRIVATE KEY-----\n[A-Za-z0-9+/]{40}")
    leaks = [
        str(file.relative_to(ROOT)) for file in files("*") if secret.search(file.read_text(errors="replace"))
    ]
    assert leaks == []
