"""A site's server: the generated files, and its answers, which are hostile input."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tomlkit

from outpost.cli.app import run
from outpost.engine.run import Change, Outcome
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.machines import guests, server, up
from outpost.machines.guests import Image
from outpost.machines.hardening import BASELINE, FILTER, RULES
from outpost.machines.hypervisor import (
    DIRECTORY,
    SETTINGS,
    START,
    UNITS,
    Site,
    Virtualization,
    site_of,
)
from outpost.machines.server import Server, wanted
from outpost.office import load
from outpost.office.load import check
from outpost.onhost import watch
from outpost.target import find
from outpost.transport import answers
from outpost.transport.remote import failure

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPvl2VGKbSb6DB9Jbjn8cDsxhYg3Q6hVZCAT1Z0tOAa maria@site"
IMAGE = Image("https://example.com/debian.qcow2", "ab" * 64)
ON = "root@192.0.2.5"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An office whose outer network is a card of the server, and whose users' network is a VLAN."""
    monkeypatch.setenv("OUTPOST_IDENTITY", str(tmp_path / "identity.txt"))
    place = tmp_path / "site"
    assert run(["new", str(place), "--domain=po.example.com", "--organisation=Site", "--postmaster=maria",
                "--wan=192.0.2.0/28", "--ssh-user=admin", f"--key={KEY}", "--no-secrets"]) == 0  # fmt: skip
    edit(place, "zones", "wan", port="eno2")
    edit(place, "zones", "lan", port="eno1.20")
    return place


def edit(place: Path, *path: str, **values: object) -> None:
    document = tomlkit.parse((place / "office.toml").read_text())
    table = document
    for name in path:
        table = table[name]
    table.update(values)
    (place / "office.toml").write_text(tomlkit.dumps(document))


def site(place: Path) -> Site:
    office = load(place, uncertified=True)
    return site_of(office, office.hosts)


def answer(of: Site, *lines: str, disks: dict[str, int] | None = None) -> Server:
    """A server on which all guests run as this site declares them."""
    facts = ["release debian 13", "machine x86_64", "kvm yes", "memory 32000", "processors 8", "disk 900000",
            "link lo", "link eno1", "link eno2 zone-wan", "address eno1", "port 22"]  # fmt: skip
    facts += [f"holds {part.control}" for part in BASELINE]
    facts += [f"link {bridge.name}" for bridge in of.bridges]
    facts += [f"link {bridge.member} {bridge.name}" for bridge in of.bridges if bridge.vlan]
    for guest in of.guests:
        kib = guest.definition.replace(
            f'<memory unit="MiB">{guest.memory}<', f"<memory unit='KiB'>{guest.memory * 1024}<"
        )
        encoded = b64encode(kib.encode()).decode()
        facts += [
            f"size {guest.name} {(disks or {}).get(guest.name, guest.disk) * 1024**3}",
            f"state {guest.name} running",
            f"definition {guest.name} --live {encoded}",
            f"definition {guest.name} --inactive {encoded}",
        ]
    return server.read("\n".join([*lines, *facts]) + "\n", tuple(guest.name for guest in of.guests))


BARE = "release debian 13\nmachine x86_64\nkvm yes\nmemory 32000\nprocessors 8\ndisk 900000\nlink eno1\nlink eno2\nport 22\n"


def bare(of: Site) -> Server:
    return server.read(BARE, tuple(guest.name for guest in of.guests))


def names(of: Site, found: Server, restart: tuple[str, ...] = ()) -> list[str]:
    allowed = [guest for guest in of.guests if guest.name in restart]
    return [step.name for step in guests.steps(of, found, IMAGE, allowed)]


def test_guests_are_sized_by_role_users_and_quotas(place: Path) -> None:
    before = {guest.name: guest for guest in site(place).guests}
    assert before["ns1"].memory == 512
    assert before["mta"].processors == 2
    document = tomlkit.parse((place / "office.toml").read_text())
    document["users"].extend({"address": f"u{number}@po.example.com"} for number in range(100))
    (place / "office.toml").write_text(tomlkit.dumps(document))
    after = {guest.name: guest for guest in site(place).guests}
    office = load(place, uncertified=True)
    assert after["store"].memory > before["store"].memory
    assert after["store"].disk - before["store"].disk >= 99 * int(office.limits.mailbox_quota) // 1024**3
    assert after["ns1"] == before["ns1"]
    edit(place, "hosts", "store", memory="6GiB", disk="300GiB")
    chosen = {guest.name: guest for guest in site(place).guests}["store"]
    assert (chosen.memory, chosen.disk) == (6144, 300)


