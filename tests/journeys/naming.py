"""Strangers' domain names for one test: records in a zone of the lab's root server, signed at once by its Knot.

Every name is new, so no resolver has it in its cache.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.awaiting import until

Record = tuple[str, str, str]
"""Owner below the zone (or a full name with a final dot), type, data."""


_KNOWN = """
import sys, dns.resolver
for owner, rtype in zip(sys.argv[1::2], sys.argv[2::2]):
    dns.resolver.resolve(owner, rtype)
"""


def text(value: str) -> str:
    """The data of a TXT record: quoted strings of 255 octets at most (RFC 1035, section 3.3)."""
    return " ".join(f'"{value[start : start + 255]}"' for start in range(0, len(value), 255))


@dataclass(frozen=True)
class Names:
    """One zone of the lab's root server.

    Attributes:
        server: Its container.
        reader: The container whose resolver must know the names: NSEC records in its cache may deny them (RFC 8198), for five
            seconds in the lab.
    """

    server: str
    reader: str
    zone: str = "internet.test."

    @contextmanager
    def published(self, records: Iterable[Record], *, unseen: Iterable[Record] = ()) -> Iterator[None]:
        """Publish the records while the block lasts."""
        awaited = list(records)
        kept = [*awaited, *unseen]
        self._change(["zone-set", owner, "60", rtype, data] for owner, rtype, data in kept)
        try:
            self._await({(owner, rtype) for owner, rtype, _ in awaited})
            yield
        finally:
            self._change(["zone-unset", owner, rtype, data] for owner, rtype, data in kept)

    def _await(self, wanted: Iterable[tuple[str, str]]) -> None:
        words = [word for owner, rtype in wanted for word in (owner, rtype)]
        command = ["docker", "exec", self.reader, "python3", "-c", _KNOWN, *words]
        until(
            lambda: subprocess.run(command, check=False, capture_output=True).returncode == 0,
            f"{self.reader} knows {words}",
        )

    def _change(self, steps: Iterable[list[str]]) -> None:
        commands = [
            ["zone-begin"],
            *steps,
            ["zone-commit"],
        ]
        script = " && ".join(shlex.join(["knotc", verb, self.zone, *rest]) for verb, *rest in commands)
        done = subprocess.run(
            [
                "docker",
                "exec",
                self.server,
                "sh",
                "-c",
                f"{script} || {{ knotc zone-abort {self.zone}; exit 1; }}",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{self.zone}: {done.stdout}{done.stderr}"
