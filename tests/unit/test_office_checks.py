"""Every mistake in an office file gets one clear finding with field, value and remedy; all findings are printed at once."""

from __future__ import annotations

import copy
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from outpost.office import Office, OfficeError, Problem, check, load
from outpost.office.load import parse
from outpost.office.model import SCHEMA

ROOT = Path(__file__).resolve().parents[2]
Data = dict[str, Any]
NONSENSE = st.one_of(
    st.text(max_size=60),
    st.integers(max_value=-1),
    st.integers(min_value=10**12),
    st.just(0.5),
    st.booleans(),
    st.lists(st.text(max_size=5), max_size=2),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
    st.sampled_from(["0", "0s", "-1", "9" * 400, "255.255.255.255", "::1", "ff02::1"]),
)


@pytest.fixture
def lab() -> Data:
    """The case study's office file as data, without the authority that only an instance has."""
    data = tomllib.loads((ROOT / "inventory/lab/office.toml").read_text(encoding="utf-8"))
    del data["tls"]["trusted_authorities"]
    return data


def problems_of(data: Data) -> list[Problem]:
    return parse(copy.deepcopy(data))[1]


def test_the_case_study_is_accepted(lab: Data) -> None:
    assert problems_of(lab) == []


def test_a_newer_schema_is_refused_with_its_remedy_alone(lab: Data) -> None:
    """The rest of a newer file is not checked: its keys may be right in the newer version."""
    assert problems_of(lab | {"schema": SCHEMA}) == []
    (problem,) = problems_of(lab | {"schema": SCHEMA + 1, "key_of_tomorrow": True})
    assert (problem.field, problem.value) == ("schema", str(SCHEMA + 1))
    assert "upgrade Outpost" in problem.remedy
    assert "schema" in {problem.field for problem in problems_of(lab | {"schema": 0})}


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPvl2VGKbSb6DB9Jbjn8cDsxhYg3Q6hVZCAT1Z0tOAa"


def no_administrator(data: Data) -> None:
    data["ssh"] = {"authorized_keys": []}


def garbage_key(data: Data) -> None:
    data["ssh"] = {"authorized_keys": ["ssh-ed25519 AAAA maria@site"]}


def key_of_another_kind(data: Data) -> None:
    data["ssh"] = {"authorized_keys": [KEY.replace("ssh-ed25519", "ssh-rsa", 1)]}


def key_cut_off(data: Data) -> None:
    data["ssh"] = {"authorized_keys": [KEY[:-8]]}


def account_with_a_command(data: Data) -> None:
    data["ssh"] = {"user": "ad min; rm"}


def header_in_a_name(data: Data) -> None:
    data["organisation"] = "Office\r\nBcc: all@example.net"


def header_in_a_persons_name(data: Data) -> None:
    data["users"][0]["full_name"] = "Alice\nFrom: ceo@example.com"


def message_of_nothing(data: Data) -> None:
    data["limits"]["message_size"] = "0"


def mirror_without_scheme(data: Data) -> None:
    data["archive"]["mirror"] = "deb.debian.org/debian"


def mirror_with_words(data: Data) -> None:
    data["archive"]["security_mirror"] = "http://deb.debian.org/debian [trusted=yes]"


def broadcast_address(data: Data) -> None:
    data["hosts"]["mta"]["addresses"]["core"] = ["10.77.2.255", "fd00:77:0:2::21"]


def network_address(data: Data) -> None:
    data["hosts"]["mta"]["addresses"]["core"] = ["10.77.2.21", "fd00:77:0:2::"]


def loopback(data: Data) -> None:
    data["resolver"]["forwarders"] = ["127.0.0.1"]


def own_forwarder(data: Data) -> None:
    data["resolver"]["forwarders"] = [data["hosts"]["ns1"]["addresses"]["mgmt"][0]]


def own_time(data: Data) -> None:
    data["time"]["servers"] = ["ns1.po.myertor.test"]


def own_backup(data: Data) -> None:
    data["backup"]["server"] = data["hosts"]["store"]["addresses"]["mgmt"][0]


def own_proxy(data: Data) -> None:
    data["archive"]["proxy"] = f"http://{data['hosts']['ns1']['addresses']['mgmt'][0]}:3142"


def person_named_postmaster(data: Data) -> None:
    data["users"].append({"address": "postmaster@po.myertor.test"})


def person_named_root(data: Data) -> None:
    data["users"].append({"address": "root@po.myertor.test"})


def alias_of_the_daemon(data: Data) -> None:
    data["aliases"].append({"address": "mailer-daemon@po.myertor.test", "members": ["alice@po.myertor.test"]})


