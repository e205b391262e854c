"""Docker: present and running, or a clear remedy, or installed where the user agrees."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import docker
from docker.errors import DockerException

from outpost.lab.errors import EngineMissing, LabError

PACKAGES = ("docker.io", "docker-cli")
START_TIMEOUT = 90.0  # seconds that dockerd may take to say it is ready
LOG = Path("/var/log/outpost-dockerd.log")

Note = Callable[[str], None]


def connect() -> docker.DockerClient:
    """A client of the running engine.

    Raises:
        EngineMissing: Docker is not installed, not running, or not open to this user.
    """
    try:
        client = docker.from_env(timeout=600)
        client.ping()
    except DockerException as error:
        raise _diagnosis() from error
    return client


def ensure(*, install: bool = False, note: Note = lambda _text: None) -> docker.DockerClient:
    """A client of the engine, which is installed and started first where that is allowed.

    Args:
        install: The user agrees to packages being installed and a daemon being started.
        note: Told what is going on.

    Raises:
        EngineMissing: It is not there, and installing was not allowed or did not help.
    """
    try:
        return connect()
    except EngineMissing:
        if not install:
            raise
    if shutil.which("dockerd") is None:
        note("installing Docker from Debian")
        apt_install(*PACKAGES)
    note("starting the Docker daemon")
    start()
    return connect()


def apt_install(*packages: str) -> None:
    """Installs Debian packages on this machine, as root or through sudo.

    Raises:
        LabError: This is not a Debian-like machine, or apt failed.
    """
    if shutil.which("apt-get") is None:
        raise LabError(
            f"{' and '.join(packages)}: this machine has no apt-get to install it with", "install it by hand"
        )
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            [*_as_root(), "apt-get", *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise LabError(
                f"apt-get {arguments[0]} failed: {last}", f"apt-get install {' '.join(packages)}, by hand"
            )


def start() -> None:
    """Starts the daemon: by systemd where it runs, else in a session of its own; returns when it is ready.

    Raises:
        EngineMissing: It did not become ready; says where its log is.
    """
    if Path("/run/systemd/system").is_dir():
        done = subprocess.run(
            [*_as_root(), "systemctl", "start", "docker.service"], check=False, capture_output=True
        )
        if done.returncode:
            raise EngineMissing("docker.service does not start", "read: journalctl -u docker.service")
        return
    if os.geteuid() != 0:
        raise EngineMissing(
            "the Docker daemon does not run, and there is no systemd to start it", "sudo dockerd &"
        )
    with (
        tempfile.TemporaryDirectory() as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
    ):
        address = str(Path(directory) / "notify")
        ready.bind(address)
        ready.settimeout(START_TIMEOUT)
        with LOG.open("ab") as log:
            daemon = subprocess.Popen(
                ["dockerd"],
                env=os.environ | {"NOTIFY_SOCKET": address},  # it says READY=1 there, as to systemd
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            while b"READY=1" not in ready.recv(4096):
                pass
        except TimeoutError as error:
            daemon.terminate()
            raise EngineMissing("the Docker daemon does not become ready", f"read {LOG}") from error


def _as_root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo"]


def _diagnosis() -> EngineMissing:
    if shutil.which("dockerd") is None and not os.environ.get("DOCKER_HOST"):
        return EngineMissing(
            "Docker is not installed", f"apt-get install {' '.join(PACKAGES)}, or let the lab do it: --yes"
        )
    endpoint = Path("/var/run/docker.sock")
    if endpoint.exists() and not os.access(endpoint, os.W_OK):
        return EngineMissing(
            "Docker is not open to this user", "sudo adduser $USER docker, then log in again"
        )
    return EngineMissing(
        "Docker is installed but does not answer", "systemctl start docker, or let the lab do it: --yes"
    )