def test_guests_start_in_the_order_of_trust(place: Path) -> None:
    declared = site(place)
    assert [guest.name for guest in declared.guests][:2] == ["ns1", "ns2"]
    started = [
        line for line in declared.files()[f"/etc/systemd/system/{UNITS[1]}"].splitlines() if " start " in line
    ]
    assert [line.split()[-1] for line in started] == [guest.name for guest in declared.guests]


def test_each_zone_is_a_bridge_without_an_address_of_the_server(place: Path) -> None:
    unit = site(place).files()[f"/etc/systemd/system/{UNITS[0]}"]
    lines = unit.splitlines()
    assert "ExecStart=-/sbin/ip link add link eno1 name eno1.20 type vlan id 20" in lines
    assert "ExecStart=-/sbin/ip link set eno1.20 master zone-lan up" in lines
    assert "ExecStart=-/sbin/ip link set eno2 master zone-wan up" in lines
    assert "ExecStart=/sbin/ip link set zone-core up" in lines
    assert not [line for line in lines if "master zone-core" in line or "master zone-mgmt" in line]
    assert "addr add" not in unit


def test_the_server_takes_nothing_from_a_bridge_whatever_debian_sets_on_new_interfaces(place: Path) -> None:
    """udev runs systemd-sysctl for each new interface: a setting with the interface's name overrides Debian's pattern (sysctl.d(5))."""
    files = site(place).files()
    unit, settings = files[f"/etc/systemd/system/{UNITS[0]}"], files[SETTINGS].splitlines()
    for bridge in ("zone-lan", "zone-wan", "zone-core", "zone-mgmt"):
        wanted = (f"net/ipv4/conf/{bridge}/rp_filter = 1", f"net/ipv4/conf/{bridge}/arp_ignore = 8", f"net/ipv6/conf/{bridge}/disable_ipv6 = 1")  # fmt: skip
        assert set(wanted) <= set(settings)
        assert unit.index(f"add name {bridge} ") < unit.index(f"--prefix=/net/ipv4/conf/{bridge} ")
        assert unit.index(f"--prefix=/net/ipv6/conf/{bridge}\n") < unit.index(f"link set {bridge} up")


