"""What the checks of a host ask, asked ahead: a round trip a host instead of one a question (docs/adr/0020).

A check that ``looks`` (a mark) asks the same of its host each time and changes nothing. What was asked is kept with the
office's runs, a list for each host; the next verification sends the whole list at once, and the checks find their
answers there, all of one moment. A command that is not on the list, or that a check repeats, goes to the host when it
is asked. So do conversations (``host.run(…, live=True)``) and whatever a check asks that is marked ``live``, because
it acts, waits, or looks at what it did.

This module is the pytest plugin that does so: ``-p outpost.ahead --ahead FILE``. Without it every command goes live.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from outpost.errors import OutpostError
from outpost.office import load
from outpost.remote import shell_command
from outpost.shell import Answer, Shell
from outpost.verification import chosen_target

LANES = 3
"""Shells that share a host's list: what one of them waits for keeps no other waiting."""
NAME = "outpost-ahead"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The file of the lists."""
    parser.addoption(
        "--ahead",
        type=Path,
        metavar="FILE",
        help="ask ahead what the checks asked at the last run, kept in this file",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Only where a file is named."""
    if file := config.getoption("--ahead"):
        config.pluginmanager.register(Ahead(config, file), NAME)


def carried_out_by(config: pytest.Config, host: str, shell: Shell) -> Callable[[str, bool], Answer]:
    """What answers a check's commands to a host: the answers that were fetched ahead, else the shell."""
    ahead: Ahead | None = config.pluginmanager.get_plugin(NAME)

    def carry_out(command: str, live: bool) -> Answer:
        return (None if live or ahead is None else ahead.answer(host, command)) or shell.run(command)

    return carry_out


@dataclass
class Ahead:
    """The lists, and the answers to them.

    Attributes:
        asked: Host → what this process's checks asked it, without the live ones.
    """

    config: pytest.Config
    file: Path
    asked: dict[str, set[str]] = field(default_factory=dict)
    _looks: bool = False  # the test that runs now
    _served: set[tuple[str, str]] = field(default_factory=set)
    _answers: dict[str, Future[dict[str, Answer]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known = _read(self.file)
        self._threads = ThreadPoolExecutor(thread_name_prefix="ahead")

    def answer(self, host: str, command: str) -> Answer | None:
        """The answer to a command if it is known; the second time within a test it is asked anew."""
        if not self._looks or (host, command) in self._served:
            return None
        self._served.add((host, command))
        self.asked.setdefault(host, set()).add(command)
        if hasattr(self.config, "workerinput"):
            fetched: dict[str, Answer] = self.config.workerinput["answers"].get(host, {})
            return fetched.get(command)
        return self._fetched(host).result().get(command)

    def _fetched(self, host: str) -> Future[dict[str, Answer]]:
        if host not in self._answers:
            self._answers[host] = self._threads.submit(self._fetch, host)
        return self._answers[host]

    def _fetch(self, host: str) -> dict[str, Answer]:
        commands = self._known.get(host, [])
        target = chosen_target(self.config)
        office = load(target.data)
        start = shell_command(target, office, office.host(host), self.config.getoption("--via"))

        def lane(part: list[str]) -> Iterable[tuple[str, Answer]]:
            shell = Shell(start)
            try:
                return list(zip(part, shell.run_all(part), strict=True))
            except OutpostError:
                return ()  # the checks ask for themselves, and say what is wrong
            finally:
                shell.close()

        parts = filter(None, (commands[number::LANES] for number in range(LANES)))
        with ThreadPoolExecutor(LANES) as lanes:
            return {command: answer for found in lanes.map(lane, parts) for command, answer in found}

    # Who asks -----------------------------------------------------------------------------------------------

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """One process has all the checks: it asks for what they look at, all hosts side by side."""
        if not hasattr(self.config, "workerinput"):
            for host in filter(None, map(_looked_at, session.items)):
                self._fetched(host)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Workers (xdist) share the checks: the process that starts them asks, before it knows their share."""
        wanted = self.config.getoption("--host") or self._known
        futures = {host: self._fetched(host) for host in wanted}
        node.workerinput["answers"] = {host: future.result() for host, future in futures.items()}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A check begins."""
        self._looks = bool(_looked_at(item))
        self._served.clear()

    # The lists of the next run ------------------------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker has ended, and tells what its checks asked."""
        for host, commands in getattr(node, "workeroutput", {}).get("asked", {}).items():
            self.asked.setdefault(host, set()).update(commands)

    @pytest.hookimpl(trylast=True)  # the workers have ended
    def pytest_sessionfinish(self) -> None:
        """Keep what was asked."""
        self._threads.shutdown()
        asked = {host: sorted(commands) for host, commands in self.asked.items()}
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput["asked"] = asked
        else:
            self._keep(asked)

    def _keep(self, asked: dict[str, list[str]]) -> None:
        known = _read(self.file)
        if known | asked != known:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self.file.with_suffix(f".{os.getpid()}")
            new.touch(mode=0o600)  # its lines are carried out on the hosts
            new.write_text(json.dumps(known | asked, indent=1), encoding="utf-8")
            new.replace(self.file)


def _looked_at(item: pytest.Item) -> str:
    """The host that a check only looks at; else nothing."""
    me = getattr(item, "callspec", None) and item.callspec.params.get("me")  # type: ignore[attr-defined]
    looks = item.get_closest_marker("looks") and not item.get_closest_marker("live")
    return str(me.name) if me and looks else ""


def _read(file: Path) -> dict[str, list[str]]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
