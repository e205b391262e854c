"""The rules that the packet filter has in force, listed anew when they were changed."""

from __future__ import annotations

import socket
import struct

from outpost.onhost.observe.kept_answers import kept
from outpost.onhost.observe.reading import said

NETLINK_NETFILTER = 12
GET_GENERATION, GENERATION = (
    10 << 8 | 16,
    10 << 8 | 15,
)  # NFT_MSG_GETGEN, NFT_MSG_NEWGEN of nftables' subsystem
REQUEST = 1  # NLM_F_REQUEST
QUESTION = struct.Struct("=IHHIIBBH")
"""Of netlink(7): length, type, flags, sequence, port; of nfnetlink: family, version, nothing."""


def ruleset() -> list[str]:
    """As nft(8) lists it, without counters and without what packets put into sets."""
    return kept("ruleset", generation(), lambda: said("nft --stateless --terse list ruleset"), bool)


def generation() -> str:
    """The kernel's number for the rules as they are, another one after each change; empty where it does not tell."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
            kernel.settimeout(10)
            kernel.send(QUESTION.pack(QUESTION.size, GET_GENERATION, REQUEST, 0, 0, 0, 0, 0))
            told = kernel.recv(4096)
        if QUESTION.unpack_from(told)[1] == GENERATION:
            return told[
                QUESTION.size : QUESTION.size + 8
            ].hex()  # the first attribute: its length, type, and the number
    except (OSError, struct.error):
        pass
    return ""