def test_a_server_that_answers_an_image_without_end_is_left(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    monkeypatch.setattr(server, "shell_command", lambda *_: ["cat", "/dev/zero", "-s"])
    monkeypatch.setattr(answers, "as_argument", lambda shell, _script: list(shell[:2]))
    declared = site(place)
    nobody: Any = None
    work = up.Work(nobody, nobody, "root@192.0.2.5", declared, declared, bare(declared))
    with pytest.raises(OutpostError, match="did not store the image"):
        up.upload(work, Image(str(image), "0" * 128))


def test_a_port_that_left_its_bridge_is_put_back(place: Path) -> None:
    declared = site(place)
    found = answer(declared)
    found.links["eno2"] = ""
    assert names(declared, found) == ["bridges of the zones"]


def test_long_names_of_zones_stay_apart(place: Path) -> None:
    document = tomlkit.parse((place / "office.toml").read_text())
    for number in (1, 2):
        document["zones"][f"guests-building-{number}"] = {
            "kind": "users",
            "networks": [f"10.9.{number}.0/24"],
        }
        document["hosts"]["store"]["addresses"][f"guests-building-{number}"] = [f"10.9.{number}.3"]
    (place / "office.toml").write_text(tomlkit.dumps(document))
    bridges = [bridge.name for bridge in site(place).bridges]
    assert len(set(bridges)) == len(bridges)
    assert max(map(len, bridges)) <= 15


@pytest.mark.parametrize("kind", ["kvm", "qemu"])
def test_libvirt_takes_the_definitions(place: Path, tmp_path: Path, kind: str) -> None:
    if shutil.which("virt-xml-validate") is None:
        pytest.skip("needs virt-xml-validate: apt-get install libvirt-clients")
    for guest in site(place).on(kind).guests:  # type: ignore[arg-type]
        file = tmp_path / f"{guest.name}.xml"
        file.write_text(guest.definition)
        done = subprocess.run(
            ["virt-xml-validate", str(file), "domain"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_systemd_takes_the_units(place: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    for path, text in site(place).files().items():
        if path.endswith(".service"):
            (tmp_path / Path(path).name).write_text(
                text.replace("/usr/bin/virsh", "/bin/true")
                .replace("/sbin/ip", "/bin/true")
                .replace("/usr/sbin/nft", "/bin/true")
                .replace("/usr/lib/systemd/systemd-sysctl", "/bin/true")
            )
    units = [str(tmp_path / unit) for unit in (FILTER, *UNITS)]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if "outpost-" in line], done.stderr


def test_a_bare_server_gets_every_guest(place: Path) -> None:
    declared = site(place)
    listed = names(declared, bare(declared))
    hardened = len(BASELINE)
    assert listed[:hardened] == [part.name for part in BASELINE]
    assert listed[hardened : hardened + 2] == ["bridges of the zones", "image of the disks"]
    assert listed[hardened + 2 : hardened + 6] == [
        "ns1: disk of 5 GiB",
        "ns1: definition with 512 MiB, 1 CPU",
        "ns1: seed",
        "ns1: start",
    ]
    assert len(listed) == hardened + 2 + 4 * len(declared.guests)


def test_a_second_time_nothing_is_done(place: Path) -> None:
    declared = site(place)
    found = answer(declared)
    assert [found.guests[guest.name].live for guest in declared.guests] == [
        wanted(guest) for guest in declared.guests
    ]
    assert names(declared, found) == []
    assert guests.to_restart(declared, found) == ()
    assert [each.level for each in server.judge(found, declared, ON)] == ["good", "good"]


def test_a_changed_size_concerns_its_guest_alone_and_restarts_nothing_unasked(place: Path) -> None:
    before = answer(site(place))
    edit(place, "hosts", "webmail", memory="2GiB")
    declared = site(place)
    assert names(declared, before) == ["webmail: definition with 2048 MiB, 1 CPU"]
    assert [guest.name for guest in guests.to_restart(declared, before)] == ["webmail"]
    assert names(declared, before, ("webmail",)) == [
        "webmail: definition with 2048 MiB, 1 CPU",
        "webmail: restart",
    ]


def test_a_disk_grows_while_its_guest_runs_and_never_shrinks(place: Path) -> None:
    declared = site(place)
    small = answer(declared, disks={"ns1": 3})
    (step,) = guests.steps(declared, small, None, ())
    assert step.name == "ns1: disk grows to 5 GiB"
    assert "blockresize ns1 vda 5G" in step.command
    large = answer(declared, disks={"ns1": 50})
    assert names(declared, large) == []
    assert any("a disk can only grow" in each.remedy for each in server.judge(large, declared, ON))


def test_a_guest_that_is_off_is_started(place: Path) -> None:
    declared = site(place)
    text = "\n".join(f"size {guest.name} {guest.disk * 1024**3}" for guest in declared.guests)
    found = server.read(BARE + text, tuple(guest.name for guest in declared.guests))
    listed = names(declared, found)
    assert "ns1: start" in listed
    assert not [name for name in listed if "disk" in name or "seed" in name], "its disk is in use already"


def test_down_keeps_disks_unless_their_deletion_is_asked_for(place: Path) -> None:
    declared = site(place)
    found = answer(declared)
    kept = [step.command for step in guests.removal(declared, found, disks=False)]
    assert kept[0] == "systemctl disable --quiet outpost-guests.service"
    assert not [command for command in kept if "rm " in command]
    erased = [step.name for step in guests.removal(declared, found, disks=True)]
    assert erased[-1] == "ns1: disk erased", "the name servers end last"
    assert list(guests.removal(declared, bare(declared), disks=True)) == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("release debian 12", "runs debian 12"),
        ("machine aarch64", "aarch64"),
        ("memory 2000", "2000 MiB of memory"),
        ("disk 2000", "2000 MiB of free disk"),
        ("site other.example.com", "already runs the office other.example.com"),
    ],
)
def test_what_is_missing_is_found_before_anything_is_changed(place: Path, lines: str, message: str) -> None:
    declared = site(place)
    found = server.read(f"{lines}\n{BARE}", tuple(guest.name for guest in declared.guests))
    bad = [each for each in server.judge(found, declared, ON) if each.level == "bad"]
    assert any(message in each.seen for each in bad), bad
    assert all(each.remedy for each in bad)


def test_the_server_is_hardened_and_drift_there_is_repaired(place: Path) -> None:
    declared = site(place)
    found = answer(declared)
    for part in BASELINE:
        drifted = replace(found, holds=found.holds - {part.control})
        (step,) = guests.steps(declared, drifted, None, ())
        assert step.command == part.step
    assert "tcp dport { 22, 2222 } accept" in declared.on("kvm", (22, 2222)).files()[RULES]


def test_the_server_sends_alarms_about_its_baseline_and_each_guest(place: Path) -> None:
    wanted = {"tell": ["https://10.33.4.9/?key=abc"], "every": "7m", "disk_percent": 70}
    edit(place, alarms=wanted)
    made = site(place).files()
    given = json.loads(made["/etc/outpost/watch.json"])
    assert set(given["probes"]) <= watch.PROBES.keys()
    assert given["tell"] == ["https://10.33.4.9/?key=abc"]
    assert given["disk_percent"] == 70
    about = {f"{part.name} ({part.control})" for part in BASELINE}
    assert given["questions"].keys() == about | {f"{guest.name} runs" for guest in site(place).guests}
    assert "OnUnitInactiveSec=420s\n" in made["/etc/systemd/system/outpost-watch.timer"]
    source = made["/usr/local/lib/outpost-site/python/outpost/onhost/watch.py"]
    assert source == Path(watch.__file__).read_text()
    (path,) = re.findall("PYTHONPATH=(.*)", made["/etc/systemd/system/outpost-watch.service"])
    assert f"{path}/outpost/onhost/tell.py" in made


@pytest.mark.parametrize("port", ["", "0", "65536", "22; accept", "²²", "-1"])
def test_what_is_no_port_of_ssh_is_left_out_and_without_one_nothing_is_filtered(
    place: Path, port: str
) -> None:
    declared = site(place)
    found = server.read(
        BARE.replace("port 22", f"port {port}"), tuple(guest.name for guest in declared.guests)
    )
    assert found.ports == ()
    assert any(
        "no port of SSH" in each.seen for each in server.judge(found, declared, ON) if each.level == "bad"
    )


def test_a_card_that_carries_the_servers_own_address_is_refused(place: Path) -> None:
    declared = site(place)
    cut_off = answer(declared, "address eno2")
    assert [
        each.level
        for each in server.judge(cut_off, declared, ON)
        if "cut the server off" in each.remedy + each.seen
    ] == ["bad"]
    edit(place, "zones", "lan", port="enp9s0")
    missing = [each for each in server.judge(answer(declared), site(place), ON) if each.level == "bad"]
    assert "no network card enp9s0" in missing[0].seen


def test_a_guest_of_somebody_else_is_not_touched(place: Path) -> None:
    declared = site(place)
    foreign = b64encode(b"<domain><memory>1</memory><vcpu>1</vcpu></domain>").decode()
    found = answer(declared, f"definition ns1 --inactive {foreign}")
    found.guests["ns1"] = server.read(f"definition ns1 --inactive {foreign}\n", ("ns1",)).guests["ns1"]
    bad = [each.seen for each in server.judge(found, declared, ON) if each.level == "bad"]
    assert bad == ["has a guest ns1 that Outpost has not made for po.example.com"]


@pytest.mark.parametrize(
    "definition",
    [
        b'<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><domain><memory>&b;</memory></domain>',
        b"<domain><memory>much</memory></domain>",
        b"<domain>",
        b"\xff\xfe",
        b"<domain>" + b"<a>" * 100_000,
    ],
)
def test_a_definition_that_is_none_is_not_read(definition: bytes) -> None:
    assert server.shape(b64encode(definition).decode()) is None
    assert server.shape("no base64!") is None


def test_hostile_lines_neither_end_the_command_nor_reach_the_terminal(place: Path) -> None:
    declared = site(place)
    output = "size ns1 99999999999999999999\nlink \x1b]52;c;aaaa\x07\nrelease \x1b[2Jdebian 13\ndefinition ns1\nstate\n\n   \nfile 1"
    found = server.read(output, ("ns1", "ns2", "mta", "store", "webmail"))
    assert found.guests["ns1"].disk == 0
    text = "".join(each.seen + each.remedy for each in server.judge(found, declared, ON))
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"wan": "eno1", "lan": "eno1"}, "zones.lan.port"),
        ({"wan": "eno1", "lan": "eno1.20"}, "zones.lan.port"),
        ({"wan": "eno1.20", "lan": "eno1.20"}, "zones.lan.port"),
        ({"wan": "eno1.4095"}, "zones.wan.port"),
        ({"wan": "lo"}, "zones.wan.port"),
        ({"wan": "eno1; reboot"}, "zones.wan.port"),
        ({"wan": "a-name-of-17-long"}, "zones.wan.port"),
    ],
)
def test_mistakes_in_ports_are_found(place: Path, values: dict[str, str], field: str) -> None:
    for zone in ("wan", "lan"):
        edit(place, "zones", zone, port=values.get(zone, ""))
    assert field in [problem.field for problem in check(place)]


