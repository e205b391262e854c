"""A bare server becomes a site: a guest from Outpost's own image answers with its pinned key, does not change, and starts again with the server.

With encrypted disks a person who steals the server finds no mail, and it starts such guests only while a tang server answers.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from outpost.cli import app
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.machines import guests, hardening, server, up
from outpost.office import load
from outpost.target import ROOT, find
from outpost.transport.remote import run_script
from outpost_lab import aptcache, engine, images, keys
from outpost_lab.containers import SYSTEMD, run
from tests.awaiting import until

IMAGE = os.environ.get("OUTPOST_TEST_IMAGE", "")
"""An image that `outpost machines image` made; with none the test builds one."""
MISSING = [tool for tool in ("docker", "xorriso") if shutil.which(tool) is None]
BUILDS = [tool for tool in ("mkosi", "qemu-img") if not IMAGE and shutil.which(tool) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]
NAME = "outpost-site-test"
HOST = "ns1"
ENCRYPTED = "ns2"
IMAGES = "/var/lib/libvirt/images/outpost"
MAIL = "Dear Maria, nobody else may read this."
SECTOR = bytes.fromhex("31c08ed8fcfbbe217cf4ac84c074f788c4bafd03eca82074f8baf80388e0eeebe8") + MAIL.encode()
"""A boot sector that prints this text on the console for ever, one character for each tick of the BIOS, and sleeps meanwhile."""
CARD = "eth1"
"""The server's second card, in the administrators' network."""
BOOTS = 900.0
"""Seconds until an emulated guest must answer."""
CONFINED = 'cgroup_controllers = []\\nsecurity_driver = "none"\\nnamespaces = []\\n'
"""Settings for libvirt's qemu.conf: they turn off what a container does not allow."""


