"""Docker: present and running, or a clear remedy, or installed if the user agrees."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import docker
from docker.errors import DockerException

from outpost.errors import OutpostError
from outpost.tools import run

PACKAGES = ("docker.io", "docker-cli")
START_TIMEOUT = 90.0  # seconds that dockerd may take until it is ready
LOG = Path("/var/log/outpost-dockerd.log")
PID_FILES = {
    Path("/var/run/docker.pid"): "dockerd",
    Path("/var/run/docker/containerd/containerd.pid"): "containerd",
}
INSTALL = "apt-get install"
CONSENT = "let the lab do it: --yes"

Note = Callable[[str], None]


class EngineMissing(OutpostError):  # noqa: N818 (named for what is the matter)
    """Docker is not installed, or its daemon does not answer; the lab can install and start it."""


def connect() -> docker.DockerClient:
    """A client of the running engine; `OutpostError` says what is wrong."""
    try:
        client = docker.from_env(timeout=600)
        client.ping()
    except DockerException as error:
        raise _diagnosis() from error
    return client


def ensure(*, install: bool = False, note: Note = lambda _text: None) -> docker.DockerClient:
    """A client of the engine; if the user agrees it is installed and started first."""
    try:
        client = connect()
    except EngineMissing:
        if not install:
            raise
        if shutil.which("dockerd") is None:
            note("installing Docker from Debian")
            apt_install(*PACKAGES)
        note("starting the Docker daemon")
        start()
        client = connect()
    if shutil.which("docker") is None:  # a separate package in Debian; pyinfra reaches the hosts with it
        if not install:
            raise EngineMissing("the docker command is not installed", f"{INSTALL} docker-cli, or {CONSENT}")
        apt_install("docker-cli")
    return client


def apt_install(*packages: str) -> None:
    """Installs Debian packages on this machine, as root or through sudo."""
    if shutil.which("apt-get") is None:
        problem = f"{' and '.join(packages)}: this machine has no apt-get to install it with"
        raise OutpostError(problem, "install it by hand")
    apt = (*as_root(), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq")
    by_hand = f"apt-get install {' '.join(packages)}, by hand"
    run(*apt, "update", remedy=by_hand)
    run(*apt, "install", "-y", "--no-install-recommends", *packages, remedy=by_hand)


def start() -> None:
    """Starts the daemon: by systemd if it runs, else in a session of its own; returns when it is ready."""
    if Path("/run/systemd/system").is_dir():
        run(*as_root(), "systemctl", "start", "docker.service", remedy="read: journalctl -u docker.service")
        return
    if os.geteuid() != 0:
        problem = "the Docker daemon does not run, and there is no systemd to start it"
        raise EngineMissing(problem, "sudo dockerd &")
    for file, process in PID_FILES.items():
        forget_dead(file, process)
    with LOG.open("ab") as log:
        daemon = subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        with suppress(EngineMissing):
            connect()
            return
        if daemon.poll() is not None or time.monotonic() > deadline:
            daemon.terminate()
            raise EngineMissing("the Docker daemon does not start", f"tail {LOG}")
        time.sleep(0.1)


def forget_dead(file: Path, process: str) -> None:
    """Removes the PID file of a killed daemon (by its ``comm``): another process may have the number now."""
    try:
        pid = int(file.read_text())
    except (OSError, ValueError):
        return
    try:
        _, _, state = Path(f"/proc/{pid}/stat").read_text().partition(f"({process}) ")
    except OSError:
        state = ""
    if not state or state.startswith("Z"):  # a zombie: nobody has collected it, and it no longer runs
        file.unlink()


def as_root() -> list[str]:
    """Prefix of a command that only root may run."""
    return [] if os.geteuid() == 0 else ["sudo"]


def _diagnosis() -> OutpostError:
    endpoint = Path("/var/run/docker.sock")
    if endpoint.exists() and not os.access(endpoint, os.W_OK):
        return OutpostError("this user may not use Docker", "sudo adduser $USER docker, then log in again")
    if shutil.which("dockerd") is None and not os.environ.get("DOCKER_HOST"):
        return EngineMissing("Docker is not installed", f"{INSTALL} {' '.join(PACKAGES)}, or {CONSENT}")
    return EngineMissing("Docker is installed but does not answer", f"systemctl start docker, or {CONSENT}")
