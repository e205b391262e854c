"""The second apply is empty, by every connector and after a restart; only drift is reported and repaired."""

from __future__ import annotations

import subprocess

import pytest

from outpost_lab import pace
from outpost_lab.instance import Instance
from tests.engine import executed
from tests.lab.conftest import Pyinfra

DOCKER, SSH = "inventory/lab/docker.py", "inventory/lab/ssh.py"
ITEM_ALONE = """
from outpost.converge import files, observation, shapes, walk
from outpost.converge.declaration import Declaration


def alone(part, item):
    observation.begin(Declaration(((part, (item,)),)))
    walk.items()


"""
"""A deploy that declares one thing, and removes nothing."""


def on(lab: Instance, machine: str, script: str) -> str:
    """Output of a shell script on a machine of the lab."""
    return executed(["docker", "exec", lab.container_name(machine), "sh", "-euc", script])


@pytest.mark.parametrize("inventory", [DOCKER, SSH])
def test_a_plan_after_the_deploy_finds_nothing_to_change(pyinfra: Pyinfra, inventory: str) -> None:
    run = pyinfra("--dry", "--json", inventory=inventory)
    assert run.code == 0, run.log
    assert run.changes == {}
    assert run.result["plan"], "no operation was looked at"
    assert run.log.count(" Connected") == 5, run.log


@pytest.mark.parametrize("inventory", [DOCKER, SSH])
def test_a_second_apply_changes_nothing(pyinfra: Pyinfra, inventory: str) -> None:
    run = pyinfra("-y", "--json", inventory=inventory)
    assert run.code == 0, run.log
    results = run.result["results"]
    assert results["failed_hosts"] == []
    assert {
        operation["name"]: operation["success"] for operation in results["operations"] if operation["success"]
    } == {}


def test_a_unit_at_its_start_limit_is_restarted(lab: Instance, pyinfra: Pyinfra) -> None:
    """systemd refuses a sixth start within ten seconds, and an apply would end there (systemd.unit(5))."""
    restarts = "for _ in 1 2 3 4 5; do systemctl restart systemd-journald.service; done"
    on(
        lab,
        "ns2",
        f"echo '# by hand' >> /etc/systemd/journald.conf.d/zz-outpost.conf; systemctl reset-failed 'systemd-journald*'; {restarts}",
    )
    run = pyinfra("-y", "--json", "--limit", f"@container/{lab.container_name('ns2')}")
    assert run.code == 0, run.log
    assert on(lab, "ns2", "systemctl is-active systemd-journald.socket systemd-journald.service").split() == [
        "active",
        "active",
    ]


def test_a_unit_that_failed_through_a_hand_edit_is_healthy_after_the_repair(
    lab: Instance, pyinfra: Pyinfra
) -> None:
    """Otherwise the verification after an apply would find a failed unit and restore the hand edit."""
    on(lab, "ns2", "echo '# by hand' >> /etc/outpost/watch.json; ! systemctl start outpost-watch.service")
    assert "failed" in on(lab, "ns2", "systemctl is-failed outpost-watch.service || true")
    run = pyinfra("-y", "--json", "--limit", f"@container/{lab.container_name('ns2')}")
    assert run.code == 0, run.log
    assert on(lab, "ns2", "systemctl is-failed outpost-watch.service || true").strip() == "inactive"


def test_drift_is_named_and_repaired_and_nothing_else_is(lab: Instance, pyinfra: Pyinfra) -> None:
    on(lab, "mta", "echo '# by hand' >> /etc/postfix/main.cf")
    on(lab, "store", "chmod 0644 /etc/dovecot/users; systemctl stop dovecot")
    on(lab, "webmail", "rm /etc/nginx/nginx.conf")
    plan = pyinfra("--dry", "--diff", "--json")
    touched = {
        host.rpartition("-")[2]: operation for operation, hosts in plan.changes.items() for host in hosts
    }
    assert touched == {"mta": "mta | postfix", "store": "store | dovecot", "webmail": "webmail | nginx"}
    assert "-# by hand" in plan.log
    applied = pyinfra("-y", "--json")
    assert applied.code == 0, applied.log
    assert "by hand" not in on(lab, "mta", "cat /etc/postfix/main.cf")
    assert on(lab, "store", "systemctl is-active dovecot; stat -c %a /etc/dovecot/users").split() == [
        "active",
        "640",
    ]
    assert pyinfra("--dry", "--json").changes == {}


