"""Makes .venv from requirements.lock. Run by ./outpost with the system's Python: standard library only.

The environment is made in place, because virtual environments cannot be moved, and its stamp is
written last: one without a stamp broke off and is made again. A lock lets one of several callers work
while the others wait for it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections import deque
from collections.abc import Iterator
from pathlib import Path

STAMP = "outpost.stamp"
LOCK = "requirements.lock"
PROJECT = "pyproject.toml"


class Progress:
    """One line that is rewritten on a terminal; a line now and then elsewhere."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.last = 0.0

    def __call__(self, text: str, *, always: bool = False) -> None:
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\033[K{f'outpost: {text}'[:width]}")
        elif always or time.monotonic() - self.last > 5:
            sys.stderr.write(f"outpost: {text}\n")
            self.last = time.monotonic()
        sys.stderr.flush()

    def close(self, text: str) -> None:
        sys.stderr.write(f"\r\033[Koutpost: {text}\n" if self.live else f"outpost: {text}\n")


def interpreter() -> Path:
    """The real interpreter behind the links, so that a changed default `python3` is noticed."""
    return Path(sys.executable).resolve()


def fits(root: Path) -> bool:
    environment = root / ".venv"
    try:
        made_in, made_with = (environment / STAMP).read_text().splitlines()
        same_lock = (environment / LOCK).read_bytes() == (root / LOCK).read_bytes()
    except (OSError, ValueError):
        return False
    return same_lock and made_in == str(root) and made_with == str(interpreter())


def blocks(lock: str) -> Iterator[tuple[str, str]]:
    """Each requirement of the lock: its name, and its lines with the hashes."""
    for block in re.findall(r"^[A-Za-z0-9].*(?:\n[ \t]+.*)*", lock, flags=re.MULTILINE):
        yield re.split(r"[=\s\[]", block, maxsplit=1)[0].lower(), block


def pip(python: Path, progress: Progress, total: int, *what: str) -> None:
    command = [
        str(python), "-m", "pip", "install", "--no-deps", "--no-build-isolation",
        "--disable-pip-version-check", "--no-input", "--progress-bar", "off", *what,
    ]  # fmt: skip
    tail: deque[str] = deque(maxlen=6)
    seen = 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail.append(line.rstrip())
            if line.startswith("Collecting "):
                seen += 1
                progress(f"fetching {seen} of {total}: {line.split()[1].split('=')[0]}")
            elif line.startswith("Installing collected"):
                progress(f"installing {seen} packages ...", always=seen > 1)
    if process.returncode:
        raise InstallationError("\n  ".join(["pip could not install the locked packages:", *tail]))


class InstallationError(Exception):
    """The environment could not be made."""


def make(root: Path, progress: Progress) -> None:
    environment = root / ".venv"
    lock = (root / LOCK).read_text()
    requirements = dict(blocks(lock))
    version = ".".join(map(str, sys.version_info[:3]))
    progress(f"making the Python environment (once): Python {version} ...", always=True)
    if environment.exists():
        shutil.rmtree(environment)
    venv.EnvBuilder(with_pip=True, symlinks=True).create(environment)
    python = environment / "bin" / "python"
    with tempfile.TemporaryDirectory() as directory:
        # What has no wheel is built by the setuptools of the lock: nothing unhashed is fetched.
        if "setuptools" in requirements:
            first = Path(directory) / "build.lock"
            first.write_text(requirements["setuptools"] + "\n")
            pip(python, progress, 1, "--require-hashes", "--requirement", str(first))
    pip(python, progress, len(requirements), "--require-hashes", "--requirement", str(root / LOCK))
    register(root, progress)
    (environment / LOCK).write_text(lock)
    (environment / STAMP).write_text(f"{root}\n{interpreter()}\n")


def registered(root: Path) -> bool:
    try:
        return (root / ".venv" / PROJECT).read_bytes() == (root / PROJECT).read_bytes()
    except OSError:
        return False


def register(root: Path, progress: Progress) -> None:
    """Install the checkout in editable mode: its path, its command, and pyinfra's connectors (entry points)."""
    project = (root / PROJECT).read_bytes()
    pip(root / ".venv" / "bin" / "python", progress, 1, "--editable", str(root))
    (root / ".venv" / PROJECT).write_bytes(project)


def main() -> int:
    root = Path(sys.argv[1])
    progress = Progress()
    started = time.monotonic()
    try:
        with (root / ".venv.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress("waiting for another outpost that makes the environment ...", always=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not fits(root):
                make(root, progress)
            elif not registered(root):
                register(root, progress)
    except KeyboardInterrupt:
        progress.close("interrupted; the next start makes the environment again.")
        return 130
    except (InstallationError, OSError, subprocess.CalledProcessError) as error:
        progress.close(f"the Python environment could not be made: {error}")
        progress.close("Remedy: check the network, the disk and pip's configuration, then start again.")
        if os.environ.get("OUTPOST_DEBUG"):
            raise
        return 1
    progress.close(f"Python environment ready ({time.monotonic() - started:.0f} s).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
