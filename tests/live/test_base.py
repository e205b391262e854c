"""Promises of every host, whatever its role; the running system is asked, not its files."""

from __future__ import annotations

import json
import re
import shlex
from ipaddress import ip_address
from typing import Any

import dns.flags
import dns.rcode
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from testinfra.host import Host as TestinfraHost

from outpost.converge.files import rendered
from outpost.office import Host, Office
from outpost.office.base import BaseView
from outpost.office.certificates import public_names
from outpost.office.flows import listeners
from outpost.onhost.observe.network import DHCP_CLIENTS
from tests.live.asking import CLOCK, ask, installed, modes, query, unbound
from tests.live.kernel import Kernel, Listening
from tests.live.pending import WAIT_FOR_OTHERS, unless_backed_up, unless_delegated
from tests.live.systemd import Units

pytestmark = pytest.mark.looks


@pytest.fixture
def view(office: Office, me: Host) -> BaseView:
    """The host as the base role derives it."""
    return BaseView(office, me)


OWN = {"family": "inet", "table": "outpost"}
DHCP_SHOWN = {program[:15] for program in DHCP_CLIENTS}
"""The kernel keeps 15 characters of a program's name, and ss(8) shows them."""


def own(packet_filter: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Chains, rules or sets of the office's table, in its order."""
    return [entry[kind] for entry in packet_filter if kind in entry and OWN.items() <= entry[kind].items()]


# SSH ------------------------------------------------------------------------------------------------------------


# One connection without a login: after several, sshd refuses the client for a while (PerSourcePenalties).
KNOCK = (
    "ssh -F none -vv -l {user} -o BatchMode=yes -o PreferredAuthentications=none -o PubkeyAuthentication=no "
    "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null {address} true 2>&1 </dev/null | tr -d '\\r'; true"
)
# The settings of sshd for a user from an address; without a Match block they are the same for all.
DEMANDS = (
    "for user in {users}; do for address in {addresses}; do "
    "/usr/sbin/sshd -T -C user=$user,host=$address,addr=$address || exit; done; done | sort -u"
)
MATCHES = (
    "grep -hiE '^[[:space:]]*\"?(match|include)[\"=[:space:]]' /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*"
)
THEIRS = "Include /etc/ssh/sshd_config.d/*.conf"  # Debian's own line


@pytest.fixture(scope="session")
def offered(host: TestinfraHost, me: Host, office: Office) -> dict[str, list[str]]:
    """The SSH server's offer to a client: its algorithms (RFC 4253, section 7.1), and the ways to log in."""
    view = BaseView(office, me)
    output = host.check_output(KNOCK.format(user=view.admin, address=view.ssh_addresses[0]))
    proposal = output.partition("peer server KEXINIT proposal")[2]
    assert proposal, output
    lists = re.findall(r"^debug2: ([^:]+): (\S+)$", proposal.partition("first_kex_follows")[0], re.MULTILINE)
    ways = re.findall(r"Authentications that can continue: (\S+)", proposal)
    return {name: names.split(",") for name, names in [*lists, *(("logins", way) for way in ways)]}


@pytest.mark.probe
@pytest.mark.control("SSH-01")
def test_ssh_offers_keys_only(offered: dict[str, list[str]]) -> None:
    """SSH offers public keys as the only way to log in."""
    assert offered["logins"] == ["publickey"]


@pytest.mark.control("SSH-01")
def test_ssh_accepts_keys_only_from_any_source_address(
    host: TestinfraHost, view: BaseView, office: Office
) -> None:
    """SSH requires a key from every user and every source address, and allows no forwarding."""
    lines = [line for line in host.run(MATCHES).stdout.splitlines() if line != THEIRS]
    matched = " ".join(lines).replace("*", "1").replace(",", " ").split()
    addresses = {
        str(network.network_address + 9) for zone in office.zones.values() for network in zone.networks
    }
    addresses |= {word.partition("/")[0] for word in matched if word[:1].isdigit() or ":" in word}
    users = {
        view.admin,
        "root",
        "nobody",
        *(word for word in matched if re.fullmatch(r"[a-z_][a-z0-9_-]*", word)),
    }
    few = None if matched else 1
    shown = host.check_output(
        DEMANDS.format(users=" ".join(sorted(users)[:few]), addresses=" ".join(sorted(addresses)[:few]))
    )
    demands: dict[str, set[str]] = {}
    for line in shown.splitlines():
        demands.setdefault(line.partition(" ")[0], set()).add(line.partition(" ")[2])
    assert demands["authenticationmethods"] == {"publickey"}
    assert demands["passwordauthentication"] == demands["kbdinteractiveauthentication"] == {"no"}
    assert demands["hostbasedauthentication"] == demands["permitemptypasswords"] == {"no"}
    assert demands["permitrootlogin"] == ({"without-password"} if view.admin == "root" else {"no"})
    assert demands["allowusers"] == {view.admin}
    assert demands["disableforwarding"] == {"yes"}
    assert demands["permituserenvironment"] == {"no"}
    assert demands["loglevel"] == {"VERBOSE"}
    assert demands["requiredrsasize"] == {"3072"}
    assert int(*demands["maxauthtries"]) <= 4
    assert 0 < int(*demands["logingracetime"]) <= 30
    for elsewhere in ("authorizedkeyscommand", "authorizedprincipalscommand", "trustedusercakeys"):
        assert demands[elsewhere] == {"none"}, elsewhere
    keys = "/etc/ssh/authorized_keys.d/%u" if office.ssh.authorized_keys else ".ssh/authorized_keys"
    assert demands["authorizedkeysfile"] == {keys}


@pytest.mark.control("SSH-01")
def test_ssh_opens_with_the_offices_keys_only(host: TestinfraHost, office: Office) -> None:
    """SSH accepts the keys of the office file only, and runs with no options but those in its files."""
    running = host.check_output("ps -o args= -p $(systemctl show --property MainPID --value ssh.service)")
    assert re.match(r"(sshd: )?/usr/sbin/sshd -D( \[listener\]|$)", running)
    if not office.ssh.authorized_keys:
        return
    held = host.check_output("grep -hv '^#' /etc/ssh/authorized_keys.d/*").splitlines()
    assert sorted(filter(None, held)) == sorted(map(str, office.ssh.authorized_keys))


@pytest.mark.probe
@pytest.mark.control("SSH-02")
def test_ssh_offers_modern_algorithms_only(offered: dict[str, list[str]]) -> None:
    """SSH offers only modern algorithms, and only post-quantum key exchange."""
    exchanges = [
        name for name in offered["KEX algorithms"] if not name.startswith(("ext-info-", "kex-strict-"))
    ]
    assert exchanges[0] == "mlkem768x25519-sha256"
    assert all(name.startswith(("mlkem", "sntrup")) for name in exchanges), "not safe from recording"
    macs = {*offered["MACs ctos"], *offered["MACs stoc"]}
    assert all("-etm@" in mac for mac in macs)
    ciphers = {*offered["ciphers ctos"], *offered["ciphers stoc"]}
    weak = r"sha1|cbc|3des|md5|nistp|umac-64|group14|dss|arcfour|^ssh-rsa"
    assert [
        name for name in (*offered["host key algorithms"], *ciphers, *macs) if re.search(weak, name)
    ] == []


@pytest.mark.control("SSH-02")
def test_ssh_listens_in_the_management_zone_only(listening: Listening, view: BaseView) -> None:
    """SSH listens in the management zone only."""
    found = {socket.address for socket in listening.sockets if socket.program == "sshd" and socket.port == 22}
    assert found == set(map(str, view.ssh_addresses))


@pytest.mark.control("SSH-02")
def test_ssh_has_no_listener_that_the_packet_filter_does_not_see(listening: Listening) -> None:
    """SSH has no listener that bypasses the packet filter.

    Such a listener serves programs of the host (AF_UNIX) or the hypervisor (AF_VSOCK).
    """
    assert [line for line in listening.other_families if "/run/systemd/private" in line]
    # only the account itself reaches the agent of an administrator's session: /run/user/UID has mode 0700
    other_families = [line for line in listening.other_families if not re.search(r"\s/run/user/\d+/", line)]
    assert [line for line in other_families if "ssh" in line or line.startswith("v_str")] == []


# Packet filter and kernel ---------------------------------------------------------------------------------------


@pytest.fixture
def contract(office: Office, me: Host) -> set[tuple[str, int, str]]:
    """Exactly the sockets that the host must have: address, port, protocol."""
    return {(str(entry.address), entry.port, entry.protocol) for entry in listeners(office, me)}


@pytest.mark.control("SYS-05")
@pytest.mark.remedy(
    "put `package NAME` of the program that listens into hosts.HOST.refused of the office file, then run ./outpost apply"
)
def test_every_listener_belongs_to_the_role_contract(
    listening: Listening, contract: set[tuple[str, int, str]]
) -> None:
    """Every listener is one that the host's role declares."""
    reachable = {
        (address, port, protocol, program)
        for address, port, protocol, program in listening.sockets
        if address == "*" or not ip_address(address).is_loopback
        if not (
            protocol == "udp" and port >= 1024 and program == "unbound"
        )  # the local end of a query in progress
        if not (protocol == "udp" and port in (68, 546) and program in DHCP_SHOWN)  # a machine's address
    }
    assert {entry[:3] for entry in reachable} <= contract, f"beyond the contract: {reachable}"


@pytest.mark.control("SYS-05")
def test_every_listener_of_the_role_contract_is_there(
    listening: Listening, contract: set[tuple[str, int, str]]
) -> None:
    """Every listener that the host's role declares exists."""
    missing = contract - {socket[:3] for socket in listening.sockets}
    assert not missing


@pytest.mark.control("NET-01")
@pytest.mark.parametrize("hook", ["input", "output", "forward"])
def test_packet_filter_drops_what_no_flow_allows(packet_filter: list[dict[str, Any]], hook: str) -> None:
    """The packet filter drops what no flow allows."""
    chains = own(packet_filter, "chain")
    assert [chain["policy"] for chain in chains if chain.get("hook") == hook] == ["drop"]


@pytest.mark.control("NET-01")
@pytest.mark.parametrize("chain", ["inbound", "outbound"])
def test_packet_filter_allows_exactly_the_offices_flows(
    packet_filter: list[dict[str, Any]], view: BaseView, chain: str
) -> None:
    """The packet filter allows exactly the office's flows."""
    rules = [rule for rule in own(packet_filter, "rule") if rule["chain"] == chain]
    allowed = sorted(rule["comment"] for rule in rules if rule.get("comment"))
    wanted = (*view.echo, *view.inbound) if chain == "inbound" else view.outbound
    assert allowed == sorted(rule.split('"')[1] for rule in wanted)


@pytest.mark.control("NET-01")
def test_live_packet_filter_is_the_one_on_disk_rule_by_rule(
    host: TestinfraHost, packet_filter: list[dict[str, Any]], view: BaseView
) -> None:
    """The packet filter in the kernel equals the declared one and the one on disk, rule by rule."""

    def listed(entries: list[dict[str, Any]]) -> list[str]:
        printed = [json.dumps(own(entries, kind)) for kind in ("chain", "rule", "set", "map")]
        return [re.sub(r'"(handle|packets|bytes)": \d+', "", each) for each in printed]

    declared = rendered("base", "/etc/nftables.conf", view=view).content.decode()
    for rules in ("cat /etc/nftables.conf", f"printf %s {shlex.quote(declared)}"):
        loaded = host.check_output(f"{rules} | unshare --net sh -c 'nft -f - && nft -j -t list ruleset'")
        assert listed(packet_filter) == listed(json.loads(loaded)["nftables"])


@pytest.mark.control("NET-01")
def test_packet_filter_comes_up_with_the_host(units: Units) -> None:
    """The packet filter is loaded when the host boots."""
    assert units.comes_up("nftables.service")


@pytest.mark.control("NET-04")
def test_host_does_not_forward_between_its_zones(kernel: Kernel) -> None:
    """The host does not forward packets between its zones."""
    assert kernel.setting("net/ipv4/ip_forward") == 0
    assert kernel.setting("net/ipv6/conf/all/forwarding") == 0


@pytest.mark.control("SYS-02")
def test_neighbours_cannot_redirect_the_hosts_traffic(kernel: Kernel) -> None:
    """Neighbours cannot redirect the host's traffic (ICMP redirects, source routing)."""
    for last in ("accept_redirects", "secure_redirects", "send_redirects", "accept_source_route"):
        found = kernel.settings(last)
        assert {name.split("/")[1] for name in found} == (
            {"ipv4"} if last.startswith("se") else {"ipv4", "ipv6"}
        )
        assert [name for name, value in found.items() if value] == []


@pytest.mark.control("SYS-02", "NET-02")
def test_no_neighbour_becomes_the_hosts_ipv6_router(kernel: Kernel) -> None:
    """No neighbour can become the host's IPv6 router.

    This holds on present interfaces and (``default``) on later ones.
    """
    found = kernel.settings("accept_ra")
    assert "net/ipv6/conf/default/accept_ra" in found
    assert [name for name, value in found.items() if value] == []


@pytest.mark.control("SYS-02", "NET-02")
def test_no_neighbour_takes_an_address_from_the_host_at_boot(kernel: Kernel) -> None:
    """No neighbour can make the host give up an IPv6 address while it boots (duplicate address detection)."""
    found = kernel.settings("accept_dad")
    assert "net/ipv6/conf/default/accept_dad" in found
    assert [name for name, value in found.items() if value > 0] == []


# Names and time -------------------------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("DNS-07")
def test_resolver_validates_the_offices_own_names(host: TestinfraHost, office: Office) -> None:
    """The resolver validates the office's own names by DNSSEC."""
    (answer,) = ask(host, "127.0.0.1", [query(office.domain, "MX", recurse=True)])
    if answer.rcode() != dns.rcode.NOERROR or not answer.flags & dns.flags.AD:
        unless_delegated(host, office.domain)
    assert answer.rcode() == dns.rcode.NOERROR
    assert answer.flags & dns.flags.AD, (
        "not authentic: the parent has no DS for the office, or signatures are bad"
    )


STRICT = {
    "module-config": "validator iterator",
    "val-permissive-mode": "no",
    "harden-algo-downgrade": "yes",
    "harden-below-nxdomain": "yes",
    "harden-dnssec-stripped": "yes",
    "harden-glue": "yes",
    "qname-minimisation": "yes",
    "serve-expired": "yes",
    "hide-version": "yes",
    "hide-identity": "yes",
    "aggressive-nsec": "yes",
    "deny-any": "yes",
    "val-clean-additional": "yes",
    "edns-buffer-size": "1232",
    "unwanted-reply-threshold": "1000000",
    "cache-min-ttl": "0",
    "cache-max-ttl": "86400",
    "cache-max-negative-ttl": "300",
    "serve-expired-ttl": "86400",
}


@pytest.fixture(scope="session")
def resolver(host: TestinfraHost) -> dict[str, str]:
    """Options of the running resolver."""
    return unbound(host, *STRICT, "private-address")


@pytest.mark.control("DNS-07")
@pytest.mark.parametrize(("option", "value"), STRICT.items())
def test_resolver_is_strict_and_keeps_answers_for_a_cut_line(
    resolver: dict[str, str], option: str, value: str
) -> None:
    """The resolver validates strictly, and serves stale answers while the line is down."""
    assert resolver[option] == value


@pytest.mark.control("DNS-07")
def test_resolver_makes_up_nothing(host: TestinfraHost, view: BaseView) -> None:
    """The resolver validates every name, asks only the declared servers, and has no answers of its own."""
    if view.me.local_conf("/etc/unbound/"):
        pytest.skip("this office declares settings of its own for the resolver: hosts.NAME.local")
    shown = host.check_output(
        "for what in insecure stubs forwards local_data; do unbound-control list_$what; echo --; done"
    )
    insecure, stubs, forwards, made_up, _ = (part.strip() for part in f"{shown}\n".split("--\n"))
    assert insecure == ""
    assert {line.split()[0] for line in stubs.splitlines()} <= {"."}  # the root's own servers
    assert set(forwards.split()[3:]) == set(map(str, view.forwarders))
    records = [line.split() for line in made_up.splitlines() if line.strip()]
    assert {words[0] for words in records if words[3] not in ("SOA", "NS", "PTR")} <= {"localhost."}


@pytest.mark.control("DNS-07")
def test_resolver_lets_no_outside_name_point_inside(resolver: dict[str, str], view: BaseView) -> None:
    """The resolver discards answers that point an outside name to a private address.

    The running resolver's list is read; tests/lab asks it for such a name.
    """
    kept_back = resolver["private-address"].split()
    assert set(map(str, view.private_networks)) <= set(kept_back)


@pytest.mark.control("DNS-03")
def test_resolver_serves_this_host_only(host: TestinfraHost, listening: Listening) -> None:
    """The resolver serves this host only, and the host uses no other."""
    answering = {
        socket.address for socket in listening.sockets if socket.program == "unbound" and socket.port == 53
    }
    assert answering == {"127.0.0.1", "::1"}
    resolvers = host.check_output("cat /etc/resolv.conf")
    servers = re.findall(r"^nameserver (\S+)", resolvers, re.MULTILINE)
    assert set(servers) == {"127.0.0.1", "::1"}


def test_office_hosts_are_found_without_the_dns(host: TestinfraHost, office: Office, me: Host) -> None:
    """Hosts of the office find each other's addresses without the DNS."""
    found: dict[str, set[str]] = {}
    name = ""
    for line in host.run(
        f"getent --no-idn -s files ahosts {' '.join(other.fqdn for other in office.hosts)}"
    ).stdout.splitlines():
        address, _, *named = line.split()  # the name is on the first line of each entry
        name = named[0] if named else name
        found.setdefault(name, set()).add(address)
    assert found == {other.fqdn: set(map(str, office.link_addresses(other, me))) for other in office.hosts}


@pytest.mark.control("TIM-01")
def test_clock_follows_its_sources(host: TestinfraHost, view: BaseView) -> None:
    """The clock follows its time sources."""
    sources = host.check_output(CLOCK).splitlines()[:-1]
    assert len(sources) >= len(view.time_servers)
    assert any(line.startswith("^,*") for line in sources), f"no source is selected: {sources}"


# Packages, logs, keys -------------------------------------------------------------------------------------------


# apt's settings and archives; an unsigned archive is trusted only if a setting says so.
APT = """
import apt_pkg
apt_pkg.init()
print(apt_pkg.config.dump())
apt_pkg.config.set("Dir::State::lists", "/nonexistent")
sources = apt_pkg.SourceList()
sources.read_main_list()
for source in sources.list:
    print(source.uri.rstrip("/"), source.is_trusted)
"""


@pytest.fixture(scope="session")
def apt(host: TestinfraHost) -> tuple[str, list[tuple[str, bool]]]:
    """apt's own view of all its files: settings, and for each archive whether it is trusted without a signature."""
    settings, _, sources = host.check_output("python3 -I -c %s", APT).rpartition("\n\n")
    archives = (line.split() for line in sources.splitlines())
    return settings, [(uri, trusted != "False") for uri, trusted in archives]


@pytest.mark.control("SYS-06")
def test_security_upgrades_install_themselves(
    apt: tuple[str, list[tuple[str, bool]]], units: Units, office: Office, me: Host
) -> None:
    """Security updates are installed automatically."""
    dump, _ = apt
    assert 'APT::Periodic::Unattended-Upgrade "1"' in dump
    assert re.search(r"Unattended-Upgrade::Origins-Pattern:: .*Debian-Security", dump)
    assert (
        re.findall(r'^Unattended-Upgrade::Package-(?:Blacklist|Whitelist)[:\w]* "(.+)";', dump, re.MULTILINE)
        == []
    )
    assert units.comes_up("apt-daily-upgrade.timer")
    enabled = 'APT::Periodic::Enable "1"' in dump
    assert (
        enabled or office.platform_of(me) == "docker"
    )  # a container is replaced by one from a new image instead


@pytest.mark.control("SYS-07")
def test_packages_come_from_signed_archives_only(
    host: TestinfraHost, apt: tuple[str, list[tuple[str, bool]]], office: Office
) -> None:
    """Packages come from the declared archives only, and only with Debian's signature."""
    settings, sources = apt
    wanted = {office.archive.mirror.rstrip("/"), office.archive.security_mirror.rstrip("/")}
    assert {uri for uri, _ in sources} == wanted
    assert [uri for uri, trusted_unsigned in sources if trusted_unsigned] == []
    keys = host.check_output("apt-get indextargets --format '$(SIGNED_BY)' 'Created-By: Packages'")
    assert set(keys.splitlines()) == {"/usr/share/keyrings/debian-archive-keyring.gpg"}
    unsigned = (
        "Acquire::AllowInsecureRepositories|Acquire::AllowWeakRepositories|APT::Get::AllowUnauthenticated"
    )
    allowed = re.findall(rf'^({unsigned}) "(.*)";$', settings, re.MULTILINE)
    assert [(name, value) for name, value in allowed if value not in ("0", "false", "no")] == []


@pytest.mark.control("SYS-04")
def test_no_mail_server_but_the_roles(host: TestinfraHost, me: Host) -> None:
    """No mail server is installed but that of the host's role."""
    servers = {"exim4-daemon-light", "exim4-daemon-heavy", "sendmail-bin", "nullmailer", "opensmtpd"}
    assert not installed(host) & (servers if me.role == "mta" else servers | {"postfix"})


@pytest.mark.control("SYS-10")
def test_cloud_init_is_off(host: TestinfraHost) -> None:
    """cloud-init is disabled or not installed."""
    assert host.run("[ ! -d /etc/cloud ] || [ -e /etc/cloud/cloud-init.disabled ]").rc == 0


@pytest.mark.control("DNS-07")
def test_no_second_resolver(host: TestinfraHost) -> None:
    """No second resolver is installed."""
    assert not installed(host) & {"systemd-resolved", "libnss-resolve"}


@pytest.mark.control("LOG-01")
def test_journal_survives_a_restart(units: Units) -> None:
    """The journal is kept on disk, so that it survives a restart.

    The file that journald writes to is below /var/log/journal.
    """
    opened = units.process("systemd-journald.service").journals
    assert [path for path in opened if path.endswith("/system.journal")] != []
    assert [path for path in opened if not path.startswith("/var/log/journal/")] == []


@pytest.mark.control("LOG-01")
def test_the_journal_keeps_what_daemons_say_of_ordinary_events(host: TestinfraHost) -> None:
    """The journal keeps messages of every priority: mail daemons log each transfer as "info"."""
    priorities = ("debug", "info", "notice")
    sent = "; ".join(f"logger -p daemon.{each} -t outpost-check-$$ a line of {each}" for each in priorities)
    kept = host.check_output(f"{sent}; journalctl --sync; journalctl -q -o cat -t outpost-check-$$")
    assert kept.splitlines() == [f"a line of {each}" for each in priorities]


@pytest.mark.control("SEC-01")
def test_certificate_keys_are_private_and_match(host: TestinfraHost, office: Office, me: Host) -> None:
    """Keys of certificates are private and match their certificates."""
    for name in ("host", "public") if public_names(office, me) else ("host",):
        _private_and_matching(host, name)


def _private_and_matching(host: TestinfraHost, name: str) -> None:
    key, certificate = f"/etc/outpost/tls/{name}.key", f"/etc/outpost/tls/{name}.pem"
    assert modes(host, key) == ["root outpost-tls 640"]
    trusted = "-CAfile /etc/outpost/tls/ca.pem" + (" -CApath /etc/ssl/certs" if name == "public" else "")
    assert host.run(f"openssl verify {trusted} -untrusted {certificate} {certificate}").rc == 0
    shown = load_pem_x509_certificate(host.check_output(f"cat {certificate}").encode())
    of_key = host.check_output(f"openssl pkey -in {key} -pubout").encode()
    assert shown.public_key() == load_pem_public_key(of_key)


def test_host_knows_its_name(host: TestinfraHost, me: Host) -> None:
    """The host has its declared name."""
    assert host.check_output("hostname; hostname --fqdn").splitlines() == [me.fqdn, me.fqdn]


def test_no_unit_has_failed(host: TestinfraHost, office: Office, units: Units) -> None:
    """No systemd unit has failed."""
    failed = {unit for unit, state in units.states.items() if state == "failed"}
    if failed and failed <= WAIT_FOR_OTHERS:
        if "outpost-certificate.service" in failed:
            unless_delegated(host, office.domain)
        if "outpost-backup.service" in failed:
            unless_backed_up(host, office)
    assert failed == set()


# What needs a human ---------------------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("LOG-04")
def test_the_host_checks_itself_and_sends_its_alarms(
    host: TestinfraHost, units: Units, office: Office
) -> None:
    """The host checks itself regularly, and sends alarms where the office file says."""
    assert units.runs("outpost-watch.timer")
    assert units.comes_up("outpost-watch.timer")
    settings = json.loads(host.check_output("cat /etc/outpost/watch.json"))
    assert settings["tell"] == list(office.alarms.tell)
    look = "PYTHONPATH=/usr/local/lib/outpost/python python3 -s -P -B -m outpost.onhost.watch look"
    printed = [json.loads(line)["about"] for line in host.check_output(look).splitlines()]
    assert [about for about in printed if about.startswith("watch ")] == [], "every probe works"
