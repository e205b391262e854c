"""``python -m outpost.verification.start ARGUMENTS``: pytest with these arguments, and what ``--ahead`` has of hosts is asked first.

Logging in to hosts takes longer than to read pytest, the office's model and the checks, so it begins before that; the
plugin `outpost.verification.ahead` finds what is under way. How hosts are reached is kept beside the lists, for as long as all is the
same that decides it.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from outpost.errors import OutpostError
from outpost.target import ROOT, Target, find
from outpost.transport import fetching

UNDER_WAY: dict[str, fetching.Answers] = {}
"""Host → the answers that nobody has taken over yet."""


def ask(arguments: Sequence[str]) -> None:
    """Send hosts their lists; what is wrong with the arguments, pytest says."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--ahead", "--office", "--name", "--via"):
        parser.add_argument(option)
    parser.add_argument("--host", action="append")
    options, _ = parser.parse_known_args(arguments)
    if not (options.ahead and options.office):
        return
    known = fetching.lists(Path(options.ahead))
    try:
        starts = _starts(find(options.office, options.name), options.via, Path(f"{options.ahead}.reached"))
    except (OSError, OutpostError):
        return
    for host in options.host or known:
        if host in starts:
            UNDER_WAY[host] = fetching.fetch(starts[host], known.get(host, ()))


def _starts(target: Target, via: str | None, kept: Path) -> dict[str, list[str]]:
    """Host → what starts a root shell there."""
    mark = _mark(target, via)
    try:
        before = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    if before.get("mark") == mark:
        return dict(before["starts"])
    from outpost.office.load import load  # what takes time to load
    from outpost.transport.remote import shell_command

    office = load(target.data)
    starts = {host.name: shell_command(target, office, host, via) for host in office.hosts}
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = kept.with_suffix(f".{os.getpid()}")
    new.touch(mode=0o600)  # its commands are carried out
    new.write_text(json.dumps({"mark": mark, "starts": starts}), encoding="utf-8")
    new.replace(kept)
    return starts


def _mark(target: Target, via: str | None) -> str:
    """A digest of all that decides how hosts are reached (`outpost.transport.remote`, `outpost.transport.ssh`)."""
    transport = ROOT / "src" / "outpost" / "transport"
    code = [(transport / name).read_text(encoding="utf-8") for name in ("remote.py", "ssh.py")]
    places = [str(path) for path in (target.data.resolve(), target.inventory(via), Path.home())]
    settings = [
        target.office_file.read_text(encoding="utf-8"),
        str(target.instance),
        str((target.data / "ssh_key").is_file()),
    ]
    return hashlib.sha256(
        json.dumps([*code, *places, *settings, os.environ.get("XDG_CACHE_HOME")]).encode()
    ).hexdigest()


def main() -> int:
    """Ask, then let pytest do the rest."""
    ask(sys.argv[1:])
    gc.disable()  # for these few seconds it finds little, and looks long
    import pytest

    return int(pytest.main(sys.argv[1:]))


if __name__ == "__main__":
    from outpost.verification.start import main as run  # where the plugin looks; this one is __main__

    sys.exit(run())
