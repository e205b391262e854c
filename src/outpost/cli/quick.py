"""The answer of `plan` and `apply` where nothing has changed, before what they work with is loaded.

The command line takes as long to load as a host to answer. So where its words leave no doubt the hosts are asked first,
and what loads it comes after, or, where the answer is for no terminal and nothing has changed, not at all.
"""

from __future__ import annotations

import getopt
import sys
import time
from collections.abc import Sequence

from outpost.engine import unchanged
from outpost.errors import OutpostError
from outpost.target import find

COMMANDS = ("plan", "apply")
OPTIONS = ["name=", "limit=", "via=", "json", "yes"]
"""Those with which the question to the hosts is the same; with any other the command line is asked what it means."""


class Inquiry:
    """Hosts that have been asked whether they are as they were.

    Attributes:
        words: Office, instance, limit and connector as the command line has them.
        asked: None where there is nothing to compare an answer with.
        hosts: All, once they have said that they are; None where one is not.
        over: Whether they have answered.

    Raises:
        OutpostError: There is no such office or instance.
    """

    def __init__(self, office: str, name: str | None, limit: tuple[str, ...], via: str | None) -> None:
        self.started = time.monotonic()
        self.words = (office, name, limit, via)
        self.target = find(office, name)
        self.asked = unchanged.ask(self.target, via, limit)
        self.hosts: tuple[str, ...] | None = None
        self.over = False

    def as_declared(self) -> tuple[str, ...] | None:
        """The hosts, where each is as it was when it was found as declared."""
        if not self.over and self.asked:
            self.hosts, self.over = self.asked.as_declared(), True
        return self.hosts


_begun: list[Inquiry] = []


def answered(words: Sequence[str]) -> bool:
    """Whether these words of a command line have their answer already: nothing to change."""
    named = {word.partition("=")[0].removeprefix("--") for word in words if word.startswith("--")}
    if not words or words[0] not in COMMANDS or not named <= {option.rstrip("=") for option in OPTIONS}:
        return False  # getopt would take beginnings of options, too
    try:
        options, offices = getopt.gnu_getopt(list(words[1:]), "y", OPTIONS)
        given = dict(options)
        (office,) = offices
        limit = tuple(value for option, value in options if option == "--limit")
        inquiry = Inquiry(office, given.get("--name"), limit, given.get("--via"))
    except (getopt.GetoptError, ValueError, OutpostError):
        return False  # the command line says what is wrong
    _begun.append(inquiry)
    if inquiry.asked is None or sys.stdout.isatty() or sys.stderr.isatty():
        return False
    sys.stderr.write("  asking the hosts\n")
    if not (hosts := inquiry.as_declared()):
        return False
    _tell(inquiry, hosts, as_json="--json" in given)
    return True


def as_declared(
    office: str, name: str | None, limit: list[str] | None, via: str | None, *, as_json: bool
) -> bool:
    """Whether every host is as it was when it was last found as declared; then that has been told."""
    words = (office, name, tuple(limit or ()), via)
    inquiry = next((each for each in _begun if each.words == words), None) or Inquiry(*words)
    if inquiry.asked is None:
        return False
    from outpost.cli.console import err, out  # while the hosts answer

    if not inquiry.over:
        with err.status("asking the hosts"):
            if not err.is_terminal:
                err.print("  asking the hosts")
            inquiry.as_declared()
    if inquiry.hosts is None:
        return False
    if as_json or not out.is_terminal:
        _tell(inquiry, inquiry.hosts, as_json=as_json)
        return True
    for host in inquiry.hosts:
        out.print(f"[bold]{host}[/]: [green]as declared[/]")
    out.print(
        f"{inquiry.target.title}: [green]nothing to change[/] ({_seconds(inquiry):.1f} s)", highlight=False
    )
    return True


def _seconds(inquiry: Inquiry) -> float:
    return time.monotonic() - inquiry.started


def _tell(inquiry: Inquiry, hosts: tuple[str, ...], *, as_json: bool) -> None:
    """For scripts and logs: without what a terminal needs."""
    if as_json:
        from outpost.cli.console import say_json
        from outpost.engine.run import Outcome

        say_json(Outcome(hosts, (), {}, (), _seconds(inquiry)).as_data(inquiry.target))
        return
    lines = [f"{host}: as declared" for host in hosts]
    lines.append(f"{inquiry.target.title}: nothing to change ({_seconds(inquiry):.1f} s)")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
