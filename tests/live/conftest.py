"""Live checks: each test that asks for `host` runs once on every host of its roles.

    pytestmark = pytest.mark.role("mta")

    @pytest.mark.control("REL-01")
    def test_stranger_cannot_relay(host: TestinfraHost, me: Host, office: Office) -> None: ...

`host` is testinfra's view of the machine, `me` the same host in the office's model. Raw: ``pytest tests/live``, all of the
lab; ``--hosts=mta,store``, ``--hosts=docker://outpost-lab-mta``, ``--hosts=ssh://mta.po.example.com`` (with the pinned host
keys, whatever the name), ``--office NAME`` for another office.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Host, Office
from outpost.office.role import every_role
from outpost.office.tables.topology import ROLE_NAMES
from outpost.target import Target
from outpost.transport.remote import shell_command
from outpost.transport.shell import Shell, ShellBackend
from outpost.verification import ahead
from outpost.verification.live import chosen_office, chosen_target
from tests.live.kernel import Kernel, Listening
from tests.live.systemd import Units

TestinfraHost.__test__ = False  # renamed: pytest collects classes whose names begin with Test


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip the checks of a role that the office does not have."""
    role = collection_path.stem.removeprefix("test_")
    optional = role in ROLE_NAMES and every_role()[role].optional
    return True if optional and not chosen_office(config).with_role(role) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Spread a test over the hosts of its roles."""
    if "me" not in metafunc.fixturenames:
        return
    office = chosen_office(metafunc.config)
    roles = {role for mark in metafunc.definition.iter_markers("role") for role in mark.args}
    only = named(metafunc.config, office)
    hosts = [
        host
        for host in office.hosts
        if host.role in (roles or {host.role}) and host.name in (only or [host.name])
    ]
    metafunc.parametrize("me", hosts, ids=[host.name for host in hosts], scope="session")


def named(config: pytest.Config, office: Office) -> list[str]:
    """Hosts that --host and --hosts ask for, by name, address or container; none for all."""
    only: list[str] = [*config.getoption("--host")]
    for spec in filter(None, (config.getoption("--hosts") or "").split(",")):
        name = spec.rpartition("://")[2].rpartition("@")[2]
        instance = chosen_target(config).instance
        found = [
            host.name
            for host in office.hosts
            if name
            in (host.name, host.fqdn, f"outpost-{instance}-{host.name}", *map(str, host.all_addresses))
        ]
        if not found:
            raise pytest.UsageError(f"--hosts: {office.domain} has no host {name}")
        only += found
    return only


@pytest.fixture(scope="session")
def host(me: Host, target: Target, office: Office, pytestconfig: pytest.Config) -> TestinfraHost:
    """The running machine, through the connector of the inventory."""
    return reach(target, office, me, pytestconfig)


_shells: dict[str, Shell] = {}


def reach(target: Target, office: Office, me: Host, config: pytest.Config) -> TestinfraHost:
    """A testinfra host for a machine of the office, over one shell that stays open."""
    if me.name not in _shells:
        _shells[me.name] = Shell(shell_command(target, office, me, config.getoption("--via")))
    backend = ShellBackend(me.name, ahead.carried_out_by(config, me.name, _shells[me.name]))
    host = TestinfraHost(backend)
    backend.set_host(host)
    return host


def pytest_sessionfinish() -> None:
    """Leave nothing on the hosts."""
    for shell in _shells.values():
        shell.close()


# Questions that many checks share: each is asked when the first of them needs it -----------------------------------


@pytest.fixture(scope="session")
def units(host: TestinfraHost, me: Host) -> Units:
    """systemd's state of the host's units."""
    return Units(host, me.role)


@pytest.fixture(scope="session")
def kernel(host: TestinfraHost) -> Kernel:
    """The kernel's settings."""
    return Kernel(host)


@pytest.fixture(scope="session")
def listening(host: TestinfraHost) -> Listening:
    """The host's listening sockets."""
    return Listening.ask(host)


class MainCf(dict[str, str]):
    """Settings of main.cf. If a service of master.cf overrides one of them, a check that reads it fails."""

    def __init__(self, settings: dict[str, str], of_services: dict[str, str]) -> None:
        super().__init__(settings)
        self._of_services = of_services

    def __getitem__(self, name: str) -> str:
        value = super().__getitem__(name)
        otherwise = [
            f"{service} = {other}"
            for service, other in self._of_services.items()
            if service.rpartition("/")[2] == name and other != value
        ]
        assert not otherwise, f"master.cf overrides {name} = {value}: {otherwise}"
        return value


@pytest.fixture(scope="session")
def postconf(host: TestinfraHost, of_services: dict[str, str]) -> dict[str, str]:
    """Every setting as Postfix understands it."""
    return MainCf(_settings(host.check_output("postconf -x")), of_services)


@pytest.fixture(scope="session")
def of_services(host: TestinfraHost) -> dict[str, str]:
    """Settings of single services in master.cf: ``cleanup-notices/unix/body_checks`` and its value."""
    return _settings(host.check_output("postconf -P"))


def _settings(output: str) -> dict[str, str]:
    lines = (line.partition("=") for line in output.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


@pytest.fixture(scope="session")
def packet_filter(host: TestinfraHost) -> list[dict[str, Any]]:
    """The live packet filter: every table, chain and rule."""
    entries: list[dict[str, Any]] = json.loads(host.check_output("nft -j -t list ruleset"))["nftables"]
    return entries
