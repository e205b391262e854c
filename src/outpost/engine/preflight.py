"""Checks before the first apply: the machines, and the network and DNS around them.

One script for each host, which changes nothing and prints lines ``KEY VALUE``. A finding is good, a note, or bad:
bad means that an apply would fail or the office would not work.
"""

import json
import re
import shlex
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, NamedTuple

from outpost.errors import OutpostError
from outpost.office import Host, Office
from outpost.office.base import BaseView
from outpost.office.flows import listeners
from outpost.office.role import every_role, role_of, serves, serving
from outpost.office.size import size_of
from outpost.target import Target
from outpost.transport import answers, ssh
from outpost.transport.remote import QUIET, SHELL, TALKATIVE, UNFINISHED, of_each, run_script, typeable

RELEASE = "13"
PATIENCE = 50.0  # seconds
CLOCK = 5
"""Seconds that a host's clock may differ from the controller's: TSIG and DNSSEC allow more, but mail should carry the right time."""
FAR = 3600
"""Seconds from which on nothing can be installed: apt refuses package lists from the future or from long ago, TLS certificates."""
LEAST, LEAST_INODES = 600, 20_000
"""MiB and inodes that packages may need on one file system during a first apply."""
FOREIGN = ("csh", "tcsh", "bsd-csh", "fish", "nologin", "false")
EVERYWHERE = ("chronyd", "python3", "sshd", "systemd", "unbound")
"""Programs that an apply needs on each host."""
REMOVED = ("systemd-resolve", "exim4", "sendmail-mta")
"""Programs whose packages an apply removes: Debian's cloud images and its usual mail servers."""
WAIT = 8
"""Seconds that a host waits for each service; it asks all at once."""
MOST_FACTS = 10_000
"""Most lines of a host's answer that are read."""
PROXY = r"https?://[\w.:\[\]-]+/?"
ROOTS = ("198.41.0.4", "2001:503:ba3e::2:30")
"""A root server, asked if no forwarders are named."""
_SCRIPT = Path(__file__).with_suffix(".sh").read_text(encoding="utf-8")


Level = Literal["good", "note", "bad"]
Facts = defaultdict[str, list[str]]
"""Key of a host's answer → its values, in their order."""
Judgement = Iterator[tuple[Level, str, str]]
"""Level, what was seen, and the remedy: of findings about one host."""


class Finding(NamedTuple):
    """One result about a host or its environment; it has no remedy if it is good."""

    where: str
    level: Level
    seen: str
    remedy: str = ""


def examine(target: Target, office: Office, via: str | None, names: tuple[str, ...]) -> list[Finding]:
    """Examine everything, hosts side by side."""
    hosts = [office.host(name) for name in names]
    found: list[Finding] = []
    with answers.Pool(1) as pool:
        world = pool.submit(lambda: [*delegation(office), *reverse_names(office)])
        for name, answer in of_each(hosts, lambda host: _ask(target, office, host, via)).items():
            if isinstance(answer, Finding):
                found.append(answer)
            else:
                found += judge(office, office.host(name), answer.facts, now=answer.asked)
        found += world.result()
    return found


class Answer(NamedTuple):
    """A host's answer, and the controller's time before and after it."""

    facts: list[tuple[str, str]]
    asked: tuple[float, float]


def _ask(target: Target, office: Office, host: Host, via: str | None) -> Answer | Finding:
    """Facts of a host as (key, value), or why there are none."""
    direct = serves(host, "transport") and not office.smarthost
    view = BaseView(office, host)
    given = {
        "try_25": "gmail-smtp-in.l.google.com mx1.mailbox.org" if direct else "",
        "resolvers": " ".join(map(str, _resolvers(office, host))),
        "clocks": " ".join(office.time.servers) if view.is_machine else "",
        "urls": " ".join(_archives(office)),
        "proxy": office.archive.proxy,
        "wait": str(WAIT),
    }
    head = "\n".join(f"{name}={shlex.quote(value)}" for name, value in given.items())
    script = f"{head}\nwork=$(mktemp -d) && trap 'rm -rf \"$work\"' EXIT\n{_SCRIPT}"
    began = time.time()
    try:
        output = run_script(target, office, host, script, via, patience=PATIENCE)
    except OutpostError as error:
        return Finding(host.name, "bad", error.message.removeprefix(f"{host.name}: "), error.remedy)
    lines = [answers.line(line, 200) for line in output.splitlines()[:MOST_FACTS]]
    if not output.startswith("release "):
        seen = f"{TALKATIVE}: {lines[0] if lines else 'nothing'}"
        return Finding(host.name, "bad", seen, typeable(QUIET, office, host))
    facts = [(key, value) for key, _, value in (line.partition(" ") for line in lines)]
    if any(_is_foreign(value) for key, value in facts if key == "shell"):
        ssh.stop(ssh.configuration(office, target.data), host.name)
    return Answer(facts, (began, time.time()))


