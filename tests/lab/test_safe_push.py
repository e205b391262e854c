"""A push that locks the controller out does not strand a host: it goes back by itself, and says so."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from outpost.lab.instance import Instance
from tests.awaiting import until
from tests.lab.conftest import Pyinfra
from tests.lab.test_reapply import DOCKER, SSH, on

WITHIN = 12
LOCK_OUT = """#!/usr/sbin/nft -f
table inet outpost
delete table inet outpost
table inet outpost {
    chain inbound {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
    }
}
"""


def a_new_connection_opens(lab: Instance, machine: str) -> bool:
    """Whether somebody who was not connected before can log in."""
    address = lab.machine(machine).addresses["mgmt"][0]
    options = [
        "BatchMode=yes",
        "ConnectTimeout=2",
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={lab.known_hosts}",
    ]
    command = ["ssh", "-i", str(lab.ssh_key), *(f"-o{item}" for item in options), f"root@{address}", "true"]
    return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode == 0


def test_a_ruleset_that_locks_the_controller_out_is_undone_by_the_host(
    lab: Instance, pyinfra: Pyinfra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTPOST_CONFIRM_WITHIN", str(WITHIN))
    look = "nft --stateless list ruleset | grep -v -e DOCKER -e '127.0.0.11'; sha256sum /etc/nftables.conf"
    before = on(lab, "ns2", look)
    deploy = tmp_path / "deploy.py"
    deploy.write_text(
        "from roles import shapes\n"
        "shapes.service(name='nftables', unit='nftables.service', on_change='reload', guarded=True,\n"
        "    check='nft --check --file /etc/nftables.conf',\n"
        f"    files=[shapes.text('/etc/nftables.conf', {LOCK_OUT!r}, mode='0755')])\n"
    )
    run = pyinfra("-y", "--limit", "ns2", inventory=SSH, deploy=deploy)
    assert run.code != 0
    assert "no new connection to the host" in run.log
    until(
        lambda: a_new_connection_opens(lab, "ns2"),
        "the host lets the controller in again",
        seconds=WITHIN + 20,
    )
    assert on(lab, "ns2", look) == before
    assert "went back to the previous nftables" in on(lab, "ns2", "journalctl -t outpost -n 5 -o cat")
    assert on(lab, "ns2", "ls /var/lib/outpost/armed").strip() == ""
    assert pyinfra("--dry", "--json", "--limit", "ns2", inventory=SSH).changes == {}


def test_a_change_that_lets_the_controller_in_is_confirmed_and_stays(
    lab: Instance, pyinfra: Pyinfra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTPOST_CONFIRM_WITHIN", str(WITHIN))
    on(lab, "ns2", "echo '# by hand' >> /etc/nftables.conf")
    run = pyinfra("-y", "--limit", "ns2", inventory=SSH)
    assert run.code == 0, run.log
    waiting = on(
        lab, "ns2", "systemctl list-timers --all --no-legend 'outpost-undo-*'; ls /var/lib/outpost/armed"
    )
    assert waiting.strip() == ""
    assert "by hand" not in on(lab, "ns2", "cat /etc/nftables.conf")
    assert "by hand" in on(lab, "ns2", "tar -xO -f /var/lib/outpost/previous/nftables/files.tar")


def test_an_unconfirmed_change_does_not_survive_a_restart_of_the_host(
    lab: Instance, pyinfra: Pyinfra
) -> None:
    """The power fails after the rules were written and before anybody confirmed them."""
    before = on(lab, "ns2", "sha256sum /etc/nftables.conf")
    on(
        lab,
        "ns2",
        "ln -sfn /var/lib/outpost/previous/nftables/undo /var/lib/outpost/armed/nftables; "
        "cp -p /etc/nftables.conf /root/aside; tar -c -f /var/lib/outpost/previous/nftables/files.tar -C / etc/nftables.conf; "
        "cp /var/lib/outpost/applied/nftables /var/lib/outpost/previous/nftables/record; "
        "printf 'table inet outpost { chain inbound { type filter hook input priority 0; policy drop; }; }' > /etc/nftables.conf",
    )
    subprocess.run(
        ["docker", "restart", "-t", "20", lab.container_name("ns2")], check=True, capture_output=True
    )
    until(lambda: a_new_connection_opens(lab, "ns2"), "the host lets the controller in", seconds=60)
    assert on(lab, "ns2", "sha256sum /etc/nftables.conf") == before
    assert (
        pyinfra("-y", "--json", "--limit", f"@docker/{lab.container_name('ns2')}", inventory=DOCKER).code == 0
    )
    assert (
        pyinfra(
            "--dry", "--json", "--limit", f"@docker/{lab.container_name('ns2')}", inventory=DOCKER
        ).changes
        == {}
    )
