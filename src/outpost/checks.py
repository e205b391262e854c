"""``python -m outpost.checks ARGUMENTS``: pytest with these arguments, and what ``--ahead`` has of hosts is asked first.

Logging in to hosts takes longer than to read pytest and the checks, so it begins before that; the plugin `outpost.ahead`
finds what is under way.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from outpost import fetching
from outpost.errors import OutpostError
from outpost.office.load import load
from outpost.remote import shell_command
from outpost.target import find

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
    try:
        target = find(options.office, options.name)
        office = load(target.data)
        known = fetching.lists(Path(options.ahead))
        for host in options.host or known:
            if host in office.hosts_by_name:
                start = shell_command(target, office, office.host(host), options.via)
                UNDER_WAY[host] = fetching.fetch(start, known.get(host, ()))
    except OutpostError:
        return


def main() -> int:
    """Ask, then let pytest do the rest."""
    ask(sys.argv[1:])
    import pytest

    return int(pytest.main(sys.argv[1:]))


if __name__ == "__main__":
    from outpost.checks import (
        main as run,  # this module is __main__, and the plugin looks into outpost.checks
    )

    sys.exit(run())