def _archives(office: Office) -> tuple[str, ...]:
    archive = office.archive
    return (f"{archive.mirror}/dists/trixie", f"{archive.security_mirror}/dists/trixie-security")


def _resolvers(office: Office, host: Host) -> tuple[object, ...]:
    """The name servers that a host asks: the forwarders that it reaches, else a root server."""
    if not office.resolver.forwarders:
        own = {address.version for address in host.all_addresses}
        return tuple(root for root in ROOTS if ip_address(root).version in own)
    return BaseView(office, host).forwarders


def judge(
    office: Office, host: Host, facts: list[tuple[str, str]], *, now: tuple[float, float]
) -> Iterator[Finding]:
    """The findings about one host, from its facts.

    Args:
        now: The controller's clock before the question and after the answer.
    """
    given: Facts = defaultdict(list)
    for key, value in facts:
        given[key].append(value)
    for level, seen, remedy in _judged(office, host, given, now):
        yield Finding(host.name, level, seen, remedy)


def _judged(office: Office, host: Host, facts: Facts, now: tuple[float, float]) -> Judgement:
    first = {key: values[0] for key, values in facts.items()}
    release = first.get("release", "")
    if release == f"debian {RELEASE}":
        yield "good", f"Debian {RELEASE}", ""
    else:
        yield "bad", f"runs {release or 'an unknown system'}", f"install Debian {RELEASE} on it"
    if _is_foreign(shell := first.get("shell", "")):
        # sshd gives the controller's account each command, and csh and fish read quotes in other ways
        seen = f"the login shell of {ssh.target(office, host)[0]} is {shell}, which misreads commands"
        yield "bad", seen, typeable(SHELL, office, host)
    yield from _clock(_number(first.get("clock", "")), now)
    memory = _number(first.get("memory", ""))
    # the kernel keeps some of it: 50 MiB of 512, 180 MiB of 4096
    if memory + 50 + memory // 24 < (wanted := role_of(host).memory(size_of(office))):
        users = f"{len(office.users)} users"
        remedy = f"give it {wanted} MiB: a {host.role} for {users} needs that much"
        yield "note", f"{memory} MiB of memory", remedy
    yield from _disk(host, facts)
    if names := facts["unfinished"]:
        listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        yield "bad", f"packages are not completely installed: {listed}", UNFINISHED
    yield from _mounts(facts["mounted"])
    if (init := first.get("init", "systemd")) != "systemd":
        remedy = "run apt-get install systemd-sysv on it and restart it, or start the container with systemd"
        yield "bad", f"its first process is {init}, not systemd", remedy
    yield from _platform(office, host, first.get("container", ""))
    missing = [str(address) for address in host.all_addresses if str(address) not in facts["address"]]
    if missing:
        remedy = "set up its addresses as office.toml says, or correct office.toml: Outpost does not configure networks"
        yield "bad", f"it has no {', '.join(missing)}", remedy
    else:
        yield "good", "has the addresses of the office file", ""
    if facts["advertised"]:
        remedy = "set a static one in the host's network configuration: after an apply the host ignores router advertisements"
        yield "bad", "its IPv6 default route comes from router advertisements", remedy
    yield from _ports(office, host, facts["port"])
    yield from _filters(host, facts["filter"])
    # Programs of no package. A plan names them only once an apply has installed the observer, and the apply after that ends them.
    if strange := [path for path in facts["program"] if not host.keeps(path)]:
        remedy = f"write {json.dumps(strange)} into hosts.{host.name}.local to keep what belongs there: the second apply ends the others"
        yield "note", f"runs programs of no package: {', '.join(strange)}", remedy
    if serves(host, "transport") and not office.smarthost:
        if facts["outbound"]:
            yield "good", "reaches port 25 of other mail servers", ""
        else:
            remedy = "ask the provider to open port 25 outwards, or name a [smarthost]"
            yield "note", "no mail server on the Internet answered on port 25", remedy
    if first.get("asked"):
        yield from _others(office, host, facts)


def _is_foreign(shell: str) -> bool:
    return shell.rpartition("/")[2] in FOREIGN


