"""The test environment's files, as they would be put into its containers; Docker is not used."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import dns.zone
import pytest
from cryptography import x509

from outpost.errors import OutpostError
from outpost.office.dns import reverse_zone
from outpost_lab import box, dnszones, images, keys, render
from outpost_lab.images import IMAGES
from outpost_lab.instance import OFFICE, Instance, directory, info


@pytest.fixture(scope="module", params=[0, 5])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance that exists only as state, in the first slot and in another."""
    instance = Instance(name="unit", slot=request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTPOST_LAB_STATE", str(tmp_path_factory.mktemp("labs")))
        instance.directory.mkdir()
        instance.world_authority()
        instance.acme_ca.write_bytes(instance.world_ca.read_bytes())  # Pebble makes its own when it starts
        instance.write_office(dnszones.trust_anchor(instance), OFFICE)
        for machine in instance.machines:
            render.files(instance, machine)
        yield instance


@pytest.fixture
def lab(made: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    """A copy of it, with its keys."""
    kept = made.directory
    monkeypatch.setenv("OUTPOST_LAB_STATE", str(tmp_path))
    shutil.copytree(kept, tmp_path / "unit")
    return Instance(name=made.name, slot=made.slot)


def zone_of(lab: Instance, name: str) -> dns.zone.Zone:
    """A zone of the root server, parsed; the DS records that it includes are the registry's."""
    zone = next(item for item in dnszones.zones(lab) if item.name == name)
    text = re.sub(r"(?m)^\$INCLUDE .*$", "", dnszones.zone_file(lab, zone).decode())
    return dns.zone.from_text(text, origin=name, relativize=False)


def test_every_machine_renders_without_an_undefined_name(lab: Instance) -> None:
    for machine in lab.machines:
        paths = {file.path for file in render.files(lab, machine)}
        assert {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/ssh/ssh_host_ed25519_key"} <= paths


def test_addresses_of_another_slot_never_appear(lab: Instance) -> None:
    wrong = 77 if lab.slot else 82
    for machine in lab.machines:
        for file in render.files(lab, machine):
            if not file.path.endswith(("pem", "key", "crt", "pub", "authorized_keys")):
                text = file.content.decode()
                assert f"10.{wrong}." not in text, file.path
                assert f"fd00:{wrong}:" not in text, file.path


def test_every_zone_parses_and_has_its_server(lab: Instance) -> None:
    for zone in dnszones.zones(lab):
        parsed = zone_of(lab, zone.name)
        assert parsed.get_rdataset(zone.name, "NS") is not None
        assert parsed.get_rdataset(zone.name, "SOA") is not None


def test_chain_of_trust_has_no_gap(lab: Instance) -> None:
    for zone in dnszones.zones(lab):
        if zone.parent:
            shown = zone_of(lab, zone.parent).get_rdataset(zone.name, "DS")
            key = keys.ec_key(lab.directory / "world" / "dnssec" / f"{zone.file}.pem")
            assert shown is not None
            assert ([item.to_text() for item in shown] == [keys.ds(zone.name, key)]) == zone.trusted


def test_every_zone_of_the_office_is_delegated_with_the_ds_that_the_registry_keeps(lab: Instance) -> None:
    placed = dict(dnszones.files(lab))
    for child in dnszones.children(lab):
        shown = dnszones.zone_file(lab, child.parent).decode()
        assert f'$INCLUDE "{child.ds_file}"' in shown
        assert b" DS " not in placed[child.ds_file], "insecure until its key is known"
        assert zone_of(lab, child.parent.name).get_rdataset(child.name, "NS") is not None


def test_office_name_servers_have_glue_in_both_families(lab: Instance) -> None:
    parent = zone_of(lab, dnszones.children(lab)[0].parent.name)
    for host in lab.office.with_role("dns"):
        assert parent.get_rdataset(f"{host.fqdn}.", "A") is not None
        assert parent.get_rdataset(f"{host.fqdn}.", "AAAA") is not None


def test_every_address_has_a_name_that_points_back(lab: Instance) -> None:
    pointers = {
        name.to_text()
        for zone in dnszones.zones(lab)
        if zone.template == "reverse"
        for name, _ttl, _data in zone_of(lab, zone.name).iterate_rdatas("PTR")
    }
    held = [reverse_zone(lab.office, network) for network in lab.office.dns.reverse]
    office = {record.name for zone in held for record in zone.records if record.type == "PTR"}
    assert pointers & office == set()
    for machine in lab.machines:
        for address in (item for pair in machine.addresses.values() for item in pair):
            inside = any(ip_address(address) in network for network in lab.office.dns.reverse)
            name = f"{ip_address(address).reverse_pointer}."
            assert (name in office) == (inside and machine.office)
            assert (name in pointers) != inside


def test_mail_servers_prove_every_name_they_are_known_by(lab: Instance) -> None:
    ca, _key = lab.world_authority()
    for machine in lab.machines:
        if machine.domain:
            certificate = x509.load_pem_x509_certificate(lab.credentials(machine)[1])
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert set(names.get_values_for_type(x509.DNSName)) == set(machine.certificate_names)
            certificate.verify_directly_issued_by(ca)


def test_peers_of_the_office_are_machines_of_the_test_environment(lab: Instance) -> None:
    around = {machine.domain: machine for machine in lab.machines if machine.domain}
    for peer in lab.office.peers:
        machine = around[peer.domains[0]]
        assert {str(item) for item in peer.relays} <= set(machine.addresses[peer.zone])
        assert peer.next_hop in machine.certificate_names


def test_the_test_environment_answers_where_the_office_sends(lab: Instance) -> None:
    for peer in lab.office.peers:
        zone = zone_of(lab, f"{peer.domains[0]}.")
        found = {
            data.to_text()
            for rrtype in ("A", "AAAA")
            for data in zone.find_rdataset(f"{peer.next_hop}.", rrtype)
        }
        assert found == {str(item) for item in peer.relays}


def test_trust_anchor_reaches_the_office_file(lab: Instance) -> None:
    (anchor,) = lab.office.resolver.trust_anchor
    assert anchor == f". IN DS {keys.ds('.', keys.ec_key(lab.directory / 'world' / 'dnssec' / 'root.pem'))}"
    assert lab.office.ssh.authorized_keys


def test_a_second_write_of_the_office_file_changes_nothing(lab: Instance) -> None:
    before = lab.office_file.stat()
    lab.write_office(dnszones.trust_anchor(lab), OFFICE)
    assert lab.office_file.stat().st_mtime_ns == before.st_mtime_ns


def test_info_has_the_shape_that_scripts_rely_on(lab: Instance) -> None:
    data = info(lab)
    assert set(data) == {"office", "domain", "ca", "users", "hosts", "world"}
    for shape in (data["hosts"] | data["world"]).values():
        assert set(shape) == {"role", "container", "addresses"}
        assert all(len(pair) == 2 for pair in shape["addresses"].values())
    assert data["hosts"]["mta"]["addresses"]["wan"][0] == f"10.{77 + lab.slot}.0.21"


def test_ssh_host_keys_are_unique_and_private(lab: Instance) -> None:
    lines = {keys.ssh_key(lab.directory / "hosts" / machine.name, machine.fqdn) for machine in lab.machines}
    assert len(lines) == len(lab.machines)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (lab.directory / "hosts").glob("*[!b]"))


@pytest.mark.parametrize("name", ["", "UP", "a-b", "x" * 17, "../x", "1a"])
def test_names_that_docker_or_the_file_system_would_misread_are_refused(name: str) -> None:
    with pytest.raises(OutpostError):
        directory(name)


def test_a_changed_recipe_gives_another_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = images.tag("postfix")
    copied = tmp_path / "images"
    subprocess.run(["cp", "-r", str(IMAGES), str(copied)], check=True)
    (copied / "base" / "Dockerfile").write_text("FROM scratch\n")
    monkeypatch.setattr(images, "IMAGES", copied)
    assert images.tag("postfix") != before


def test_a_host_made_virtual_stays_so_and_is_no_container(lab: Instance) -> None:
    lab.office_file.write_text(
        lab.office_file.read_text().replace("[hosts.ns1]", '[hosts.ns1]\nplatform = "vagrant"')
    )
    lab.write_office(dnszones.trust_anchor(lab), OFFICE)  # what a repeated `lab up` does
    again = Instance(name=lab.name, slot=lab.slot)
    assert again.office.platform_of(again.office.host("ns1")) == "vagrant"
    assert again.office.platform_of(again.office.host("ns2")) == "docker"
    assert {item.name for item in again.machines} - {item.name for item in again.contained} == {"ns1"}


def test_what_a_virtual_host_finds_at_first_is_what_a_container_finds(lab: Instance) -> None:
    with tarfile.open(fileobj=io.BytesIO(box.first_files(lab, "ns1"))) as archive:
        key = archive.extractfile("etc/ssh/ssh_host_ed25519_key")
        assert key is not None
        assert key.read() == (lab.directory / "hosts" / "ns1").read_bytes()
        assert archive.getmember("etc/ssh/ssh_host_ed25519_key").mode == 0o600


def test_interfaces_carry_the_length_of_their_network(lab: Instance) -> None:
    mta = lab.office.host("mta")
    v4, v6 = lab.office.interfaces(mta, "core")
    assert (str(v4.network), str(v6.network)) == tuple(map(str, lab.office.zones["core"].networks))
    assert (v4.ip, v6.ip) == mta.in_zone("core")
