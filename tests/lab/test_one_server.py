"""One bare server becomes a whole office: five guests from Outpost's own image, applied, verified, and back after a loss of power.

A user logs in to webmail with a browser. The server loses its power while mail flows, and no message is lost. The server is a container,
and QEMU emulates its guests. Each test continues where the one before it ended. They take more than an hour on two processors.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import tomlkit
from playwright.sync_api import expect, sync_playwright
from typing_extensions import override

from outpost.target import ROOT
from outpost_lab import aptcache, images
from outpost_lab.containers import SYSTEMD, run
from outpost_lab.desk import trusting
from outpost_lab.instance import info
from outpost_lab.post import Neighbour, OfficeUser, Town, compose
from outpost_lab.world import Machine
from tests.awaiting import until
from tests.journeys import ledger
from tests.journeys.desk import change_password, launch, log_in, log_out, needs_browser, open_message
from tests.lab.test_machines import BOOT, BROKEN, timed
from tests.lab.test_site_server import BUILDS, CONFINED, IMAGE, MISSING
from tests.strangers.site import ZONES, Administrator, Shape

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
    pytest.mark.skipif(bool(BUILDS), reason=f"needs {', '.join(BUILDS)}, or OUTPOST_TEST_IMAGE"),
    needs_browser,
]
BARE = Shape(
    "bare",
    new={
        "domain": "bare.internet.test", "organisation": "Bare", "postmaster": "anna", "users": "bert",
        "certificates": "office",
    },
    families=(4, 6),
    login="admin",
    around=("workstation", "internet"),
)  # fmt: skip
CARDS = {"core": "eth1", "lan": "eth2", "mgmt": "eth3", "wan": "eth4"}
"""Docker names a container's cards after the names of their networks; the first one leads to this machine."""
PATIENCE = 1800.0
"""Seconds that five emulated guests may take to boot."""
SHOWN = 180_000
"""Milliseconds that a page of an emulated webmail may take."""
MESSAGES = 40

ATTEMPTS = {  # control → what only a host with a kernel of its own refuses, and a like command that it allows
    "SYS-02": ("modprobe dccp", "modprobe -C /dev/null dccp && modprobe -r dccp"),
    "SYS-03": ("aa-exec -p /usr/sbin/chronyd -- cat /etc/shadow", "aa-exec -p unconfined -- cat /etc/shadow"),
    "LOG-05": ("auditctl -D", "auditctl -l"),
    "INP-12": ("runuser -u nobody -- dmesg", "dmesg && runuser -u nobody -- true"),
    "VIR-05": ("cp /bin/true /tmp/attempt && /tmp/attempt", "cp /bin/true /root/attempt && /root/attempt"),
}

log = logging.getLogger(__name__)


def page() -> tuple[list[str], ...]:
    """The commands of docs/tutorial-real.md, in order."""
    text = (ROOT / "docs" / "tutorial-real.md").read_text(encoding="utf-8")
    return tuple(shlex.split(line) for line in re.findall(r"^\./outpost (.+)$", text, re.MULTILINE))


class Village(Town):
    """The office's two users, and somebody on the Internet."""

    @property
    @override
    def people(self) -> tuple[OfficeUser, ...]:
        return self.user("anna"), self.user("bert")

    @property
    @override
    def outside(self) -> tuple[Neighbour, ...]:
        return (self.stranger,)


class Founder(Administrator):
    """Somebody with one bare server, and no host."""

    def __init__(self, shape: Shape, directory: Path, name: str) -> None:
        super().__init__(shape, directory, name)
        self.chosen: dict[str, str] = {}

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

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host.name for host in self.site.office.hosts)

    def village(self) -> Village:
        """Who sends mail, with the passwords that they chose; before that with those which `outpost new` wrote."""
        authority = self.home / "office-ca.pem"
        authority.write_text(self.succeeds("secrets", "ca", self.office))
        (handover,) = (self.home / ".config" / "outpost").glob("*-first-passwords.txt")
        first = dict(line.split() for line in handover.read_text().splitlines())
        return Village(info(self.site) | {"ca": str(authority), "users": first | self.chosen})

    def carries_out(self, command: list[str], *more: str) -> str:
        """A command of the page, with this office, server and image in place of the page's."""
        images = self.home / "images"
        image = IMAGE or next(map(str, images.glob("*.qcow2")), "")
        meant = {
            "po": self.office,
            "root@192.0.2.5": self.on,
            "~/images": str(images),
            "~/images/po.qcow2": image,
        }
        return self.succeeds(*(meant.get(word, word) for word in command), *more)

    def succeeds(self, *arguments: str, code: int = 0) -> str:
        done = self.types(*arguments)
        assert done.returncode == code, f"{arguments}: {done.stdout[-12000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def founder() -> Iterator[Founder]:
    place = Path(tempfile.mkdtemp(prefix="outpost-"))  # an agent's socket has room for a short path only
    somebody = Founder(BARE, place, "sbare")
    try:
        yield somebody
    finally:
        somebody.leaves()
        shutil.rmtree(place)