def _clock(own: int, now: tuple[float, float]) -> Judgement:
    off = own - int(now[1]) if own > now[1] else own - int(now[0]) if own < now[0] - 1 else 0
    seen = f"its clock is {abs(off)} s {'ahead' if off > 0 else 'behind'}"
    if abs(off) <= CLOCK:
        yield "good", "its clock agrees with this machine's", ""
    elif abs(off) >= FAR:
        right = f"{datetime.fromtimestamp(now[1], UTC):%Y-%m-%d %H:%M}"
        remedy = f"if this machine's clock is right, run date --utc --set '{right}', as root on the host: apt and TLS refuse a wrong time"
        yield "bad", seen, remedy
    else:
        remedy = "run apply, which sets up chrony; if the clock stays wrong, check time.servers and the hypervisor's clock"
        yield "note", seen, remedy


def _disk(host: Host, facts: Facts) -> Judgement:
    """The largest file system needs room for the role; each of the others for the packages, of which a part goes onto it."""
    wanted = role_of(host).disk
    room, inodes = (
        [(_number(number), place) for number, _, place in (value.partition(" ") for value in facts[kind])]
        for kind in ("disk", "inodes")
    )
    room.sort(reverse=True)
    if room and room[0][0] < wanted:
        size, place = room[0]
        remedy = f"enlarge its disk: a {host.role} needs {wanted} MiB{' and room for the mail' * bool(role_of(host).data)}"
        yield "bad" if size < wanted // 2 else "note", f"{size} MiB of disk are free on {place}", remedy
    small = [("MiB of disk", "", size, place) for size, place in room[1:] if size < LEAST]
    small += [("inodes", " --inodes", size, place) for size, place in inodes if size < LEAST_INODES]
    for what, option, size, place in small:
        remedy = f"run du -x{option} -d 3 {place} | sort -n | tail, as root on the host; delete what is not needed, or enlarge that file system"
        yield "bad", f"{size} {what} are free on {place}", remedy


def _mounts(lines: list[str]) -> Judgement:
    """Where packages are unpacked, and their scripts run."""
    for place, _, options in (line.partition(" ") for line in lines):
        if "ro" in options.split(","):
            remedy = "read dmesg on the host: a file system with errors becomes read-only; repair it with fsck, or take ro out of /etc/fstab"
            yield "bad", f"{place} is mounted read-only", remedy
        elif "noexec" in options.split(","):
            remedy = f"take noexec out of the line of {place} in /etc/fstab, then run mount -o remount,exec {place}, as root on the host"
            yield "bad", f"{place} is mounted noexec: scripts of packages cannot run there", remedy


def _platform(office: Office, host: Host, container: str) -> Judgement:
    declared = office.platform_of(host)
    if container not in ("", "none") and declared != "docker":
        seen = f'it is a container ({container}), and the office file says platform = "{declared}"'
        remedy = f'write platform = "docker" below [hosts.{host.name}]: a container cannot set the clock or the kernel; or use a machine'
        yield "bad", seen, remedy
    elif container in ("", "none") and declared == "docker":
        seen = 'it is a machine, and the office file says platform = "docker"'
        remedy = f'write platform = "machine" below [hosts.{host.name}]: otherwise its clock and kernel are not hardened'
        yield "bad", seen, remedy


def _others(office: Office, host: Host, facts: Facts) -> Judgement:
    """What the host depends on: resolvers, the package archive, time servers."""
    given = {
        server: _number(count) for server, _, count in (value.partition(" ") for value in facts["resolver"])
    }
    wanted = [str(server) for server in _resolvers(office, host)]
    silent = [server for server in wanted if server not in given]
    unsigned = [server for server, count in given.items() if count < 2]
    if (silent and len(silent) == len(wanted)) or (silent and office.resolver.forwarders):
        seen = f"no DNS answer from {', '.join(silent)} (UDP 53)"
        remedy = "allow port 53 (UDP and TCP) to these resolvers in the firewall, or name resolvers that this host reaches: [resolver] forwarders"
        yield "bad" if len(silent) == len(wanted) else "note", seen, remedy
    elif unsigned:
        remedy = "name forwarders that pass on DNSSEC records, or none: the hosts validate what they receive"
        yield "bad", f"{', '.join(unsigned)} answers without DNSSEC signatures", remedy
    else:
        yield "good", "resolves names", ""
    missing = [url for url in _archives(office) if url not in facts["archive"]]
    if missing:
        by = f" through {office.archive.proxy}" if office.archive.proxy else ""
        why = {url: text.strip() for url, _, text in (value.partition(" ") for value in facts["unfetched"])}
        answer = why.get(missing[0]) or f"no answer within {2 * WAIT} s"
        seen = f"no packages: {', '.join(missing)} is not reached{by} ({answer})"
        remedy = "allow it in the firewall, or name a proxy or mirror that this host reaches: [archive]"
        if "apt-helper" in answer:
            remedy = "install Debian's package apt: the image of this machine lacks it"
        elif "resolv" in answer:
            server = next((server for server in wanted if server in given), "ADDRESS")
            remedy = f"run echo 'nameserver {server}' > /etc/resolv.conf, as root on the host: until its first apply it resolves by itself"
        yield "bad", seen, remedy
    else:
        yield "good", "reaches Debian's packages", ""
    own = next((value for value in facts["proxy"] if re.fullmatch(PROXY, value)), "")
    if own:
        remedy = f'write proxy = "{own}" below [archive]: an apply then sets it on every host, and their own files for it may go'
        yield "note", f"its apt uses the proxy {own}, and the office file names none", remedy
    if BaseView(office, host).is_machine and not facts["ntp"]:
        seen = f"no time server answers ({', '.join(office.time.servers)}, UDP 123)"
        remedy = "allow UDP 123 in the firewall, or name servers that this host reaches: [time] servers"
        yield "note", seen, remedy


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,12}", text) else 0


