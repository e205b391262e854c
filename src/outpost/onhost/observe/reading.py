"""How commands run and files are read; and separate probes: one that fails is a finding, and stops no other.

It uses only modules that Python loads anyway: `subprocess` alone takes as long to load as three commands to run.
"""

from __future__ import annotations

import collections.abc
import errno
import os
import select
import signal
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:  # loading it takes a fiftieth of a scan
    import typing

    Found = typing.TypeVar("Found")

PATIENCE = 60.0
"""Seconds for a command."""
WALK = 600.0
"""Seconds for a walk through a tree: the first one through /usr takes minutes on a slow machine with a cold cache."""
LARGEST = 256 * 1024 * 1024
"""Most octets of a file that is read."""


class BlindError(Exception):
    """A question has no answer, so nothing may be concluded from it."""


def named(path: str) -> str:
    r"""A file's name in a fact: separators and bytes that are no text are written as ``\xNN`` (`outpost.drift.differences.shell`)."""
    if path.isascii() and path.isprintable() and "\\" not in path:
        return path
    raw = os.fsencode(path)
    return "".join(chr(octet) if 32 <= octet < 127 and octet != 92 else f"\\x{octet:02x}" for octet in raw)


def plain(line: str) -> str:
    """A fact without characters that a terminal obeys or that UTF-8 cannot encode."""
    if line.isascii() and line.replace("\t", "").isprintable():
        return line
    return "".join(
        letter
        if letter == "\t" or letter.isprintable()
        else "".join(f"\\x{octet:02x}" for octet in os.fsencode(letter))
        for letter in line
    )


class Begun:
    """A running program. Its output goes into memory, so that nobody has to read a pipe meanwhile."""

    def __init__(self, *command: str, **environment: str) -> None:
        self._output = os.memfd_create(command[0])
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, self._output, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        own = os.environ | environment
        self._process = os.posix_spawnp(command[0], command, own, file_actions=actions, setpgroup=0)

    def output(self, patience: float | None = None) -> bytes:
        """Its standard output, as far as it has come when its time is over (seconds; else `PATIENCE`)."""
        self.late, status = ended(self._process, patience)
        self.killed = os.WIFSIGNALED(status)
        try:
            return os.pread(self._output, os.fstat(self._output).st_size, 0)
        finally:
            os.close(self._output)


def ended(process: int, patience: float | None = None) -> tuple[bool, int]:
    """Whether a process group had to be killed because its time was over, and the status of its leader."""
    awaited = os.pidfd_open(process)
    over = select.poll()
    over.register(awaited, select.POLLIN)
    late = not over.poll((PATIENCE if patience is None else patience) * 1000)
    if late:
        os.killpg(process, signal.SIGKILL)
    os.close(awaited)
    return late, os.waitpid(process, 0)[1]


def lines_of(command: str, patience: float | None = None) -> list[str]:
    """Lines of a shell command's standard output; only LF ends a line, because names may contain other line breaks of Python."""
    shell = Begun("/bin/sh", "-c", command)
    lines = shell.output(patience).decode(errors="surrogateescape").removesuffix("\n").split("\n")
    if shell.late or shell.killed:
        raise BlindError(f"no answer: {command.partition(' -')[0][:60]}")
    return [] if lines == [""] else lines


def opened(path: str) -> int:
    """Open a plain file. A daemon's FIFO would block the observer for ever, and a sparse file nearly as long."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST:
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "no plain file, or too large", path)


def content(path: str) -> str:
    """Read a file as a whole, without Python's wrappers: there are hundreds of files."""
    descriptor = opened(path)
    try:
        return b"".join(iter(lambda: os.read(descriptor, 65536), b"")).decode(errors="surrogateescape")
    finally:
        os.close(descriptor)


def lines_in(path: str) -> list[str]:
    """Lines of a file; none if it cannot be read. Only LF ends one, as in `lines_of`."""
    try:
        text = content(path)
    except OSError:
        return []
    return text.removesuffix("\n").split("\n") if text else []


def digested(path: str, kind: str = "sha256") -> str:
    import hashlib

    with open(opened(path), "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def fingerprint(path: str) -> str:
    if os.path.islink(path):
        return f"link to {os.readlink(path)}"
    try:
        return digested(path)[:16]
    except OSError:
        return ""


KINDS = {
    "modes": ("alias", "mode", "mount", "mounted"),
    "kernel settings": ("setting",),
    "loopback": ("loopback",),
    "running units": ("running",),
    "environment": ("manager",),
    "network": ("link", "address", "route", "rule", "neighbour", "namespace"),
    "traffic control": ("queue",),
    "network policies": ("policy",),
    "databases": ("trigger",),
    "packages": ("package", "version", "hold", "architecture", "diversion", "override"),
    "daemons": ("effective",),
    "enabled units": ("unit",),
    "accounts": ("account", "group", "member", "keeper", "shadow"),
    "files": ("file", "local"),
    "files among packages": ("file", "local", "alias", "compiled"),
    "conffiles": ("conffile",),
    "packages' control files": ("control",),
    "programs": ("program",),
    "privileges": ("file", "special", "capability"),
    "privileges in usr": ("file", "special", "capability"),
    "privileges elsewhere": ("file", "special"),
    "capabilities elsewhere": ("capability",),
    "packet filter": ("table", "rules"),
}
"""Name of a probe → kinds of the states that it sees; none for other probes."""


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
        """The result of a probe.

        Args:
            otherwise: Replaces it if the probe fails.
        """
        try:
            return ask(*words)
        except Exception as error:  # any error: the other probes continue
            why = plain(" ".join(f"{type(error).__name__}: {error}".split()))
            self.blind.append(f"blind\t{name}\t{why[:160]}")
            return otherwise

    def lines(self, name: str, ask: collections.abc.Callable[..., list[str]], *words: object) -> list[str]:
        """The facts of a probe; none if it fails."""
        return self(name, ask, *words, otherwise=[])


def unseen(faults: collections.abc.Iterable[str]) -> set[str]:
    """Kinds that a scan with these faults does not show completely."""
    names = (line.split("\t")[1] for line in faults if line.startswith("blind\t"))
    return {kind for name in names for kind in KINDS.get(name, ())}
