"""The answer of `plan` and `apply` where nothing has changed, before what they work with is loaded."""

from __future__ import annotations

import time

from outpost import unchanged
from outpost.target import find


def as_declared(
    office: str, name: str | None, limit: list[str] | None, via: str | None, *, as_json: bool
) -> bool:
    """Whether every host is as it was when it was last found as declared; then that has been told."""
    started = time.monotonic()
    target = find(office, name)
    asked = unchanged.ask(target, via, limit or ())
    if asked is None:
        return False
    from outpost.cli.console import err, out, say_json  # while the hosts answer

    with err.status("looking at the hosts"):
        if not err.is_terminal:
            err.print("  looking at the hosts")
        from outpost.run import Outcome

        hosts = asked.as_declared()
    if hosts is None:
        return False
    outcome = Outcome(hosts, (), {}, (), time.monotonic() - started)
    if as_json:
        say_json(outcome.as_data(target))
        return True
    for host in hosts:
        out.print(f"[bold]{host}[/]: [green]as declared[/]")
    out.print(f"{target.title}: [green]nothing to change[/] ({outcome.seconds:.1f} s)", highlight=False)
    return True
