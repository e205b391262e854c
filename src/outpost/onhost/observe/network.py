"""Interfaces, addresses, routes, the active packet filter, and listening sockets."""

from __future__ import annotations

import collections
import collections.abc
import glob
import hashlib
import json
import os
import re
import socket

from outpost.onhost.observe.asking import answer_to
from outpost.onhost.observe.kept_answers import kept
from outpost.onhost.observe.processes import process, unit_of
from outpost.onhost.observe.reading import BlindError, content, lines_of, named

TYPE_CHECKING = False
if TYPE_CHECKING:  # loading it takes a fiftieth of a scan
    import typing

IPV6 = "/proc/net/if_inet6"
"""It exists if the kernel has IPv6."""
OF_THE_KERNEL = re.compile(r"127\.0\.0\.1\Z|::1\Z|fe80:")
SOCKET = re.compile(r"(tcp|udp)\s+\S+\s+\d+\s+\d+\s+(\S+):(\d+)\s.*?\bino:(\d+)\s")
"""A line of ss(8): protocol, local address and port, inode."""

XDP = "xdp"
"""Ends the fact of an interface whose packets a program takes before the packet filter sees them."""
DEFAULT = "default "
"""Begins the name of the default action for packets that no IPsec policy names."""
Waiting = tuple[str, str, int, str, str]
"""A listening socket: protocol, address, port, program, process."""


# NET-02: without it an address with a lifetime, or a route in the name of the kernel or of a lease, is added by hand and never reported.
def network(live: dict[str, list[str]], holders: dict[str, tuple[str, str]]) -> list[str]:
    """Interfaces, addresses and routes that somebody configured; without those that the host learns or computes itself.

    Args:
        holders: As for `waiting`. Without a DHCP client nothing comes by DHCP.
    """
    leased = any(name in DHCP_CLIENTS for name, _ in holders.values())
    found = []
    own: set[str] = set()
    connected: set[tuple[str, int, int]] = set()
    links, routes, rules, neighbours, proxies = entries(live.get("links", []), 5)
    for entry in links:
        name = entry["ifname"]
        kind = entry.get("linkinfo", {}).get("info_kind", "")
        flags = entry.get("flags", ())
        state, promiscuous = "up" if "UP" in flags else "down", "on" if "PROMISC" in flags else "off"
        kind = f"{kind} {XDP}".lstrip() if XDP in entry else kind
        found.append(f"link\t{name}\t{state} mtu {entry['mtu']} promisc {promiscuous} {kind}".rstrip())
        for each in entry.get("addr_info", ()):
            own.add(each["local"])
            connected.add((name, *_prefix(f"{each.get('address', each['local'])}/{each['prefixlen']}")))
            by_itself = each.get("dynamic") and (leased or each.get("protocol") == "kernel_ra")
            if not (by_itself or each.get("temporary") or OF_THE_KERNEL.match(each["local"])):
                found.append(f"address\t{each['local']}/{each['prefixlen']}\t{name}")
    six = entries(live.get("links 6", []), 2) if os.path.exists(IPV6) else [[], []]
    # IPv6 routes have a preference, and are among these, too
    four = [entry for entry in routes if "pref" not in entry]
    for family, (way, order) in (("4", (four, rules)), ("6", six)):
        for entry in way:
            protocol = entry.get("protocol")
            if (
                (protocol == "dhcp" and leased)
                or (protocol in ("ra", "redirect") and family == "6")
                or (protocol == "kernel" and _follows(entry, own, connected))
                or entry["dst"].startswith("fe80:")
            ):
                continue
            words = [entry.get("type", "unicast"), entry["dst"]]
            words += ["via", entry["gateway"]] if "gateway" in entry else []
            words += ["metric", str(entry["metric"])] if "metric" in entry else []
            words += ["table", entry["table"]] if "table" in entry else []
            found.append(f"route\t{family} {' '.join(words)}\t{entry.get('dev', '')}")
        found += [f"rule\t{family} {rule}\t" for rule in selected(family, order)]
    found += [
        f"neighbour\t{entry['dst']}\t{entry['lladdr']} {entry['dev']}"
        for entry in neighbours
        if entry.get("lladdr", "")[:5] not in KERNELS_NEIGHBOURS
    ]
    found += [f"neighbour\t{entry['dst']}\tproxy {entry.get('dev', '')}" for entry in proxies]
    return found + [f"namespace\t{os.path.basename(path)}\t" for path in glob.iglob("/run/netns/*")]


