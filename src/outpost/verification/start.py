"""``python -m outpost.verification.start ARGUMENTS``: pytest with these arguments, and what ``--ahead`` has of hosts is asked first.

Logging in to hosts takes longer than to read pytest, the office's model and the checks, so it begins before that; the
plugin `outpost.verification.ahead` finds what is under way. Who starts this writes the way to each host beside the lists (`reached`).
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

from outpost.transport import fetching

UNDER_WAY: dict[str, fetching.Answers] = {}
"""Host → the answers that nobody has taken over yet."""


def reached(lists: Path) -> Path:
    """The file of the commands that start a root shell on each host."""
    return lists.with_name(f"{lists.name}.reached")


def ask(arguments: Sequence[str]) -> None:
    """Send hosts their lists; what is wrong with the arguments, pytest says."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--ahead", type=Path)
    parser.add_argument("--host", action="append")
    options, _ = parser.parse_known_args(arguments)
    if not options.ahead:
        return
    known, starts = fetching.lists(options.ahead), fetching.lists(reached(options.ahead))
    for host in options.host or known:
        if host in starts:
            UNDER_WAY[host] = fetching.fetch(starts[host], known.get(host, ()))


def main() -> int:
    """Ask, then let pytest do the rest."""
    ask(sys.argv[1:])
    gc.disable()  # for these few seconds it finds little, and looks long
    import pytest

    return int(pytest.main(sys.argv[1:]))


if __name__ == "__main__":
    from outpost.verification.start import main as run  # where the plugin looks; this one is __main__

    sys.exit(run())
