"""Ask a host the questions of its checks in advance: one round trip for all of them (docs/adr/0020).

A check with the mark ``looks`` asks the same of its host each time and changes nothing. The commands are stored with the
office's runs, a list for each host. The next verification sends the whole list at once,
and the checks find their answers there, all of one moment. A command that is not on the list, or that a check repeats, goes to the host when it
is asked. The same holds for commands with ``live=True`` and for checks with the mark ``live``, which act, wait, or check their own effect.

This module is the pytest plugin that does so: ``-p outpost.verification.ahead --ahead FILE``. Without it every command goes live.
"""

import json
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from outpost.errors import OutpostError
from outpost.target import written
from outpost.transport.answers import MOST
from outpost.transport.remote import shell_command
from outpost.transport.shell import Answer, Shell
from outpost.verification.live import chosen_office, chosen_target

NAME = "outpost-ahead"
PATIENCE = 60.0
"""Seconds for an answer; then the rest of that host's list is asked when the checks need it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--ahead",
        type=Path,
        metavar="FILE",
        help="ask ahead what the checks asked at the last run, kept in this file",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin only if a file is named."""
    if file := config.getoption("--ahead"):
        config.pluginmanager.register(Ahead(config, file), NAME)


def carried_out_by(config: pytest.Config, host: str, shell: Shell) -> Callable[[str, bool], Answer]:
    """Answers a check's commands to a host: with answers fetched ahead, else through the shell."""
    ahead: Ahead | None = config.pluginmanager.get_plugin(NAME)

    def carry_out(command: str, live: bool) -> Answer:
        return (None if live or ahead is None else ahead.answer(host, command)) or shell.run(command)

    return carry_out


@dataclass
class Ahead:
    """The lists of commands, and the answers to them.

    Attributes:
        asked: Host → commands that this process's checks asked, without the live ones.
    """

    config: pytest.Config
    file: Path
    asked: dict[str, set[str]] = field(default_factory=dict)
    _looks: bool = False  # the test that runs now
    _served: set[tuple[str, str]] = field(default_factory=set)
    _answers: dict[str, dict[str, Future[Answer]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known = self._listed()

    def _listed(self) -> dict[str, list[str]]:
        """Host → the commands of its list; none if there is no such file yet."""
        try:
            return dict(json.loads(self.file.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def answer(self, host: str, command: str) -> Answer | None:
        """The answer to a command if it is known; a second time within a test it is asked again."""
        if not self._looks or (host, command) in self._served:
            return None
        self._served.add((host, command))
        self.asked.setdefault(host, set()).add(command)
        if hasattr(self.config, "workerinput"):
            fetched: dict[str, Answer] = self.config.workerinput["answers"].get(host, {})
            return fetched.get(command)
        return self._come(host, command)

    def _come(self, host: str, command: str) -> Answer | None:
        try:
            coming = self._fetched(host).get(command)
            return coming.result(PATIENCE) if coming else None
        except (OutpostError, TimeoutError):
            self._answers[host] = {}
            return None

    def _fetched(self, host: str) -> dict[str, Future[Answer]]:
        """The answers to a host's list, on their way."""
        if host not in self._answers:
            office = chosen_office(self.config)
            via = self.config.getoption("--via")
            command = shell_command(chosen_target(self.config), office, office.host(host), via)
            shell = Shell(command, most=MOST)  # all answers are kept, and each worker gets them
            coming = self._answers[host] = {}
            with suppress(OutpostError):
                coming |= {command: shell.ask(command) for command in self._known.get(host, ())}
            shell.close()
        return self._answers[host]

    # Who asks -----------------------------------------------------------------------------------------------

    def pytest_sessionstart(self) -> None:
        """Ask all hosts side by side, while the checks are still being collected."""
        if not hasattr(self.config, "workerinput"):
            for host in self._wanted:
                self._fetched(host)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Workers (xdist) divide the checks among them. The process that starts them asks the hosts before it knows how."""
        node.workerinput["answers"] = {
            host: {command: self._come(host, command) for command in tuple(self._fetched(host))}
            for host in self._wanted
        }

    @pytest.hookimpl(trylast=True)  # the checks of a host stay together
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Hosts with the most questions come last, as their answers do."""
        params = (getattr(getattr(item, "callspec", None), "params", {}) for item in items)
        number = {
            item: len(self._known.get(of["me"].name, ())) if "me" in of else 0
            for item, of in zip(items, params, strict=True)
        }
        items.sort(key=number.__getitem__)

    @property
    def _wanted(self) -> list[str]:
        return list(self.config.getoption("--host") or self._known)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._looks = bool(item.get_closest_marker("looks") and not item.get_closest_marker("live"))
        self._served.clear()

    # The lists of the next run ------------------------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker has ended, and reports the commands of its checks."""
        for host, commands in getattr(node, "workeroutput", {}).get("asked", {}).items():
            self.asked.setdefault(host, set()).update(commands)

    @pytest.hookimpl(trylast=True)  # the workers have ended
    def pytest_sessionfinish(self) -> None:
        lists = {host: sorted(commands) for host, commands in self.asked.items()}
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput["asked"] = lists
        elif (known := self._listed()) | lists != known:
            # nobody else may write or read the file, because the commands are run
            written(self.file, json.dumps(known | lists, indent=1))