def test_two_vlans_of_one_card_carry_two_zones(place: Path) -> None:
    edit(place, "zones", "wan", port="eno1.10")
    assert not [problem for problem in check(place) if "port" in problem.field]


def test_hosts_may_stand_on_several_servers(place: Path) -> None:
    edit(place, "hosts", "ns2", server="root@198.51.100.7")
    office = load(place, uncertified=True)
    assert "ns2" not in [host.name for host in up.hosts_on(office, ON)]
    assert "ns2" in [host.name for host in up.hosts_on(office, "root@198.51.100.7")]
    with pytest.raises(OutpostError, match="names no server"):
        up.hosts_on(office, "root@-oProxyCommand=x y")


def test_a_limit_leaves_the_other_guests_as_they_are(place: Path) -> None:
    declared = site(place)
    one, found = declared.only(["ns1"]), bare(declared)
    assert {name.partition(":")[0] for name in names(one, found)} == {
        *(part.name for part in BASELINE),
        "bridges of the zones",
        "image of the disks",
        "ns1",
    }
    removed = [step.name for step in guests.removal(one, answer(declared), disks=False)]
    assert removed == ["ns1: shut down", "ns1: forgotten by libvirt"], "the others start with the server"


def test_an_image_is_taken_with_its_digest_alone(tmp_path: Path) -> None:
    file = tmp_path / "debian.qcow2"
    file.write_bytes(b"image")
    digest = hashlib.sha512(b"image").hexdigest()
    with pytest.raises(OutpostError, match=r"SHA-512 of .* is missing"):
        up.named(str(file), "")
    with pytest.raises(OutpostError, match=r"SHA-512 of .* is missing"):
        up.named("https://example.com/debian.qcow2", "'; reboot")
    with pytest.raises(OutpostError, match="does not have this SHA-512"):
        up.named(str(file), "0" * 128)
    Path(f"{file}.sha512").write_text(f"{digest}  debian.qcow2\n")
    assert up.named(str(file), "").digest == digest


