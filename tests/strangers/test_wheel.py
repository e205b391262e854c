"""The wheel contains what runs on an administrator's machine, and works outside the checkout.

It is built and installed without network: by the hatchling of the lock, into an environment of its own that has the
dependencies of this one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from outpost import __version__
from outpost.target import ROOT
from tests.unit.test_offices_elsewhere import jobs

CARRIED = "outpost-checkout"
UNREACHABLE = (
    "#!/bin/sh\ntouch \"$HOME/asked\"\necho 'ssh: connect to host: No route to host' >&2\nexit 255\n"
)
NEW = (
    "--domain",
    "po.example.com",
    "--organisation",
    "Site",
    "--postmaster",
    "maria",
    "--wan",
    "192.0.2.0/28",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from this checkout, to which an own office was added."""
    directory = tmp_path_factory.mktemp("wheel")
    kept = shutil.ignore_patterns(
        ".*", "__pycache__", "benchmarks", "unit", "journeys", "attacks", "strangers"
    )
    checkout = shutil.copytree(ROOT, directory / "checkout", ignore=kept)
    shutil.copy(ROOT / ".gitignore", checkout)
    shutil.copytree(ROOT / "inventory" / "harbour", checkout / "inventory" / "mine")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", directory, checkout)
    assert not list(checkout.rglob("*.egg-info"))
    (found,) = directory.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The command, as pipx installs it."""
    environment = wheel.parent / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip("--python", environment, "install", "--no-deps", "--no-index", wheel)
    (packages,) = environment.glob("lib/python3*/site-packages")
    (packages / "zz-dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (environment / "bin" / "ssh").write_text(UNREACHABLE)
    (environment / "bin" / "ssh").chmod(0o755)
    return environment / "bin" / "outpost"


def pip(*arguments: str | Path) -> None:
    """Run pip."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    subprocess.run(command, check=True)


def run(program: Path, *arguments: str | Path, cwd: Path, code: int = 0, path: Path | None = None) -> str:
    """The output of a command that is run in the home directory."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OUTPOST", "XDG"))
    }
    done = subprocess.run(
        [program, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment | {"HOME": str(cwd), "PATH": f"{path or program.parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_wheel_carries_what_runs_and_no_office_of_ones_own(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.removeprefix(f"{CARRIED}/") for name in archive.namelist()}
    tops = (
        ROOT / name
        for name in (
            "src/outpost",
            "src/outpost_lab",
            "roles",
            "templates",
            "controls",
            "tests/live",
            "tests/sabotage",
        )
    )
    wanted = {
        file.relative_to(ROOT)
        for top in tops
        for file in top.rglob("*")
        if not {"__pycache__", "benchmarks"} & set(file.parts) and file.is_file()
    }
    assert [str(file) for file in sorted(wanted) if str(file) not in names] == []
    assert {
        "CHANGELOG.md",
        "deploy.py",
        "outpost.pth",
        "inventory/lab/docker.py",
        "inventory/lab/office.toml",
    } <= names
    assert not [name for name in names if name.startswith("inventory/mine") or "/.lab" in name]


def test_it_runs_from_itself_alone(installed: Path, tmp_path: Path) -> None:
    assert run(installed, "--version", cwd=tmp_path) == f"outpost {__version__}\n"
    where = run(
        installed.with_name("python"),
        "-c",
        "import outpost, roles; print(outpost.__file__, roles.__file__)",
        cwd=tmp_path,
    )
    assert all(str(installed.parents[1]) in path for path in where.split())


def test_an_office_is_made_checked_and_planned_in_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    written = run(installed, "new", "./po", *NEW, cwd=tmp_path)
    assert "\n  outpost plan ./po\n" in written  # as it is typed here
    assert (tmp_path / "po" / "secrets.age").is_file()
    assert "is sound" in run(installed, "check", "po", cwd=tmp_path)
    (tmp_path / "po" / "known_hosts").touch()
    planned = run(installed, "plan", "po", cwd=tmp_path, code=1)
    assert "Invalid connector" not in planned
    assert (
        tmp_path / "asked"
    ).exists()  # this shows that pyinfra found the inventory, its connector and the hosts


@pytest.mark.parametrize("example", ["offices.gitlab-ci.yml", "offices.github-actions.yml"])
def test_an_example_of_ci_runs_with_the_installed_command(
    installed: Path, tmp_path: Path, example: str
) -> None:
    """Its plan job: the office file is sound, and the plan fails because no host answers."""
    run(installed, "new", "./po", *NEW, cwd=tmp_path)
    (tmp_path / "po" / "known_hosts").touch()
    (tmp_path / "job").write_text(
        f"#!/bin/bash -e\nexport OFFICES=po OUTPOST_OFFICES=$PWD\n{jobs(example)['plan']}"
    )
    (tmp_path / "job").chmod(0o755)
    printed = run(tmp_path / "job", cwd=tmp_path, code=1, path=installed.parent)
    assert "is sound" in printed
    assert "no machine has its address" in printed


@pytest.mark.parametrize("command", ["test", "bench", "reference"])
def test_what_needs_the_sources_says_so(installed: Path, tmp_path: Path, command: str) -> None:
    assert "Remedy: clone" in run(installed, command, cwd=tmp_path, code=1)


def test_a_repository_around_it_is_not_taken_for_its_own(installed: Path, tmp_path: Path) -> None:
    around = installed.parents[1]
    for words in (
        ("init", "-q"),
        ("-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "--allow-empty", "-m", "x"),
    ):
        subprocess.run(["git", "-C", around, *words], check=True)
    try:
        program = "from outpost.verification import history; print(repr(history.commit()))"
        assert run(installed.with_name("python"), "-c", program, cwd=tmp_path) == "''\n"
    finally:
        shutil.rmtree(around / ".git")


def test_its_checks_are_found(installed: Path, tmp_path: Path) -> None:
    run(installed, "new", "./po", *NEW, cwd=tmp_path)
    (home,) = installed.parents[1].glob(f"lib/python3*/site-packages/{CARRIED}")
    command = (
        "-m",
        "pytest",
        "tests/live",
        "--collect-only",
        "-q",
        "--office",
        tmp_path / "po",
    )
    python = run(
        installed.with_name("python"),
        "-c",
        f"import os, sys; os.chdir({str(home)!r}); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])",
        *command,
        cwd=tmp_path,
    )
    assert "test_stranger_cannot_relay" in python