def another_domain(data: Data) -> None:
    data["domain"] = "po.myertor.example"


def wrong_network(data: Data) -> None:
    data["zones"]["core"]["networks"] = ["10.177.2.0/24", "fd00:77:0:2::/64"]


def number_for_yes(data: Data) -> None:
    data["peers"][0]["backup_mx"] = 1


def yes_for_a_number(data: Data) -> None:
    data["peers"][0]["listen"] = True


def forwarder_out_of_reach_of_some(data: Data) -> None:
    data["resolver"]["forwarders"] = ["10.77.3.53"]  # the users' zone


def two_roles(data: Data) -> None:
    data["hosts"]["mta"]["role"] = ["mta", "store"]


def two_roles_in_words(data: Data) -> None:
    data["hosts"]["mta"]["role"] = "mta, store"


def roles_key(data: Data) -> None:
    data["hosts"]["mta"]["roles"] = ["mta", "store"]


def shared_machine(data: Data) -> None:
    data["hosts"]["webmail"]["addresses"]["lan"] = data["hosts"]["store"]["addresses"]["lan"]


def no_zone(data: Data) -> None:
    data["hosts"]["mta"]["addresses"] = {}


def unknown_zone(data: Data) -> None:
    data["hosts"]["mta"]["addresses"]["cor"] = data["hosts"]["mta"]["addresses"].pop("core")


def collector_out_of_reach(data: Data) -> None:
    data["logs"]["addresses"] = ["10.77.0.54"]  # the store is not in that zone


def alarm_from_nobody(data: Data) -> None:
    data["alarms"]["tell"] = ["smtp://10.77.4.2/?to=admin@myertor.test"]


def collector_without_a_name(data: Data) -> None:
    del data["logs"]["collector"]


def local_file_by_wildcard(data: Data) -> None:
    data["hosts"]["mta"]["local"] = ["/etc/nginx/*.conf"]


def local_file_of_outposts(data: Data) -> None:
    data["hosts"]["mta"]["local"] = ["/etc/outpost/tls/host.key"]


def local_everything(data: Data) -> None:
    data["hosts"]["mta"]["local"] = ["/usr/local/"]


def local_file_nobody_looks_at(data: Data) -> None:
    data["hosts"]["mta"]["local"] = ["/var/cache/x"]


def no_way_to_the_authority(data: Data) -> None:
    del data["acme"]["proxy"]


def no_provided_certificate(data: Data) -> None:
    data["hosts"]["store"]["certificates"] = "provided"


def overlapping_zones(data: Data) -> None:
    data["zones"]["lan"]["networks"] = ["10.77.2.0/23", "fd00:77:0:3::/64"]


def outside_network(data: Data) -> None:
    data["hosts"]["mta"]["addresses"]["core"] = ["10.99.2.21", "fd00:77:0:2::21"]


def two_of_one_family(data: Data) -> None:
    data["hosts"]["mta"]["addresses"]["core"] = ["10.77.2.21", "10.77.2.22"]


def family_missing(data: Data) -> None:
    data["hosts"]["mta"]["addresses"]["core"] = ["10.77.2.21"]


def family_of_one_host(data: Data) -> None:
    family_not_carried(data)
    for host in data["hosts"].values():
        host["addresses"]["core"] = host["addresses"]["core"][:1]
    data["hosts"]["mta"]["addresses"]["core"].append("fd00:77:0:2::21")


def family_not_carried(data: Data) -> None:
    data["zones"]["core"]["networks"] = ["10.77.2.0/24"]


def not_an_address(data: Data) -> None:
    data["hosts"]["mta"]["addresses"]["core"] = ["10.77.2.321", "fd00:77:0:2::21"]


def host_bits(data: Data) -> None:
    data["zones"]["core"]["networks"] = ["10.77.2.1/24", "fd00:77:0:2::/64"]


def unknown_key(data: Data) -> None:
    data["limits"]["mesage_size"] = "10MiB"


def unknown_top_key(data: Data) -> None:
    data["pears"] = []


def duplicate_user(data: Data) -> None:
    data["users"].append({"address": "bob@po.myertor.test"})


def user_is_alias(data: Data) -> None:
    data["users"].append({"address": "office@po.myertor.test"})


def foreign_user(data: Data) -> None:
    data["users"].append({"address": "eve@elsewhere.test"})


def foreign_alias(data: Data) -> None:
    data["aliases"].append({"address": "all@elsewhere.test", "members": ["bob@po.myertor.test"]})


