"""What each host of an office would tell now, asked of the program that tells it (``outpost.onhost.watch``)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from outpost.errors import OutpostError
from outpost.office.model import Office
from outpost.office.tables.topology import Host
from outpost.onhost import watch
from outpost.target import Target
from outpost.transport import answers
from outpost.transport.remote import run_script

WATCH = "PYTHONPATH=/usr/local/lib/outpost/python exec python3 -s -P -B -m outpost.onhost.watch {word}\n"


def of_host(
    target: Target, office: Office, host: Host, via: str | None = None, *, test: bool = False
) -> list[dict[str, Any]]:
    """Its alarms; that it cannot be asked is one, too. With `test`, the paths by which it could tell nobody."""
    try:
        answer = run_script(target, office, host, WATCH.format(word="test" if test else "look"), via)
    except OutpostError as error:
        return [{"host": host.name, "about": "host", "text": error.message}]
    try:
        said = answers.parsed_lines(answer.splitlines(), watch.Alarm, host.name)
    except OutpostError as error:
        return [{"host": host.name, "about": "host", "text": error.message}]
    return [{"host": host.name, **asdict(alarm)} for alarm in said]
