"""A machine without console work: Debian's cloud-init reads its seed, and the controller reaches it with the pinned key.

It starts from a disk, and from a stick that `outpost machines image --write` wrote.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomlkit

from outpost.errors import OutpostError
from outpost.machines.seed import mac
from outpost.office import load
from outpost.target import ROOT, find
from outpost.tools import run
from outpost.transport.remote import run_script
from outpost_lab import keys
from outpost_lab.box import INCLUDED
from outpost_lab.images import bootstrap
from tests.awaiting import until

TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "qemu-system-x86_64": "qemu-system-x86",
    "xorriso": "xorriso",
}
BUILDERS = {"mkosi": "mkosi", "grub-mkimage": "grub-common", "qemu-img": "qemu-utils", "losetup": "mount"}
OVMF = Path("/usr/share/OVMF")
BUILDS = [package for tool, package in BUILDERS.items() if shutil.which(tool) is None]
BUILDS += [] if OVMF.exists() else ["ovmf"]
MISSING = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f"needs {', '.join(MISSING)}: apt-get install {' '.join(MISSING)}"
    ),
]
HOST = "ns1"
BOOTS = 600.0
"""Seconds until an emulated machine must answer."""


@dataclass(frozen=True)
class Desk:
    """An administrator with one office and one machine."""

    site: Path
    port: int
    environment: dict[str, str]

    def types(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command of ``./outpost``."""
        command = [sys.executable, "-m", "outpost", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )

    def asks(self, script: str) -> str:
        """The machine's output over SSH; empty while it cannot be reached."""
        office = load(self.site)
        with suppress(OutpostError):
            return run_script(find(str(self.site)), office, office.host(HOST), script, "ssh").strip()
        return ""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name: OpenSSH's sockets have room for 108 characters."""
    with tempfile.TemporaryDirectory(prefix="outpost-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def empty(place: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """An office whose machine does not exist yet."""
    monkeypatch.setenv("OUTPOST_IDENTITY", str(place / "identity.txt"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    site = place / "site"
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    desk = Desk(site, port, os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}"})
    key = keys.ssh_key(place / "key", "admin@desk")
    made = desk.types("new", str(site), "--domain", "po.example.com", "--organisation", "Site", "--postmaster", "maria",
                      "--wan", "192.0.2.0/28", "--ssh-user", "admin", "--key", key)  # fmt: skip
    assert made.returncode == 0, made.stderr
    (site / "ssh_key").write_bytes((place / "key").read_bytes())
    (site / "ssh_key").chmod(0o600)
    document = tomlkit.parse((site / "office.toml").read_text())
    document["zones"]["wan"]["gateways"] = ["192.0.2.1"]
    document["hosts"][HOST]["ssh"] = f"admin@127.0.0.1:{port}"
    (site / "office.toml").write_text(tomlkit.dumps(document))
    return desk


@pytest.fixture
def desk(place: Path, empty: Desk) -> Iterator[Desk]:
    """The office, its seeds, and a bare machine that has started with one of them."""
    written = empty.types("machines", "seed", str(empty.site), "--output", str(place / "seeds"))
    assert written.returncode == 0, written.stderr
    _disk(place)
    disk = ("-kernel", f"{place}/vmlinuz", "-initrd", f"{place}/initrd.img", "-append", "root=/dev/vda rw console=ttyS0",
            "-drive", f"file={place}/disk.raw,if=virtio,format=raw", "-cdrom", f"{place}/seeds/{HOST}.iso")  # fmt: skip
    with machine(place, empty, *disk):
        yield empty


@pytest.fixture
def stick(place: Path) -> Iterator[tuple[Path, str]]:
    """What a stick holds, and its device."""
    file = place / "stick.raw"
    with file.open("wb") as stream:
        stream.truncate(4 << 30)
    attach = ("losetup", "--find", "--show", str(file))
    device = subprocess.run(attach, capture_output=True, text=True, check=True).stdout.strip()
    try:
        yield file, device
    finally:
        run("losetup", "--detach", device)


@contextmanager
def machine(place: Path, desk: Desk, *disk: str) -> Iterator[None]:
    """Start a machine with a disk, and wait until cloud-init is done."""
    running = subprocess.Popen([*_emulator(place, desk), *disk], stdin=subprocess.DEVNULL)
    try:
        until(
            lambda: desk.asks("systemctl is-active cloud-final.service") == "active",
            "cloud-init is done",
            seconds=BOOTS,
            pace=3,
        )
        yield
    finally:
        running.kill()
        running.wait()


def _disk(work: Path) -> None:
    """Debian as its cloud images have it: cloud-init, networkd, no SSH host key."""
    root = work / "root"
    bootstrap(
        root,
        "--variant=minbase",
        f"--include={','.join((*INCLUDED, 'cloud-init', 'e2fsprogs', 'systemd-resolved'))}",
    )
    for path in (root / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    (root / "etc/machine-id").write_text("")
    (root / "etc/fstab").write_text("/dev/vda / ext4 errors=remount-ro 0 1\n")
    run("chroot", str(root), "systemctl", "enable", "systemd-networkd", "ssh")
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(next((root / "boot").glob(f"{name}-*")), work / name)
    run("mkfs.ext4", "-q", "-d", str(root), str(work / "disk.raw"), "4G")


def _emulator(work: Path, desk: Desk) -> list[str]:
    """One card for each zone, as the command's table says; the controller's way in is a forwarded port."""
    office = load(desk.site)
    host = office.host(HOST)
    command = ["qemu-system-x86_64", "-machine", "q35", "-cpu", "max", "-m", "1024", "-display", "none",
               "-serial", f"file:{work}/console"]  # fmt: skip
    for zone in host.addresses:
        (interface,) = office.interfaces(host, zone)
        forward = (
            f",hostfwd=tcp:127.0.0.1:{desk.port}-{interface.ip}:22"
            if office.zones[zone].kind == "management"
            else ""
        )
        command += [
            "-netdev",
            f"user,id={zone},net={interface.network},restrict=on{forward}",
            "-device",
            f"virtio-net-pci,netdev={zone},mac={mac(office, host, zone)}",
        ]
    return command


def test_a_machine_comes_up_as_its_seed_says_and_stays_so(desk: Desk) -> None:
    """The machine answers with the pinned key. It has no other key, and a later medium changes nothing."""
    office = load(desk.site)
    host = office.host(HOST)
    addresses = desk.asks("ip -brief -4 address show scope global")
    assert all(str(each) in addresses for zone in host.addresses for each in office.interfaces(host, zone)), (
        addresses
    )
    assert "default via 192.0.2.1" in desk.asks("ip route")
    assert desk.asks("hostname --fqdn") == host.fqdn
    found = desk.asks("grep -rl 'OPENSSH PRIVATE KEY' /etc /run /var/lib /var/log; true").split()
    assert found == ["/etc/ssh/ssh_host_ed25519_key"]
    assert desk.asks("systemctl is-system-running") == "running", desk.asks(
        "systemctl --failed; cloud-init status --long"
    )
    before = desk.asks("cat /proc/sys/kernel/random/boot_id")
    desk.asks("systemctl reboot")
    until(
        lambda: desk.asks("cat /proc/sys/kernel/random/boot_id") not in ("", before),
        "it is back",
        seconds=BOOTS,
        pace=3,
    )
    assert desk.asks("ip -brief -4 address show scope global") == addresses
    assert desk.asks("test -e /run/cloud-init/disabled && echo off") == "off", (
        "what is attached later is not read"
    )


def test_its_first_plan_asks_for_no_decision(desk: Desk) -> None:
    """What cloud-init leaves counts as the installer's: the first plan has nothing that a person must accept."""
    planned = desk.types("plan", str(desk.site), "--limit", HOST)
    assert planned.returncode == 2, planned.stdout[-4000:] + planned.stderr
    assert "to decide" not in planned.stdout, planned.stdout[-8000:]


@pytest.mark.skipif(bool(BUILDS), reason=f"needs {', '.join(BUILDS)}")
def test_a_stick_with_the_image_starts_the_machine(place: Path, empty: Desk, stick: tuple[Path, str]) -> None:
    """The image with its seed is written to a stick, and the machine has no other medium. It starts by BIOS, and by UEFI with Secure Boot."""
    file, device = stick
    written = empty.types(
        "machines", "image", str(empty.site), "--output", str(place / "images"), "--limit", HOST, "--write", device,
        "--yes", "--tools", os.environ.get("OUTPOST_TEST_TOOLS", ""),
    )  # fmt: skip
    assert written.returncode == 0, written.stdout + written.stderr
    assert f"{device} holds the image" in written.stdout
    shutil.copy(OVMF / "OVMF_VARS_4M.ms.fd", place / "variables")
    secure_boot = (
        "-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on",
        "-drive", f"if=pflash,format=raw,readonly=on,file={OVMF}/OVMF_CODE_4M.ms.fd",
        "-drive", f"if=pflash,format=raw,file={place}/variables",
    )  # fmt: skip
    for firmware, state in ((), "BIOS"), (secure_boot, "1"):
        copy = place / "copy.raw"
        run("cp", "--sparse=always", str(file), str(copy))
        usb = ("-device", "qemu-xhci", "-drive", f"if=none,id=stick,format=raw,file={copy}", "-device", "usb-storage,drive=stick")  # fmt: skip
        with machine(place, empty, *firmware, *usb):
            office = load(empty.site)
            assert empty.asks("hostname --fqdn") == office.host(HOST).fqdn
            variable = "od -An -t u1 /sys/firmware/efi/efivars/SecureBoot-* || echo BIOS"
            assert empty.asks(variable).split()[-1] == state
            assert empty.asks("lsblk --nodeps --noheadings --output TRAN /dev/sda") == "usb"
            assert empty.asks("findmnt --noheadings --output SOURCE /").startswith("/dev/sda")
            assert empty.asks("findmnt --noheadings /efi || echo none") == "none"
            assert empty.asks("systemctl is-system-running") == "running", empty.asks("systemctl --failed")


@pytest.mark.control("LOG-04")
def test_a_process_that_the_kernel_killed_for_memory_is_an_alarm(desk: Desk) -> None:
    """This needs a kernel of its own: a container cannot report it to systemd on a machine with control groups of version 1."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in ("outpost/__init__.py", "outpost/onhost/watch.py", "outpost/onhost/tell.py"):
            tar.add(ROOT / "src" / name, name)
    check = "from outpost.onhost.watch import memory; print(*(f'{alarm.about}: {alarm.text}' for alarm in memory({'recent': 900}, 0)))"
    watch = f'cd /run/watch && python3 -c "{check}"'
    desk.asks(
        f"mkdir /run/watch && echo {base64.b64encode(packed.getvalue()).decode()} | base64 -d | tar -xzC /run/watch"
    )
    assert desk.asks(f"{watch}; echo end") == "end", "nothing was killed yet"
    desk.asks(
        "systemd-run --quiet --wait --unit greedy -p MemoryMax=24M -p MemorySwapMax=0 tail /dev/zero; true"
    )
    assert "memory greedy.service: the kernel ended a process of greedy.service" in desk.asks(watch)