def duplicate_alias(data: Data) -> None:
    data["aliases"].append(dict(data["aliases"][0]))


def day_without_rule(data: Data) -> None:
    data["policy"] = {"second_factor_from": "2027-01-31"}


def unknown_member(data: Data) -> None:
    data["aliases"][0]["members"] = ["bobb@po.myertor.test"]


def alias_loop(data: Data) -> None:
    data["aliases"] = [
        {"address": "a@po.myertor.test", "members": ["b@po.myertor.test"]},
        {"address": "b@po.myertor.test", "members": ["a@po.myertor.test", "bob@po.myertor.test"]},
    ]


def alias_of_itself(data: Data) -> None:
    data["aliases"] = [{"address": "a@po.myertor.test", "members": ["a@po.myertor.test"]}]


def peer_without_route(data: Data) -> None:
    del data["peers"][0]["next_hop"]


def peer_without_tls(data: Data) -> None:
    del data["peers"][0]["tls"]


def peer_with_optional_tls(data: Data) -> None:
    data["peers"][0]["tls"] = "may"


def peers_in_a_circle(data: Data) -> None:
    data["peers"][0]["next_hop"] = "mx.steeltec.test"
    data["peers"][1]["next_hop"] = "mx.myertor.test"


def peer_back_to_us(data: Data) -> None:
    data["peers"][0]["next_hop"] = "mta.po.myertor.test"


def peer_takes_our_domain(data: Data) -> None:
    data["peers"][0]["domains"] = ["po.myertor.test"]


def peers_share_a_domain(data: Data) -> None:
    data["peers"][1]["domains"] = ["myertor.test"]


def peer_pinned_to_nothing(data: Data) -> None:
    data["peers"][0]["tls"] = "fingerprint"


def peer_pinned_but_not_looked_at(data: Data) -> None:
    data["peers"][0]["fingerprints"] = [":".join(["AB"] * 32)]


def peer_on_port_25_of_the_internet(data: Data) -> None:
    data["peers"][0]["listen"] = 25


def peer_where_the_mta_is_not(data: Data) -> None:
    del data["hosts"]["mta"]["addresses"]["client"]


def message_larger_than_scanner(data: Data) -> None:
    data["limits"] |= {"message_size": "100MiB"}
    del data["users"][3]["quota"]


def budget_below_one_message(data: Data) -> None:
    data["limits"] |= {"message_budget": "10MiB"}


def signature_rate_below_the_users(data: Data) -> None:
    data["limits"] |= {"same_signature": 10}
    data["users"] += [{"address": f"user{number}@po.myertor.test"} for number in range(10)]


def message_larger_than_queue(data: Data) -> None:
    data["limits"] |= {"queue_volume": "100MiB"}


def not_a_size(data: Data) -> None:
    data["limits"]["message_size"] = "huge"


def missing_role(data: Data) -> None:
    del data["hosts"]["webmail"]


def one_name_server(data: Data) -> None:
    del data["hosts"]["ns2"]


def two_stores(data: Data) -> None:
    addresses = {"core": ["10.77.2.32", "fd00:77:0:2::32"], "lan": ["10.77.3.32", "fd00:77:0:3::32"]}
    addresses["mgmt"] = ["10.77.4.32", "fd00:77:0:4::32"]
    data["hosts"]["store2"] = {"role": "store", "addresses": addresses}


def store_on_the_internet(data: Data) -> None:
    data["hosts"]["store"]["addresses"]["wan"] = ["10.77.0.31", "fd00:77::31"]


def bare_domain(data: Data) -> None:
    data["domain"] = "localhost"


def underscore_in_domain(data: Data) -> None:
    data["domain"] = "po_1.myertor.test"


def bad_host_label(data: Data) -> None:
    data["hosts"]["MTA_1"] = data["hosts"].pop("mta")


def bad_next_hop(data: Data) -> None:
    data["peers"][0]["next_hop"] = "mx"


def reverse_between_octets(data: Data) -> None:
    data["dns"] = {"reverse": ["10.77.0.0/20"]}


def key_older_than_its_successor(data: Data) -> None:
    data["dns"] = {"zsk_lifetime": "2h", "ttl": "1h", "propagation": "15m"}


def key_gone_before_its_mail(data: Data) -> None:
    data["dns"] = {"dkim_retention": "4d"}


def duration_without_unit(data: Data) -> None:
    data["dns"] = {"ttl": "an hour"}


def password(data: Data) -> None:
    data["users"][0]["password"] = "hunter2hunter2"


def private_key(data: Data) -> None:
    data["organisation"] = "-----BEGIN PRIVATE KEY-----"


