"""An office file that cannot work as it is written gets one finding that names field, value and remedy."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outpost.office.load import parse

ROOT = Path(__file__).resolve().parents[2]
Data = dict[str, Any]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPvl2VGKbSb6DB9Jbjn8cDsxhYg3Q6hVZCAT1Z0tOAa"
WEEK = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


def at(name: str) -> str:
    return f"{name}@po.myertor.test"


def shared(**people: list[str]) -> Data:
    return {
        "shared": [{"address": at("tenders"), **{key: list(map(at, names)) for key, names in people.items()}}]
    }


def alias(address: str, *members: str) -> Data:
    return {"address": at(address), "members": list(map(at, members))}


LIES: list[tuple[str, Data, str, str, str]] = [
    # people
    ("alias with a doubled member", {"aliases": [alias("x", "alice", "alice")]}, "aliases[0].members", "alice@po.myertor.test stands twice", "remove one"),
    ("and differing in case", {"aliases": [alias("x", "alice", "Alice")]}, "aliases[0].members[1]", "lower-case", 'write it like "alice@po.myertor.test"'),
    ("shared with a doubled member", shared(members=["alice", "alice"]), "shared[0].members", "stands twice", "remove one"),
    ("shared with a doubled reader", shared(readers=["bob", "bob"]), "shared[0].readers", "stands twice", "remove one"),
    ("shared with nobody", shared(), "shared[0].members", "nobody reads it", "name users"),
    ("shared with empty lists", shared(members=[], readers=[]), "shared[0].members", "nobody reads it", "name users"),
    ("a member who only reads", shared(members=["alice"], readers=["alice"]), "shared[0].readers", "among its members", "remove it here"),
    ("aliases in a circle", {"aliases": [alias("x", "y"), alias("y", "z"), alias("z", "x")]}, "aliases[0].members", "leads back to itself", "remove the member"),
    ("forward to an own host", {"users.0.forward": ["alice@mta.po.myertor.test"]}, "users[0].forward", "an address of this office", "addresses outside"),
    ("alias larger than its limit", {"limits.alias_members": 1}, "limits.alias_members", "office@po.myertor.test stands for 2 mailboxes", "write 2 or more"),
    ("a letter of another script", {"domain": "p\u043e.myertor.test"}, "domain", "CYRILLIC SMALL LETTER O", 'write it like "po.myertor.test"'),
    ("an address for a domain", {"domain": "info@Po.myertor.test"}, "domain", "not a fully qualified", 'write it like "po.myertor.test"'),
    ("an umlaut", {"users.0.address": "J\u00f6rg.M\u00fcller@po.myertor.test", "postmaster": at("bob"), "aliases": []}, "users[0].address", "WITH DIAERESIS", 'write it like "joerg.mueller@po.myertor.test"'),
    ("a Danish name", {"users.0.address": "s\u00f8ren@po.myertor.test", "postmaster": at("bob"), "aliases": []}, "users[0].address", "WITH STROKE", 'write it like "soeren@po.myertor.test"'),
    ("the same in a name", {"users.0.address": "\u0430lice@po.myertor.test", "postmaster": at("bob"), "aliases": []}, "users[0].address", "CYRILLIC SMALL LETTER A", "alice@po.example.com"),
    # times and counts
    ("read-only every day", {"maintenance.read_only": WEEK}, "maintenance.read_only", "apply would always refuse", "leave out the days"),
    ("read-only twice", {"maintenance.read_only": ["friday", "friday"]}, "maintenance.read_only", "friday stands twice", "remove one"),
    ("queue shorter than its warning", {"link.queue_lifetime": "2h", "dns.dkim_retention": "14d"}, "link.queue_lifetime", "not longer than link.delay_warning (14400 s)", "lengthen it, or shorten link.delay_warning"),
    ("queue as long as its warning", {"link.delay_warning": "5d"}, "link.queue_lifetime", "not longer than link.delay_warning", "shorten link.delay_warning"),
    ("one message holds an account", {"limits.recipients_per_message": 1000}, "limits.user_recipients", "one message to 1000 recipients", "raise it"),
    ("headers of one octet", {"limits.header_bytes": 1}, "limits.header_bytes", "less than 8KiB", "write 8KiB or more"),
    ("a TTL of months", {"dns.ttl": "300d"}, "dns.ttl", "zsk_lifetime", "shorten it"),
    ("large mail at no hour", {"peers.0.large": "5MiB", "peers.0.large_hours": "06:00-06:00"}, "peers[0].large_hours", "ends when it begins", "write two different times"),
    ("a quota in exbibytes", {"users.0.quota": "9EiB"}, "users[0].quota", "more than 1PiB", "write 1PiB or less"),
    ("an infinite rate", {"link.rate_kbit": float("inf")}, "link.rate_kbit", "not a whole number", "write it like 1544"),
    ("a lifetime that ends before the second try", {"peers.0.lifetime": "1s"}, "peers[0].lifetime", "before it is tried a second time", "lengthen it"),
    ("as long as until the second try", {"peers.0.lifetime": "30s"}, "peers[0].lifetime", "before it is tried a second time", "lengthen it"),
    # names and accounts
    ("an account without a shell", {"ssh.user": "nobody"}, "ssh.user", "without a shell", "admin"),
    ("an account of systemd", {"ssh.user": "systemd-network"}, "ssh.user", "without a shell", "admin"),
    ("an A-label that stands for nothing", {"peers.0.domains": ["xn--a.test"]}, "peers[0].domains[0]", "xn--a begins like an A-label", "example.com"),
    ("an empty A-label", {"peers.0.domains": ["xn--.test"]}, "peers[0].domains[0]", "not a fully qualified domain name", "example.com"),
    ("an A-label of ASCII", {"peers.0.domains": ["xn--abc-.test"]}, "peers[0].domains[0]", "not a fully qualified domain name", "example.com"),
    ("another spelling of an A-label", {"peers.0.domains": ["xn--99999999.test"]}, "peers[0].domains[0]", "xn--99999999 begins like an A-label", "example.com"),
    # networks and addresses
    ("no zone", {"zones": {}}, "zones", "an empty table", "[zones.NAME]"),
    ("no host", {"hosts": {}}, "hosts", "an empty table", "[hosts.NAME]"),
    ("a key that is misspelt", {"peers.0": {"name": "ho", "domain": ["myertor.test"], "zone": "wan", "relays": ["10.77.0.51"], "next_hop": "mx.myertor.test", "tls": "verify"}}, "peers[0].domain", "unknown key", "did you mean domains"),
    ("a table that is misspelt", {"acme": {"directory": "https://acme.nic.test/dir", "proxi": "http://10.77.4.4:8888"}}, "acme.proxi", "unknown key", "did you mean proxy"),
    ("a peer twice", {"peers.1.name": "headoffice", "peers.1.domains": ["myertor.test"]}, "peers[1].name", "declared twice", "its own name"),
    ("a host without an address in a zone", {"hosts.mta.addresses.wan": []}, "hosts.mta.addresses.wan", "no address", "10.77.0.0/24"),
    ("part of another network", {"zones.lan.networks": ["10.77.2.128/25", "fd00:77:0:3::/64"]}, "zones.lan.networks", "overlaps 10.77.2.0/24 of zone core", "networks of its own"),
    ("around all others", {"zones.wan.networks": ["0.0.0.0/1", "fd00:77:0:0::/64"]}, "zones.wan.networks", "overlaps 10.77.1.0/24 of zone client, 10.77.2.0/24 of zone core", "networks of its own"),
    ("loopback as a network", {"zones.lan.networks": ["127.0.0.0/8", "fd00:77:0:3::/64"]}, "zones.lan.networks[0]", "not an IP network of hosts", "192.0.2.0/28"),
    ("a mapped network", {"zones.lan.networks": ["10.77.3.0/24", "::ffff:10.77.3.0/120"]}, "zones.lan.networks[1]", "not an IP network of hosts", "192.0.2.0/28"),
    ("a mapped address", {"hosts.mta.addresses.core": ["10.77.2.21", "::ffff:10.77.2.21"]}, "hosts.mta.addresses.core[1]", "stands for 10.77.2.21", "write 10.77.2.21"),
    ("a mapped relay", {"peers.0.relays": ["::ffff:10.77.0.51"]}, "peers[0].relays[0]", "stands for 10.77.0.51", "write 10.77.0.51"),
    ("an address twice on a host", {"hosts.mta.addresses.core": ["10.77.2.21", "10.77.2.21", "fd00:77:0:2::21"]}, "hosts.mta.addresses.core", "2 IPv4 addresses", "one address of each family"),
    ("a zone without an address", {"hosts.mta.addresses.core": []}, "hosts.mta.addresses.core", "no address", "10.77.2.0/24"),
    ("a gateway at the broadcast address", {"zones.lan.gateways": ["10.77.3.255"]}, "zones.lan.gateways", "broadcast address", "router's address"),
    ("a forwarder at the broadcast address", {"resolver.forwarders": ["10.77.2.255", "10.77.2.2"]}, "resolver.forwarders[0]", "broadcast address", "name a machine"),
    ("a backup at the broadcast address", {"backup.server": "10.77.4.255"}, "backup.server", "broadcast address", "name a machine"),
    ("reverse zones within each other", {"dns.reverse": ["10.77.0.0/16", "10.77.3.0/24"]}, "dns.reverse[1]", "within 10.77.0.0/16", "remove one"),
    ("a card without an address", {"hosts.mta.macs": {"core": "00:00:00:00:00:00"}}, "hosts.mta.macs.core", "not the hardware address", 'write it like { core = "52:54:00:12:34:56" }'),
    ("a peer among the users", {"peers.1.zone": "lan"}, "peers[1].zone", "a peer inside the office", "partner's zone"),
    # hosts
    ("an SSH login on another host", {"hosts.mta.ssh": "root@10.77.4.31"}, "hosts.mta.ssh", "an address of store", "address of mta"),
    ("two hosts behind one login", {"hosts.ns1.ssh": "root@192.0.2.9:22", "hosts.ns2.ssh": "192.0.2.9"}, "hosts.ns2.ssh", "ns1 is reached there", "port of its own"),
    ("accepted everywhere and refused", {"maintenance.accepted": ["account x"], "hosts.mta.refused": ["account x"]}, "hosts.mta.refused[0]", "accepted, too", "remove it from one"),
    ("accepted and refused", {"hosts.mta.accepted": ["account x"], "hosts.mta.refused": ["account x"]}, "hosts.mta.refused[0]", "accepted, too", "remove it from one"),
    ("a name server that retires", {"hosts.ns1.retiring": True}, "hosts.ns1.retiring", "only an MTA", "remove it"),
    ("no way to administer a host", {"hosts.ns1.addresses": {"wan": ["10.77.0.11", "fd00:77:0:0::11"], "core": ["10.77.2.11", "fd00:77:0:2::11"]}, "logs": {}, "backup.server": "192.0.2.9"}, "hosts.ns1.addresses", "no address in the management zone", "give it one in mgmt"),
    ("a store out of its users' reach", {"hosts.store.addresses": {"core": ["10.77.2.31", "fd00:77:0:2::31"], "mgmt": ["10.77.4.31", "fd00:77:0:4::31"]}}, "hosts.store.addresses", "no address in the users' zone", "give it one in lan"),
    ("an MTA out of the Internet's reach", {"hosts.mta.addresses": {"core": ["10.77.2.21", "fd00:77:0:2::21"], "mgmt": ["10.77.4.21", "fd00:77:0:4::21"]}, "peers": []}, "hosts.mta.addresses", "no address in the Internet's zone", "give it one in wan"),
    ("memory of a toaster", {"hosts.mta.memory": "1KiB"}, "hosts.mta.memory", "less than 256MiB", "write 256MiB or more"),
    ("a disk of a toaster", {"hosts.mta.disk": "1KiB"}, "hosts.mta.disk", "less than 2GiB", "write 2GiB or more"),
    # services elsewhere
    ("the office as smarthost", {"smarthost": {"host": "po.myertor.test"}}, "smarthost.host", "a mail loop", "a machine outside"),
    ("the office as next hop", {"peers.0.next_hop": "po.myertor.test"}, "peers[0].next_hop", "a mail loop", "the peer's own relay"),
    ("a host's name as a peer's domain", {"peers.0.domains": ["mta.po.myertor.test"]}, "peers[0].domains", "mail loop", "remove it"),
    ("all mail to an own address", {"closing.forward": at("alice")}, "closing.forward", "an address of this office", "an address outside"),
    ("alarms by way of the MTA", {"alarms.tell": ["smtp://10.77.4.21/?to=a@b.test&from=c@d.test", "http://10.77.4.2:8025/"]}, "alarms.tell[0]", "mta of this office", "a machine outside"),
    ("an alarm to half an address", {"alarms.tell": ["smtp://10.77.4.2/?to=x&from=a@b.test"]}, "alarms.tell[0]", "recipient (to)", "&from=ADDRESS"),
    ("an alarm with a header", {"alarms.tell": ["smtp://10.77.4.2/?to=a@b.test%0d%0aBcc:x&from=a@b.test"]}, "alarms.tell[0]", "recipient (to)", "&from=ADDRESS"),
    ("a webhook with a password", {"alarms.tell": ["https://user:word@10.77.4.2/x"]}, "alarms.tell[0]", "a password", "remove it"),
    ("a mirror of dots", {"archive.mirror": "http://.../debian"}, "archive.mirror", "cannot be read", "http://deb.debian.org/debian"),
    ("a trust anchor that is none", {"resolver.trust_anchor": [f". IN DS 20326 8 2 {'A' * 40}"]}, "resolver.trust_anchor[0]", "not a DS record", "E06D44B8"),
    ("a key tag beyond its field", {"resolver.trust_anchor": [f". IN DS 99999 8 2 {'A' * 64}"]}, "resolver.trust_anchor[0]", "not a DS record", "E06D44B8"),
    ("backups above their directory", {"backup.directory": "/srv/../etc"}, "backup.directory", "not a full path", "/srv/outpost/po"),
    ("backups as root", {"backup.account": "root"}, "backup.account", "the office's alone", "outpost-po"),
    ("everything is harmless", {"verification.explained": [{"says": ".*", "why": "nothing is ever wrong"}]}, "verification.explained[0].says", "finds every line", "chronyd"),
    ("a private key among public ones", {"ssh.authorized_keys": ["-----BEGIN OPENSSH PRIVATE KEY-----"]}, "ssh.authorized_keys[0]", "a secret", "secrets.age"),
    ("an age key with a wrong letter", {"secrets.recipients": ["age1qq25ls7tk5md8new809qgxvdfpwh299m69pvd6tf23cjyycdzcnsq52y7q"]}, "secrets.recipients[0]", "not an age public key", "age1…"),
    ("a zone in capitals", {"zones.LAN": {"kind": "users", "networks": ["10.99.0.0/24"]}}, "zones.LAN", "not a host label", 'write it like "lan"'),
    ("a domain of multicast DNS", {"domain": "po.local"}, "domain", "reserved", "register"),
    ("a host with the name of a service", {"hosts.mta-sts": {"role": "dns", "addresses": {"wan": ["10.77.0.99", "fd00:77:0:0::99"], "core": ["10.77.2.99", "fd00:77:0:2::99"], "mgmt": ["10.77.4.99", "fd00:77:0:4::99"]}}}, "hosts.mta-sts", "another host answers", "another name"),
]  # fmt: skip


@pytest.fixture
def lab() -> Data:
    """The case study's office file as data, without the authority that only an instance has."""
    data = tomllib.loads((ROOT / "inventory/lab/office.toml").read_text(encoding="utf-8"))
    del data["tls"]["trusted_authorities"]
    return data