KERNELS_NEIGHBOURS = ("", "00:00", "01:00", "33:33", "ff:ff")
"""How the hardware addresses begin that the kernel itself notes for loopback, groups and everybody."""


def _prefix(network: str) -> tuple[int, int]:
    """Bits of a network, and how many they are; 0 is all of IPv4 or IPv6."""
    address, _, length = network.partition("/")
    if address == "default":
        return 0, 0
    octets = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    bits = int(length or 8 * len(octets))
    return int.from_bytes(octets) >> (8 * len(octets) - bits), bits


def _follows(entry: dict[str, typing.Any], own: set[str], connected: set[tuple[str, int, int]]) -> bool:
    """Whether the kernel makes a route itself for the host's addresses."""
    kind = entry.get("type", "unicast")
    if kind == "local":
        return entry["dst"] in own or entry["dst"] == "127.0.0.0/8"
    if kind == "unicast":
        return "gateway" not in entry and (entry.get("dev", ""), *_prefix(entry["dst"])) in connected
    return True


# NET-02: without it somebody lets one zone's address answer, or its traffic leave, on the network of another.
def moved(before: set[str], now: set[str]) -> list[str]:
    """Addresses and routes that were moved away from their neighbours to another interface.

    A boot may rename interfaces; then everything of one interface is still together, and it is not a move.
    """
    old, new = _placed(before), _placed(now)
    both = old.keys() & new.keys()
    found = {
        key: f"{old[key]} {new[key]}"
        for key in both
        if old[key] != new[key] and _beside(key, old, both) != _beside(key, new, both)
    }
    ways = {(old[key], new[key]) for key in both if old[key] != new[key]}
    return [
        f"moved\t{kind} {thing}\t{way}{'' if len(ways) == 1 else UNSURE}"
        for (kind, thing), way in sorted(found.items())
    ]


UNSURE = " unsure"
"""Ends the fact of a move if interfaces may have been renamed as well."""


def _placed(facts: set[str]) -> dict[tuple[str, str], str]:
    """Kind and thing → interface; without things on several interfaces."""
    listed = [fact.split("\t", 2) for fact in facts if fact.startswith(("address\t", "route\t"))]
    count = collections.Counter((kind, thing) for kind, thing, _ in listed)
    return {(kind, thing): device for kind, thing, device in listed if count[kind, thing] == 1 and device}


def _beside(
    key: tuple[str, str], placed: dict[tuple[str, str], str], among: collections.abc.Set[tuple[str, str]]
) -> set[tuple[str, str]]:
    near = (other for other in among if placed[other] == placed[key])
    return {other for other in near if other[0] == "address" and other != key}


STEADY = {"direct_packets_stat": 0}
"""In place of a number that changes with each packet."""
USUAL_QUEUES = ("noqueue", "mq", "fq_codel", "pfifo_fast", "fq", "pfifo", "noop")
"""Disciplines that interfaces have by default, with the handle 0 (tc(8))."""


def queues(live: dict[str, list[str]]) -> list[str]:
    """Queueing disciplines that somebody gave an interface: they delay, drop, redirect or copy packets.

    A digest stands for what they contain: the other disciplines of that interface, and all classes and filters.
    """
    lines = live.get("queues", [])
    (listed,) = entries(lines, 1)
    inner = [steady_classes(line) if line.startswith('[{"class"') else line for line in lines[1:]]
    found = []
    for entry in listed:
        at_its_root = " root" * bool(entry.get("root"))
        if entry["kind"] in USUAL_QUEUES and not (at_its_root and entry.get("handle", "0:") != "0:"):
            continue
        beside = [each for each in listed if each["dev"] == entry["dev"]]
        shapes = ([each["kind"], each.get("parent"), each.get("options", {}) | STEADY] for each in beside)
        shape = sorted(map(json.dumps, shapes))  # the kernel lists them by their handles, which it chooses
        shape += [line for line in inner if line != "[]"]
        digest = hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:8]
        found.append(f"queue\t{entry['dev']}\t{entry['kind']}{at_its_root} {digest}")
    return found


