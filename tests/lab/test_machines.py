"""Virtual machines: bare machines become hosts, and do not change over a restart.

A container shares its kernel: AppArmor, audit, the clock (R08), mounts and a true restart are seen here. Without acceleration it takes
the better part of an hour. The hosts stay virtual machines; `./outpost lab down` afterwards.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from outpost.errors import OutpostError
from outpost.target import LAB, Target
from outpost.transport.remote import run_script
from outpost_lab.instance import Instance, info
from outpost_lab.post import Town, compose
from tests.awaiting import until
from tests.journeys.ledger import Ledger, keep, run
from tests.lab.rehearsal import Rehearsal

HOSTS = ("ns1", "store")
CLOCK = "R08 the store's clock an hour ahead (virtual machines)"
BOOT = "cat /proc/sys/kernel/random/boot_id"
ISSUED = "/var/lib/outpost-acme/*-cert.pem"
PATIENCE = 900.0
"""Seconds that an emulated machine may take for a restart."""

log = logging.getLogger(__name__)


@pytest.mark.slow
@pytest.mark.control("SYS-03", "LOG-05", "TIM-01")
def test_bare_machines_become_hosts_and_stay_so_over_a_restart(
    lab: Instance, target: Target, seed: int, pytestconfig: pytest.Config
) -> None:
    controller = Rehearsal(lab)

    def on(host: str, script: str) -> str:
        with suppress(OutpostError):  # it is on its way down, or up
            return run_script(target, lab.office, lab.office.host(host), script, "ssh").strip()
        return ""

    def applied() -> list[Any]:
        """What an apply has changed."""
        chosen = [word for host in HOSTS for word in ("--limit", host)]
        printed = json.loads(controller.outpost("apply", LAB, "-y", "--json", "--via", "ssh", *chosen))
        assert set(printed["hosts"]) == set(HOSTS)
        return [change for host in printed["hosts"].values() for change in host["changes"]]

    with timed("machines"):
        controller.outpost("lab", "vm", *HOSTS)
    with timed("first apply, verified"):
        assert applied()
    with timed("second apply"):
        assert applied() == []
    with timed("restart"):
        before = {on(host, BOOT) for host in HOSTS}
        for host in HOSTS:
            on(host, "systemctl reboot")
        until(
            lambda: not (before | {""}) & {on(host, BOOT) for host in HOSTS},
            "both are back",
            seconds=PATIENCE,
            pace=5,
        )
        for host in HOSTS:
            assert on(host, "systemctl is-system-running --wait || systemctl --failed") == "running"
    with timed("apply after the restart"):
        assert applied() == []
    with timed("certificate, by its timer"):
        until(lambda: on("store", f"ls {ISSUED}"), "it has one", seconds=PATIENCE, pace=5)
    with timed("verification"):
        chosen = [word for host in HOSTS for word in ("--limit", host)]
        controller.outpost("verify", LAB, "--via", "ssh", *chosen)
    with timed("messages"):
        town = Town(info(lab))
        alice = town.user("alice")
        for writer, reader in ((town.stranger, alice), (alice, town.stranger)):
            message, token = compose(writer.address, [reader.address])
            writer.send(message, [reader.address])
            assert reader.receive(token, patience=PATIENCE)
        answer = controller.ask(controller.resolver, lab.office.domain, "MX", recurse=True)
        assert answer.answer
    with timed("clock"):

        def astray(ledger: Ledger) -> None:
            """The clock is an hour ahead while mail flows; verification reports it, and a restarted chronyd corrects it."""
            on("store", "date --set '+1 hour'")
            ledger.until_allowed(messages * 3 // 4, 600)
            with pytest.raises(AssertionError, match="TIM-01"):
                controller.outpost(*clock)
            on("store", "systemctl restart chrony && chronyc waitsync 60 0.5 0 2")
            controller.outpost(*clock)

        clock = ("verify", LAB, "--via", "ssh", "--limit", "store", "--control", "TIM-01")
        messages = pytestconfig.getoption("--messages")
        balance = run(
            lab,
            town,
            seed=seed,
            messages=messages,
            trouble=astray,
            every=2.0,
            store=lambda script: on("store", script),
        )
        keep(lab, CLOCK, balance)
        log.info("%s: %s", CLOCK, balance)
        assert (balance.lost, balance.doubled, balance.returned) == ((), (), ())
        assert balance.delivered == balance.acknowledged == messages


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Says how long it took; `-o log_cli=true -o log_cli_level=INFO` shows it."""
    began = time.monotonic()
    yield
    log.info("%s: %.0f s", what, time.monotonic() - began)