def test_a_configuration_that_its_daemon_refuses_is_never_installed(
    lab: Instance, pyinfra: Pyinfra, tmp_path: object
) -> None:
    before = on(
        lab, "mta", "sha256sum /etc/postfix/main.cf; systemctl show -P ExecMainStartTimestamp postfix"
    )
    deploy = f"{tmp_path}/deploy.py"
    with open(deploy, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(
            ITEM_ALONE
            + "alone('mta', shapes.service(name='postfix', unit='postfix.service', check='postfix check',\n"
            "    files=[files.text('/etc/postfix/main.cf', 'inet_protocols = ipv7\\n')]))\n"
        )
    run = pyinfra("-y", "--json", "--limit", f"@container/{lab.container_name('mta')}", deploy=deploy)
    assert run.code != 0
    assert "ipv7" in run.log
    after = on(lab, "mta", "sha256sum /etc/postfix/main.cf; systemctl show -P ExecMainStartTimestamp postfix")
    assert after == before


def test_a_lost_restart_is_done_by_the_next_apply(lab: Instance, pyinfra: Pyinfra) -> None:
    """A run that is interrupted between installing a file and restarting its daemon leaves no digest."""
    on(lab, "ns2", "sed -i '/^digest /d' /var/lib/outpost/applied/knot")
    done = "systemctl show -P InvocationID knot; journalctl -u knot -o cat | grep -ci reload || true"
    before = on(lab, "ns2", done)
    assert pyinfra("-y", "--json").code == 0
    assert on(lab, "ns2", done) != before, "neither restarted nor reloaded"
    assert pyinfra("--dry", "--json").changes == {}


def test_what_is_no_longer_declared_leaves_the_host(
    lab: Instance, pyinfra: Pyinfra, tmp_path: object
) -> None:
    deploy = f"{tmp_path}/deploy.py"
    with open(deploy, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(
            ITEM_ALONE
            + "unit = '[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=true\\n[Install]\\nWantedBy=multi-user.target\\n'\n"
            "alone('dns', shapes.service(name='bygone', unit='bygone.service',\n"
            "    files=[files.text('/etc/systemd/system/bygone.service', unit)]))\n"
        )
    assert pyinfra("-y", "--limit", f"@container/{lab.container_name('ns2')}", deploy=deploy).code == 0
    assert on(lab, "ns2", "systemctl is-active bygone").strip() == "active"
    assert pyinfra("-y", "--json").code == 0
    assert (
        on(lab, "ns2", "ls /etc/systemd/system; systemctl list-units --all --plain 'bygone*'").count("bygone")
        == 0
    )
    assert pyinfra("--dry", "--json").changes == {}


@pytest.mark.parametrize("machine", ["ns1", "mta", "store", "webmail"])
def test_a_restarted_host_comes_back_as_declared(lab: Instance, pyinfra: Pyinfra, machine: str) -> None:
    subprocess.run(
        ["docker", "restart", "-t", "20", lab.container_name(machine)], check=True, capture_output=True
    )
    state = _settled(lab, machine)
    assert state == "running", on(lab, machine, "systemctl --failed --no-legend; true")
    assert pyinfra("--dry", "--json").changes == {}


def _settled(lab: Instance, machine: str) -> str:
    """The state at the end of the machine's boot, from systemd."""
    wait = pace.Patience(90)
    command = ["docker", "exec", lab.container_name(machine), "systemctl", "is-system-running", "--wait"]
    while wait.left:
        state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if state in ("running", "degraded"):
            return state
    return "not booted"
