"""The office's DNS from outside: it validates from the root, linters find nothing, other servers can load it, and it works while the line is cut."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from secrets import token_hex
from typing import Any

import pytest

from outpost.keys import secrets_file
from outpost.keys.model import public_keys
from outpost.office.base import BaseView
from outpost.office.dns import Record, ZoneData, office_zones
from outpost.target import LAB, ROOT
from outpost_lab import containers, dnszones, trust
from outpost_lab.instance import Instance
from outpost_lab.render import File
from tests.awaiting import on_host
from tests.journeys.naming import Names

DIRECTORY = "/root/outpost-zones"
"""The directory of the office's zones for another name server, on a machine of the test environment."""


@pytest.fixture(scope="module")
def zones(lab: Instance) -> tuple[ZoneData, ...]:
    """The zones as the model says them."""
    return office_zones(lab.office, public_keys(secrets_file.read(lab.directory)))


@pytest.fixture(scope="module")
def printed(lab: Instance, zones: tuple[ZoneData, ...]) -> dict[str, str]:
    """Zone → the output of `outpost dns`, which also lies on the machine of the Internet domain."""
    texts = {zone.name: outpost("dns", LAB, "--zone", zone.name, "--name", lab.name) for zone in zones}
    files = [File(f"{DIRECTORY}/{name}zone", text.encode()) for name, text in texts.items()]
    containers.put(lab.container("internet"), files)
    return texts


