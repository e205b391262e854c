"""One bare server becomes a whole office: five guests from Outpost's own image, applied, verified, and back after a loss of the server's power.

The server is a container, and QEMU emulates its guests. This takes an hour on two processors, with nothing beside it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from outpost_lab import aptcache, images
from outpost_lab.containers import SYSTEMD, run
from outpost_lab.world import Machine
from tests.awaiting import until
from tests.lab.test_machines import BOOT, timed
from tests.lab.test_site_server import BUILDS, CONFINED, IMAGE, MISSING
from tests.strangers.site import Administrator, Shape

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
    pytest.mark.skipif(bool(BUILDS), reason=f"needs {', '.join(BUILDS)}, or OUTPOST_TEST_IMAGE"),
]
BARE = Shape(
    "bare",
    new={
        "domain": "bare.internet.test", "organisation": "Bare", "postmaster": "anna", "users": "bert",
        "certificates": "office",
    },
    families=(4, 6),
    login="admin",
)  # fmt: skip
CARDS = {"core": "eth1", "lan": "eth2", "mgmt": "eth3", "wan": "eth4"}
"""Docker names a container's cards after the names of their networks; the first one leads to this machine."""
PATIENCE = 1800.0
"""Seconds that five emulated guests may take to boot."""


class Founder(Administrator):
    """Somebody with one bare server, and no host."""

    def _containers(self) -> list[Machine]:
        return [machine for machine in self.site.machines if not machine.office]

    def _hosts(self) -> list[Machine]:
        return []

    @property
    def on(self) -> str:
        self.server.reload()
        return f"root@{self.server.attrs['NetworkSettings']['Networks']['bridge']['IPAddress']}"

    def server_comes(self) -> None:
        """The machines around it, and the server: a bare Debian with SSH and a card in each zone."""
        self.server = self.client.containers.create(
            images.tag("base"), name=f"outpost-{self.site.name}-server", hostname="server", labels=self.site.labels, **SYSTEMD
        )  # fmt: skip
        for zone in CARDS:
            self.zones[zone].connect(self.server)
        self.server.start()
        until(lambda: self.server.exec_run("systemctl is-active ssh.service").exit_code == 0, "sshd runs")
        cache = aptcache.bridge_url(aptcache.ensure(self.client, images.tag("apt-cache")))
        lines = (
            f"mkdir -p -m 0700 /root/.ssh && echo '{self.key}' > /root/.ssh/authorized_keys",
            f"echo 'Acquire::http::Proxy \"{cache}\";' > /etc/apt/apt.conf.d/90proxy",
            f"mkdir -p /etc/libvirt && printf '{CONFINED}' > /etc/libvirt/qemu.conf",
        )
        run(self.server, "sh", "-ec", "\n".join(lines))
        public = run(self.server, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
        (self.home / ".ssh" / "known_hosts").write_text(f"* {' '.join(public[:2])}\n")
        self.bare_cards()

    def bare_cards(self) -> None:
        """Docker gives each card addresses, and a port of a bridge has none."""
        for card in CARDS.values():
            run(self.server, "ip", "address", "flush", "dev", card)

    def declares(self) -> None:
        """Machines instead of containers, and which card carries which zone."""
        document: Any = tomlkit.parse(self.site.office_file.read_text())
        del document["platform"], document["maintenance"]["accepted"]
        for zone, card in CARDS.items():
            document["zones"][zone]["port"] = card
        self.site.office_file.write_text(tomlkit.dumps(document))

    def asks(self, host: str, script: str) -> str:
        """A guest's answer; empty while it cannot be reached."""
        options = ("BatchMode=yes", "ConnectTimeout=20", f"UserKnownHostsFile={self.office}/known_hosts")
        command = ["ssh", "-i", str(self.home / ".ssh" / "id_ed25519"), *(f"-o{each}" for each in options)]
        place = str(self.site.office.host(host).in_zone("mgmt")[0])
        done = subprocess.run(
            [*command, f"{BARE.login}@{place}", f"sudo sh -c '{script}'"], capture_output=True, text=True, check=False
        )  # fmt: skip
        return done.stdout.strip()

    def succeeds(self, *arguments: str, code: int = 0) -> str:
        done = self.types(*arguments)
        assert done.returncode == code, f"{arguments}: {done.stdout[-12000:]}"
        return done.stdout


@pytest.fixture
def founder() -> Iterator[Founder]:
    place = Path(tempfile.mkdtemp(prefix="outpost-"))  # an agent's socket has room for a short path only
    somebody = Founder(BARE, place, "sbare")
    try:
        yield somebody
    finally:
        somebody.leaves()
        shutil.rmtree(place)


def test_one_bare_server_becomes_a_verified_office_and_survives_a_loss_of_power(founder: Founder) -> None:
    made = founder.answers()
    assert made.returncode == 0, made.stdout
    founder.declares()
    founder.machines_come()
    founder.server_comes()
    hosts = tuple(host.name for host in founder.site.office.hosts)
    image = IMAGE
    if not image:
        with timed("image", hosts):
            tools = os.environ.get("OUTPOST_TEST_TOOLS", "")
            founder.succeeds(
                "machines",
                "image",
                founder.office,
                "--output",
                str(founder.home / "images"),
                "--tools",
                tools,
            )
            (image,) = map(str, (founder.home / "images").glob("*.qcow2"))
    with timed("five guests", hosts):
        founder.succeeds("machines", "up", founder.office, "--on", founder.on, "--image", image, "--yes")
    with timed("preflight", hosts):
        founder.succeeds("preflight", founder.office)
    with timed("first apply", hosts):
        founder.succeeds("apply", "-y", founder.office)
    founder.is_delegated()
    for host in hosts:
        founder.asks(host, "unbound-control flush_zone .")
    with timed("verification", hosts):
        assert "pending" not in founder.succeeds("verify", founder.office)
    with timed("second plan", hosts):
        assert "nothing to change" in founder.succeeds("plan", founder.office)

    before = {host: founder.asks(host, BOOT) for host in hosts}
    with timed("loss of the server's power", hosts):
        founder.server.kill("SIGKILL")
        founder.server.start()
        founder.bare_cards()
        for host in hosts:
            until(
                lambda host=host: founder.asks(host, BOOT) not in ("", before[host]),  # type: ignore[misc]
                f"{host} is back", seconds=PATIENCE, pace=5,
            )  # fmt: skip
            running = "systemctl is-system-running --wait || systemctl --failed"
            assert founder.asks(host, running) == "running"
    with timed("verification afterwards", hosts):
        founder.succeeds("verify", founder.office)
    with timed("plan afterwards", hosts):
        assert "nothing to change" in founder.succeeds("plan", founder.office)