def spoilt(data: Data, values: Data) -> Data:
    """The file with other values at dotted places; another domain replaces the domain everywhere."""
    data = copy.deepcopy(data)
    for path, value in values.items():
        steps: list[Any] = [int(step) if step.isdigit() else step for step in path.split(".")]
        *parents, last = steps
        node: Any = data
        for step in parents:
            node = node[step] if isinstance(node, list) else node.setdefault(step, {})
        node[last] = value
    return data


@pytest.mark.parametrize(
    ("values", "field", "message", "remedy"), [row[1:] for row in LIES], ids=[row[0] for row in LIES]
)
def test_what_cannot_work_gets_one_finding(
    lab: Data, values: Data, field: str, message: str, remedy: str
) -> None:
    found = parse(spoilt(lab, values))[1]
    assert [(problem.field, message in problem.message, remedy in problem.remedy) for problem in found] == [
        (field, True, True)
    ], "\n".join(map(str, found))


@pytest.mark.parametrize(
    "values",
    [
        shared(readers=["bob"]),
        {"maintenance.read_only": WEEK[:6]},
        {"link.delay_warning": "1d"},
        {
            "hosts.ns1.ssh": "192.0.2.9:2201",
            "hosts.ns2.ssh": "192.0.2.9:2202",
        },  # forwarded ports of one router
        {"hosts.ns1.ssh": "root@10.77.0.11"},
        {"verification.explained": [{"says": "^chronyd: .*", "why": "the site has no power at night"}]},
        {"secrets.recipients": ["age1qq25ls7tk5md8new809qgxvdfpwh299m69pvd6tf23cjyycdzcnsq52y76"]},
        {"users.0.disabled": True},  # the postmaster's account must be locked at once, too
    ],
    ids=str,
)
def test_what_works_is_accepted(lab: Data, values: Data) -> None:
    assert parse(spoilt(lab, values))[1] == []


