"""A bootable disk image of Debian with what every host of the office has: for a stick, a disk, or an import. Built by mkosi.

BIOS and UEFI start GRUB from the same disk, and GRUB starts ``/vmlinuz``: Debian's own link to the newest kernel. So security updates
of the kernel need no step that knows how the image was made. UEFI gets Debian's signed shim and GRUB (Secure Boot).
"""

import hashlib
import json
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from outpost.converge.declaration import declaration
from outpost.errors import OutpostError
from outpost.keys.model import Secrets
from outpost.machines.seed import Seed
from outpost.office.model import Office
from outpost.templates import environment, render
from outpost.tools import run

FILES = Path(__file__).with_suffix(".files")
"""The files for mkosi, as templates; the path mirrors its directory."""
BOOTS = (
    "apt", "cloud-guest-utils", "cloud-init", "dbus", "e2fsprogs", "fdisk", "grub-efi-amd64-signed", "grub-pc-bin", "initramfs-tools",
    "iproute2", "linux-image-amd64", "procps", "shim-signed", "systemd", "systemd-resolved", "systemd-sysv", "tzdata", "udev", "zstd",
)  # fmt: skip
"""Packages for booting, for reading a seed and for installing packages: mkosi starts with less than Debian's installer."""
FAILED = "check that the archive can be reached; where mkosi's tools are missing or do not fit, use --tools default"
TOOLS = {"mkosi": "mkosi grub-pc-bin grub-common", "qemu-img": "qemu-utils"}


@dataclass(frozen=True)
class Built:
    """An image's files: raw for a disk, and compressed for an import."""

    raw: Path
    compressed: Path


def packages(office: Office, secrets: Secrets) -> tuple[str, ...]:
    """Packages that every host of the office has, and those that a machine boots with."""
    each = [
        {name for names in declaration(office, secrets, host.name).packages for name in names}
        for host in office.hosts
    ]
    return tuple(sorted(set.intersection(*each) | set(BOOTS)))


def recipe(office: Office, names: Iterable[str], seed: Seed | None) -> dict[str, str]:
    """Path → content of mkosi's directory.

    Args:
        seed: Of the host that the image is for.
    """
    number = uuid5(NAMESPACE_DNS, f"{seed.host if seed else '*'}.{office.domain}")
    label = f"outpost-{number.hex[:6]}"
    context = {"office": office, "packages": tuple(names), "number": number, "label": label}
    templates = environment(FILES)
    found = {
        str(path.relative_to(FILES).with_suffix("")): render(templates, str(path.relative_to(FILES)), context)
        for path in sorted(FILES.rglob("*.j2"))
    }
    for name, content in (seed.files if seed else {}).items():
        found[f"mkosi.extra/var/lib/cloud/seed/nocloud/{name}"] = content
    return found


def build(files: dict[str, str], output: Path, name: str, *, epoch: int, tools: str = "") -> Built:
    """Build the image with mkosi; it and its digests are written into a directory.

    Args:
        name: Of the files, without their endings.
        epoch: The time that everything in it has, in seconds; the same one, archive and tools make the same image.
        tools: For mkosi's ``--tools-tree``; empty for this machine's own tools.

    Raises:
        OutpostError: A tool is missing, or mkosi failed.
    """
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise OutpostError(f"{tool} is not installed", f"apt-get install {package}")
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="outpost-image-", dir=output) as directory:
        place = Path(directory)
        for path, content in files.items():
            file = place / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
            program = path.startswith(("mkosi.postinst", "mkosi.finalize"))
            file.chmod(0o755 if program else 0o600 if "seed" in path else 0o644)
        command = ["mkosi", "--directory", str(place), "--force", f"--source-date-epoch={epoch}"]
        run(*command, *([f"--tools-tree={tools}"] if tools else []), "build", lines=6, remedy=FAILED)
        raw, compressed = output / f"{name}.raw", output / f"{name}.qcow2"
        for file in (raw, compressed):
            file.unlink(missing_ok=True)
            file.touch(mode=0o600)
        (place / "image.raw").replace(raw)
        raw.chmod(0o600)
    run("qemu-img", "convert", "-c", "-O", "qcow2", str(raw), str(compressed))
    for file in (raw, compressed):
        file.with_name(f"{file.name}.sha512").write_text(f"{digest(file)}  {file.name}\n", encoding="utf-8")
    return Built(raw, compressed)


def digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha512").hexdigest()


def describe(device: Path, size: int) -> str:
    """Describe a device, if an image of this size may be written to it.

    Raises:
        OutpostError: It is not a whole disk, is in use, or is too small.
    """
    try:
        is_block = stat.S_ISBLK(device.stat().st_mode)
    except OSError as error:
        raise OutpostError(
            f"{device} cannot be read ({error.strerror})", "choose a disk that lsblk prints"
        ) from None
    if not is_block:
        raise OutpostError(f"{device} is not a disk", "choose a disk that lsblk prints")
    done = subprocess.run(
        ["lsblk", "--json", "--bytes", "--output", "NAME,TYPE,SIZE,MODEL,RM,MOUNTPOINTS", str(device)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return fits(json.loads(done.stdout)["blockdevices"][0], device, size)


def fits(disk: dict[str, Any], device: Path, size: int) -> str:
    """The same, from the output of ``lsblk``."""
    if disk["type"] not in ("disk", "loop"):
        problem = f"{device} is a {disk['type']}, not a whole disk"
        raise OutpostError(problem, "name the disk, not a partition of it")
    if used := [point for part in _parts(disk) for point in part.get("mountpoints") or () if point]:
        raise OutpostError(f"{device} is in use: {', '.join(used)}", "unmount it, if it is the right disk")
    if any(part["type"] not in ("disk", "loop", "part") for part in _parts(disk)):
        raise OutpostError(f"{device} holds volumes that are open", "close them, if it is the right disk")
    if int(disk["size"]) < size:
        problem = f"{device} has {int(disk['size']) // 1024**2} MiB, and the image {size // 1024**2}"
        raise OutpostError(problem, "use a larger disk")
    kind = "removable" if disk.get("rm") else "NOT removable"
    return f"{device}: {disk.get('model') or 'no model'}, {int(disk['size']) / 1e9:.1f} GB, {kind}"


def _parts(disk: dict[str, Any]) -> Iterable[dict[str, Any]]:
    yield disk
    for child in disk.get("children") or ():
        yield from _parts(child)


COPY = (
    'dd if="$1" of="$2" bs=4M conv=nocreat,notrunc,fsync status=none && '
    'dd of="$2" oflag=nocache conv=notrunc,fdatasync count=0 status=none && cmp --bytes="$3" "$1" "$2"'
)
"""Shell; the second dd makes the kernel drop its cache, so that cmp reads the disk itself (dd(1))."""


def write(image: Path, device: Path) -> None:
    """Copy the image to a disk, and read it back.

    Raises:
        OutpostError: The disk does not hold what was written.
    """
    command = ["sh", "-c", COPY, "sh", str(image), str(device), str(image.stat().st_size)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stdout + done.stderr).strip()
        problem = f"{device} does not hold what was written: {why}"
        raise OutpostError(problem, "run it as root; use another disk")
