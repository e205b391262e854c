"""Interfaces, addresses, routes, and sockets that wait for others."""

from __future__ import annotations

import glob
import json
import os
import re

from outpost.onhost.observe.units import unit_of

TYPE_CHECKING = False
if TYPE_CHECKING:  # loading it takes a fiftieth of a look
    import typing

OF_THE_KERNEL = re.compile(r"127\.0\.0\.1$|::1$|fe80:")


def network(live: dict[str, list[str]]) -> list[str]:
    """Interfaces, addresses and routes that somebody gave the host; what it learns or works out itself apart.

    Args:
        live: What ip(8) and ss(8) answer (`outpost.onhost.observe.asking`).
    """
    found = []
    (links,) = entries(live.get("links", []), 1)
    for entry in links:
        name = entry["ifname"]
        kind = entry.get("linkinfo", {}).get("info_kind", "")
        flags = entry.get("flags", ())
        heard = "on" if "PROMISC" in flags else "off"
        found.append(
            f"link\t{name}\t{'up' if 'UP' in flags else 'down'} mtu {entry['mtu']} promisc {heard} {kind}".rstrip()
        )
        for each in entry.get("addr_info", ()):
            given = not (each.get("dynamic") or each.get("temporary") or OF_THE_KERNEL.match(each["local"]))
            if given:
                found.append(f"address\t{each['local']}/{each['prefixlen']}\t{name}")
    for family in ("4", "6"):
        routes, neighbours = entries(live.get(f"routes {family}", []), 2)
        for entry in routes:
            if entry.get("protocol") in ("kernel", "ra", "dhcp", "redirect") or entry.get(
                "dst", ""
            ).startswith("fe80:"):
                continue
            words = [entry.get("type", "unicast"), entry["dst"]]
            words += ["via", entry["gateway"]] if "gateway" in entry else []
            words += ["metric", str(entry["metric"])] if "metric" in entry else []
            words += ["table", entry["table"]] if "table" in entry else []
            found.append(f"route\t{family} {' '.join(words)}\t{entry.get('dev', '')}")
        found += [
            f"rule\t{family} {' '.join(line.replace(':', ' ', 1).split())}\t"
            for line in live.get(f"rules {family}", ())
        ]
        for entry in neighbours:
            found.append(f"neighbour\t{entry['dst']}\t{entry.get('lladdr', '')} {entry['dev']}")
    found += [f"namespace\t{os.path.basename(path)}\t" for path in glob.iglob("/run/netns/*")]
    for line in live.get("sockets", ()):
        protocol, _, _, _, local, _, *rest = line.split()
        if protocol != "tcp" or not local.startswith(("127.", "[::1]")):
            continue
        if process := re.search(
            r'"([^"]+)",pid=(\d+)', " ".join(rest)
        ):  # Docker's resolver is no process of the container
            unit = unit_of(process[2])
            found.append(f"loopback\t{local}\t{unit if unit.endswith('.service') else process[1]}")
    return found


def entries(lines: list[str], answers: int) -> list[list[dict[str, typing.Any]]]:
    """What ip(8) answers in JSON, a line to each question; nothing where it fails."""
    try:
        found = [json.loads(line) for line in lines]
    except ValueError:
        found = []
    return [[entry for entry in line if entry] for line in (found + [[]] * answers)[:answers]]


DHCP_CLIENTS = ("systemd-network", "dhclient", "dhcpcd", "NetworkManager")  # as the kernel cuts their names


def listeners(contract: dict[str, object], sockets: list[str]) -> list[str]:
    """Sockets that wait for others and are in no flow.

    Args:
        sockets: Those that wait, as ss(8) lists them.
    """
    allowed = {tuple(entry) for entry in contract.get("listeners", ())}  # type: ignore[attr-defined]
    found = []
    for line in sockets:
        protocol, _, _, _, local, _, *rest = line.split()
        address, _, port = local.rpartition(":")
        address = address.partition("%")[0].strip("[]")
        process = re.search(r'"([^"]+)",pid=(\d+)', " ".join(rest))
        if process is None or address.startswith("127.") or address == "::1":
            continue  # Docker's resolver listens in the container without being a process of it
        program, pid = process.groups()
        if (protocol, address, int(port)) in allowed:
            continue
        if protocol == "udp" and program in ("unbound", "chronyd", "rspamd", "kdig") and int(port) >= 1024:
            continue  # the near end of a question that is under way
        if protocol == "udp" and int(port) in (68, 546) and program in DHCP_CLIENTS:
            continue  # the host has its address by it; closing it takes the address away
        found.append(f"listener\t{protocol} {address} {port}\t{program} {pid} {unit_of(pid)}")
    return found
