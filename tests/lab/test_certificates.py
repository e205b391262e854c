"""Certificates are renewed or refused, and peers verify them. For their keys see `test_rollover.py`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from outpost.keys import secrets_file
from outpost.office import Host
from outpost.office.certificates import acme_hosts
from outpost_lab.instance import Instance
from tests.awaiting import until
from tests.lab.conftest import Pyinfra
from tests.lab.rehearsal import Rehearsal

SHOWN = "openssl s_client -connect {socket} -servername {name} </dev/null 2>/dev/null | openssl x509 -noout"
SERIAL = f"{SHOWN} -serial"
KEY = f"{SHOWN} -pubkey"
RENEW = "systemd-run --quiet --collect --wait --pipe /usr/local/lib/outpost/certificate renew --force"


def on(lab: Instance, machine: str, script: str, *, check: bool = True) -> str:
    """Output of a shell script on a machine of the lab."""
    command = ["docker", "exec", lab.container_name(machine), "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{machine}: {script}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def shown(lab: Instance, host: Host, what: str) -> str:
    """The certificate that a host's daemon shows in the users' network."""
    port = {"store": 993, "webmail": 443}[host.role]
    address = lab.office.addresses_of_kind(host, "users")[0]
    return on(lab, "workstation", what.format(socket=f"{address}:{port}", name=host.fqdn))


def changes_from(lab: Instance, host: Host, serial: str) -> None:
    """Waits until a daemon shows another certificate after a reload."""
    until(lambda: shown(lab, host, SERIAL) != serial, f"{host.name} shows another than {serial}", seconds=15)


@contextmanager
def deaf_authority(lab: Instance) -> Iterator[None]:
    """The ACME authority refuses connections and keeps its root: a restart would create another one."""
    rule = "table inet deaf { chain in { type filter hook input priority 0; tcp dport { 443, 8888 } reject with tcp reset; }; }"
    on(lab, "acme", f"nft '{rule}'")
    try:
        yield
    finally:
        on(lab, "acme", "nft delete table inet deaf")
        for host in acme_hosts(lab.office):  # their timers may have tried meanwhile
            on(lab, host.name, "systemctl start outpost-certificate.service")


@pytest.fixture(params=["store", "webmail"])
def host(lab: Instance, request: pytest.FixtureRequest) -> Host:
    """A host that uses the proxy, and one that connects directly."""
    return lab.office.host(request.param)


@pytest.mark.control("TLS-04")
def test_a_renewed_certificate_is_shown_at_once_with_the_same_key(
    lab: Instance, host: Host, pyinfra: Pyinfra
) -> None:
    serial, key = shown(lab, host, SERIAL), shown(lab, host, KEY)
    on(lab, host.name, RENEW)
    changes_from(lab, host, serial)
    assert shown(lab, host, KEY) == key
    limit = ("--limit", f"@container/{lab.container_name(host.name)}")
    drift = pyinfra("--dry", "--json", *limit).changes
    assert [name for name in drift if "certificate" in name] == [], "the host's own renewal is no drift"


@pytest.mark.control("TLS-04")
def test_a_failed_renewal_keeps_the_certificate_and_is_reported(lab: Instance) -> None:
    host = lab.office.host("webmail")
    serial = shown(lab, host, SERIAL)
    with deaf_authority(lab):
        on(lab, host.name, "rm -f /var/lib/outpost-acme/*-cert.pem")  # so that the unit itself has work to do
        # the result of this start: a moment later the timer may have started the unit again
        tried = on(lab, host.name, "systemctl start outpost-certificate.service 2>&1", check=False)
        assert "Job for outpost-certificate.service failed" in tried
        assert shown(lab, host, SERIAL) == serial
    changes_from(lab, host, serial)


@pytest.mark.control("TLS-11")
def test_the_account_that_caa_names_is_what_the_authority_says_it_is(lab: Instance, host: Host) -> None:
    kept = secrets_file.read(lab.directory).acme_accounts[host.name]
    assert kept.directory == lab.office.acme.directory
    assert on(lab, host.name, "/usr/local/lib/outpost/certificate account").strip() == kept.url


@pytest.mark.control("TLS-05")
@pytest.mark.parametrize("name", ["headoffice", "internet"])
def test_peers_verify_the_mta_by_dane(lab: Instance, name: str) -> None:
    assert Rehearsal(lab).believes(name)
