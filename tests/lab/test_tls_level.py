"""Every TLS port meets Mozilla's profile "intermediate", checked by sslyze (TLS-01, TLS-02, TLS-03).

ManageSieve, whose STARTTLS sslyze does not speak, is judged by openssl. The key that relaxes the profile is tested both ways.

sslyze pins a cryptography of its own, so it lives in an environment of its own: `.lab/judges`, made on first use from
`tests/judges.txt`. It runs in the network of a machine that may reach the port.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from outpost.office import Office, ports
from outpost.office.tables.tls import INTERMEDIATE, OLD, TlsLevel
from outpost.target import ROOT
from outpost_lab import pace
from outpost_lab.instance import Instance
from outpost_lab.judges import environment
from tests.journeys.forging import replaced, run
from tests.lab.rehearsal import Rehearsal

JUDGE = Path(__file__).with_name("judge_tls.py")


@dataclass(frozen=True)
class Port:
    """A listener, and from where it can be reached. Attributes: seen_from: The machine in whose network sslyze runs.
    host: Which of the office's hosts listens.
    zone: On its address in this zone.
    starttls: Protocol that begins in clear; empty where TLS comes first.
    office_only: Whether the client must show a certificate of the office.
    name: Its name there, below the office's domain; by default the host's name.
    """

    seen_from: str
    host: str
    zone: str
    port: int
    starttls: str = ""
    office_only: bool = False
    name: str = ""

    def __str__(self) -> str:
        return f"{self.host}-{self.zone}-{self.port}"


PORTS = (
    Port("attacker", "mta", "wan", ports.SMTP, "smtp"),
    Port("headoffice", "mta", "wan", 2525, "smtp"),
    Port("clientsite", "mta", "client", ports.SMTP, "smtp"),
    Port("store", "mta", "core", ports.SUBMISSION_RELAY, office_only=True),
    Port("mta", "store", "core", ports.LMTP, office_only=True),
    Port("workstation", "store", "lan", ports.SUBMISSIONS),
    Port("workstation", "store", "lan", ports.IMAPS),
    Port("workstation", "webmail", "lan", ports.HTTPS),
    Port("attacker", "webmail", "wan", ports.HTTPS, name="mta-sts"),
)
"""ManageSieve (4190) is judged below: sslyze does not speak its STARTTLS."""

IN_EVERY_RUN = ("mta-wan-25", "store-core-24", "webmail-lan-443")
"""One port of each daemon; Dovecot's take the longest."""


@pytest.fixture(scope="module")
def sslyze() -> Path:
    """sslyze's Python. If it cannot be installed, that is an error and no skip: nothing was checked."""
    return environment()


@pytest.fixture(scope="module")
def unhurried(lab: Instance) -> Iterator[None]:
    """Lift the rate limit for the scanner, which connects some hundred times. Another test proves the limit (DOS-01)."""
    mta = lab.container_name("mta")
    lifted = run(mta, ["cat", "/etc/postfix/main.cf"])
    lifted += "\nsmtpd_client_event_limit_exceptions = static:all\n"
    with replaced(mta, {"/etc/postfix/main.cf": lifted}, "systemctl reload postfix.service"):
        yield


def judged(lab: Instance, office: Office, sslyze: Path, port: Port, directory: Path) -> dict[str, Any]:
    """What does not conform to the profile."""
    vantage = lab.container_name(port.seen_from)
    inspected = ["docker", "inspect", "--format", "{{.State.Pid}}", vantage]
    process = subprocess.run(inspected, check=True, capture_output=True, text=True).stdout.strip()
    listener = office.host(port.host)
    name = f"{port.name or port.host}.{office.domain}"
    command = ["nsenter", f"--net=/proc/{process}/ns/net", str(sslyze), "-W", "ignore", str(JUDGE)]
    command += [str(listener.in_zone(port.zone)[0]), str(port.port), name]
    if port.starttls:
        command += ["--starttls", port.starttls]
    if port.office_only:
        command.append("--client")
        for name in ("host.pem", "host.key"):
            kept = directory / name
            kept.touch(mode=0o600)
            kept.write_text(run(vantage, ["cat", f"/etc/outpost/tls/{name}"]))
            command.append(str(kept))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240 * pace.load())
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.control("TLS-01", "TLS-02", "TLS-03")
@pytest.mark.parametrize(
    "port",
    [
        pytest.param(port, id=str(port), marks=[] if str(port) in IN_EVERY_RUN else [pytest.mark.slow])
        for port in PORTS
    ],
)
@pytest.mark.usefixtures("unhurried")
def test_a_port_with_tls_conforms_to_mozillas_intermediate_profile(
    lab: Instance, office: Office, sslyze: Path, port: Port, tmp_path: Path
) -> None:
    assert judged(lab, office, sslyze, port, tmp_path) == {}


