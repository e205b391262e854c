"""What is made from a source beside it (Python's bytecode, compiled Sieve scripts), and from a package's list (trusted authorities)."""

import contextlib
import os
import pathlib
import re
import shlex
import sys

from outpost.onhost.observe.reading import content, fingerprint, lines_in, lines_of, opened

RUN = "/run/outpost"


# SYS-08: without it root edits what Python made of a package's source, and every program of root's runs that.
def is_its_source(path: str) -> bool:
    """Whether a file of bytecode is what Python makes of the source beside it, or a kind that this Python ignores."""
    import importlib.util  # modules that take time to load, and are rarely needed
    import marshal

    with contextlib.suppress(Exception):  # any content
        if f".{sys.implementation.cache_tag}." not in path:
            return True
        source = importlib.util.source_from_cache(path)
        level = re.search(r"\.opt-([12])\.pyc\Z", path)
        text, optimize = content(source).encode(errors="surrogateescape"), int(level[1]) if level else 0
        made = compile(text, source, "exec", dont_inherit=True, optimize=optimize)
        with open(opened(path), "rb") as stream:
            code = stream.read()[16:]  # its header says how the source is checked, PEP 552
        return bool(marshal.loads(code) == made)  # noqa: S302 (of root's own files)
    return False


# SYS-08: without it root edits the compiled form that Dovecot runs instead of the office's script.
def compiled(path: str) -> str:
    """The fact about sievec(1)'s output for the script beside it: it changes with each apply that changes the script."""
    made = f"{RUN}/{os.getpid()}.svbin"
    os.makedirs(RUN, mode=0o700, exist_ok=True)
    try:
        lines_of(f"sievec {shlex.quote(path.removesuffix('svbin'))}sieve {made} 2>/dev/null")
        return fingerprint(made) or "none"
    finally:
        with contextlib.suppress(OSError):
            os.unlink(made)


SELECTED, SELECTABLE = "/etc/ca-certificates.conf", "/usr/share/ca-certificates"
"""Which of the package's authorities programs trust (update-ca-certificates(8))."""


def all_are_selected() -> bool:
    """Whether programs trust each authority of the package, and no other; what it has no longer is deselected at an upgrade."""
    there = {str(file.relative_to(SELECTABLE)) for file in pathlib.Path(SELECTABLE).rglob("*.crt")}
    lines = {line for line in map(str.strip, lines_in(SELECTED)) if line and not line.startswith("#")}
    off = {line for line in lines if line.startswith("!")}
    return lines - off == there and there.isdisjoint(line[1:] for line in off)
