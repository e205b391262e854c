"""Certificates and their keys in motion: renewed, refused, rolled; peers go on trusting what they see."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from outpost import secrets
from outpost.lab.instance import Instance
from outpost.office import Host
from outpost.office.certificates import acme_hosts
from outpost.office.dns import tls_digests
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
    """What a host's daemon shows of its certificate, seen from the users' network."""
    port = {"store": 993, "webmail": 443}[host.role]
    address = lab.office.addresses_of_kind(host, "users")[0]
    return on(lab, "workstation", what.format(socket=f"{address}:{port}", name=host.fqdn))


def changes_from(lab: Instance, host: Host, serial: str) -> None:
    """Waits until a daemon that was told to reload shows another certificate."""
    deadline = time.monotonic() + 15
    while shown(lab, host, SERIAL) == serial:
        assert time.monotonic() < deadline, f"{host.name} still shows {serial}"
        time.sleep(0.2)


@contextmanager
def deaf_authority(lab: Instance) -> Iterator[None]:
    """The ACME authority refuses connections, and keeps its root: a restarted one would have another."""
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
    """One that asks through the proxy, one that asks by itself."""
    return lab.office.host(request.param)


@pytest.mark.control("TLS-04")
def test_a_renewed_certificate_is_shown_at_once_with_the_same_key(
    lab: Instance, host: Host, pyinfra: Pyinfra
) -> None:
    serial, key = shown(lab, host, SERIAL), shown(lab, host, KEY)
    on(lab, host.name, RENEW)
    changes_from(lab, host, serial)
    assert shown(lab, host, KEY) == key
    limit = ("--limit", f"@docker/{lab.container_name(host.name)}")
    drift = pyinfra("--dry", "--json", *limit).changes
    assert [name for name in drift if "certificate" in name] == [], "the host's own renewal is no drift"


@pytest.mark.control("TLS-04")
def test_a_failed_renewal_keeps_the_certificate_and_is_reported(lab: Instance) -> None:
    host = lab.office.host("webmail")
    serial = shown(lab, host, SERIAL)
    with deaf_authority(lab):
        on(lab, host.name, "rm -f /var/lib/outpost-acme/*-cert.pem")  # so that the unit itself has work to do
        on(lab, host.name, "systemctl start outpost-certificate.service", check=False)
        assert on(lab, host.name, "systemctl is-failed outpost-certificate.service").strip() == "failed"
        assert shown(lab, host, SERIAL) == serial
    changes_from(lab, host, serial)


@pytest.mark.control("TLS-05")
@pytest.mark.parametrize("name", ["headoffice", "internet"])
def test_peers_verify_the_mta_by_dane(lab: Instance, name: str) -> None:
    mta = lab.office.with_role("mta")[0]
    said = on(lab, name, f"posttls-finger -c -t 60 -l dane-only -L summary '[{mta.fqdn}]' 2>&1")
    assert re.search(r"Verified TLS connection established to " + re.escape(mta.fqdn), said), said


@pytest.mark.control("TLS-04", "TLS-05", "TLS-10")
def test_keys_roll_while_mail_flows_and_every_peer_goes_on_trusting(lab: Instance) -> None:
    rehearsal = Rehearsal(lab)
    before = secrets.read(lab.directory)
    canaries = rehearsal.secrets_now()
    with rehearsal.life():
        rehearsal.until("the next key's turn", lambda: "come again" not in _roll(rehearsal))
        early = rehearsal.outpost("rotate", "tls", "lab", "mta", check=False)
        assert "twice that to be safe" in early
        for name in ("headoffice", "internet"):
            test_peers_verify_the_mta_by_dane(lab, name)
        rehearsal.outpost("rotate", "hosts", "lab", "--keys")
    after = secrets.read(lab.directory)
    assert tls_digests(after, "mta")[0] == tls_digests(before, "mta")[1]
    assert after.hosts["store"].key != before.hosts["store"].key
    assert not rehearsal.log.failures, rehearsal.log.failures
    assert len(rehearsal.log.carried) == 6, f"directions that mail went: {rehearsal.log.carried}"
    printed = "\n".join(rehearsal.said)
    assert not [canary for canary in canaries | rehearsal.secrets_now() if canary in printed]


def _roll(rehearsal: Rehearsal) -> str:
    return rehearsal.outpost("rotate", "tls", "lab", "mta", check=False)