def hash_value(data: Data) -> None:
    data["users"][0]["full_name"] = "$argon2id$v=19$m=65536,t=3,p=1$c2FsdA$aGFzaA"


def unknown_canary(data: Data) -> None:
    data["verification"]["canary"] = "alise@po.myertor.test"


def correspondent_of_a_peer(data: Data) -> None:
    data["verification"]["correspondents"] = ["head@myertor.test"]


def no_pattern(data: Data) -> None:
    data["verification"]["explained"] = [{"says": "(", "why": "nobody knows"}]


def unknown_postmaster(data: Data) -> None:
    data["postmaster"] = "alise@po.myertor.test"


def list_in_quotes(data: Data) -> None:
    data["resolver"]["forwarders"] = "198.51.100.53"


def table_as_text(data: Data) -> None:
    data["smarthost"] = "relay.example.net"


def host_as_list(data: Data) -> None:
    data["hosts"]["mta"] = ["10.77.2.21"]


def users_by_address(data: Data) -> None:
    data["aliases"] = ["office@po.myertor.test"]


def addresses_without_zone(data: Data) -> None:
    data["hosts"]["mta"]["addresses"] = ["10.77.2.21"]


def text_without_quotes(data: Data) -> None:
    data["organisation"] = 7


def rate_with_a_fraction(data: Data) -> None:
    data["link"]["rate_kbit"] = 1.544


def rate_of_nothing(data: Data) -> None:
    data["link"]["rate_kbit"] = 0


def name_without_end(data: Data) -> None:
    data["organisation"] = "x" * 201


def yes_in_quotes(data: Data) -> None:
    data["webmail"] = {"open_to_internet": "true"}


def yes_for_a_word(data: Data) -> None:
    data["tls"]["mta_sts"] = True


def day_of_another_order(data: Data) -> None:
    data["attack"] = {"consent_until": "31.12.2026"}


def size_of_a_poet(data: Data) -> None:
    data["users"][0]["quota"] = "1e3GiB"


def office_without_users(data: Data) -> None:
    data |= {"users": [], "aliases": [], "shared": [], "verification": {}}


def domain_in_unicode(data: Data) -> None:
    data["domain"] = "Büro-Großbaustelle.example"


def domain_as_url(data: Data) -> None:
    data["domain"] = "https://PO.myertor.test/"


def domain_of_a_novel(data: Data) -> None:
    domain = f"{'x' * 50}.myertor.test"
    data["domain"] = domain
    data["postmaster"] = f"alice@{domain}"
    data["users"] = [{"address": f"alice@{domain}"}]
    data |= {"aliases": [], "shared": [], "verification": {}}


def person_with_an_apostrophe(data: Data) -> None:
    data["users"].append({"address": "O'Brien@po.myertor.test"})


def person_with_an_umlaut(data: Data) -> None:
    data["users"].append({"address": "jürgen.groß@po.myertor.test"})


def whole_internet(data: Data) -> None:
    data["zones"]["wan"]["networks"] = ["0.0.0.0/0"]


def alarm_to_half_an_address(data: Data) -> None:
    data["alarms"]["tell"] = ["http://[::1"]


def retry_at_once(data: Data) -> None:
    data["alarms"]["every"] = "0s"


def proxy_on_no_port(data: Data) -> None:
    data["archive"]["proxy"] = "http://10.77.4.9:99999"


def host_on_no_port(data: Data) -> None:
    data["hosts"]["mta"]["ssh"] = "root@10.77.4.21:70000"


def no_domain(data: Data) -> None:
    del data["domain"]


