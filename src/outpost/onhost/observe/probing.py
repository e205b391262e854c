"""Probes, each by itself: one that fails is a finding, and takes no other with it."""

from __future__ import annotations

import collections.abc

from outpost.onhost.observe.reading import plain

TYPE_CHECKING = False
if TYPE_CHECKING:  # loading it takes a fiftieth of a scan
    import typing

    Found = typing.TypeVar("Found")

KINDS = {
    "modes": ("mode", "mount", "mounted"),
    "kernel settings": ("setting",),
    "loopback": ("loopback",),
    "running units": ("running",),
    "environment": ("manager",),
    "network": ("link", "address", "route", "rule", "neighbour", "namespace"),
    "traffic control": ("queue",),
    "databases": ("trigger",),
    "packages": ("package", "version", "hold", "architecture", "diversion", "override"),
    "daemons": ("effective",),
    "enabled units": ("unit",),
    "accounts": ("account", "group", "member", "keeper", "shadow"),
    "files": ("file", "local"),
    "files among packages": ("file", "local", "alias"),
    "conffiles": ("conffile",),
    "packages' control files": ("control",),
    "programs": ("program",),
    "privileges": ("special", "capability"),
    "privileges in usr": ("special", "capability"),
    "privileges elsewhere": ("special",),
    "capabilities elsewhere": ("capability",),
    "packet filter": ("table", "rules"),
}
"""Name of a probe → kinds of the states that it sees; of others there is none."""


class Probes:
    """Runs probes.

    Attributes:
        blind: A fault of the kind ``blind`` for each that failed.
    """

    def __init__(self) -> None:
        self.blind: list[str] = []

    def __call__(
        self, name: str, ask: collections.abc.Callable[..., Found], *words: object, otherwise: Found
    ) -> Found:
        """What a probe finds.

        Args:
            otherwise: In its place where it fails.
        """
        try:
            return ask(*words)
        except Exception as error:  # whatever it is, the others see on
            why = plain(" ".join(f"{type(error).__name__}: {error}".split()))
            self.blind.append(f"blind\t{name}\t{why[:160]}")
            return otherwise


def unseen(faults: collections.abc.Iterable[str]) -> set[str]:
    """Kinds of which a scan with these faults does not show everything."""
    names = (line.split("\t")[1] for line in faults if line.startswith("blind\t"))
    return {kind for name in names for kind in KINDS.get(name, ())}
