"""An optional role: an office with a time server is valid, and the files of its hosts agree."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from outpost.converge.files import File, rendered
from outpost.office import Host, Office
from outpost.office.base import BaseView
from outpost.office.flows import listeners, outbound
from outpost.office.load import parse
from roles.timeserver.view import TimeView

ROOT = Path(__file__).resolve().parents[2]
CHRONY, SERVE = "/etc/chrony/chrony.conf", "/etc/chrony/conf.d/outpost.conf"
ADDRESSES = {
    "core": ["10.40.2.51", "2001:db8:40:2::51"],
    "mgmt": ["10.40.4.51", "2001:db8:40:4::51"],
}


def office_with(addresses: dict[str, list[str]]) -> tuple[Office | None, list[str]]:
    data: dict[str, Any] = tomllib.loads((ROOT / "inventory/harbour/office.toml").read_text(encoding="utf-8"))
    data["hosts"]["time"] = {"role": "timeserver", "addresses": addresses}
    office, problems = parse(data)
    return office, [problem.message for problem in problems]


@pytest.fixture(scope="module")
def office() -> Office:
    office, problems = office_with(ADDRESSES)
    assert office is not None
    assert problems == []
    return office


@pytest.fixture(scope="module")
def me(office: Office) -> Host:
    return office.host("time")


def files_of(office: Office, me: Host) -> dict[str, File]:
    made = [rendered("base", CHRONY, view=BaseView(office, me))]
    if me.role == "timeserver":
        made.append(rendered("timeserver", SERVE, view=TimeView(office, me)))
    return {file.path: file for file in made}


def test_an_office_needs_no_time_server() -> None:
    assert parse(tomllib.loads((ROOT / "inventory/harbour/office.toml").read_text(encoding="utf-8")))[1] == []


def test_a_time_server_stands_in_the_servers_zone() -> None:
    wrong = "a time server without an address in the servers' zone"
    assert wrong in office_with({"mgmt": ADDRESSES["mgmt"]})[1]


def test_it_answers_where_the_flows_say_and_at_one_address_of_each_family(office: Office, me: Host) -> None:
    view = TimeView(office, me)
    places = {listener.address for listener in listeners(office, me) if listener.port == 123}
    assert {network.network_address for network in view.addresses} == places
    assert sorted(address.version for address in places) == [4, 6]  # chrony binds no more
    assert {str(network) for network in view.clients} == {
        f"{address}/{address.max_prefixlen}"
        for host in office.hosts
        if host != me
        for address in host.in_zone("core")
    }


def test_only_a_time_server_opens_the_port(office: Office, me: Host) -> None:
    for host in office.hosts:
        text = files_of(office, host)[CHRONY].content.decode()
        assert ("port 0" in text.splitlines()) == (host != me)
        assert ("server 10.40.2.51 iburst" in text) == (host != me)
        assert "cmdport 0" in text.splitlines()
        # while the line is down, the office's server is the only time source of the others
        assert ("minsources 2" in text.splitlines()) == (host == me)


def test_every_host_may_ask_it(office: Office, me: Host) -> None:
    for host in office.hosts:
        assert any(flow.destination.host == "time" for flow in outbound(office, host)) == (host != me)


@pytest.mark.skipif(
    shutil.which("chronyd") is None,
    reason="needs Debian's chrony, whose daemon judges its own files: apt-get install chrony",
)
@pytest.mark.parametrize("name", ["time", "mta"])
def test_chrony_accepts_its_files(office: Office, name: str, tmp_path: Path) -> None:
    for path, file in files_of(office, office.host(name)).items():
        place = tmp_path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(file.content.decode().replace("/etc/chrony/", f"{tmp_path}/etc/chrony/"))
    done = subprocess.run(
        ["chronyd", "-p", "-f", str(tmp_path / CHRONY.lstrip("/"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("local stratum 10" in done.stdout) == (name == "time")