MISTAKES: list[tuple[Callable[[Data], None], str, str, str]] = [
    (no_administrator, "ssh.authorized_keys", "an empty list", "or leave the key out"),
    (garbage_key, "ssh.authorized_keys[0]", "cut off", "paste the whole line of the .pub file"),
    (key_of_another_kind, "ssh.authorized_keys[0]", "altered", ".pub file"),
    (key_cut_off, "ssh.authorized_keys[0]", "cut off", ".pub file"),
    (account_with_a_command, "ssh.user", "not a valid value", "admin"),
    (header_in_a_name, "organisation", "U+000D", "remove it"),
    (header_in_a_persons_name, "users[0].full_name", "U+000A", "remove it"),
    (message_of_nothing, "limits.message_size", "less than 64KiB", "write 64KiB or more"),
    (list_in_quotes, "resolver.forwarders", "not a list", 'write it like ["198.51.100.53"]'),
    (table_as_text, "smarthost", "not a table", "[smarthost], with keys of host, port"),
    (host_as_list, "hosts.mta", "not a table", "[hosts.mta], with keys of role, addresses"),
    (users_by_address, "aliases[0]", "not a table", "[[aliases]], with keys of address, members"),
    (
        addresses_without_zone,
        "hosts.mta.addresses",
        "not a table",
        '{ core = ["192.0.2.21", "2001:db8:0:2::21"] }',
    ),
    (text_without_quotes, "organisation", "not a text", '"Myertor project office"'),
    (rate_with_a_fraction, "link.rate_kbit", "not a whole number", "write it like 1544"),
    (rate_of_nothing, "link.rate_kbit", "less than 64", "write 64 or more"),
    (name_without_end, "organisation", "longer than 200 characters", "shorten it"),
    (yes_in_quotes, "webmail.open_to_internet", "not true or false", "without quotes"),
    (yes_for_a_word, "tls.mta_sts", "where another value stands", 'write it like "testing"'),
    (day_of_another_order, "attack.consent_until", "not a day", 'write it like "2026-12-31"'),
    (size_of_a_poet, "users[0].quota", "not a size", "like 25MiB"),
    (office_without_users, "users", "an empty list", "name at least one (People with a mailbox)"),
    (domain_in_unicode, "domain", "A-labels", '"xn--bro-grobaustelle-mlb92c.example"'),
    (domain_as_url, "domain", "not a fully qualified domain name", '"po.myertor.test"'),
    (domain_of_a_novel, "domain", "has 71 characters", "by 7"),
    (person_with_an_apostrophe, "users[4].address", "not a mailbox address", '"obrien@po.myertor.test"'),
    (person_with_an_umlaut, "users[4].address", "not a mailbox address", '"juergen.gross@po.myertor.test"'),
    (whole_internet, "zones.wan.networks[0]", "it contains every address", "192.0.2.0/28"),
    (alarm_to_half_an_address, "alarms.tell[0]", "cannot be read", "smtp://"),
    (retry_at_once, "alarms.every", "less than 1s", "write 1s or more"),
    (proxy_on_no_port, "archive.proxy", "cannot be read", "http://192.0.2.9:3142"),
    (host_on_no_port, "hosts.mta.ssh", "not a valid value", "root@192.0.2.21:22"),
    (mirror_without_scheme, "archive.mirror", "http://HOST/PATH", "http://deb.debian.org/debian"),
    (mirror_with_words, "archive.security_mirror", "http://HOST/PATH", "debian-security"),
    (broadcast_address, "hosts.mta.addresses.core", "no host can have it", "between the first and the last"),
    (network_address, "hosts.mta.addresses.core", "no host can have it", "between the first and the last"),
    (loopback, "resolver.forwarders[0]", "of one machine", "198.51.100.53"),
    (own_forwarder, "resolver.forwarders[0]", "ns1 of this office has this address", "a machine outside"),
    (own_time, "time.servers[0]", "ns1 of this office has this address", "a machine outside"),
    (own_backup, "backup.server", "store of this office has this address", "a machine outside"),
    (own_proxy, "archive.proxy", "ns1 of this office has this address", "a machine outside"),
    (person_named_postmaster, "users[4].address", "RFC 2142", "a name of their own"),
    (person_named_root, "users[4].address", "RFC 2142", "a name of their own"),
    (alias_of_the_daemon, "aliases[1].address", "their own notices", "another name"),
    (
        another_domain,
        "domain",
        "no address of the office has this domain",
        "write the domain of the addresses",
    ),
    (wrong_network, "zones.core.networks", "no host's address", "correct the network"),
    (number_for_yes, "peers[0].backup_mx", "not true or false", "MX of last resort"),
    (yes_for_a_number, "peers[0].listen", "where another value stands", "listener"),
    (forwarder_out_of_reach_of_some, "resolver.forwarders", "ns1, ns2, mta:", "they reach"),
    (two_roles, "hosts.mta.role", "two roles on one host", "one host for each role"),
    (two_roles_in_words, "hosts.mta.role", "two roles on one host", "one host for each role"),
    (roles_key, "hosts.mta.roles", "one role", "one host for each role"),
    (shared_machine, "hosts.webmail.addresses.lan", "two roles would share one machine", "own address"),
    (no_zone, "hosts.mta.addresses", "no zone", "wan"),
    (unknown_zone, "hosts.mta.addresses.cor", "no such zone", "did you mean core"),
    (collector_out_of_reach, "logs.addresses", "store is in none of their zones", "management zone"),
    (alarm_from_nobody, "alarms.tell[0]", "or the recipient", "&from=ADDRESS"),
    (collector_without_a_name, "logs.addresses", "has no name", "logs.collector"),
    (local_file_by_wildcard, "hosts.mta.local[0]", "full path", "without wildcards"),
    (local_file_of_outposts, "hosts.mta.local[0]", "this directory belongs to Outpost", "outside it"),
    (local_everything, "hosts.mta.local[0]", "no change by hand", "a directory of their own"),
    (local_file_nobody_looks_at, "hosts.mta.local[0]", "compares no files", "put local files below"),
    (no_way_to_the_authority, "hosts.store.certificates", "cannot ask the authority", "acme.proxy"),
    (
        no_provided_certificate,
        "hosts.store.certificates",
        "no certificate in store.pem",
        "./outpost secrets csr",
    ),
    (overlapping_zones, "zones.lan.networks", "overlaps 10.77.2.0/24 of zone core", "networks of its own"),
    (outside_network, "hosts.mta.addresses.core", "outside the zone's networks", "10.77.2.0/24"),
    (two_of_one_family, "hosts.mta.addresses.core", "2 IPv4 addresses", "one address of each family"),
    (family_missing, "hosts.mta.addresses.core", "no IPv6 address", "IPv6"),
    (
        family_not_carried,
        "zones.core.networks",
        "no IPv6 network, and the hosts have IPv6",
        "add the network",
    ),
    (family_of_one_host, "hosts.mta.addresses.core", "an IPv6 address in a zone without IPv6", "family"),
    (not_an_address, "hosts.mta.addresses.core[0]", "not an IP address", "192.0.2.21"),
    (host_bits, "zones.core.networks[0]", "not an IP", "192.0.2.0/28"),
    (unknown_key, "limits.mesage_size", "unknown key", "did you mean message_size"),
    (unknown_top_key, "pears", "unknown key", "did you mean peers"),
    (duplicate_user, "users[4].address", "declared already", "remove one"),
    (user_is_alias, "aliases[0].address", "declared already, as users[4].address", "another address"),
    (foreign_user, "users[4].address", "not in the office's domain", "eve@po.myertor.test"),
    (foreign_alias, "aliases[1].address", "not in the office's domain", "all@po.myertor.test"),
    (duplicate_alias, "aliases[1].address", "declared already", "remove one"),
    (unknown_member, "aliases[0].members", "neither a user nor an alias", "did you mean bob@po.myertor.test"),
    (
        day_without_rule,
        "policy.second_factor_from",
        "no second factor is required",
        'second_factor = "required"',
    ),
    (alias_loop, "aliases[0].members", "leads back to itself", "remove the member that leads back"),
    (alias_of_itself, "aliases[0].members", "leads back to itself", "remove the member that leads back"),
    (peer_without_route, "peers[0].next_hop", "a peer without a route", "add next_hop"),
    (peer_without_tls, "peers[0].tls", "a peer without a TLS policy", "add tls"),
    (peer_with_optional_tls, "peers[0].tls", "not one of the known values", "verify"),
    (peers_in_a_circle, "peers[0].next_hop", "peers that lead to each other", "a host of its own"),
    (peer_back_to_us, "peers[0].next_hop", "mail loop", "peer's own relay"),
    (peer_takes_our_domain, "peers[0].domains", "mail loop", "remove it"),
    (peers_share_a_domain, "peers[1].domains", "routed to headoffice already", "one peer"),
    (peer_pinned_to_nothing, "peers[0].fingerprints", "no key is pinned", "SHA-256"),
    (peer_pinned_but_not_looked_at, "peers[0].fingerprints", "not used", "leave them out"),
    (peer_on_port_25_of_the_internet, "peers[0].listen", "block this peer", "another port"),
    (peer_where_the_mta_is_not, "peers[1].zone", "no route", "hosts.mta.addresses"),
    (message_larger_than_scanner, "limits.message_size", "pass unscanned", "scan_size"),
    (message_larger_than_queue, "limits.message_size", "the queue (100MiB) holds fewer", "queue_volume"),
    (budget_below_one_message, "limits.message_budget", "smaller than one message", "raise it"),
    (signature_rate_below_the_users, "limits.same_signature", "fewer than the 14 users", "raise it"),
    (not_a_size, "limits.message_size", "not a size", "25MiB"),
    (missing_role, "hosts", "no host has the role webmail", "declare one"),
    (one_name_server, "hosts.ns1.role", "only one name server", "second host"),
    (two_stores, "hosts.store2.role", "a second store", "keep one store"),
    (store_on_the_internet, "hosts.store.addresses", "Internet's zone", "servers', users' and management"),
    (bare_domain, "domain", "not a fully qualified domain name", "po.myertor.test"),
    (underscore_in_domain, "domain", "not a fully qualified domain name", "po.myertor.test"),
    (bad_host_label, "hosts.MTA_1", "not a host label", "mta1"),
    (bad_next_hop, "peers[0].next_hop", "not a fully qualified domain name", "mx.example.com"),
    (reverse_between_octets, "dns.reverse[0]", "not a reverse zone of its own", "8 divides"),
    (
        key_older_than_its_successor,
        "dns.zsk_lifetime",
        "shorter than a roll takes: 9000 s",
        "more than 9000s",
    ),
    (
        key_gone_before_its_mail,
        "dns.dkim_retention",
        "may wait in a queue for 432000 s (link.queue_lifetime)",
        "at least 432000s",
    ),
    (duration_without_unit, "dns.ttl", "not a duration", "write it like 90s"),
    (password, "users[0].password", "a secret in the data file", "secrets.age"),
    (private_key, "organisation", "a secret in the data file", "secrets.age"),
    (hash_value, "users[0].full_name", "a secret in the data file", "secrets.age"),
    (unknown_postmaster, "postmaster", "not one of the users", "did you mean alice@po.myertor.test"),
    (unknown_canary, "verification.canary", "not one of the users", "did you mean alice@po.myertor.test"),
    (correspondent_of_a_peer, "verification.correspondents[0]", "not on the Internet", "remove it"),
    (
        no_pattern,
        "verification.explained[0].says",
        "not a regular expression",
        "Regular expression that finds the line",
    ),
    (no_domain, "domain", "required", "po.myertor.test"),
]


