"""Virtual machines instead of containers: a Vagrant box from Debian's archive, and a host's first files.

A virtual machine has what a container lacks: a kernel of its own with AppArmor and audit, its own clock, mounts and
true reboots. The box is for vagrant-libvirt; kernel and initial RAM disk lie beside the disk, so it needs no boot loader.
"""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import tomlkit

from outpost.errors import OutpostError
from outpost.target import ROOT
from outpost.tools import run
from outpost_lab.containers import packed
from outpost_lab.engine import Note, apt_install
from outpost_lab.images import IMAGES, SUITE, bootstrap
from outpost_lab.instance import Instance
from outpost_lab.render import files

NAME = "outpost/trixie"
SIZE = "8G"
TOOLS = {  # program: Debian's package
    "mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs", "qemu-img": "qemu-utils", "vagrant": "vagrant-libvirt",
    "virsh": "libvirt-clients", "qemu-system-x86_64": "qemu-system-x86",
}  # fmt: skip
DRIVERS = {"interface": "libvirt-daemon-driver-interface", "qemu": "libvirt-daemon-driver-qemu"}
"""Of libvirt: the first one is only recommended by Debian, and Vagrant needs it to list the zones' bridges."""
LIBVIRT = ("libvirt-daemon-system", *DRIVERS.values())
INCLUDED = (
    "apparmor", "ca-certificates", "dbus", "initramfs-tools", "iproute2", "iputils-ping", "kmod",
    "linux-image-cloud-amd64", "nftables", "openssh-server", "procps", "sudo", "systemd", "systemd-sysv", "tzdata",
    "udev", "zstd",
)  # fmt: skip
FILES = Path(__file__).with_suffix(".files")
VAGRANTFILE = Path(__file__).with_suffix(".Vagrantfile")


def make(*, install: bool = False, note: Note = lambda _text: None) -> None:
    """Makes the box and adds it to Vagrant, replacing an older one of its name; `install` allows to install the tools."""
    _tools(install=install, note=note)
    with tempfile.TemporaryDirectory(prefix="outpost-box-") as name:
        work = Path(name)
        note(f"Debian {SUITE} with a kernel")
        _bootstrap(work / "root")
        note("disk image")
        _disk(work)
        note("adding it to Vagrant")
        archive = work / "outpost.box"
        with tarfile.open(archive, "w") as box:
            for item in ("metadata.json", "Vagrantfile", "box.img", "vmlinuz", "initrd.img"):
                box.add(work / item, item)
        # in the checkout Vagrant would read the Vagrantfile first, and ask a lab that does not run yet
        run("vagrant", "box", "add", "--force", "--name", NAME, str(archive), cwd="/")


def replace(instance: Instance, hosts: tuple[str, ...]) -> None:
    """Runs hosts of a lab as virtual machines: their containers stop, and Vagrant starts machines at their addresses.

    The office file of the instance says so (``hosts.HOST.platform``), so that what a kernel of its own allows is done.
    """
    document: Any = tomlkit.parse(instance.office_file.read_text())
    for host in hosts:
        if host not in document["hosts"]:
            remedy = f"choose one of: {', '.join(document['hosts'])}"
            raise OutpostError(f"{host} is not a host of the office", remedy)
        document["hosts"][host]["platform"] = "vagrant"
    for host in hosts:
        instance.container(host).stop()
    instance.office_file.write_text(tomlkit.dumps(document))
    command = ["vagrant", "up", "--provider", "libvirt", *hosts]
    environment = os.environ | {"OUTPOST_LAB": instance.name}
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        remedy = f"OUTPOST_LAB={instance.name} {' '.join(command)}, after you have read the above"
        raise OutpostError("vagrant up failed", remedy)


def first_files(instance: Instance, host: str) -> bytes:
    """The files that the lab puts on a host before its first start, as a tar archive: names, package source, pinned SSH keys."""
    content = files(instance, instance.machine(host))
    return packed(file for file in content if not file.target and file.path != "/etc/machine-id")


def _tools(*, install: bool, note: Note) -> None:
    drivers = {path.name for path in Path("/usr").glob("lib*/**/libvirt/connection-driver/*.so")}
    missing = sorted(
        {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
        | {package for name, package in DRIVERS.items() if f"libvirt_driver_{name}.so" not in drivers}
    )
    if not missing:
        return
    if not install:
        remedy = f"apt-get install {' '.join(missing)}, or let the lab do it: --yes"
        raise OutpostError(f"not installed: {', '.join(missing)}", remedy)
    note(f"installing {', '.join(missing)}")
    apt_install(*missing, *LIBVIRT)


def _bootstrap(root: Path) -> None:
    bootstrap(root, "--variant=minbase", f"--include={','.join(INCLUDED)}")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    run("cp", "-r", "--no-preserve=all", f"{FILES}/.", str(root))  # directories there keep their permissions
    unit = "etc/systemd/system/outpost-host-keys.service"
    shutil.copy(IMAGES / "base" / unit, root / unit)
    run("chroot", str(root), "systemctl", "enable", "systemd-networkd", "outpost-host-keys", "ssh")
    # the well-known public key that Vagrant logs in with until the lab's own is installed
    found = [path for path in Path("/usr").glob("**/vagrant-*/keys/vagrant.pub") if path.is_file()]
    if not found:
        raise OutpostError("Vagrant's public key is not below /usr", "apt-get install vagrant")
    keys = root / "root/.ssh/authorized_keys"
    keys.parent.mkdir(mode=0o700, exist_ok=True)
    keys.write_bytes(found[0].read_bytes())
    keys.chmod(0o600)


def _disk(work: Path) -> None:
    root, raw = work / "root", work / "disk.raw"
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(next((root / "boot").glob(f"{name}-*")), work / name)
    run("mkfs.ext4", "-q", "-d", str(root), str(raw), SIZE)
    run("qemu-img", "convert", "-O", "qcow2", str(raw), str(work / "box.img"))
    metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": int(SIZE.removesuffix("G"))}
    (work / "metadata.json").write_text(json.dumps(metadata))
    shutil.copy(VAGRANTFILE, work / "Vagrantfile")
