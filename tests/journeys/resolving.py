"""TXT records for dkimpy from the lab's name server: dkimpy itself would query this machine's resolver."""

from __future__ import annotations

from collections.abc import Callable

import dns.message
import dns.query
import dns.rdatatype

from outpost_lab import pace
from outpost_lab.post import Town


def txt_of(town: Town) -> Callable[..., bytes | None]:
    """A query function for ``dkim.verify(dnsfunc=…)``."""

    def look_up(name: bytes, timeout: float = 5) -> bytes | None:
        wanted = name.decode().rstrip(".")
        ours = wanted.endswith(town.info["domain"])
        server = town.info["hosts"]["ns1"] if ours else town.info["world"]["root"]
        question = dns.message.make_query(f"{wanted}.", dns.rdatatype.TXT)
        answer = dns.query.tcp(question, server["addresses"]["wan"][0], timeout=timeout * pace.load())
        found = [b"".join(record.strings) for rrset in answer.answer for record in rrset]
        return found[0] if found else None

    return look_up
