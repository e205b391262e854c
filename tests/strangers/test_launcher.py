"""./outpost from a bare checkout: it creates its environment, keeps it, and prints what is missing.

The copies under test have an empty lock and stand-ins for the package and for what builds it, so that only the launcher
is tested and nothing is fetched. Their path has a space in it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = "import sys\nprint('ran', *sys.argv[1:])\n"
PROJECT = """\
[project]
name = "outpost"
version = "1"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """\
import os, zipfile
def build_editable(directory, *_):
    with zipfile.ZipFile(os.path.join(directory, "outpost-1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("outpost.pth", os.path.abspath("src"))
        wheel.writestr("outpost-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: outpost\\nVersion: 1\\n")
        wheel.writestr("outpost-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.write("points", "outpost-1.dist-info/entry_points.txt")
        wheel.writestr("outpost-1.dist-info/RECORD", "")
    return "outpost-1-py3-none-any.whl"
"""


def bare(directory: Path) -> Path:
    """A bare checkout below the directory."""
    root = directory / "check out"
    package = root / "src" / "outpost"
    package.mkdir(parents=True)
    shutil.copy2(ROOT / "outpost", root)
    shutil.copy2(ROOT / "src" / "outpost" / "bootstrap.py", package)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(STAND_IN)
    (root / "requirements.lock").write_text("# nothing\n")
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "backend.py").write_text(BACKEND)
    (root / "points").touch()
    return root


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A bare checkout."""
    return bare(tmp_path)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A checkout after its first use, and the result of that use: an environment takes two seconds of the processor."""
    root = bare(tmp_path_factory.mktemp("first"))
    return root, launch(root / "outpost", "check", "two words")


@pytest.fixture
def used(first: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    """The checkout that has an environment, with its first program."""
    (first[0] / "src" / "outpost" / "__main__.py").write_text(STAND_IN)
    return first[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory for PATH: the tools that the launcher uses, without Python."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for tool in ("sh", "dirname", "readlink", "cmp", "id", "mktemp", "rm", "tail", "ln"):
        found = shutil.which(tool)
        assert found, tool
        (directory / tool).symlink_to(found)
    return directory


LISTS_SIGNALS = """\
import os
ignored = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("SigIgn"))
print(bool(int(ignored, 16) & 2), os.environ.get("OUTPOST_INTERRUPTS"))
"""


def test_an_interrupt_while_python_starts_is_no_traceback(used: Path) -> None:
    """It is ignored until the program handles it. If the caller ignores it, the program does, too."""
    (used / "src" / "outpost" / "__main__.py").write_text(LISTS_SIGNALS)
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        assert launch(used / "outpost").stdout == "True accept\n"
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert launch(used / "outpost").stdout == "True None\n"
    finally:
        signal.signal(signal.SIGINT, before)


def launch(
    program: Path, *arguments: str, path: Path | None = None, cwd: Path = Path("/")
) -> subprocess.CompletedProcess[str]:
    """Start the launcher as a user would."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "OUTPOST", "VIRTUAL"))
    }
    environment["OUTPOST_PYTHON" if path is None else "PATH"] = sys.executable if path is None else str(path)
    return subprocess.run(
        [program, *arguments], env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )


def stamp(checkout: Path) -> Path:
    """Written when an environment is complete."""
    return checkout / ".venv" / "outpost.stamp"


def test_first_use_makes_the_environment_and_later_uses_start_at_once(
    first: tuple[Path, subprocess.CompletedProcess[str]], used: Path
) -> None:
    result = first[1]
    assert (result.returncode, result.stdout) == (0, "ran check two words\n"), result.stderr
    assert "environment ready" in result.stderr
    made = stamp(used).stat().st_mtime_ns

    link = used.parent / "elsewhere"
    link.symlink_to(used / "outpost")
    again = launch(link, "plan", cwd=used.parent)
    assert (again.returncode, again.stdout, again.stderr) == (0, "ran plan\n", "")
    assert stamp(used).stat().st_mtime_ns == made


def test_a_new_lock_or_a_broken_off_creation_makes_it_again(used: Path) -> None:
    left_over = used / ".venv" / "left-over"
    left_over.touch()
    (used / "requirements.lock").write_text("# still nothing, but another lock\n")
    assert launch(used / "outpost").stdout == "ran\n"
    assert not left_over.exists()

    left_over.touch()
    stamp(used).unlink()  # the state after an interrupted creation
    assert launch(used / "outpost").stdout == "ran\n"
    assert not left_over.exists()


def test_a_changed_project_is_registered_again_in_the_same_environment(used: Path) -> None:
    """pyinfra finds the connectors by its entry points, and a pull may have moved them."""
    kept = used / ".venv" / "kept"
    kept.touch()
    (used / "pyproject.toml").write_text(f"{PROJECT}# another\n")
    (used / "points").write_text("[moved]\nto = here\n")
    assert launch(used / "outpost").stdout == "ran\n"
    assert kept.exists()
    (points,) = (used / ".venv").rglob("outpost-1.dist-info/entry_points.txt")
    assert "to = here" in points.read_text()
    assert launch(used / "outpost").stderr == ""


def test_two_starts_at_once_make_one_environment(checkout: Path) -> None:
    environment = os.environ | {"OUTPOST_PYTHON": sys.executable}
    both = [
        subprocess.Popen(
            [checkout / "outpost"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in both]
    assert [out for out, _ in outputs] == ["ran\n", "ran\n"], outputs
    assert sum("making the Python environment" in err for _, err in outputs) == 1


def test_a_lock_that_cannot_be_installed_ends_in_a_remedy(checkout: Path) -> None:
    (checkout / "requirements.lock").write_text("no-hash==1.0\n")
    result = launch(checkout / "outpost")
    assert result.returncode == 1
    assert "Remedy" in result.stderr
    assert "Traceback" not in result.stderr
    assert not stamp(checkout).exists()


def test_without_python_it_says_what_to_install(checkout: Path, path: Path) -> None:
    result = launch(checkout / "outpost", "lab", "up", path=path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "apt-get install python3-venv" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may install packages; CI is root")
def test_with_consent_it_installs_python(checkout: Path, path: Path) -> None:
    installer = path / "apt-get"
    installer.write_text(
        f'#!/bin/sh\n[ "$1" = update ] || ln -s "{sys.executable}" "{path}/python3"\necho "$@" >>"{path}/log"\n'
    )
    installer.chmod(0o755)
    result = launch(checkout / "outpost", "lab", "up", "--yes", path=path)
    assert result.stdout == "ran lab up --yes\n", result.stderr
    assert (path / "log").read_text() == "update\ninstall --yes --no-install-recommends python3-venv\n"


def test_a_python_that_is_too_old_is_refused_by_name(checkout: Path) -> None:
    result = subprocess.run(
        [checkout / "outpost"],
        env=os.environ | {"OUTPOST_PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "OUTPOST_PYTHON=/bin/false" in result.stderr