def test_one_bare_server_becomes_a_verified_office(founder: Founder) -> None:
    new, image, up, preflight, apply, verify = page()
    assert new[:2] == ["new", "po"]
    assert {word[2:] for word in new if word.startswith("--")} <= {*BARE.new, *ZONES, "ssh-user"}
    made = founder.answers()
    assert made.returncode == 0, made.stdout
    founder.declares()
    founder.machines_come()
    founder.server_comes()
    if not IMAGE:
        with timed("image", ()):
            founder.carries_out(image, "--tools", os.environ.get("OUTPOST_TEST_TOOLS", ""))
    with timed("five guests", ()):
        founder.carries_out(up, "--yes")
    with timed("preflight", ()):
        founder.carries_out(preflight)
    with timed("first apply", ()):
        founder.carries_out(apply, "-y")
    founder.is_delegated()
    for host in founder.hosts:
        founder.asks(host, "unbound-control flush_zone .")
    with timed("verification", ()):
        assert "pending" not in founder.carries_out(verify)
    with timed("second plan", ()):
        assert "nothing to change" in founder.succeeds("plan", founder.office)


@pytest.mark.control(*ATTEMPTS)
def test_the_kernel_of_each_host_refuses_an_intruder(founder: Founder) -> None:
    tries = "; ".join(
        f"{{ {command}; }} >/dev/null 2>&1 && echo {control} {answer}"
        for control, (refused, allowed) in ATTEMPTS.items()
        for answer, command in (("allowed", allowed), ("not refused", refused))
    )
    for host in founder.hosts:
        answers = founder.asks(host, f"{tries}; rm -f /tmp/attempt /root/attempt")
        assert answers.splitlines() == [f"{control} allowed" for control in ATTEMPTS], host


@pytest.mark.control(*BROKEN)
def test_what_only_a_kernel_of_its_own_can_break_is_found(founder: Founder) -> None:
    for control, (breaks, mends) in BROKEN.items():
        for host in founder.hosts:
            assert founder.asks(host, f"{breaks} >&2 && echo broken") == "broken"
        found = founder.types("verify", founder.office, "--control", control)
        assert found.returncode == 1, found.stdout
        assert control in found.stdout
        for host in founder.hosts:
            assert founder.asks(host, f"{{ {mends}; }} >&2 && echo mended") == "mended"
        founder.succeeds("verify", founder.office, "--control", control)


def test_users_choose_passwords_in_webmail_and_read_what_came_from_the_internet(founder: Founder) -> None:
    stranger = founder.village().stranger
    (webmail,) = founder.site.office.with_role("webmail")
    desk = founder.home / "desk"
    trusting(Path(founder.village().info["ca"]), desk)
    expect.set_options(timeout=SHOWN)
    with sync_playwright() as playwright:
        browser = launch(founder.site, playwright, desk)
        for user in founder.village().people:
            message, token = compose(stranger.address, [user.address])
            stranger.send(message, [user.address])
            page = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB").new_page()
            page.set_default_timeout(SHOWN)
            log_in(page, f"https://{webmail.fqdn}/", user)
            chosen = token_hex(12)
            change_password(page, user.password, chosen)
            page.wait_for_url(re.compile("_task=mail"))
            founder.chosen[user.address] = chosen
            replace(user, password=chosen).receive(token, patience=PATIENCE)
            page.reload()
            open_message(page, token)
            log_out(page)
        browser.close()


def test_no_message_is_lost_with_the_power_of_the_server(founder: Founder, seed: int) -> None:
    before = {host: founder.asks(host, BOOT) for host in founder.hosts}

    def power_is_lost(_: ledger.Ledger) -> None:
        founder.server.kill("SIGKILL")
        founder.server.start()
        founder.bare_cards()
        for host in founder.hosts:
            until(
                lambda host=host: founder.asks(host, BOOT) not in ("", before[host]),  # type: ignore[misc]
                f"{host} is back", seconds=PATIENCE, pace=5,
            )  # fmt: skip
            running = "systemctl is-system-running --wait || systemctl --failed"
            assert founder.asks(host, running) == "running"

    with timed("loss of power while mail flows", ()):
        balance = ledger.run(
            founder.site, founder.village(), seed=seed, messages=MESSAGES, trouble=power_is_lost, every=2.0,
            patience=PATIENCE, on_host=founder.asks,
        )  # fmt: skip
    log.info("%s", balance)
    assert (balance.lost, balance.doubled_in(founder.site.office.domain), balance.returned) == ((), (), ())
    assert balance.delivered == balance.acknowledged == MESSAGES


def test_the_office_is_verified_after_the_loss(founder: Founder) -> None:
    with timed("verification", ()):
        founder.succeeds("verify", founder.office)
    with timed("plan", ()):
        assert "nothing to change" in founder.succeeds("plan", founder.office)
