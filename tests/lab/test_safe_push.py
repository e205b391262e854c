"""If a change locks the controller out, the host rolls back by itself and reports it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from outpost.converge import guard
from outpost.converge.files import ARMED
from outpost.target import ROOT
from outpost_lab import keys, pace
from outpost_lab.instance import Instance
from tests.awaiting import on_host, until
from tests.lab.conftest import Pyinfra
from tests.lab.test_reapply import DOCKER, SSH, on

WITHIN = 12
RULES = """#!/usr/sbin/nft -f
table inet outpost
delete table inet outpost
table inet outpost {
    chain inbound {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
    }
}
"""
# tcp_conn_request() of the kernel: no cookies, no room for half-open connections, and no known clients
NO_CONNECTION = (
    "net.ipv4.tcp_syncookies = 0\nnet.ipv4.tcp_max_syn_backlog = -8\nnet.ipv4.tcp_no_metrics_save = 1\n"
)
IN_FORCE = """
nft --stateless list ruleset | grep -v -e DOCKER -e '127.0.0.11'
sshd -T; sudo -n -l; sysctl net.ipv4.tcp_syncookies net.ipv4.tcp_max_syn_backlog net.ipv4.tcp_no_metrics_save
sha256sum /etc/nftables.conf /etc/ssh/sshd_config.d/* /etc/sudoers.d/* /etc/sysctl.d/*
"""
INSTEAD = """
from outpost.converge import files

declared = files.text


def text(path, content, **more):
    return declared(path, {instead} if path == "{path}" else content, **more)


files.text = text
"""
BY_SUDO = """
from outpost.hosts import lab_directory as _directory, ssh as _ssh

office = [(name, data | {"_sudo": True}) for name, data in _ssh(_directory())]
"""


def new_connection(lab: Instance, machine: str, key: Path, command: str) -> list[str]:
    """The command that runs another one on a machine over a new connection."""
    address = lab.machine(machine).addresses["mgmt"][0]
    options = (
        "BatchMode=yes",
        "ConnectTimeout=2",
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={lab.known_hosts}",
    )
    return ["ssh", "-i", str(key), *(f"-o{item}" for item in options), f"root@{address}", command]


def a_new_connection_opens(lab: Instance, machine: str, command: str = "true") -> bool:
    """Whether a new connection can log in and run a command."""
    ssh = new_connection(lab, machine, lab.ssh_key, command)
    return subprocess.run(ssh, capture_output=True, check=False, timeout=20 * pace.load()).returncode == 0


@pytest.mark.control("SYS-08")
@pytest.mark.parametrize(
    ("name", "path", "instead"),
    [
        ("nftables", "/etc/nftables.conf", repr(RULES)),
        (
            "sshd",
            "/etc/ssh/sshd_config.d/00-outpost.conf",
            "content.replace('AllowUsers root', 'AllowUsers nobody')",
        ),
        ("sudo", "/etc/sudoers.d/outpost", "content + 'root ALL=(ALL:ALL) !ALL\\n'"),
        ("sysctl", "/etc/sysctl.d/90-outpost.conf", f"content + {NO_CONNECTION!r}"),
    ],
)
def test_a_push_that_locks_the_controller_out_is_undone_by_the_host(
    lab: Instance,
    pyinfra: Pyinfra,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    path: str,
    instead: str,
) -> None:
    """This also works if systemd is reloaded meanwhile."""
    monkeypatch.setenv("OUTPOST_CONFIRM_WITHIN", str(WITHIN))
    before = on(lab, "ns2", IN_FORCE)
    deploy, inventory = tmp_path / "deploy.py", tmp_path / "by_sudo.py"
    inventory.write_text(BY_SUDO)
    deploy.write_text(INSTEAD.format(path=path, instead=instead) + (ROOT / "deploy.py").read_text())
    on(lab, "ns2", "ip tcp_metrics flush all")
    run = pyinfra("-y", "--limit", "ns2", inventory=str(inventory), deploy=deploy)
    assert run.code != 0
    refused = (
        "not allowed to execute"
        if name == "sudo"
        else f"no new connection to the host after the change of {name}"
    )
    assert refused in run.log

    def open_again() -> bool:
        on(lab, "ns2", "systemctl daemon-reload")
        return a_new_connection_opens(lab, "ns2", "sudo -n true")

    until(open_again, "the host lets the controller in again", seconds=WITHIN + 20)
    on(lab, "ns2", on_host(f"! systemctl is-active --quiet {guard.unit(name)}.service"))
    assert on(lab, "ns2", IN_FORCE) == before
    assert f"went back to the previous {name}" in on(lab, "ns2", "journalctl -t outpost -n 5 -o cat")
    assert on(lab, "ns2", f"ls {ARMED}").strip() == ""
    assert pyinfra("--dry", "--json", "--limit", "ns2", inventory=SSH).changes == {}


def next_at(lab: Instance, machine: str, timer: str) -> int:
    """When a timer is due, in microseconds."""
    (due,) = json.loads(on(lab, machine, f"systemctl list-timers --all --output=json {timer}"))
    return int(due["next"])


@pytest.mark.control("SYS-08")
def test_a_daemon_reload_does_not_put_the_deadline_off(lab: Instance) -> None:
    timer = f"{guard.unit('nobody')}.timer"
    on(lab, "ns2", "\n".join(guard.arm("nobody")))
    try:
        before = next_at(lab, "ns2", timer)
        on(lab, "ns2", "systemctl daemon-reload")
        assert abs(next_at(lab, "ns2", timer) - before) < 1_000_000
    finally:
        on(lab, "ns2", guard.disarm("nobody"))


def test_a_change_that_lets_the_controller_in_is_confirmed_and_stays(
    lab: Instance, pyinfra: Pyinfra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTPOST_CONFIRM_WITHIN", str(WITHIN))
    on(lab, "ns2", "echo '# an edit' >> /etc/nftables.conf")
    run = pyinfra("-y", "--limit", "ns2", inventory=SSH)
    assert run.code == 0, run.log
    waiting = on(
        lab, "ns2", "systemctl list-timers --all --no-legend 'outpost-undo-*'; ls /var/lib/outpost/armed"
    )
    assert waiting.strip() == ""
    assert "# an edit" not in on(lab, "ns2", "cat /etc/nftables.conf")
    way_back = on(lab, "ns2", "tar -xO -f /var/lib/outpost/previous/nftables/files.tar")
    assert "table inet outpost" in way_back
    assert "# an edit" not in way_back, "what was edited by hand never comes back"


def test_an_unconfirmed_change_does_not_survive_a_restart_of_the_host(
    lab: Instance, pyinfra: Pyinfra
) -> None:
    """The host restarts after the rules were written and before they were confirmed."""
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
        pyinfra("-y", "--json", "--limit", f"@container/{lab.container_name('ns2')}", inventory=DOCKER).code
        == 0
    )
    assert (
        pyinfra(
            "--dry", "--json", "--limit", f"@container/{lab.container_name('ns2')}", inventory=DOCKER
        ).changes
        == {}
    )


@pytest.mark.control("SSH-02")
def test_an_open_connection_of_a_removed_key_ends_with_the_apply(
    lab: Instance, pyinfra: Pyinfra, tmp_path: Path
) -> None:
    """Connections of the keys that stay go on: the controller's own, and another one."""
    key = keys.ssh_key(tmp_path / "left", "left")
    on(lab, "ns2", f"echo '{key}' >> /etc/ssh/authorized_keys.d/root")
    opened = [
        subprocess.Popen(
            new_connection(lab, "ns2", file, "echo here; exec cat"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for file in (tmp_path / "left", lab.ssh_key)
    ]
    try:
        for connection in opened:
            assert connection.stdout is not None
            assert connection.stdout.readline() == "here\n"
        run = pyinfra("-y", "--limit", "ns2", inventory=SSH)
        assert run.code == 0, run.log
        assert opened[0].wait(60 * pace.load()), "the connection of the removed key goes on"
        assert opened[1].poll() is None
    finally:
        for connection in opened:
            connection.kill()
            connection.wait()