def steady_classes(line: str) -> str:
    """Classes of one interface without what changes by itself: fq_codel's connections, and numbers that the kernel chooses."""
    classes = [entry | {"leaf": ""} for entry in json.loads(line) if entry["class"] != "fq_codel"]
    return json.dumps(classes)


# NET-02: without it root drops or encapsulates packets, and neither the packet filter nor a route names them.
def policies(live: dict[str, list[str]]) -> list[str]:
    """IPsec policies (ip-xfrm(8)): no role has any. Policies of a key daemon's own sockets are left out.

    A policy's name has all that ip(8) needs to delete it: selector, direction, mark and interface.
    """
    listed, _, defaults = "\n".join(answer_to("policies", live)).partition("Default policies:")
    if not defaults and listed != "none":
        raise BlindError("ip(8) did not answer")
    ways = (each for each in DEFAULT_POLICY.findall(defaults) if each[1] != "accept")
    found = [f"policy\t{DEFAULT}{way}\t{what}" for way, what in ways]
    for selector, way, rest in POLICY.findall(listed):
        name = [selector.strip(), way]
        if mark := re.search(r"^\tmark (\w+)/(\w+)", rest, re.MULTILINE):
            name.append(f"mark {mark[1]} mask {mark[2]}")
        if interface := re.search(r"^\tif_id (\w+)", rest, re.MULTILINE):
            name.append(f"if_id {interface[1]}")
        name += ["ptype sub"] if " ptype sub" in rest else []
        found.append(f"policy\t{' '.join(name)}\t{rest.partition(chr(10))[0].strip()}")
    return found


POLICY = re.compile(r"^(src .*)\n\t(dir \w+)(.*(?:\n\t.*)*)", re.MULTILINE)
DEFAULT_POLICY = re.compile(r"^ *(\w+): *(\w+)$", re.MULTILINE)


def learned(live: dict[str, list[str]]) -> list[str]:
    """IPv6 routes that another machine gave the host, by a router advertisement or a redirect."""
    routes, _ = entries(live.get("links 6", []), 2) if os.path.exists(IPV6) else ([], [])
    return [
        " ".join(["learned\t6", entry["dst"], *(("via", entry["gateway"]) if "gateway" in entry else ())])
        + f"\t{entry.get('dev', '')} {entry['protocol']}"
        for entry in routes
        if entry.get("protocol") in ("ra", "redirect")
    ]


def selected(family: str, rules: list[dict[str, typing.Any]]) -> list[str]:
    """Rules that choose a routing table, in the form that ip(8) takes; unusual ones are described."""
    if all(entry.keys() == KERNELS_RULE and entry["protocol"] == "kernel" for entry in rules):
        return [f"{entry['priority']} from {entry['src']} lookup {entry['table']}" for entry in rules]
    return [" ".join(line.replace(":", " ", 1).split()) for line in lines_of(f"ip -{family} rule")]


KERNELS_RULE = {"priority", "src", "table", "protocol"}


def waiting(live: dict[str, list[str]], holders: dict[str, tuple[str, str]]) -> list[Waiting]:
    """Listening sockets.

    Args:
        holders: Inode of a socket → program and process. Docker's resolver listens in a container and is no process of it.
    """
    found: list[Waiting] = []
    for match in filter(None, map(SOCKET.match, answer_to("sockets", live))):
        protocol, end, port, inode = match.groups()
        if inode in holders:
            address = end.partition("%")[0].strip("[]").replace("*", "::")
            found.append((protocol, address, int(port), *holders[inode]))
    return sorted(found)


def loopback(sockets: list[Waiting]) -> list[str]:
    """Sockets that only the host itself can reach."""
    found = []
    for protocol, address, port, program, pid in sockets:
        if protocol == "tcp" and (address.startswith("127.") or address == "::1"):
            unit = unit_of(pid)
            local = f"[{address}]" if ":" in address else address
            found.append(f"loopback\t{local}:{port}\t{unit if unit.endswith('.service') else named(program)}")
    return found


def entries(lines: list[str], answers: int) -> list[list[dict[str, typing.Any]]]:
    """The answer of ip(8) in JSON, one line for each question."""
    if len(lines) < answers:
        raise BlindError("ip(8) did not answer")
    return [[entry for entry in json.loads(line) if entry] for line in lines[:answers]]


