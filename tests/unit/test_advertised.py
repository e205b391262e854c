"""Routes that other machines advertise to a host: it accepts none, and the plan names any that it has."""

from __future__ import annotations

import json
import re
import subprocess
import time

import pytest

from outpost.drift.findings import Beside, findings
from outpost.drift.network_repairs import unlearned
from outpost.engine import preflight
from outpost.evidence import opinions
from outpost.office import load
from outpost.onhost.observe import network
from outpost.target import INVENTORY, ROOT, Target
from outpost_lab import judges

ROUTES = [
    {"dst": "default", "gateway": "fe80::1", "dev": "eth0", "protocol": "ra", "metric": 1024, "flags": [], "expires": 99},
    {"dst": "default", "gateway": "fd00::1", "dev": "eth1", "protocol": "static", "metric": 1024, "flags": []},
    {"dst": "2001:db8::/32", "gateway": "fe80::2", "dev": "eth0", "protocol": "redirect", "flags": []},
    {"dst": "fd00::/64", "dev": "eth0", "protocol": "kernel", "flags": []},
]  # fmt: skip


def test_routes_of_an_advertisement_or_a_redirect_are_faults() -> None:
    live = {"links 6": [json.dumps(ROUTES), "[]"]}
    assert network.learned(live) == [
        "learned\t6 default via fe80::1\teth0 ra",
        "learned\t6 2001:db8::/32 via fe80::2\teth0 redirect",
    ]


def test_the_plan_names_them_whatever_is_known() -> None:
    seen = Beside(usable=True, faults=frozenset({"learned\t6 default via fe80::1\teth0 ra"}))
    (found,) = findings(seen)
    assert (found.kind, found.thing) == ("network route", "6 default via fe80::1")
    assert "another machine" in found.cause


@pytest.mark.parametrize(
    ("own", "deleted"), [("default via fd00::1 dev eth1 proto static", True), ("", False)]
)
def test_one_is_deleted_where_the_host_has_a_way_of_its_own(own: str, deleted: bool) -> None:
    shown = f"default via fe80::1 dev eth0 proto ra metric 1024\n{own}"
    fake = f"ip() {{ case $* in *show*) echo '{shown}' ;; *) echo \"$*\" ;; esac; }}\n"
    done = subprocess.run(
        ["sh", "-ec", fake + unlearned("6 default via fe80::1", "eth0 ra")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == (
        ["-6 route delete default via fe80::1 dev eth0 proto ra"] if deleted else []
    )


def test_the_packet_filter_and_the_kernel_take_none() -> None:
    rules = (ROOT / "templates/base/etc/nftables.conf.j2").read_text()
    accepted = [line for line in rules.splitlines() if line.rstrip().endswith("accept")]
    assert not [line for line in accepted if re.search(r"nd-router|redirect", line)]
    kernel = (ROOT / "templates/base/etc/sysctl.d/90-outpost.conf.j2").read_text()
    assert "net.ipv6.conf.*.accept_ra = 0" in kernel


@pytest.mark.parametrize(("facts", "levels"), [([], []), ([("advertised", "yes")], ["bad"])])
def test_a_host_that_lives_by_advertisements_is_not_ready(
    facts: list[tuple[str, str]], levels: list[str]
) -> None:
    office = load(INVENTORY / "harbour")
    findings = preflight.judge(office, office.hosts[0], facts, now=(time.time(), time.time()))
    assert [finding.level for finding in findings if "advertisements" in finding.seen] == levels


def test_exposure_is_reported_as_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    office = load(INVENTORY / "harbour")
    output = (
        "version 257\nunit knot.service 2.1\nunit ssh.service 9.3\nunit unbound.service 3.4\nunit evil; 1\n"
    )
    monkeypatch.setattr(judges, "run_script", lambda *_, **__: output)
    target = Target("po", INVENTORY, INVENTORY)
    first, *_ = judges._systemd(target, office, None)
    assert first.result == "2 at 3.4 or better, ssh.service 9.3"
    assert first.findings == ("ssh.service",)
    assert opinions.unexplained((first,), opinions.reasons()) == []