@pytest.mark.control("GOV-01")
@pytest.mark.usefixtures("unhurried")
def test_the_judge_sees_a_port_that_was_weakened(
    lab: Instance, office: Office, sslyze: Path, tmp_path: Path
) -> None:
    mta = lab.container_name("mta")
    weak = run(mta, ["cat", "/etc/postfix/main.cf"])
    weak += (
        "\ntls_high_cipherlist = ALL:@SECLEVEL=0\ntls_eecdh_auto_curves = secp521r1\ntls_config_file = none\n"
    )
    with replaced(mta, {"/etc/postfix/main.cf": weak}, "systemctl reload postfix.service"):
        found = judged(lab, office, sslyze, PORTS[1], tmp_path)
    assert {"ciphers", "tls_curves"} & set(found), found


# ManageSieve, by openssl ----------------------------------------------------------------------------------------


def sieve(lab: Instance, options: str) -> str:
    """The output of openssl, which allows every protocol, about a handshake at ManageSieve."""
    store = lab.office.with_role("store")[0]
    socket = f"{lab.office.addresses_of_kind(store, 'users')[0]}:{ports.MANAGESIEVE}"
    command = f"timeout {20 * pace.load():.0f} openssl s_client -connect {socket} -starttls sieve {options} </dev/null 2>&1 || true"
    return run(lab.container_name("workstation"), ["sh", "-c", command])


def suites(lab: Instance, version: str) -> list[str]:
    """Every suite that the server accepts with a version: each offer leaves out the suites chosen before, until it refuses."""
    found: list[str] = []
    while chosen := re.search(
        r"New, TLS\S+, Cipher is ([A-Z0-9-]+)$",
        sieve(
            lab,
            f"-{version} -cipher '{':'.join(('ALL', 'COMPLEMENTOFALL', *(f'!{one}' for one in found)))}:@SECLEVEL=0'",
        ),
        flags=re.MULTILINE,
    ):
        found.append(chosen[1])
    return found


def at_most(level: TlsLevel) -> set[str]:
    """The suites of a level that work with the office's own certificates."""
    return {suite for suite in level.ciphers.split(":") if suite.startswith("ECDHE-ECDSA-")}


@pytest.mark.control("TLS-01", "TLS-02", "TLS-03")
def test_managesieve_conforms_to_mozillas_intermediate_profile(lab: Instance) -> None:
    taken = {version: suites(lab, version) for version in ("tls1", "tls1_1", "tls1_2")}
    assert taken["tls1"] + taken["tls1_1"] == []
    assert set(taken["tls1_2"]) == at_most(INTERMEDIATE)
    assert "Cipher is TLS_AES" in sieve(lab, "-tls1_3")
    for weak in (
        "-groups secp521r1",
        "-groups ffdhe2048",
        "-sigalgs ECDSA+SHA224",
        "-tls1_2 -sigalgs ECDSA+SHA1",
    ):
        assert "Cipher is (NONE)" in sieve(lab, f"{weak} -cipher ALL:@SECLEVEL=0"), weak


# The lever ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.control("TLS-01", "TLS-02")
def test_one_setting_admits_old_clients_at_every_daemon_and_excludes_them_again(lab: Instance) -> None:
    served = ("mta", "store", "webmail")
    command = [sys.executable, "-m", "pytest", "tests/live", "-q", "--name", lab.name]
    command += [
        "-k",
        "old_offers_are_taken or weak_offers or forward_secret or current_client or good_offers",
    ]

    def verified() -> None:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    with Rehearsal(lab).declared(lambda office: office["tls"].update(profile="old"), *served):
        verified()
        assert set(suites(lab, "tls1_2")) == at_most(OLD)
        assert suites(lab, "tls1")
    verified()
    assert suites(lab, "tls1") == []
