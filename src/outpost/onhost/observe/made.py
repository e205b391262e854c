"""What programs make from a source beside it: Python's bytecode, compiled Sieve scripts."""

import contextlib
import os
import re
import shlex
import sys

from outpost.onhost.observe.reading import content, fingerprint, lines_of, opened

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
        level = re.search(r"\.opt-([12])\.pyc$", path)
        made = compile(
            content(source).encode(errors="surrogateescape"),
            source,
            "exec",
            dont_inherit=True,
            optimize=int(level[1]) if level else 0,
        )
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
