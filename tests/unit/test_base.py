"""The packet filter allows what the flow graph allows, and nothing else. Resolver and clock fit the place of the host."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from outpost.converge.declaration import Once
from outpost.converge.files import rendered
from outpost.office import Host, Office
from outpost.office.base import BaseView, filter_rules
from outpost.office.flows import inbound, outbound
from outpost.office.load import parse
from roles.base import hardening

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["lab", "harbour"])
def office(request: pytest.FixtureRequest) -> Office:
    data = tomllib.loads((ROOT / f"inventory/{request.param}/office.toml").read_text(encoding="utf-8"))
    data["tls"].pop("trusted_authorities", None)
    office, problems = parse(data)
    assert office is not None
    assert problems == []
    return office


@pytest.fixture(params=["ns1", "mta", "store", "webmail"])
def me(request: pytest.FixtureRequest, office: Office) -> Host:
    return office.host(request.param)


@pytest.fixture
def view(office: Office, me: Host) -> BaseView:
    return BaseView(office, me)


def test_each_flow_becomes_a_rule_and_no_rule_is_without_a_flow(view: BaseView) -> None:
    for rules, flows in (
        (view.inbound, inbound(view.office, view.me)),
        (view.outbound, outbound(view.office, view.me)),
    ):
        assert {rule.split('"')[1] for rule in rules} == {flow.why for flow in flows}
        ports = {int(match) for rule in rules for match in re.findall(r"dport (\d+)", rule)}
        assert ports == {flow.port for flow in flows}


def test_every_rule_names_both_ends(view: BaseView) -> None:
    for rule in (*view.inbound, *view.outbound):
        assert re.match(r"(ip|ip6) saddr (!= )?\{ .* \} (ip|ip6) daddr (!= )?\{ .* \} ", rule), rule


def test_both_families_are_filtered_alike(view: BaseView) -> None:
    for rules in (view.inbound, view.outbound):
        ports = {
            family: {
                match
                for rule in rules
                if rule.startswith(f"{family} ")
                for match in re.findall(r"dport (\d+)", rule)
            }
            for family in ("ip", "ip6")
        }
        assert ports["ip6"] <= ports["ip"]


def test_ruleset_drops_by_default_in_every_direction(view: BaseView) -> None:
    text = rendered("base", "/etc/nftables.conf", view=view).content.decode()
    hooks = re.findall(r"hook (\w+) priority filter; policy (\w+);", text)
    assert sorted(hooks) == [("forward", "drop"), ("input", "drop"), ("output", "drop")]


def test_flows_that_differ_in_protocol_share_a_rule(office: Office) -> None:
    rules = [rule for rule in filter_rules(inbound(office, office.host("ns1"))) if "office's zones" in rule]
    assert rules
    assert all("meta l4proto { tcp, udp } th dport 53" in rule for rule in rules)


def test_ssh_listens_in_the_management_zone_only(view: BaseView) -> None:
    text = rendered("base", "/etc/ssh/sshd_config.d/00-outpost.conf", view=view).content.decode()
    listening = re.findall(r"^ListenAddress (\S+)$", text, re.MULTILINE)
    assert listening == [str(address) for address in view.me.in_zone("mgmt")]


def test_hosts_file_leads_over_the_servers_network(view: BaseView) -> None:
    core = {str(address) for host in view.office.hosts for address in host.in_zone("core")}
    assert {address for address, _ in view.hosts_file} == core
    assert view.hosts_file[0][1].startswith(view.me.fqdn)


def test_foreign_names_must_not_point_into_the_office(view: BaseView) -> None:
    text = rendered("base", "/etc/unbound/unbound.conf", view=view).content.decode()
    for zone in view.office.zones.values():
        for network in zone.networks:
            inner = zone.kind in ("servers", "users", "management")
            assert (f"private-address: {network}\n" in text) == inner


def test_a_container_leaves_its_machines_clock_and_kernel_alone(view: BaseView) -> None:
    kernel = rendered("base", "/etc/sysctl.d/90-outpost.conf", view=view).content.decode()
    options = rendered("base", "/etc/default/chrony", view=view).content.decode()
    contained = view.office.platform_of(view.me) == "docker"
    assert ("\nkernel." not in kernel) == contained
    assert ('DAEMON_OPTS="-F 1 -x"' in options) == contained


IN_A_NETWORK_OF_ITS_OWN = ("unshare", "--map-root-user", "--net")


@pytest.mark.skipif(
    not (shutil.which("nft") and shutil.which("unshare"))
    or bool(subprocess.run([*IN_A_NETWORK_OF_ITS_OWN, "nft", "list", "tables"], check=False).returncode),
    reason="needs nft, and the right to make a network namespace",
)
def test_a_packet_filter_that_is_refused_goes_as_soon_as_the_offices_own_is_in_force(office: Office) -> None:
    """Not at the end of the first apply: until then the name servers could not reach each other."""
    tables = ("inet filter", "ip6 nat-x", "inet outpost")
    refused = (*(f"packet filter table {table}" for table in tables), "file /etc/apt/apt.conf")
    ns1 = office.host("ns1").model_copy(update={"refused": refused})
    *_, own, others = hardening.network(BaseView(office, ns1))
    assert own.name == "nftables"
    assert isinstance(others, Once)
    script = f"""
        nft 'add table inet filter {{ chain in {{ type filter hook input priority filter; policy drop; }}; }}; add table inet outpost; add table ip kept'
        {others.question}
        {others.command}
        {others.question}
        {others.command}
        nft list tables"""
    done = subprocess.run(
        [*IN_A_NETWORK_OF_ITS_OWN, "sh", "-ec", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["unmet", "met", "table inet outpost", "table ip kept"], done.stderr
    assert [item.name for item in hardening.network(BaseView(office, office.host("ns1")))] == [
        "sysctl",
        "no packet filter of the package's example",
        "nftables",
    ]