DHCP_CLIENTS = ("systemd-networkd", "dhclient", "dhcpcd", "NetworkManager")


def listeners(contract: dict[str, typing.Any], sockets: list[Waiting]) -> list[str]:
    """Listening sockets that no flow allows."""
    allowed = {tuple(entry) for entry in contract.get("listeners", ())}
    found = []
    for protocol, address, port, program, pid in sockets:
        if address.startswith("127.") or address == "::1" or (protocol, address, port) in allowed:
            continue
        if protocol == "udp" and program in ("unbound", "chronyd", "rspamd", "kdig") and port >= 1024:
            continue  # the local end of a query that is under way
        if protocol == "udp" and port in (68, 546) and program in DHCP_CLIENTS:
            continue  # the host gets its address from it; closing it would remove the address
        found.append(f"listener\t{protocol} {address} {port}\t{process(program, pid)}")
    return found


RAW = (("packet", 8), ("raw", 9), ("raw6", 9), ("udplite", 9), ("udplite6", 9))
"""Files below /proc/net, and the column of a socket's inode."""


# NET-02: without it a program reads the whole traffic of the host, or takes its commands from packets that no listener shows.
def sniffers(holders: dict[str, tuple[str, str]]) -> list[str]:
    """Programs that get packets past the listeners (packet(7), raw(7), udplite(7)); clients of DHCP and ping(8) have to."""
    found = []
    for kind, column in RAW:
        if not os.path.exists(path := f"/proc/net/{kind}"):
            continue
        for line in content(path).splitlines()[1:]:
            program, pid = holders.get(line.split()[column], ("", ""))
            if pid and program not in (*DHCP_CLIENTS, "ping"):
                found.append(f"sniffer\t{named(program)}\t{process(program, pid)}")
    return sorted(set(found))


# Docker's own resolver in a container's network: its ports, and whether it exists at all, change with every start
# SYS-08: without whole lines any other rule that mentions this address, in a comment for example, passes as Docker's own.
DOCKER_RESOLVER = re.compile(
    r"table ip nat \{|chain (DOCKER_)?(OUTPUT|POSTROUTING) \{|\}?"
    r"|type nat hook (output priority (dstnat|-100)|postrouting priority (srcnat|100)); policy accept;"
    r"|ip daddr 127\.0\.0\.11 counter jump DOCKER_(OUTPUT|POSTROUTING)"
    r'|ip daddr 127\.0\.0\.11 (tcp|udp) dport 53 counter (xt target "DNAT"|dnat to 127\.0\.0\.11:\d+)'
    r'|ip saddr 127\.0\.0\.11 (tcp|udp) sport \d+ counter (xt target "SNAT"|snat to :53)'
)


LIST = "nft --stateless --terse list table inet outpost"
FILED = f"unshare --net sh -c 'nft --file /etc/nftables.conf && {LIST}'"
"""Prints the rules of the file as the kernel would list them."""


def packet_filter(ruleset: list[str], mark: str, *, contained: bool) -> tuple[list[str], list[str]]:
    """Tables beside the office's (a state); rules that differ from the file (faults).

    Args:
        contained: Whether the host is declared to be a container, which may have Docker's resolver.
    """
    tables: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in ruleset:
        if line.startswith("table "):
            lines = tables.setdefault(line.removeprefix("table ").removesuffix(" {"), [])
        if not line.startswith("#"):
            lines.append(line.strip())
    live = tables.pop("inet outpost", [])
    filed = kept("filter", mark, lambda: lines_of(FILED))
    strange = []
    if filed and not live:
        strange.append("filter\tmissing\tall rules: the table is not loaded")
    elif filed:
        count = collections.Counter(live)
        count.subtract(line.strip() for line in filed)
        for line, number in count.items():
            if number and line not in ("}", ""):
                strange.append(f"filter\t{'missing' if number < 0 else 'added'}\t{line}")
    states = []
    for table, lines in tables.items():
        if contained and table == "ip nat" and all(map(DOCKER_RESOLVER.fullmatch, lines)):
            continue
        states.append(f"table\t{table}\t")
        states.append(f"rules\t{table}\t{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:16]}")
    return states, strange
