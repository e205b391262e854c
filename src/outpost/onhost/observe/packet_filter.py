"""The packet filter in force."""

from __future__ import annotations

import collections
import hashlib
import re

from outpost.onhost.observe.kept_answers import kept
from outpost.onhost.observe.reading import said

# Docker's own resolver in a container's network: its ports, and whether it is there at all, change with every start
DOCKER_RESOLVER = re.compile(r"127\.0\.0\.11|^(table|chain|type nat hook) |^}?$|^#|jump DOCKER_")


def packet_filter(ruleset: list[str], mark: str) -> tuple[list[str], list[str]]:
    """Tables beside the office's (a state); rules that differ from the file (faults)."""
    tables: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in ruleset:
        if line.startswith("table "):
            lines = tables.setdefault(line.removeprefix("table ").removesuffix(" {"), [])
        if not line.startswith("#"):
            lines.append(line.strip())
    live = tables.pop("inet outpost", [])
    filed = kept(
        "filter",
        mark,
        lambda: said(
            "unshare --net sh -c 'nft --file /etc/nftables.conf && nft --stateless --terse list table inet outpost'"
        ),
    )
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
        if table == "ip nat" and all(DOCKER_RESOLVER.search(line) for line in lines):
            continue
        states.append(f"table\t{table}\t")
        states.append(f"rules\t{table}\t{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:16]}")
    return states, strange
