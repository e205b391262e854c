"""Live checks: each test that asks for `host` runs once on every host of its roles.

    pytestmark = pytest.mark.role("mta")

    @pytest.mark.control("REL-01")
    def test_stranger_cannot_relay(host: TestinfraHost, me: Host, office: Office) -> None: ...

`host` is testinfra's view of the machine, `me` the same host in the office's model.
"""

from __future__ import annotations

import pytest
import testinfra
from testinfra.host import Host as TestinfraHost

from outpost.hosts import ssh_target
from outpost.office import Host, Office, load
from outpost.target import Target
from outpost.verification import chosen_target

TestinfraHost.__test__ = False  # its name here begins with Test, and pytest would collect it


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Spread a test over the hosts of its roles."""
    if "me" not in metafunc.fixturenames:
        return
    office = load(chosen_target(metafunc.config).data)
    roles = {role for mark in metafunc.definition.iter_markers("role") for role in mark.args}
    only = metafunc.config.getoption("--host")
    hosts = [
        host
        for host in office.hosts
        if host.role in (roles or {host.role}) and host.name in (only or [host.name])
    ]
    metafunc.parametrize("me", hosts, ids=[host.name for host in hosts], scope="session")


@pytest.fixture(scope="session")
def host(me: Host, target: Target, office: Office, pytestconfig: pytest.Config) -> TestinfraHost:
    """The running machine, by the connector that the inventory uses."""
    return reach(target, office, me, pytestconfig.getoption("--via"))


def reach(target: Target, office: Office, me: Host, via: str | None) -> TestinfraHost:
    """A testinfra host for a machine of the office."""
    if (via or target.inventory().stem) == "docker":
        return testinfra.get_host(f"docker://outpost-{target.instance}-{me.name}")
    user, address, port = ssh_target(office, me)
    key, known = target.data / "ssh_key", target.data / "known_hosts"
    return testinfra.get_host(
        f"ssh://{user}@{f'[{address}]' if ':' in address else address}:{port}",
        ssh_identity_file=str(key) if key.is_file() else None,
        ssh_extra_args=f"-o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes",
        sudo=user != "root",
    )