def outpost(*arguments: str) -> str:
    """Output of a command."""
    done = subprocess.run([str(ROOT / "outpost"), *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def on(lab: Instance, machine: str, script: str) -> str:
    """Both output streams of a shell script on a machine of the lab; the last line says whether it succeeded."""
    command = ["docker", "exec", "-i", lab.container_name(machine), "sh", "-s"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    return f"{done.stdout}{done.stderr}\nexit {done.returncode}"


@pytest.mark.control("DNS-01", "DNS-07")
def test_delv_proves_every_record_from_the_trust_anchor(lab: Instance, zones: tuple[ZoneData, ...]) -> None:
    """BIND's validator runs on a machine outside, with only the root's DS."""
    tag, algorithm, digest_type, digest = dnszones.trust_anchor(lab)[0].split(" DS ")[1].split(" ", 3)
    anchor = (
        f'trust-anchors {{ "." initial-ds {tag} {algorithm} {digest_type} "{digest.replace(" ", "")}"; }};'
    )
    sets = sorted({(record.name, record.type) for zone in zones for record in zone.records})
    queries = "\n".join(f"{name} {rtype}" for name, rtype in sets)
    gateway = lab.machine("gw").addresses["wan"][0]
    output = on(
        lab,
        "internet",
        f"echo '{anchor}' >/root/lab.anchor\n"
        f'while read -r name type; do echo "$name $type $(delv @{gateway} -a /root/lab.anchor +root=. $name $type 2>&1 '
        f"| grep -m1 '^;')\"; done <<'E'\n{queries}\nE",
    )
    proven = [line for line in output.splitlines() if line.endswith("; fully validated")]
    assert len(proven) == len(sets), "\n".join(set(output.splitlines()) - set(proven))


def test_printed_zones_load_in_bind_and_nsd(lab: Instance, printed: dict[str, str]) -> None:
    for name in printed:
        checked = on(
            lab,
            "internet",
            f"named-checkzone -i full -k fail -m fail -n fail -r fail -S fail {name} {DIRECTORY}/{name}zone",
        )
        assert checked.endswith("exit 0"), checked
        assert "OK" in checked
        checked = on(lab, "internet", f"nsd-checkzone {name} {DIRECTORY}/{name}zone")
        assert checked.endswith("exit 0"), checked


def test_another_name_server_answers_from_the_printed_zone_what_ours_does(
    lab: Instance, zones: tuple[ZoneData, ...], printed: dict[str, str]
) -> None:
    blocks = "".join(f'zone:\n  name: "{name}"\n  zonefile: "{DIRECTORY}/{name}zone"\n' for name in printed)
    config = (
        'server:\n  ip-address: 127.0.0.1@5300\n  username: root\n  database: ""\n  pidfile: /run/nsd-test.pid\n'
        f"  zonesdir: /\n  xfrdfile: /run/nsd-test.xfrd\n  zonelistfile: /run/nsd-test.list\n"
        f"remote-control:\n  control-enable: no\n{blocks}"
    )
    containers.put(lab.container("internet"), [File(f"{DIRECTORY}/nsd.conf", config.encode())])
    wanted = zones[0].find(zones[0].name, "MX")[0]
    ask = f"dig @127.0.0.1 -p 5300 +short +tries=1 {wanted.name} MX"
    output = on(
        lab,
        "internet",
        f"touch {DIRECTORY}/*; nsd -c {DIRECTORY}/nsd.conf </dev/null || exit 1\n"
        f"{on_host(f'{ask} | grep .')}\n"
        f"for zone in {' '.join(printed)}; do dig @127.0.0.1 -p 5300 +short $zone SOA; done\n"
        "kill $(cat /run/nsd-test.pid)",
    )
    assert wanted.data in output.splitlines(), output
    assert output.count(" 1 3600 900 ") == len(zones), output


def test_printed_zone_has_every_reason_and_no_secret(lab: Instance, printed: dict[str, str]) -> None:
    (text, *_) = printed.values()
    lines = [line for line in text.splitlines() if not line.startswith("$")]
    assert all(" ; " in line for line in lines)
    kept = secrets_file.read(lab.directory)
    private = [key.get_secret_value() for pair in kept.dkim.values() for key in (pair.rsa, pair.ed25519)]
    private += [key.key.get_secret_value() for keys in kept.dnssec.values() for key in keys]
    assert not [line for key in private for line in key.splitlines()[1:-1] if line in text]
    assert not [key for key in kept.tsig.values() if key.get_secret_value() in text]


def test_json_has_the_same_records(lab: Instance, zones: tuple[ZoneData, ...]) -> None:
    data = json.loads(outpost("dns", LAB, "--json", "--name", lab.name))
    assert data["zone"] == zones[0].name
    assert tuple(Record(**record) for record in data["records"]) == zones[0].records


@pytest.mark.control("DNS-01", "DNS-02")
def test_linters_find_nothing_in_the_signed_zones(lab: Instance, zones: tuple[ZoneData, ...]) -> None:
    primary = lab.office.with_role("dns")[0].name
    for zone in zones:
        dump = on(lab, primary, f"knotc zone-read {zone.name} | cut -d' ' -f2-").rpartition("\nexit")[0]
        containers.put(lab.container("internet"), [File(f"{DIRECTORY}/signed", f"{dump}\n".encode())])
        for linter in (
            f"ldns-verify-zone -V 2 {DIRECTORY}/signed",
            f"dnssec-verify -o {zone.name} {DIRECTORY}/signed",
            f"named-checkzone {zone.name} {DIRECTORY}/signed",
        ):
            output = on(lab, "internet", linter)
            assert output.endswith("exit 0"), f"{linter}: {output}"
            assert "rror" not in output, output
            assert "arning" not in output, output


@pytest.mark.control("DNS-01")
def test_the_parent_names_a_key_of_the_zone(lab: Instance) -> None:
    for child in dnszones.children(lab):
        given = containers.run(lab.container("root"), "cat", child.ds_file).upper()
        shown = [ds.upper() for ds in trust.zone_ds(lab, child.name)]
        assert any(ds in given for ds in shown), child.name


@pytest.mark.control("DNS-07")
def test_no_host_accepts_answers_of_a_forged_zone(lab: Instance) -> None:
    question = "kdig @127.0.0.1 forged.test A +timeout=15 +retry=0"
    for host in lab.office.with_role("dns"):
        assert "SERVFAIL" in on(lab, host.name, question), host.name
        assert "192.0.2.66" in on(lab, host.name, f"{question} +cdflag"), "there is nothing to disbelieve"
    for host in lab.office.hosts:
        found = on(lab, host.name, "getent ahosts forged.test")
        assert "192.0.2.66" not in found, host.name


@pytest.mark.control("DNS-07")
def test_no_outside_name_resolves_to_an_inner_address(lab: Instance) -> None:
    """DNS rebinding: a foreign name with an inner address, which a page from outside makes the reader's browser use."""
    host = lab.office.with_role("mta")[0]
    inside = next(
        str(address)
        for address in host.all_addresses
        if address in BaseView(lab.office, host).private_networks[0]
    )
    outward, inward = (f"{kind}-{token_hex(4)}.internet.test." for kind in ("outward", "inward"))
    names = Names(lab.container_name("root"), lab.container_name(host.name))
    with names.published([(outward, "A", "192.0.2.77")], unseen=[(inward, "A", inside)]):
        assert inside in on(lab, "internet", f"getent ahostsv4 {inward}"), "there is nothing to keep back"
        for each in lab.office.hosts:
            assert "192.0.2.77" in on(lab, each.name, f"getent ahostsv4 {outward}"), each.name
            assert inside not in on(lab, each.name, f"getent ahostsv4 {inward} || true"), each.name


@pytest.fixture
def gateway(lab: Instance) -> Iterator[Any]:
    """The test environment's resolver; pausing it has the effect of a cut Internet line for the hosts' resolvers."""
    container = lab.container("gw")
    yield container
    container.reload()
    if container.status == "paused":
        container.unpause()


@pytest.mark.control("DNS-07")
def test_the_resolver_serves_cached_answers_while_the_line_is_down(lab: Instance, gateway: Any) -> None:
    """RFC 8767: an answer with a TTL of one second is used after its end, while no new answer can be fetched."""
    server = lab.office.with_role("dns")[0].name
    ask = "kdig @127.0.0.1 brief.internet.test TXT +timeout=10 +retry=0"
    fresh = on(lab, server, ask)
    assert "old after a second" in fresh
    gateway.pause()
    forwarder = lab.machine("gw").addresses["core"][0]
    cut = on(lab, server, f"kdig @{forwarder} brief.internet.test TXT +timeout=2 +retry=0")
    assert "old after a second" not in cut, "the line is not cut"
    assert "old after a second" in on(lab, server, ask)