def commanded(monkeypatch: pytest.MonkeyPatch, place: Path, found: Server) -> list[list[str]]:
    """The steps of each pyinfra run of `machines up` and `down`, on a server with these answers."""
    carried_out: list[list[str]] = []

    def outcome(
        _work: up.Work, steps: list[guests.Step], *_arguments: object, dry: bool = False, **_more: object
    ) -> Outcome:
        listed = [step.name for step in steps]
        if not dry:
            carried_out.append(listed)
        return Outcome(("server",), tuple(Change("server", name) for name in listed), {}, (), 0.0)

    declared, office = site(place), load(place, uncertified=True)
    monkeypatch.setattr(
        up, "examined", lambda target, *_: up.Work(target, office, ON, declared, declared, found)
    )
    monkeypatch.setattr(up.Work, "outcome", outcome)
    monkeypatch.setattr(secrets_file, "read", lambda _place: SimpleNamespace(ssh_hosts={}))
    return carried_out


def test_a_second_up_says_that_nothing_changes(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carried_out = commanded(monkeypatch, place, answer(site(place)))
    assert run(["machines", "up", str(place), "--on", ON]) == 0
    assert "nothing to change, 5 guests as declared" in capsys.readouterr().out
    assert carried_out == []


def test_check_names_what_up_would_do(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = answer(site(place))
    carried_out = commanded(monkeypatch, place, before)
    assert run(["machines", "check", str(place), "--on", ON]) == 0, capsys.readouterr()
    edit(place, "hosts", "webmail", memory="2GiB")
    before.guests["ns1"] = replace(before.guests["ns1"], disk=0)
    before.guests["mta"] = replace(before.guests["mta"], running=False)
    commanded(monkeypatch, place, replace(before, holds=before.holds - {"SSH-01"}))
    capsys.readouterr()
    assert run(["machines", "check", str(place), "--on", ON]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    wrong = (
        "has no disk of ns1",
        "not as declared: webmail: definition",
        "not as declared: mta: start",
        "not true: SSH takes",
    )
    assert [each for each in wrong if f"bad {ON}: {each}" not in printed] == []
    assert "webmail runs with its former size" in printed
    assert carried_out == []


def test_a_restart_is_not_among_what_yes_agrees_to(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = answer(site(place))
    edit(place, "hosts", "webmail", memory="2GiB")
    carried_out = commanded(monkeypatch, place, before)
    assert run(["machines", "up", str(place), "--on", ON]) == 1, "it asks, and nobody is there to answer"
    assert carried_out == []
    assert run(["machines", "up", str(place), "--on", ON, "--yes"]) == 0
    assert carried_out == [["webmail: definition with 2048 MiB, 1 CPU"]]
    assert f"--on {ON} --restart" in capsys.readouterr().out
    assert run(["machines", "up", str(place), "--on", ON, "--yes", "--restart"]) == 0
    assert carried_out[1] == ["webmail: definition with 2048 MiB, 1 CPU", "webmail: restart"]


def test_down_asks_and_deletes_disks_only_for_the_domain(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried_out = commanded(monkeypatch, place, answer(site(place)))
    assert run(["machines", "down", str(place), "--on", ON]) == 1
    assert run(["machines", "down", str(place), "--on", ON, "--yes", "--erase-disks", "example.com"]) == 1
    assert carried_out == []
    assert run(["machines", "down", str(place), "--on", ON, "--yes"]) == 0
    assert run(["machines", "down", str(place), "--on", ON, "--yes", "--erase-disks", "po.example.com"]) == 0
    assert ["erased" in name for name in (carried_out[0][-1], carried_out[1][-1])] == [False, True]


def test_a_new_guest_without_an_image_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carried_out = commanded(monkeypatch, place, bare(site(place)))
    assert run(["machines", "up", str(place), "--on", ON, "--yes"]) == 1
    assert "no image for the disks of ns1, ns2" in capsys.readouterr().err
    assert carried_out == []


@pytest.mark.parametrize(
    ("kind", "looks", "status"),
    [("kvm", 2, 0), ("kvm", 50, 1), ("qemu", 50, 0), ("qemu", 200, 1)],
)
def test_a_restart_waits_until_the_guest_has_ended_and_no_longer(
    place: Path, tmp_path: Path, kind: Virtualization, looks: int, status: int
) -> None:
    """The shell of the step, with a libvirt that reports a running guest for some time."""
    count = tmp_path / "count"
    programs = {
        "virsh": f'echo "$3" >> {tmp_path}/calls; [ "$3" != domstate ] || {{ echo x >> {count}; '
        f"[ $(wc -l < {count}) -le {looks} ] && echo running || echo 'shut off'; }}",
        "sleep": ":",
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    before = answer(site(place))
    edit(place, "hosts", "ns1", memory="1GiB")
    declared = site(place).on(kind)
    (step,) = (
        each
        for each in guests.steps(declared, before, None, declared.only(["ns1"]).guests)
        if each.name == "ns1: restart"
    )
    done = subprocess.run(
        ["sh", "-c", step.command], env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}, check=False
    )
    assert done.returncode == status
    calls = (tmp_path / "calls").read_text().split()
    assert calls[:3] == ["shutdown", "domstate", "shutdown"], "one that is just starting has not heard it"
    assert ("start" in calls) == (status == 0), "a guest that has not ended is not started"


TANG = {"url": "http://198.51.100.9:8080", "thumbprint": "ZeNZoza5LgU5rYD_dfnf5V_pKlONlUY3-Y84Qi9auMI"}


def encrypt(place: Path, *names: str, tang: tuple[dict[str, str], ...] = (TANG,)) -> Site:
    document = tomlkit.parse((place / "office.toml").read_text())
    document["disks"] = {"encrypted": list(names), "tang": list(tang)}
    (place / "office.toml").write_text(tomlkit.dumps(document))
    return site(place)


def test_an_encrypted_disk_is_made_and_opened_with_a_passphrase_that_no_command_shows(place: Path) -> None:
    declared = encrypt(place, "store")
    keys = {"store": "the passphrase"}
    steps = {each.name: each for each in guests.steps(declared, bare(declared), IMAGE, (), keys)}
    opened = ("store: encrypted disk of 10 GiB", "store: start", "store: the server can open its disk")
    assert [name for name, each in steps.items() if each.stdin == "the passphrase"] == list(opened)
    assert not [each for each in steps.values() if "the passphrase" in f"{each.command}{each!r}"]
    assert list(steps)[-1] == opened[2], "head office may be out of reach, and everything runs without it"
    assert "encrypt.format=luks" in steps[opened[0]].command
    assert "luks" not in next(each.command for name, each in steps.items() if name.startswith("mta: disk"))
    assert steps["mta: start"].command.startswith("virsh ")


@pytest.mark.parametrize("given", ["", "\n"])
def test_no_disk_is_made_and_no_guest_started_with_an_empty_passphrase(
    place: Path, tmp_path: Path, given: str
) -> None:
    """QEMU would accept it and make a disk that everybody can open."""
    (tmp_path / "bin").mkdir()
    for name in ("qemu-img", "virsh", "mount", "mountpoint"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/calls\n")
        (tmp_path / "bin" / name).chmod(0o755)
    declared = encrypt(place, "store")
    script = tmp_path / "start.sh"
    script.write_text(declared.files()[START])
    (store,) = declared.only(["store"]).guests
    for command in (guests.disk(store, IMAGE), f"sh {script} store {store.secret}"):
        done = subprocess.run(
            ["sh", "-c", command.replace("/var/lib", str(tmp_path))], input=given.encode(),
            env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}, check=False,
        )  # fmt: skip
        assert done.returncode != 0
    assert not (tmp_path / "calls").exists()


def test_only_guests_with_encrypted_disks_wait_for_head_office(place: Path) -> None:
    def starts(declared: Site) -> dict[str, str]:
        unit = declared.files()[f"/etc/systemd/system/{UNITS[1]}"]
        return {line.split()[-1]: line for line in unit.splitlines() if line.startswith("ExecStart=")}

    bound = encrypt(place, "mta", "store")
    assert set(starts(bound)) == {
        "ns1",
        "ns2",
        "webmail",
        "outpost-guest-mta.service",
        "outpost-guest-store.service",
    }
    assert "--no-block" in starts(bound)["outpost-guest-store.service"], "nobody waits for it"
    own = bound.files()["/etc/systemd/system/outpost-guest-store.service"]
    assert "Restart=on-failure" in own
    assert "clevis" in bound.packages
    alone = encrypt(place, "mta", "store", tang=())
    assert set(starts(alone)) == {"ns1", "ns2", "webmail"}
    assert "/etc/systemd/system/outpost-guest-store.service" not in alone.files()
    assert "clevis" not in alone.packages


def test_an_encrypted_disk_is_as_declared_only_with_its_tang_servers(place: Path) -> None:
    declared = encrypt(place, "store")
    name = next(guest.bound for guest in declared.guests if guest.bound).rpartition("/")[2]
    facts = ("encrypted store", f"file 2024 {name}")
    assert names(declared, answer(declared, *facts)) == []
    assert names(declared, answer(declared, facts[0])) == ["store: the server can open its disk"]
    other = encrypt(place, "store", tang=({**TANG, "url": "http://198.51.100.10"},))
    (step,) = guests.steps(other, answer(other, *facts), None, ())
    assert step.command.index("clevis encrypt") < step.command.index(f"rm -f {DIRECTORY}/{name}")
    none = encrypt(place, "store", tang=())
    assert names(none, answer(none, *facts)) == ["store: former tang servers or TPM no longer open its disk"]


def test_a_tpm_opens_a_disk_with_or_without_head_office(place: Path) -> None:
    before = encrypt(place, "store")
    edit(place, "disks", tpm=True)
    both = site(place)
    ((kept,), (changed,)) = (
        [json.loads(guest.pins) for guest in each.only(["store"]).guests] for each in (before, both)
    )
    assert changed == {"t": 1, "pins": {**kept["pins"], "tpm2": {}}}, "one of them is enough"
    assert "clevis-tpm2" in both.packages
    assert "clevis-tpm2" not in before.packages
    edit(place, "disks", tang=[])
    (store,) = site(place).only(["store"]).guests
    assert json.loads(store.pins)["pins"] == {"tpm2": {}}
    lacking = [
        each.seen for each in server.judge(answer(both, "encrypted store"), both, ON) if each.level == "bad"
    ]
    assert lacking == ["has no TPM 2.0"]
    assert not [
        each
        for each in server.judge(answer(both, "encrypted store", "tpm yes"), both, ON)
        if each.level == "bad"
    ]


def test_a_disk_that_is_not_as_declared_is_refused(place: Path) -> None:
    declared = encrypt(place, "store")
    bad = [
        each for each in server.judge(answer(declared, "encrypted mta"), declared, ON) if each.level == "bad"
    ]
    assert [each.seen for each in bad] == [
        "the disk of mta is encrypted, and not named in disks.encrypted",
        "the disk of store is not encrypted, and named in disks.encrypted",
    ]
    assert all("docs/how-to/site-server.md" in each.remedy for each in bad)
    swaps = [each for each in server.judge(answer(declared, "swap yes"), declared, ON) if "swap" in each.seen]
    assert [each.level for each in swaps] == ["note"]


def test_a_check_names_guests_that_the_server_cannot_start_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = encrypt(place, "mta", "store")
    bound = [f"file 9 {guest.bound.rpartition('/')[2]}" for guest in declared.guests if guest.bound]
    commanded(monkeypatch, place, answer(declared, "encrypted mta", "encrypted store", *bound))
    asked: list[str] = []

    def answered(_login: str, _target: object, script: str, **_more: object) -> str:
        asked.append(script)
        return "mta\n" if len(asked) == 1 else "mta\nstore\n"

    monkeypatch.setattr(server, "run", answered)
    assert run(["machines", "check", str(place), "--on", ON]) == 1
    printed = capsys.readouterr()
    assert "the server can open the disk of mta" in printed.out
    assert "the server cannot open the disk of store" in printed.out + printed.err
    assert run(["machines", "check", str(place), "--on", ON]) == 0
    assert "clevis decrypt" in asked[0]


@pytest.fixture
def kept(place: Path) -> Path:
    """The same office with secrets."""
    assert run(["secrets", "init", str(place)]) == 0
    return place


def test_a_passphrase_is_kept_before_its_disk_is_made_and_stays(kept: Path) -> None:
    declared, target = encrypt(kept, "store"), find(str(kept))
    first = up.passphrases(target, load(kept, uncertified=True), declared, bare(declared))
    assert first == {"store": secrets_file.read(kept).disks["store"].get_secret_value()}
    assert len(first["store"]) == 44
    assert up.passphrases(target, load(kept, uncertified=True), declared, bare(declared)) == first


def test_a_disk_whose_passphrase_is_lost_is_not_given_another(kept: Path) -> None:
    declared = encrypt(kept, "store")
    with pytest.raises(OutpostError, match="no passphrase for the disk of store"):
        up.passphrases(
            find(str(kept)), load(kept, uncertified=True), declared, answer(declared, "encrypted store")
        )
    assert not secrets_file.read(kept).disks


@pytest.mark.parametrize(
    ("disks", "field"),
    [
        ({"encrypted": ["shop"]}, "disks.encrypted[0]"),
        ({"encrypted": []}, "disks.encrypted"),
        (
            {"encrypted": ["store"], "tang": [{**TANG, "url": "http://192.0.2.9; reboot"}]},
            "disks.tang[0].url",
        ),
        ({"encrypted": ["store"], "tang": [{**TANG, "url": "ftp://192.0.2.9"}]}, "disks.tang[0].url"),
        (
            {"encrypted": ["store"], "tang": [{**TANG, "url": "http://ns1.po.example.com"}]},
            "disks.tang[0].url",
        ),
        ({"encrypted": ["store"], "tang": [{**TANG, "thumbprint": "abc"}]}, "disks.tang[0].thumbprint"),
        ({"encrypted": ["store"], "tang": [{"url": TANG["url"]}]}, "disks.tang[0].thumbprint"),
    ],
)
def test_mistakes_in_disks_are_found(place: Path, disks: dict[str, object], field: str) -> None:
    document = tomlkit.parse((place / "office.toml").read_text())
    document["disks"] = disks
    (place / "office.toml").write_text(tomlkit.dumps(document))
    assert [problem.field for problem in check(place)] == [field]


def test_the_remedy_for_a_server_whose_name_is_not_known_names_the_option(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless(*_: object, **__: object) -> str:
        raise (
            failure("foo", "ssh: Could not resolve hostname foo: Name or service not known") or AssertionError
        )

    monkeypatch.setattr(server, "carried_out", nameless)
    with pytest.raises(OutpostError) as raised:
        server.run("foo", find(str(place)), "true\n")
    assert "--on user@ADDRESS" in raised.value.remedy
