"""From one MTA to two and back on a running office, and the loss of the first with its queue, while messages are counted."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from outpost.engine import run
from outpost.office import ports
from outpost.target import ROOT
from outpost_lab import engine, trust, up
from outpost_lab import office as lab_office
from outpost_lab.instance import OFFICE, Instance, info
from outpost_lab.post import Town, compose
from tests.awaiting import TimeUpError, until
from tests.lab.test_certificates import on

SECOND = """[hosts.mta2]
role = "mta"
retiring = {retiring}
addresses.wan = ["10.77.0.22", "fd00:77:0:0::22"]
addresses.client = ["10.77.1.22", "fd00:77:0:1::22"]
addresses.core = ["10.77.2.22", "fd00:77:0:2::22"]
addresses.mgmt = ["10.77.4.22", "fd00:77:0:4::22"]

"""
PACE = 2.0  # seconds between two messages, below the limit of one network
DRAINED = 600.0  # seconds: the routes' longest backoff in the lab is a minute


@dataclass
class Ledger:
    """Messages that a server has acknowledged, by their token."""

    accepted: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


@contextmanager
def mail_flowing(town: Town) -> Iterator[Ledger]:
    """Send messages during the test: to the office from head office and the client, and outwards from a user."""
    ledger, ended = Ledger(), threading.Event()
    alice = town.user("alice")

    def write() -> None:
        while not ended.wait(PACE):
            for sender, reader in (
                (town.head_office, alice),
                (town.client_site, alice),
                (alice, town.head_office),
            ):
                message, token = compose(sender.address, [reader.address])
                try:
                    sender.send(message, [reader.address])
                except (OSError, subprocess.CalledProcessError) as error:
                    ledger.refused.append(f"{sender.address}: {error}")
                else:
                    ledger.accepted[token] = f"{sender.address} to {reader.address}"

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield ledger
    finally:
        ended.set()
        writer.join()


def arrived(town: Town) -> Counter[str]:
    """Messages in the mailboxes at both ends, by their token."""
    with town.user("alice").mailbox() as mailbox:
        subjects = [one.subject for one in mailbox.fetch(mark_seen=False, headers_only=True, bulk=500)]
    head = town.head_office
    command = ["docker", "exec", head.container, "grep", "-rhs", "^Subject: ", head.maildir]
    subjects += subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return Counter(subject.rpartition(" ")[2] for subject in subjects)


def missing(town: Town, ledger: Ledger) -> dict[str, str]:
    """Messages that have not arrived after the queues were retried; none may have arrived twice."""

    def gone() -> dict[str, str]:
        found = arrived(town)
        return {token: way for token, way in ledger.accepted.items() if not found[token]}

    with suppress(TimeUpError):
        until(lambda: not gone(), "every message has arrived", seconds=DRAINED, pace=2)
    found = arrived(town)
    assert [token for token in ledger.accepted if found[token] > 1] == []
    return gone()


def declared(lab: Instance, directory: Path, second: str) -> Instance:
    """Apply a changed office file to the running office, like any other change."""
    source = directory / "office.toml"
    source.write_text(OFFICE.read_text().replace("[hosts.store]", f"{second}[hosts.store]", 1))
    up.up(lab.name, source=source, install=True)
    changed = Instance.load(lab.name)
    lab_office.deploy(changed, run.Silent())
    trust.after_deploy(changed)
    trust.certificates(changed)
    return changed


def queued(lab: Instance, host: str) -> int:
    return len(on(lab, host, "postqueue -j").splitlines())


def greets(lab: Instance, certificate: str) -> bool:
    """Whether a client on that host reaches an MTA through the store's listener for users' mail."""
    address = lab.office.link_addresses(lab.office.host("store"), lab.office.host("store"))[0]
    asked = f"openssl s_client -quiet -connect {address}:{ports.RELAY} {certificate}"
    return "220 " in on(lab, "store", f"echo QUIT | timeout 20 {asked} 2>/dev/null || true")


@pytest.mark.slow
@pytest.mark.control("AVL-03", "QUE-01", "TLS-10")
def test_two_mtas_the_loss_of_the_first_and_one_again_lose_no_message(lab: Instance, tmp_path: Path) -> None:
    town = Town(info(lab))
    try:
        with mail_flowing(town) as ledger:
            two = declared(lab, tmp_path, SECOND.format(retiring="false"))
            assert "mta2" in on(two, "headoffice", "postconf -h po_transport")
            assert not greets(two, "")
            assert greets(two, "-cert /etc/outpost/tls/host.pem -key /etc/outpost/tls/host.key")
            # its disk is lost, too, and with it what waits there for the store (docs/how-to/a-second-mta.md)
            until(
                lambda: '"deferred"' not in on(two, "mta", "postqueue -j"), "nothing waits on it", seconds=120
            )
            two.container("mta").kill()  # as by a power cut: users and peers use the other MTA
            before = len(ledger.accepted)
            until(
                lambda: len(ledger.accepted) >= before + 12,
                "the second MTA takes what the first would have taken",
                seconds=120,
            )
            two.container("mta").remove(force=True, v=True)  # and its queue with it
            up.up(lab.name, source=tmp_path / "office.toml", install=True)
            command = [sys.executable, "-m", "outpost", "restore", "lab", "mta", "--yes", "--name", lab.name]
            done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-4000:]
        assert missing(town, ledger) == {}, (
            "nothing that head office, the client or the store had acknowledged"
        )
        retiring = declared(lab, tmp_path, SECOND.format(retiring="true"))
        with mail_flowing(town) as ledger:
            until(lambda: not queued(retiring, "mta2"), "the retiring MTA delivers what it has", seconds=300)
            assert "mta2" not in on(retiring, "headoffice", "postconf -h po_transport")
            one = declared(lab, tmp_path, "")
        assert missing(town, ledger) == {}
        assert ledger.refused == []
        assert [host.name for host in one.office.with_role("mta")] == ["mta"]
    finally:
        declared(lab, tmp_path, "")
        for container in lab.containers(engine.connect()):
            if container.labels.get("outpost.machine") == "mta2":
                container.remove(force=True, v=True)