@dataclass(frozen=True)
class Desk:
    """An administrator with one office and a server."""

    site: Path
    server: Any
    environment: dict[str, str]

    @property
    def on(self) -> str:
        """The server as ``--on`` names it; Docker gives it another address at each start."""
        self.server.reload()
        return f"root@{self.server.attrs['NetworkSettings']['Networks']['bridge']['IPAddress']}"

    def types(self, *arguments: str) -> str:
        """The output of a command of ``./outpost``."""
        command = [sys.executable, "-m", "outpost", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    def up(self, *more: str) -> str:
        return self.types("machines", "up", str(self.site), "--on", self.on, "--limit", HOST, "--yes", *more)

    def asks(self, script: str) -> str:
        """The guest's output over SSH; empty while it cannot be reached."""
        office = load(self.site)
        with suppress(OutpostError):
            return run_script(find(str(self.site)), office, office.host(HOST), script, "ssh").strip()
        return ""

    def bare_card(self) -> None:
        """Docker gives each card an address, and a port of a bridge has none."""
        run(self.server, "ip", "address", "flush", "dev", CARD)

    def virsh(self, *words: str) -> str:
        return run(self.server, "virsh", *words)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name: OpenSSH's sockets have room for 108 characters."""
    with tempfile.TemporaryDirectory(prefix="outpost-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def desk(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A container with systemd and SSH, without hypervisor software."""
    for name, value in {"OUTPOST_IDENTITY": "identity.txt", "XDG_CACHE_HOME": "", "HOME": ""}.items():
        monkeypatch.setenv(name, str(place / value))
    client = engine.connect()
    images.build(client, ("base", "apt-cache"))
    proxy = aptcache.bridge_url(aptcache.ensure(client, images.tag("apt-cache")))
    key = keys.ssh_key(place / "key", "admin@desk")
    network = client.networks.create(NAME)
    server = client.containers.create(images.tag("base"), name=NAME, hostname="server", **SYSTEMD)
    try:
        network.connect(server)
        server.start()
        until(lambda: server.exec_run("systemctl is-active ssh.service").exit_code == 0, "sshd runs")
        lines = (
            f"mkdir -p -m 0700 /root/.ssh && echo '{key}' > /root/.ssh/authorized_keys",
            f"echo 'Acquire::http::Proxy \"{proxy}\";' > /etc/apt/apt.conf.d/90proxy",
            f"mkdir -p /etc/libvirt && printf '{CONFINED}' > /etc/libvirt/qemu.conf",
        )
        run(server, "sh", "-ec", "\n".join(lines))
        network.reload()
        subnet = network.attrs["IPAM"]["Config"][0]["Subnet"]
        public = run(server, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
        (place / ".ssh").mkdir(mode=0o700)
        (place / ".ssh/known_hosts").write_text(f"* {' '.join(public[:2])}\n")
        desk = Desk(place / "site", server, os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}"})
        desk.types("new", str(desk.site), "--domain", "po.example.com", "--organisation", "Site", "--postmaster", "maria",
                   "--wan", "192.0.2.0/28", "--mgmt", subnet, "--ssh-user", "admin", "--key", key)  # fmt: skip
        (desk.site / "ssh_key").write_bytes((place / "key").read_bytes())
        (desk.site / "ssh_key").chmod(0o600)
        change(desk.site, ("zones", "mgmt"), port=CARD)
        desk.bare_card()
        yield desk
    finally:
        server.remove(force=True, v=True)
        network.remove()


def change(site: Path, path: tuple[str, str], **values: object) -> None:
    document: Any = tomlkit.parse((site / "office.toml").read_text())
    document[path[0]][path[1]].update(values)
    (site / "office.toml").write_text(tomlkit.dumps(document))


@pytest.fixture
def image(desk: Desk, place: Path) -> Path:
    """The product's own image, which no other test needs."""
    if BUILDS:
        pytest.skip(f"needs {', '.join(BUILDS)}, or OUTPOST_TEST_IMAGE")
    if not IMAGE:
        tools = os.environ.get("OUTPOST_TEST_TOOLS", "")
        desk.types("machines", "image", str(desk.site), "--output", str(place / "images"), "--tools", tools)
    return Path(IMAGE) if IMAGE else place / "images" / "site.qcow2"


@pytest.fixture
def tang(desk: Desk) -> Iterator[Any]:
    """A tang server, as head office has one."""
    client = engine.connect()
    proxy = run(desk.server, "cat", "/etc/apt/apt.conf.d/90proxy")
    container = client.containers.create(images.tag("base"), name=f"{NAME}-tang", hostname="tang", **SYSTEMD)
    try:
        container.start()
        until(lambda: container.exec_run("systemctl is-active ssh.service").exit_code == 0, "systemd runs")
        install = "apt-get -qq update && apt-get -qq install --no-install-recommends tang curl"
        run(container, "sh", "-ec", f"echo '{proxy}' > /etc/apt/apt.conf.d/90proxy; {install}")
        run(container, "systemctl", "start", "tangd.socket")
        container.reload()
        yield container
    finally:
        container.remove(force=True, v=True)


def encrypt(desk: Desk, tang: Any, *hosts: str) -> None:
    """Declare which disks are encrypted, and who opens them."""
    tang.reload()
    address = tang.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    head_office = {"url": f"http://{address}", "thumbprint": run(tang, "tang-show-keys").strip()}
    document: Any = tomlkit.parse((desk.site / "office.toml").read_text())
    document["disks"] = {"encrypted": list(hosts), "tang": [head_office]}
    (desk.site / "office.toml").write_text(tomlkit.dumps(document))


@pytest.fixture
def types(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """A command of ``./outpost machines`` with its status and output. Guests boot a sector that prints, so nobody waits for their answer."""

    def answered(work: up.Work, _tell: object) -> None:
        for guest in guests.unfinished(work.site, work.found):
            server.run(work.login, work.target, guests.forget_seed(guest, work.found.guests[guest.name]))

    def types(command: str, *more: str) -> tuple[int, str]:
        limit = ("--limit", HOST, "--limit", ENCRYPTED)
        status = app.run(["machines", command, str(desk.site), "--on", desk.on, *limit, *more])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    monkeypatch.setattr(up, "await_first_boots", answered)
    monkeypatch.setenv("PYTHONPATH", desk.environment["PYTHONPATH"])
    return types


@pytest.fixture
def sector(place: Path) -> tuple[str, str]:
    """An image with nothing but a boot sector, and its digest."""
    image = place / "disk.raw"
    image.write_bytes(SECTOR.ljust(510, b"\0") + b"\x55\xaa" + bytes(1024**2))
    return str(image), hashlib.sha512(image.read_bytes()).hexdigest()


BROKEN = {
    "SSH-01": "sed -i 's/^PasswordAuthentication no/PasswordAuthentication yes/' /etc/ssh/sshd_config.d/10-outpost-site.conf; systemctl reload ssh",
    "NET-01": "nft delete table inet outpost_site",
    "SYS-06": "systemctl mask --now apt-daily-upgrade.timer",
}
"""Control → shell that breaks it on the server."""
OTHERWISE = {
    f"virsh destroy {HOST}": f"{HOST}: start",
    f"ip link set {CARD} nomaster": "bridges of the zones",
    "echo '#' >> /etc/systemd/system/outpost-guests.service": "/etc/systemd/system/outpost-guests.service",
    f"virsh setmaxmem {ENCRYPTED} 400M --config": f"{ENCRYPTED}: definition",
}
"""Shell that changes the server → what the check names."""


@pytest.mark.control("SSH-01", "NET-01", "SYS-06", "LOG-04")
def test_the_server_itself_is_hardened_and_what_breaks_is_found_and_repaired(
    desk: Desk, types: Callable[..., tuple[int, str]], sector: tuple[str, str]
) -> None:
    def reachable() -> bool:
        address = (desk.on.partition("@")[2], 8080)
        with suppress(OSError), socket.create_connection(address, timeout=3):
            return True
        return False

    run(
        desk.server,
        "systemd-run",
        "--unit=somebodys",
        "systemd-socket-activate",
        "--accept",
        "--listen=8080",
        "/bin/cat",
    )

    def alarms() -> str:
        """The alarms in the server's journal; without `[alarms] tell` they go nowhere else."""
        run(desk.server, "systemctl", "start", "outpost-watch.service")
        return run(desk.server, "journalctl", "--quiet", "--unit=outpost-watch", "--output=cat")

    until(reachable, "a service of somebody")
    status, printed = types("up", "--yes", "--image", sector[0], "--sha512", sector[1])
    assert status == 0, printed
    assert not reachable()
    desk.bare_card()
    status, printed = types("up", "--yes")
    assert "nothing to change" in printed, printed
    status, printed = types("check")
    assert status == 0, printed
    begun = re.findall("ALARM (.*?): not true", alarms())
    assert sorted(begun) == ["mta runs", "store runs", "webmail runs"], "hosts that were left out"
    timer = run(desk.server, "systemctl", "show", "--property=NextElapseUSecMonotonic", "outpost-watch.timer")
    assert "=infinity" not in timer, "it checks again by itself"
    assert set(BROKEN) == {part.control for part in hardening.BASELINE}
    for control, broken in BROKEN.items():
        run(desk.server, "sh", "-ec", broken)
        until(lambda: types("check")[0] == 1, f"{control} is found")
        assert reachable() == (control == "NET-01")
        (part,) = [part for part in hardening.BASELINE if part.control == control]
        assert f"not true: {part.name} ({control})" in " ".join(types("check")[1].split())
        status, printed = types("up", "--yes")
        assert status == 0, printed
        status, printed = types("check")
        assert status == 0, printed
        assert not reachable()

    for script, wrong in OTHERWISE.items():
        run(desk.server, "sh", "-ec", script)
        assert "destroy" not in script or f"ALARM {HOST} runs: not true" in alarms()
        status, printed = types("check")
        assert f"not as declared: {wrong}" in " ".join(printed.split()), printed
        assert status == 1
        status, printed = types("up", "--yes")
        assert status == 0, printed

    own = "mkdir /etc/outpost-site.d; echo 'tcp dport 8080 accept' > /etc/outpost-site.d/own.nft; systemctl restart outpost-filter"
    run(desk.server, "sh", "-ec", own)
    assert reachable(), "an administrator allows a service"
    assert types("check")[0] == 0
    run(
        desk.server,
        "sh",
        "-ec",
        "echo 'PasswordAuthentication yes' > /etc/ssh/sshd_config.d/00-somebody.conf",
    )
    run(desk.server, "systemctl", "reload", "ssh")
    until(lambda: types("check")[0] == 1, "the other file is found")
    status, printed = types("up", "--yes")
    assert status == 1, printed
    assert "something in /etc/ssh overrides" in printed


def test_a_bare_server_becomes_the_site_and_stays_it(desk: Desk, tang: Any, image: Path) -> None:
    """A guest with an encrypted disk is created and answers with its pinned key. A second run, a power loss and another size follow."""
    encrypt(desk, tang, HOST)
    desk.up("--image", str(image))
    office = load(desk.site)
    host = office.host(HOST)
    assert desk.asks("hostname --fqdn") == host.fqdn
    addresses = desk.asks("ip -brief -4 address show scope global")
    assert all(str(each) in addresses for zone in host.addresses for each in office.interfaces(host, zone))
    assert int(desk.asks("df --output=size -BM / | tail -n 1").rstrip("M")) > 4000, "it takes the whole disk"
    assert desk.asks("sudo apt-get -qq check && echo sound") == "sound", "packages can be installed on it"

    left = run(desk.server, "sh", "-c", "ls /var/lib/libvirt/images/outpost")
    assert "ns1.iso" not in left, "the seed is erased"
    assert ".iso" not in desk.virsh("dumpxml", HOST)
    listeners = run(desk.server, "ss", "-Hltn", "not src 127.0.0.0/8")
    assert {line.split()[3].rpartition(":")[2] for line in listeners.splitlines()} == {"22"}
    assert not run(desk.server, "sh", "-c", "ip -o address | grep zone- || true"), "no address in a zone"
    strict = run(desk.server, "sh", "-c", "cat /proc/sys/net/ipv4/conf/zone-*/rp_filter")
    assert set(strict.split()) == {"1"}, "nor can a guest reach the server's other addresses"

    desk.bare_card()
    assert "nothing to change" in desk.up()

    before = desk.asks("cat /proc/sys/kernel/random/boot_id")
    desk.server.kill("SIGKILL")  # as if its power had failed: no guest is shut down
    desk.server.start()
    until(
        lambda: desk.asks("cat /proc/sys/kernel/random/boot_id") not in ("", before),
        "it is back",
        seconds=BOOTS,
        pace=3,
    )
    desk.bare_card()
    assert "nothing to change" in desk.up()

    change(desk.site, ("hosts", HOST), memory="600MiB", disk="6GiB")
    running = desk.virsh("domid", HOST)
    assert "takes effect after a restart" in desk.up()
    assert desk.virsh("domid", HOST) == running, "nothing restarts unasked"
    assert int(desk.asks("df --output=size -BM / | tail -n 1").rstrip("M")) > 5000, "the disk grew meanwhile"
    desk.up("--restart")
    assert desk.virsh("domid", HOST) != running
    assert "600.0 MiB" in desk.virsh("dominfo", HOST).replace("614400 KiB", "600.0 MiB")

    desk.types("machines", "down", str(desk.site), "--on", desk.on, "--yes")
    assert HOST not in desk.virsh("list", "--all")
    assert "ns1.qcow2" in run(desk.server, "ls", "/var/lib/libvirt/images/outpost")


TPM = """
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update && apt-get -qq install --no-install-recommends swtpm tpm2-tools libtss2-tcti-swtpm0t64
mkdir -p /var/lib/tpm /etc/systemd/system.conf.d
ln -sf null /dev/tpmrm0
echo TPM2TOOLS_TCTI=swtpm:host=127.0.0.1,port=2321 >> /etc/environment
printf '[Manager]\\nDefaultEnvironment=TPM2TOOLS_TCTI=swtpm:host=127.0.0.1,port=2321\\n' > /etc/systemd/system.conf.d/tpm.conf
printf '[Service]\\nExecStartPre=ln -sf null /dev/tpmrm0\\nExecStart=swtpm socket --tpm2 --tpmstate dir=/var/lib/tpm --server type=tcp,port=2321 --ctrl type=tcp,port=2322 --flags not-need-init,startup-clear\\nRestart=always\\n[Install]\\nWantedBy=sysinit.target\\n' > /etc/systemd/system/tpm.service
systemctl daemon-reexec && systemctl enable --now tpm.service
"""
"""Shell: a TPM in software, where tpm2-tools find it. The device that names it only has to exist."""


@pytest.mark.control("STO-01")
def test_a_tpm_opens_the_disk_without_head_office_and_another_one_does_not(
    desk: Desk, types: Callable[..., tuple[int, str]], sector: tuple[str, str]
) -> None:
    """The server loses its power, and then its TPM."""

    def state() -> str:
        return str(desk.server.exec_run(["virsh", "domstate", ENCRYPTED]).output.decode().strip())

    document: Any = tomlkit.parse((desk.site / "office.toml").read_text())
    document["disks"] = {"encrypted": [ENCRYPTED], "tpm": True}
    (desk.site / "office.toml").write_text(tomlkit.dumps(document))
    image, digest = sector
    run(desk.server, "sh", "-ec", f"{TPM}rm /dev/tpmrm0")
    status, printed = types("up", "--yes", "--image", image, "--sha512", digest)
    assert status == 1, printed
    assert "has no TPM 2.0" in printed
    run(desk.server, "ln", "-s", "null", "/dev/tpmrm0")
    status, printed = types("up", "--yes", "--image", image, "--sha512", digest)
    assert status == 0, printed
    assert types("check")[0] == 0

    desk.server.kill("SIGKILL")
    desk.server.start()
    until(lambda: state() == "running", "it starts by itself", seconds=180)
    desk.bare_card()
    assert types("check")[0] == 0

    run(desk.server, "sh", "-ec", "systemctl stop tpm; rm /var/lib/tpm/*; systemctl start tpm")
    status, printed = types("check")
    assert status == 1, printed
    assert f"the server cannot open the disk of {ENCRYPTED}" in printed


@pytest.mark.control("STO-01")
def test_a_stolen_server_shows_no_mail_and_waits_for_head_office(
    desk: Desk, tang: Any, types: Callable[..., tuple[int, str]], sector: tuple[str, str]
) -> None:
    """One guest with an encrypted disk and one without."""

    def state(host: str) -> str:
        return str(desk.server.exec_run(["virsh", "domstate", host]).output.decode().strip())

    def prints(host: str) -> str:
        return run(
            desk.server, "sh", "-c", f"timeout 60 head -c {2 * len(MAIL)} $(virsh ttyconsole {host}) || true"
        )

    def files_with(text: str) -> list[str]:
        """Files with this text on the server's disks; memory (tmpfs) is on other file systems."""
        found = desk.server.exec_run(
            ["find", "/", "-xdev", "-type", "f", "-exec", "grep", "-lFs", "--", text, "{}", "+"]
        )
        return sorted(found.output.decode().split())

    encrypt(desk, tang, ENCRYPTED)
    image, digest = sector
    status, printed = types("up", "--yes", "--image", image, "--sha512", digest)
    assert status == 0, printed
    assert (state(HOST), state(ENCRYPTED)) == ("running", "running")
    assert MAIL in prints(ENCRYPTED), "it boots"
    source = f"{IMAGES}/{guests.Image(image, digest).name}"
    assert files_with(MAIL) == sorted([source, f"{IMAGES}/{HOST}.qcow2"]), "not in the encrypted disk"
    passphrase = secrets_file.read(desk.site).disks[ENCRYPTED].get_secret_value()
    assert files_with(passphrase) == []
    started = run(desk.server, "sh", "-c", f"cat /proc/$(cat /run/libvirt/qemu/{ENCRYPTED}.pid)/cmdline")
    (sealed,) = re.findall(r'encryption-secret0","data":"([^"]+)"', started)
    assert files_with(sealed) == [], "libvirt's log has it, and the key to it lies on the disk"

    desk.bare_card()
    status, printed = types("up", "--yes")
    assert "nothing to change" in printed, printed
    status, printed = types("check")
    assert status == 0, printed
    assert f"the server can open the disk of {ENCRYPTED}" in printed

    run(tang, "systemctl", "stop", "tangd.socket")
    desk.server.kill("SIGKILL")  # as if its power had failed, or somebody had carried it away
    desk.server.start()
    until(lambda: state(HOST) == "running", "the others start", seconds=120)
    restarts = ("systemctl", "show", "--property=NRestarts", "--value", f"outpost-guest-{ENCRYPTED}.service")
    until(lambda: int(run(desk.server, *restarts)) > 0, "it was tried, and is tried again", seconds=180)
    assert state(ENCRYPTED) == "shut off"
    desk.bare_card()
    status, printed = types("check")
    assert status == 1, printed
    assert f"the server cannot open the disk of {ENCRYPTED}" in printed
    run(tang, "systemctl", "start", "tangd.socket")
    until(lambda: state(ENCRYPTED) == "running", "head office answers", seconds=180)
    assert MAIL in prints(ENCRYPTED)

    run(tang, "systemctl", "stop", "tangd.socket")
    desk.virsh("destroy", ENCRYPTED)
    status, printed = types("up", "--yes")
    assert (status, state(ENCRYPTED)) == (0, "running"), printed

    document: Any = tomlkit.parse((desk.site / "office.toml").read_text())
    document["disks"]["encrypted"] = [HOST]
    (desk.site / "office.toml").write_text(tomlkit.dumps(document))
    status, printed = types("up", "--yes")
    assert status == 1, printed
    assert f"the disk of {HOST} is not encrypted" in printed
    assert f"the disk of {ENCRYPTED} is encrypted, and not named" in printed
