"""What programs make of a source beside it: Python's bytecode, compiled Sieve scripts."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys

from outpost.onhost.observe.reading import content, fingerprint, lines_of, opened

RUN = "/run/outpost"


# SYS-08: without it root edits what Python made of a package's source, which every program of root's then runs.
def is_its_source(path: str) -> bool:
    """Whether a file of bytecode is what Python makes of the source beside it, or one that this Python does not take."""
    import importlib.util  # what takes time to load, and is seldom needed
    import marshal

    with contextlib.suppress(Exception):  # whatever is in it
        if f".{sys.implementation.cache_tag}." not in path:
            return True
        source = importlib.util.source_from_cache(path)
        level = re.search(r"\.opt-([12])\.pyc$", path)
        made = compile(
            content(source).encode(errors="surrogateescape"),
            source,
            "exec",
            dont_inherit=True,
            optimize=int(level[1]) if level else 0,
        )
        with open(opened(path), "rb") as stream:
            code = stream.read()[16:]  # its header says which source, PEP 552
        return bool(marshal.loads(code) == made)  # noqa: S302 (of root's own files)
    return False


# SYS-08: without it root edits what Dovecot runs in place of the office's script.
def compiled(path: str) -> str:
    """What sievec(1) makes of the script beside it, as a fact says it: it comes and changes with each apply that has another script."""
    made = f"{RUN}/{os.getpid()}.svbin"
    os.makedirs(RUN, mode=0o700, exist_ok=True)
    try:
        lines_of(f"sievec {shlex.quote(path.removesuffix('svbin'))}sieve {made} 2>/dev/null")
        return fingerprint(made) or "none"
    finally:
        with contextlib.suppress(OSError):
            os.unlink(made)
