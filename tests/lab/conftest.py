"""pyinfra as a user types it, against the running lab."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from outpost.target import LAB, ROOT, Target
from outpost_lab.instance import Instance

INVENTORY = "inventory/lab/docker.py"


@dataclass(frozen=True)
class Run:
    """One run of pyinfra."""

    code: int
    output: str
    log: str

    @property
    def result(self) -> Any:
        """What --json printed."""
        return json.loads(self.output)

    @property
    def changes(self) -> dict[str, list[str]]:
        """Operation → hosts that it would change, from the plan."""
        return {
            operation["name"]: hosts
            for operation in self.result["plan"]
            if (hosts := operation["hosts_with_change"] + operation["hosts_with_conditional_change"])
        }


Pyinfra = Callable[..., Run]


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Instance:
    """The lab instance that --name selects; it must be up."""
    return Instance.load(pytestconfig.getoption("--name") or LAB)


@pytest.fixture(scope="session")
def pyinfra(target: Target) -> Pyinfra:
    """Runs the raw command at the top of the checkout."""

    def run(*arguments: str, inventory: str = INVENTORY, deploy: Path | str = "deploy.py") -> Run:
        command = [sys.executable, "-m", "pyinfra", inventory, str(deploy), *arguments]
        environment = target.environment | {"PYINFRA_PROGRESS": "off"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        return Run(done.returncode, done.stdout, done.stderr)

    return run