def test_a_zone_that_is_misspelt_is_named_once_for_all_hosts(lab: Data) -> None:
    lab["zones"]["wann"] = lab["zones"].pop("wan")
    (problem,) = parse(lab)[1]
    assert (problem.field, problem.message) == (
        "hosts.ns1.addresses.wan",
        "no such zone, which ns1, ns2, mta, webmail have",
    )
    assert "did you mean wann" in problem.remedy


def test_each_entry_that_is_removed_or_misspelt_is_one_finding_and_no_traceback(lab: Data) -> None:
    """Every table and key of the case study, one after the other."""

    def steps(node: Any, location: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        for key, value in node.items() if isinstance(node, dict) else ():
            yield (*location, key)
            yield from steps(value, (*location, key))

    several = []
    for *above, last in list(steps(lab)):
        for spoil in ("remove", "empty", "misspell"):
            data = copy.deepcopy(lab)
            node = data
            for step in above:
                node = node[step]
            value = node.pop(last)
            if spoil != "remove":
                node[f"{last}x" if spoil == "misspell" else last] = value if spoil == "misspell" else {}
            if len(found := parse(data)[1]) > 1 and not (
                spoil == "empty" and all("missing" in p.message or "no zone" in p.message for p in found)
            ):
                several.append((spoil, *above, last, [str(problem) for problem in found]))
    assert several == []
