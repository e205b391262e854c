"""Makes .venv from requirements.lock. Run by ./outpost with the system's Python: standard library only.

The environment is made in place, because virtual environments cannot be moved, and its stamp is
written last: an environment without a stamp is incomplete and is made again. A lock lets one of several callers work
while the others wait for it. pip shows its own progress on a terminal.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

STAMP = "outpost.stamp"
LOCK = "requirements.lock"
PROJECT = "pyproject.toml"


def say(text: str) -> None:
    sys.stderr.write(f"outpost: {text}\n")
    sys.stderr.flush()


def interpreter() -> Path:
    """The real interpreter behind the links: a changed default `python3` is noticed."""
    return Path(sys.executable).resolve()


def fits(root: Path) -> bool:
    environment = root / ".venv"
    try:
        made_in, made_with = (environment / STAMP).read_text().splitlines()
        same_lock = (environment / LOCK).read_bytes() == (root / LOCK).read_bytes()
    except (OSError, ValueError):
        return False
    return same_lock and made_in == str(root) and made_with == str(interpreter())


def pip(root: Path, *what: str) -> None:
    python, quiet = root / ".venv" / "bin" / "python", () if sys.stderr.isatty() else ("--quiet",)
    command = [
        str(python), "-m", "pip", "install", "--no-deps", "--no-build-isolation",
        "--disable-pip-version-check", "--no-input", *quiet, *what,
    ]  # fmt: skip
    # standard output is the command's own
    if subprocess.run(command, stdout=sys.stderr, stdin=subprocess.DEVNULL, check=False).returncode:
        raise InstallationError("pip could not install the locked packages")


class InstallationError(Exception):
    """The environment could not be made."""


def make(root: Path) -> None:
    environment = root / ".venv"
    lock = (root / LOCK).read_text()
    version = ".".join(map(str, sys.version_info[:3]))
    say(f"making the Python environment (once, a minute or two): Python {version} ...")
    if environment.exists():
        shutil.rmtree(environment)
    venv.EnvBuilder(with_pip=True, symlinks=True).create(environment)
    # setuptools, which the lock pins, builds what has no wheel: nothing is fetched without a hash.
    if builder := re.search(r"^setuptools==.*(?:\n[ \t]+.*)*", lock, flags=re.MULTILINE):
        with tempfile.TemporaryDirectory() as directory:
            first = Path(directory) / "build.lock"
            first.write_text(f"{builder[0]}\n")
            pip(root, "--require-hashes", "--requirement", str(first))
    pip(root, "--require-hashes", "--requirement", str(root / LOCK))
    register(root)
    (environment / LOCK).write_text(lock)
    (environment / STAMP).write_text(f"{root}\n{interpreter()}\n")


def registered(root: Path) -> bool:
    try:
        return (root / ".venv" / PROJECT).read_bytes() == (root / PROJECT).read_bytes()
    except OSError:
        return False


def register(root: Path) -> None:
    """Install the checkout in editable mode: its path, its command, and pyinfra's connectors (entry points)."""
    project = (root / PROJECT).read_bytes()
    pip(root, "--editable", str(root))
    (root / ".venv" / PROJECT).write_bytes(project)


def main() -> int:
    root = Path(sys.argv[1])
    started = time.monotonic()
    try:
        with (root / ".venv.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another outpost that makes the environment ...")
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not fits(root):
                make(root)
            elif not registered(root):
                register(root)
    except KeyboardInterrupt:
        say("interrupted; the next start makes the environment again.")
        return 130
    except (InstallationError, OSError, subprocess.CalledProcessError) as error:
        say(f"the Python environment could not be made: {error}")
        say("Remedy: check the network, the disk and pip's configuration, then start again.")
        if os.environ.get("OUTPOST_DEBUG"):
            raise
        return 1
    say(f"Python environment ready ({time.monotonic() - started:.0f} s).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
