"""Commands in containers: one that never began is started again, and no other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.command import StringCommand
from pyinfra.connectors.docker import DockerConnector
from pyinfra.connectors.util import CommandOutput, OutputLine

from outpost.connector import ContainerConnector

SLIP = "OCI runtime exec failed: exec failed: unable to start container process: read init-p: connection reset by peer"


@pytest.mark.parametrize(
    ("said", "good", "runs"),
    [
        ([SLIP, ""], True, 2),
        ([SLIP, SLIP, SLIP, ""], False, 3),
        (["doveconf: Fatal: Unknown setting", ""], False, 1),
    ],
)
def test_only_what_has_not_begun_is_started_again(
    monkeypatch: pytest.MonkeyPatch, said: list[str], good: bool, runs: int
) -> None:
    begun: list[str] = []

    def run(*_: Any, **__: Any) -> tuple[bool, CommandOutput]:
        begun.append(said[len(begun)])
        return not begun[-1], CommandOutput([OutputLine("stderr", begun[-1])])

    monkeypatch.setattr(DockerConnector, "run_shell_command", run)
    connector = ContainerConnector.__new__(ContainerConnector)
    connector.host = SimpleNamespace(name="mta")  # type: ignore[assignment]
    assert connector.run_shell_command(StringCommand("true"))[0] is good
    assert len(begun) == runs
