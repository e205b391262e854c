"""Virtual machines: bare machines become hosts, and do not change over a restart.

A container shares its kernel: AppArmor, audit, the clock (R08), mounts, a true restart and a loss of power are seen here. Without
acceleration it takes the better part of an hour, so a run has few hosts: `ns1` and `store`, or those of `--host`. The hosts stay virtual
machines; `./outpost lab down` afterwards.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from outpost.errors import OutpostError
from outpost.office.certificates import acme_hosts
from outpost.target import LAB, ROOT, Target
from outpost.transport.remote import run_script
from outpost_lab.instance import Instance, info
from outpost_lab.post import Town, compose
from tests.awaiting import until
from tests.journeys.ledger import Ledger, keep, run
from tests.lab.rehearsal import Rehearsal

HOSTS = ("ns1", "store")
CLOCK = "R08 the store's clock an hour ahead (virtual machines)"
POWER = "R10 {host} loses its power (virtual machine)"
BOOT = "cat /proc/sys/kernel/random/boot_id"
ISSUED = "/var/lib/outpost-acme/*-cert.pem"
PATIENCE = 900.0
"""Seconds that an emulated machine may take for a restart."""
BROKEN = {  # control → shell that breaks it and shell that repairs it, for what a container cannot break
    "SYS-03": (
        "apparmor_parser --remove /etc/apparmor.d/usr.sbin.chronyd",
        "apparmor_parser --replace /etc/apparmor.d/usr.sbin.chronyd; systemctl restart chrony",
    ),
    "INP-12": ("sysctl kernel.randomize_va_space=1", "sysctl kernel.randomize_va_space=2"),
}

RULES = "/etc/audit/rules.d/outpost.rules"

log = logging.getLogger(__name__)


@pytest.mark.slow
@pytest.mark.control("SYS-03", "LOG-05", "TIM-01", "INP-12")
def test_bare_machines_become_hosts_and_stay_so_over_a_restart(
    lab: Instance, target: Target, seed: int, pytestconfig: pytest.Config
) -> None:
    controller = Rehearsal(lab)
    hosts = tuple(pytestconfig.getoption("--host")) or HOSTS
    chosen = ["--via", "ssh", *(word for host in hosts for word in ("--limit", host))]

    def on(host: str, script: str) -> str:
        with suppress(OutpostError):  # it is shutting down, or booting
            return run_script(target, lab.office, lab.office.host(host), script, "ssh").strip()
        return ""

    def applied() -> list[Any]:
        """The changes of an apply."""
        printed = json.loads(controller.outpost("apply", LAB, "-y", "--json", *chosen))
        assert set(printed["hosts"]) == set(hosts)
        return [change for host in printed["hosts"].values() for change in host["changes"]]

    def up(host: str, before: str) -> bool:
        return on(host, BOOT) not in (before, "")

    def restart(*names: str) -> None:
        before = {host: on(host, BOOT) for host in names}
        for host in names:
            on(host, "systemctl reboot")
        for host in names:
            until(lambda host=host: up(host, before[host]), f"{host} is back", seconds=PATIENCE, pace=5)  # type: ignore[misc]
            assert on(host, "systemctl is-system-running --wait || systemctl --failed") == "running"

    def mail() -> None:
        """A user of the office and everybody outside write to each other."""
        alice = town.user("alice")
        for other in (town.stranger, town.head_office, town.client_site):
            for writer, reader in ((other, alice), (alice, other)):
                message, token = compose(writer.address, [reader.address])
                writer.send(message, [reader.address])
                assert reader.receive(token, patience=PATIENCE)

    def balanced(scenario: str, trouble: Any) -> None:
        """Every message that was accepted during the trouble arrives once."""
        balance = run(
            lab, town, seed=seed, messages=messages, trouble=trouble, every=2.0, patience=PATIENCE, on_host=on
        )
        keep(lab, scenario, balance)
        log.info("%s: %s", scenario, balance)
        assert (balance.lost, balance.doubled_in(lab.office.domain), balance.returned) == ((), (), ())
        assert balance.delivered == balance.acknowledged == messages

    messages = pytestconfig.getoption("--messages")
    with timed("machines", hosts):
        controller.outpost("lab", "vm", *hosts)
    with timed("first apply, verified", hosts):
        assert applied()
    with timed("second apply", hosts):
        assert applied() == []
    with timed("restart", hosts):
        restart(*hosts)
    with timed("apply after the restart", hosts):
        assert applied() == []
    with timed("certificates, by their timer", hosts):
        for host in {host.name for host in acme_hosts(lab.office)} & set(hosts):
            until(lambda host=host: on(host, f"ls {ISSUED}"), f"{host} has one", seconds=PATIENCE, pace=5)  # type: ignore[misc]
    with timed("verification", hosts):
        controller.outpost("verify", LAB, *chosen)
    town = Town(info(lab))
    with timed("messages", hosts):
        mail()
        answer = controller.ask(controller.resolver, lab.office.domain, "MX", recurse=True)
        assert answer.answer
    with timed("sabotage", hosts):
        for control, (breaks, mends) in BROKEN.items():
            verified = ("verify", LAB, "--via", "ssh", "--limit", hosts[0], "--control", control)
            assert on(hosts[0], f"{breaks} >&2 && echo broken") == "broken"
            with pytest.raises(AssertionError, match=control):
                controller.outpost(*verified)
            assert on(hosts[0], f"{{ {mends}; }} >&2 && echo mended") == "mended"
            controller.outpost(*verified)
    with timed("audit rules, which the kernel keeps until the next start", hosts):
        verified = ("verify", LAB, "--via", "ssh", "--limit", hosts[0], "--control", "LOG-05")
        assert on(hosts[0], "auditctl -D >&2 || echo refused") == "refused"
        controller.outpost(*verified)
        assert on(hosts[0], f"mv {RULES} /root && augenrules >&2 && echo moved") == "moved"
        restart(hosts[0])
        with pytest.raises(AssertionError, match="LOG-05"):
            controller.outpost(*verified)
        assert on(hosts[0], f"mv /root/outpost.rules {RULES} && augenrules --load >&2; echo back") == "back"
        controller.outpost(*verified)
    if "webmail" in hosts:
        with timed("webmail in a browser", hosts):
            journey = ROOT / "tests" / "journeys" / "test_webmail_browser.py"
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                str(journey),
                "--name",
                lab.name,
                "-k",
                "logs_in_reads",
            ]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout
    if "store" in hosts:
        clock = ("verify", LAB, "--via", "ssh", "--limit", "store", "--control", "TIM-01")

        def astray(ledger: Ledger) -> None:
            """The clock is an hour ahead while mail flows; verification reports it, and a restarted chronyd corrects it."""
            on("store", "date --set '+1 hour'")
            ledger.until_allowed(messages * 3 // 4, 600)
            with pytest.raises(AssertionError, match="TIM-01"):
                controller.outpost(*clock)
            on("store", "systemctl restart chrony && chronyc waitsync 60 0.5 0 2")
            controller.outpost(*clock)

        with timed("clock", hosts):
            balanced(CLOCK, astray)
    for host in {"mta", "store"} & set(hosts):

        def cut(ledger: Ledger, host: str = host) -> None:
            """QEMU is killed while mail flows; what the guest had not written to its disk is gone."""
            running = on(host, BOOT)
            os.kill(int(_pid_file(host).read_text()), SIGKILL)
            until(lambda: _virsh("domstate", host) == "shut off", "it is off", seconds=60)
            _virsh("start", host)
            until(lambda: up(host, running), f"{host} is back", seconds=PATIENCE, pace=5)
            ledger.until_allowed(messages * 3 // 4, 600)

        with timed(f"power of {host}", hosts):
            balanced(POWER.format(host=host), cut)
            assert applied() == []


@contextmanager
def timed(what: str, hosts: tuple[str, ...]) -> Iterator[None]:
    """Log how long it took, and QEMU's processor time; `-o log_cli=true -o log_cli_level=INFO` shows it."""
    began, used = time.monotonic(), _used(hosts)
    yield
    spent = max(0.0, _used(hosts) - used)  # a new QEMU begins at zero
    log.info("%s: %.0f s, of the processor %.0f s", what, time.monotonic() - began, spent)


def _used(hosts: tuple[str, ...]) -> float:
    """Seconds of a processor that the running machines have had."""
    total = 0
    for host in hosts:
        with suppress(OSError):
            state = Path(f"/proc/{_pid_file(host).read_text()}/stat").read_text(encoding="ascii")
            total += sum(map(int, state.rpartition(")")[2].split()[11:13]))  # proc_pid_stat(5): utime, stime
    return total / os.sysconf("SC_CLK_TCK")


def _pid_file(host: str) -> Path:
    return Path(f"/run/libvirt/qemu/{_domain(host)}.pid")


def _domain(host: str) -> str:
    """Vagrant's name of the machine, from the directory of the Vagrantfile."""
    return f"{ROOT.name}_{host}"


def _virsh(command: str, host: str) -> str:
    done = ["virsh", "--connect", "qemu:///system", command, _domain(host)]
    return subprocess.run(done, capture_output=True, text=True, check=True).stdout.strip()