def _ports(office: Office, host: Host, lines: list[str]) -> Judgement:
    wanted = {(listener.protocol, str(listener.port)) for listener in listeners(office, host)}
    ours = {*EVERYWHERE, *REMOVED, *(program for role in every_role().values() for program in role.programs)}
    held = []
    for line in lines:
        protocol, port, program = [*line.split(" ", 2), "", ""][:3]
        if (protocol, port) in wanted and program and program not in ours:
            held.append(f"{port}/{protocol} by {program}")
    if held:
        remedy = 'remove the package of that program on the host: dpkg -S "$(command -v PROGRAM)", then apt-get purge PACKAGE'
        yield "bad", f"other programs use its ports: {', '.join(sorted(set(held)))}", remedy
    else:
        yield "good", "its ports are free, or used by its own daemons", ""


def _filters(host: Host, tables: list[str]) -> Judgement:
    """Tables of the packet filter that drop what they do not know; an apply adds the office's beside them."""
    decided = {*host.accepted, *host.refused}
    named = [f"packet filter table {table}" for table in tables if table != "inet outpost"]
    if waiting := [name for name in named if name not in decided]:
        remedy = f"write {json.dumps(waiting)} into hosts.{host.name}.refused: the first apply removes it; or allow the office's ports there"
        yield "bad", f"its packet filter drops the office's connections: {', '.join(waiting)}", remedy


def _names_at(place: str, kind: str) -> set[str]:
    import dns.resolver

    resolver = dns.resolver.Resolver()
    resolver.lifetime = 6
    return {str(record.target).rstrip(".").lower() for record in resolver.resolve(place, kind)}


def delegation(office: Office) -> Iterator[Finding]:
    """Whether the parent zone delegates to the office's name servers."""
    import dns.exception

    wanted = {host.fqdn for host in serving(office, "names")}
    try:
        present = _names_at(office.domain, "NS")
    except (dns.exception.DNSException, OSError) as error:
        remedy = f"enter at the parent zone: NS {', '.join(sorted(wanted))} with glue; mail and certificates wait for it"
        yield Finding(office.domain, "note", f"no delegation seen ({type(error).__name__})", remedy)
        return
    if present == wanted:
        yield Finding(office.domain, "good", f"delegated to {', '.join(sorted(present))}")
    else:
        remedy = f"enter at the parent zone: NS {', '.join(sorted(wanted))}, and no other"
        yield Finding(office.domain, "bad", f"delegated to {', '.join(sorted(present))}", remedy)


def reverse_names(office: Office) -> Iterator[Finding]:
    """Whether the reverse names of the MTAs are the names that they greet with: other servers refuse their mail otherwise."""
    import dns.exception
    import dns.reversename

    for host in office.mail_servers if not office.smarthost else ():
        for address in office.addresses_of_kind(host, "internet"):
            try:
                names = _names_at(dns.reversename.from_address(str(address)).to_text(), "PTR")
            except (dns.exception.DNSException, OSError):
                names = set()
            if names == {host.fqdn}:
                yield Finding(host.name, "good", f"{address} is named {host.fqdn}")
            else:
                seen = (
                    f"{address} has {'the name ' + ', '.join(sorted(names)) if names else 'no reverse name'}"
                )
                remedy = (
                    f"enter at the provider: {dns.reversename.from_address(str(address))} PTR {host.fqdn}."
                )
                yield Finding(host.name, "note", seen, remedy)
