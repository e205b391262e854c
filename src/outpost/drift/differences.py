"""A difference on a host, and the finding made of it."""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Finding:
    """One difference between a host and its office.

    Attributes:
        kind: What sort of thing it is (`file`, `unit`, `package`, `account`, `packet filter`, …).
        controls: Ids of the controls it breaks.
        repair: Shell command for the host; empty where a role's own operation repairs it.
        diff: Lines; with ``+`` (on the host) or ``-`` (as it should be) in front, if they are differences.
        facts: The lines of the observation that it comes from.
    """

    kind: str
    thing: str
    cause: str
    consequence: str
    controls: tuple[str, ...] = ()
    repair: str = field(default="", repr=False)
    diff: tuple[str, ...] = ()
    facts: frozenset[str] = field(default=frozenset(), repr=False)

    def as_data(self, host: str) -> dict[str, object]:
        return {"host": host} | {name: value for name, value in vars(self).items() if name != "facts"}


FILES = (
    "file", "alias", "special", "capability", "mode", "locked", "acl", "linked", "program", "compiled", "conffile",
    "handler", "trigger", "granted",
)  # fmt: skip
"""Kinds whose thing is a path as `outpost.onhost.observe.reading.named` writes it."""


def named(path: str) -> str:
    """A path for the shell; bytes that are not text are written as octal numbers (printf(1), %b)."""
    if "\\" not in path:
        return shlex.quote(path)
    # SYS-08: without it the shell drops line feeds at the end, and a repair changes another file, which only lacks them.
    head = re.sub(r"(\\x0a)+\Z", "", path)
    feeds = "\n" * ((len(path) - len(head)) // len(r"\x0a"))
    octal = re.sub(r"\\x([0-9a-f]{2})", lambda found: f"\\0{int(found[1], 16):03o}", head)
    return f'"$(printf %b {shlex.quote(octal)})"' + (shlex.quote(feeds) if feeds else "")


def directory(path: str) -> str:
    """A path's directory for the shell; dirname(1) in a substitution would drop line feeds at its end."""
    return named(str(PurePosixPath(path).parent))


@dataclass(frozen=True)
class Difference:
    """An object of one kind that has changed since the last apply, or that is wrong in any case.

    Attributes:
        new: Values that it has now and did not have; a fault has one.
        old: Values that it had and no longer has.
    """

    kind: str
    thing: str
    new: tuple[str, ...] = ()
    old: tuple[str, ...] = ()
    packages: frozenset[str] = frozenset()
    units: frozenset[str] = frozenset()

    @property
    def quoted(self) -> str:
        return named(self.thing) if self.kind in FILES else shlex.quote(self.thing)

    @property
    def facts(self) -> frozenset[str]:
        return frozenset(f"{self.kind}\t{self.thing}\t{value}" for value in (*self.new, *self.old))


def came(it: Difference) -> bool:
    """It exists, or has a value, that was not there before."""
    return bool(it.new)


def went(it: Difference) -> bool:
    """It is gone, or has lost a value."""
    return bool(it.old)


def only_came(it: Difference) -> bool:
    """It did not exist before."""
    return bool(it.new) and not it.old


def only_went(it: Difference) -> bool:
    """It no longer exists."""
    return bool(it.old) and not it.new


def changed(it: Difference) -> bool:
    return bool(it.new and it.old)


def always(_it: Difference) -> bool:
    return True


def lines(it: Difference) -> tuple[str, ...]:
    """Its old and new values, as a diff shows them."""
    return (*(f"-{line}" for line in it.old), *(f"+{line}" for line in it.new))


Words = str | Callable[[Difference], str]


@dataclass(frozen=True)
class Meaning:
    """A template that makes the finding and the repair for differences of one kind.

    Attributes:
        of: Their kind.
        when: Selects among them.
        repair: Shell.
        kind: The kind's name for people, if it is another word.
        shows: The lines of the report, old and new ones.
        thing: The object's name for people, if it is more than its name.
    """

    of: str
    when: Callable[[Difference], bool]
    cause: Words
    consequence: Words
    controls: tuple[str, ...]
    repair: Words
    kind: str = ""
    shows: Callable[[Difference], tuple[str, ...]] = lambda _: ()
    thing: Words = lambda it: it.thing

    def about(self, it: Difference) -> Finding:
        cause, consequence, repair, thing = (
            words if isinstance(words, str) else words(it)
            for words in (self.cause, self.consequence, self.repair, self.thing)
        )
        return Finding(
            self.kind or it.kind, thing, cause, consequence, self.controls, repair, self.shows(it), it.facts
        )