@pytest.mark.parametrize(
    ("spoil", "field", "message", "remedy"), MISTAKES, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_mistake_is_named_with_its_remedy(
    lab: Data, spoil: Callable[[Data], None], field: str, message: str, remedy: str
) -> None:
    spoil(lab)
    found = problems_of(lab)
    named = [problem for problem in found if problem.field == field and message in problem.message]
    assert named, [str(problem) for problem in found]
    assert remedy in named[0].remedy, str(named[0])


ECHOES = {"peers_in_a_circle", "shared_machine"}
"""Mistakes in several places of the file; each place is named."""


@pytest.mark.parametrize(
    "spoil", [row[0] for row in MISTAKES if row[0].__name__ not in ECHOES], ids=lambda f: f.__name__
)
def test_one_mistake_gets_one_finding(lab: Data, spoil: Callable[[Data], None]) -> None:
    spoil(lab)
    assert [str(problem) for problem in problems_of(lab)][1:] == []


def test_all_mistakes_are_reported_at_once(lab: Data) -> None:
    for spoil in (
        two_roles,
        unknown_key,
        duplicate_user,
        peer_without_tls,
        overlapping_zones,
        bare_domain,
        password,
    ):
        spoil(lab)
    fields = {problem.field for problem in problems_of(lab)}
    assert fields >= {
        "hosts.mta.role",
        "limits.mesage_size",
        "users[4].address",
        "peers[0].tls",
        "zones.lan.networks",
        "domain",
        "users[0].password",
    }


def test_a_secret_is_never_repeated(lab: Data) -> None:
    password(lab)
    hash_value(lab)
    shown = "\n".join(str(problem) for problem in problems_of(lab))
    assert "hunter2" not in shown
    assert "argon2id" not in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[hosts.a]\nrole = 'mta'\n[hosts.a]\nrole = 'store'\n", "stands twice"),
        ("name = po\n", "not valid TOML"),
        (b'name = "p\xf6"\n', "not UTF-8"),
        ("\ufeffname = 'po'\n", "UTF-8 without BOM"),
        ("name = \u201cpo\u201d\n", "write straight quotes"),
        ("[peers]\nname = 'a'\n[peers]\nname = 'b'\n", r"write \[\[peers\]\] above each entry"),
        (
            "name = 'po'\n".encode("utf-16-le"),
            "NUL characters, as UTF-16 does. Remedy: save the file as UTF-8",
        ),
        (f"rate = {'9' * 5000}\n", "not valid TOML .* Remedy: write a smaller number"),
        (f"x = {'[' * 5000}{']' * 5000}\n", "too deep"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, text: str | bytes, message: str) -> None:
    file = tmp_path / "office.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(OfficeError, match=message):
        load(file)


@pytest.mark.parametrize("name", ["office.toml", "known_hosts", "mta.pem"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_of_text_is_not_read(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    """Reading a FIFO would block, and /dev/zero has no end."""
    shutil.copy(ROOT / "inventory/harbour/office.toml", tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    found = [str(problem) for problem in check(tmp_path)]
    assert len(found) == (name == "office.toml"), found
    assert all("not a file of text). Remedy: put a text file there" in problem for problem in found)


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "office.toml").open("wb") as file:
        file.truncate(2**40)
    (problem,) = check(tmp_path)
    assert "more than 16 MiB" in problem.message


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(OfficeError, match="no such file"):
        load(tmp_path)


def leaves(node: Any, location: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value of a file, with its place."""
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, item in entries:
        if isinstance(item, dict | list):
            yield from leaves(item, (*location, step))
        else:
            yield (*location, step), item


def with_value(data: Data, location: tuple[str | int, ...], value: object) -> Data:
    """The same file with another value at one place."""
    changed = copy.deepcopy(data)
    node: Any = changed
    for step in location[:-1]:
        node = node[step]
    node[location[-1]] = value
    return changed


OFFICES = [
    tomllib.loads(file.read_text(encoding="utf-8"))
    for file in sorted((ROOT / "inventory").glob("*/office.toml"))
]
for _data in OFFICES:
    _data.get("tls", {}).pop("trusted_authorities", None)
TEXTS = [(data, location) for data in OFFICES for location, value in leaves(data) if isinstance(value, str)]
UNSEEN = "\0\t\n\r\x1b\x7f\x85\u200b\u2028\u202e\ufeff\ue000"


@given(st.sampled_from(TEXTS), st.sampled_from(UNSEEN), st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=400, deadline=None)
def test_no_string_of_an_office_hides_a_character(
    where: tuple[Data, tuple[str | int, ...]], unseen: str, before: str, after: str
) -> None:
    """Characters that end a line, a header or a quotation: in a user's name they would inject a header."""
    data, location = where
    assert len(problems_of(with_value(data, location, f"{before}{unseen}{after}"))) == 1


FREE = re.compile(r"^(organisation|users.*full_name)$")
"""Fields that may have any printable text."""


@given(
    st.sampled_from(TEXTS),
    st.sampled_from(["x; rm -rf /", "$(id)", "a'b", 'a"b', "a\\b", "{{ x }}", "<x>", "a b"]),
)
@settings(max_examples=400, deadline=None)
def test_what_is_no_text_takes_no_words_of_a_shell(
    where: tuple[Data, tuple[str | int, ...]], words: str
) -> None:
    data, location = where
    found = problems_of(with_value(data, location, words))
    path = ".".join(map(str, location))
    assert len(found) == (0 if FREE.match(path) else 1), (path, found)


@given(st.sampled_from([(data, location) for data in OFFICES for location, _ in leaves(data)]), NONSENSE)
@settings(max_examples=600, deadline=None)
def test_one_wrong_value_is_one_finding_at_most_and_never_a_traceback(
    where: tuple[Data, tuple[str | int, ...]], value: object
) -> None:
    data, location = where
    with suppress(ValueError):  # a valid network is another mistake
        ip_network(str(value))
        assume(False)
    found = problems_of(with_value(data, location, value))
    assert len(found) <= 1, found
    for problem in found:
        assert len(str(problem)) < 2000
        assert "Remedy" in str(problem)


def strings(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[tuple[str, Any]]:
    """Every field of the office file that holds text, through all its tables."""
    if model in seen:
        return
    seen.add(model)
    for name, info in model.model_fields.items():
        parts = list(flat(info.annotation))
        for part in parts:
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from strings(part, seen)
        if str in parts:
            yield f"{model.__name__}.{name}", info


def flat(annotation: Any) -> Iterator[Any]:
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for item in inner:
        yield from flat(item)


READ_FROM_ELSEWHERE = {
    "TrustedAuthority.name",
    "TrustedAuthority.pem",
    "ProvidedCertificate.host",
    "ProvidedCertificate.pem",
    "Ssh.host_keys",
    "Host.domain",
    "Peer.zone",
    "Host.addresses",
    "Office.zones",
    "Office.hosts_by_name",
}
"""Files beside the office's, copies, names that must be those of tables."""


def test_every_string_of_an_office_has_a_type_of_its_own() -> None:
    """Each text has a pattern or a validator: a bare `str` would let in a header or a shell word."""
    bare = [
        name
        for name, info in strings(Office, set())
        if name not in READ_FROM_ELSEWHERE and not info.metadata and "Annotated" not in repr(info.annotation)
    ]
    assert bare == []
