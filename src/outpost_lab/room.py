"""What a lab needs of its machine, before anything starts: the kernel's limits, memory, disk.

Containers share the kernel's limits: each lab alone fits into a stock Debian, two do not.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import docker

from outpost.errors import OutpostError
from outpost_lab.engine import as_root
from outpost_lab.instance import LABEL

PROC, SYS = Path("/proc"), Path("/proc/sys")
MIB = 2**20


SETTING, EACH, SPARE = "fs.inotify.max_user_instances", 9, 48
"""A limit per user, and root of each container is the same user: six to seven on an idle machine, thirteen during an apply."""
MEMORY_MIB = 130
"""Memory of a machine on average: a lab of fifteen takes about 1.9 GiB; the scanner has few signatures there."""
DISK_MIB = 200
"""Disk space of a machine besides the images on average, including mail and journals of a test run."""
IMAGES_MIB = 3000


def ensure(
    client: docker.DockerClient, machines: int, name: str, *, consent: bool, note: Callable[[str], None]
) -> None:
    """Checks that this machine has room for a lab beside the running ones; running parts of the lab itself do not count twice.

    Args:
        consent: The user agrees to raise limits until the next boot.
    """
    running = client.containers.list(filters={"label": LABEL})
    mine = sum(container.labels.get(LABEL) == name for container in running)
    _limit(len(running) - mine + machines, consent=consent, note=note)
    _memory(max(0, machines - mine))
    _disk(client, max(0, machines - mine))


def _small(least: int) -> bool:
    try:
        return int((SYS / SETTING.replace(".", "/")).read_text(encoding="ascii")) < least
    except (OSError, ValueError):
        return False  # this kernel has no such limit


def _limit(machines: int, *, consent: bool, note: Callable[[str], None]) -> None:
    least = SPARE + EACH * machines
    if not _small(least):
        return
    word = f"{SETTING}={1 << (least - 1).bit_length()}"
    by_hand = f"sudo sysctl -w {word}"
    if not consent:
        problem = f"the kernel allows too little for {machines} machines of labs: {SETTING}"
        raise OutpostError(problem, f"{by_hand}, or --yes")
    note(f"raising {word} until the next boot")
    command = [*as_root(), "sysctl", "-q", "-w", word]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or _small(least):
        reason = (done.stderr.strip().splitlines() or ["sysctl changed nothing"])[-1]
        remedy = f"{by_hand}; in a container, on the machine that runs it"
        raise OutpostError(f"the kernel's limits cannot be raised here: {reason}", remedy)


def _memory(machines: int) -> None:
    try:
        lines = (PROC / "meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return
    available = next((int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:")), 0)
    if available and available < (needed := MEMORY_MIB * machines):
        message = f"{available} MiB of memory are free, and {machines} machines need {needed} MiB"
        raise OutpostError(message, "end other programs, or another lab: ./outpost lab down --name NAME")


def _disk(client: docker.DockerClient, machines: int) -> None:
    root = Path(str(client.info().get("DockerRootDir", "")))
    if not machines or not root.is_dir() or os.environ.get("DOCKER_HOST"):
        return  # a daemon elsewhere knows its own disk
    images = 0 if client.images.list(filters={"label": "outpost.image"}) else IMAGES_MIB
    free, least = shutil.disk_usage(root).free // MIB, images + DISK_MIB * machines
    if free < least:
        remedy = "docker system prune, or ./outpost lab down --name NAME for another lab"
        raise OutpostError(f"{free} MiB are free below {root}, and the lab needs {least} MiB", remedy)
