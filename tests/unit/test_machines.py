"""Seeds of new machines: their content, the pinned keys, and what is refused before anything is written."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import tomlkit
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from outpost.cli.app import run
from outpost.keys import secrets_file
from outpost.office import load
from outpost.office.load import check

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPvl2VGKbSb6DB9Jbjn8cDsxhYg3Q6hVZCAT1Z0tOAa maria@site"
needs_xorriso = pytest.mark.skipif(
    shutil.which("xorriso") is None, reason="needs xorriso: apt-get install xorriso"
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An office whose outer network has a router."""
    monkeypatch.setenv("OUTPOST_IDENTITY", str(tmp_path / "identity.txt"))
    monkeypatch.setenv("HOME", str(tmp_path))
    site = tmp_path / "site"
    answers = {
        "domain": "po.example.com",
        "organisation": "Site",
        "postmaster": "maria",
        "wan": "192.0.2.0/28,2001:db8:1::/64",
        "ssh-user": "admin",
        "key": KEY,
    }
    assert run(["new", str(site), *(f"--{name}={value}" for name, value in answers.items())]) == 0
    edit(site, "zones", "wan", gateways=["192.0.2.1", "2001:db8:1::1"])
    return site


def edit(site: Path, *path: str, **values: object) -> None:
    document = tomlkit.parse((site / "office.toml").read_text())
    table = document
    for name in path:
        table = table[name]
    table.update(values)
    (site / "office.toml").write_text(tomlkit.dumps(document))


def seeds(site: Path, *more: str) -> int:
    return run(["machines", "seed", str(site), "--output", str(site.parent / "seeds"), *more])


def read(site: Path, host: str, name: str) -> dict[str, object]:
    text = (site.parent / "seeds" / host / name).read_text()
    found: dict[str, object] = json.loads(text.removeprefix("#cloud-config\n"))
    return found


@needs_xorriso
def test_the_key_that_a_seed_brings_is_pinned_and_published(site: Path) -> None:
    assert seeds(site) == 0
    office = load(site)
    for host in office.hosts:
        ssh_keys = read(site, host.name, "user-data")["ssh_keys"]
        assert isinstance(ssh_keys, dict)
        private = load_ssh_private_key(ssh_keys["ed25519_private"].encode(), None)
        public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        assert ssh_keys["ed25519_public"].startswith(f"{public} ")
        assert office.ssh.host_keys[host.name] == (public,)
    assert len(set(office.ssh.host_keys.values())) == len(office.hosts)


@needs_xorriso
def test_seeds_are_the_same_when_they_are_written_again(site: Path) -> None:
    assert seeds(site) == 0
    before = read(site, "mta", "user-data"), (site / "known_hosts").read_text()
    assert seeds(site, "--limit", "mta") == 0
    assert (read(site, "mta", "user-data"), (site / "known_hosts").read_text()) == before


@needs_xorriso
def test_nobody_else_reads_a_seed_and_none_holds_another_secret(site: Path) -> None:
    # a file and a link of somebody else, in the place of the seeds
    place = site.parent / "seeds" / "ns1"
    place.mkdir(parents=True, mode=0o700)
    place.parent.chmod(0o700)
    (place / "meta-data").touch(mode=0o644)
    (place / "user-data").symlink_to(site.parent / "elsewhere")
    assert seeds(site) == 0
    assert not (site.parent / "elsewhere").exists()
    kept = secrets_file.read(site)
    for path in (site.parent / "seeds").rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    text = (site.parent / "seeds" / "ns1" / "user-data").read_text()
    assert kept.authority.key.get_secret_value() not in text
    assert text.count("PRIVATE KEY") == 2
    assert json.dumps(kept.ssh_hosts["ns1"].get_secret_value()) in text


@needs_xorriso
def test_cards_have_the_declared_addresses_and_default_routes_of_the_outer_zone(site: Path) -> None:
    edit(site, "hosts", "mta", macs={"wan": "52:54:00:12:34:56"})
    edit(site, "zones", "core", gateways=[str(next(load(site).zones["core"].networks[0].hosts()))])
    assert seeds(site) == 0
    cards = read(site, "mta", "network-config")["ethernets"]
    assert isinstance(cards, dict)
    office = load(site)
    assert cards["wan"]["match"] == {"macaddress": "52:54:00:12:34:56"}
    assert cards["core"]["match"]["macaddress"].startswith("02:")
    for zone, card in cards.items():
        assert card["addresses"] == [str(each) for each in office.interfaces(office.host("mta"), zone)]
    assert [route["via"] for route in cards["wan"]["routes"]] == ["192.0.2.1", "2001:db8:1::1"]
    assert cards["core"]["routes"] == [], "one default route of each IP version"
    store = read(site, "store", "network-config")["ethernets"]
    assert isinstance(store, dict)
    assert len(store["core"]["routes"]) == 1, "a host without an address outside goes by the servers' network"


@needs_xorriso
def test_cloud_init_takes_the_schema(site: Path) -> None:
    """Asked of cloud-init itself where it is installed."""
    if shutil.which("cloud-init") is None:
        pytest.skip("needs cloud-init: apt-get install cloud-init")
    assert seeds(site) == 0
    for name in ("user-data", "network-config"):
        kind = "cloud-config" if name == "user-data" else "network-config"
        file = site.parent / "seeds" / "webmail" / name
        done = subprocess.run(
            ["cloud-init", "schema", "-t", kind, "-c", str(file)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@needs_xorriso
def test_a_machine_that_exists_is_not_given_another_key(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "known_hosts").write_text(f"{load(site).host('ns1').all_addresses[0]} {KEY.rpartition(' ')[0]}\n")
    assert seeds(site) == 1
    assert "ns1 is in known_hosts with a key of its own" in capsys.readouterr().err
    assert not (site.parent / "seeds").exists()
    assert seeds(site, "--limit", "ns2") == 0


def test_without_a_key_of_an_administrator_nothing_is_written(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tomlkit.parse((site / "office.toml").read_text())
    del document["ssh"]["authorized_keys"]
    (site / "office.toml").write_text(tomlkit.dumps(document))
    assert seeds(site) == 1
    assert "ssh.authorized_keys is empty" in capsys.readouterr().err
    assert not (site.parent / "seeds").exists()
    assert not secrets_file.read(site).ssh_hosts


@pytest.mark.parametrize(
    ("path", "values", "field"),
    [
        (("zones", "wan"), {"gateways": ["198.51.100.1"]}, "zones.wan.gateways"),
        (("zones", "wan"), {"gateways": ["192.0.2.2"]}, "zones.wan.gateways"),
        (("zones", "wan"), {"gateways": ["192.0.2.1", "192.0.2.3"]}, "zones.wan.gateways"),
        (("hosts", "mta"), {"macs": {"lan": "52:54:00:12:34:56"}}, "hosts.mta.macs.lan"),
        (("hosts", "mta"), {"macs": {"wan": "53:54:00:12:34:56"}}, "hosts.mta.macs.wan"),
        (("hosts", "mta"), {"macs": {"wan": "52:54:00:12:34:56\n"}}, "hosts.mta.macs.wan"),
    ],
)
def test_mistakes_are_found_before(
    site: Path, path: tuple[str, ...], values: dict[str, object], field: str
) -> None:
    edit(site, *path, **values)
    assert field in [problem.field for problem in check(site)]
