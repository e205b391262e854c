"""What an office's hosts hold, as plain data: the same content for every peer, taken from the roles themselves.

The roles run against hosts that are only simulated; each operation of `outpost.converge.operations` is noted instead of carried out.
"""

from __future__ import annotations

import importlib
import runpy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pyinfra.api.config import Config
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State
from pyinfra.context import ctx_config, ctx_host, ctx_state

from outpost.keys import secrets_file
from outpost.office import load
from outpost.target import ROOT


@dataclass
class HostContent:
    """What one host should hold.

    Attributes:
        packages: In groups, as a role installs them.
        files: Path → (mode, owner, group, content).
    """

    packages: list[list[str]] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    accounts: list[dict[str, Any]] = field(default_factory=list)
    directories: list[dict[str, str]] = field(default_factory=list)
    files: dict[str, tuple[str, str, str, bytes]] = field(default_factory=dict)
    units: list[str] = field(default_factory=list)

    @property
    def size(self) -> dict[str, int]:
        """How much that is."""
        return {name: len(value) for name, value in asdict(self).items()}


def contents(directory: Path) -> dict[str, HostContent]:
    """Host name → content, for the office in a directory."""
    office, kept = load(directory), secrets_file.read(directory)
    found: dict[str, HostContent] = {}
    for machine in office.hosts:
        data = {"office": office, "secrets": kept, "machine": machine.name}
        inventory = Inventory(([(f"@fake/{machine.name}", data)], {}))  # type: ignore[no-untyped-call]
        config = Config()  # type: ignore[no-untyped-call]
        state = State(inventory, config)
        host = next(iter(inventory))
        found[machine.name] = HostContent()
        with ctx_state.use(state), ctx_host.use(host), ctx_config.use(config), _noting(found[machine.name]):
            runpy.run_path(str(ROOT / "deploy.py"))
    return found


@contextmanager
def _noting(content: HostContent) -> Iterator[None]:
    operations = importlib.import_module("outpost.converge.operations")
    drift = importlib.import_module("outpost.converge.drift")

    def converge(*, files: tuple[Any, ...], unit: str, **_: Any) -> None:
        for file in files:
            content.files[file.path] = (file.mode, file.owner, file.group, file.content)
        if unit:
            content.units.append(unit)

    def directory(*, path: str, owner: str, group: str, mode: str, **_: Any) -> None:
        content.directories.append({"path": path, "owner": owner, "group": group, "mode": mode})

    def account(*, user: str, home: str | None, shell: str, groups: tuple[str, ...], **_: Any) -> None:
        content.accounts.append({"user": user, "home": home, "shell": shell, "groups": list(groups)})

    def nothing(**_: Any) -> None:
        """Commands for what only the host can make, and drift: the peers have no like of them, which favours them."""

    noted: dict[str, Callable[..., None]] = {
        "converge": converge,
        "install": lambda *, wanted, **_: content.packages.extend(map(list, wanted)),
        "directory": directory,
        "group": lambda *, group, **_: content.groups.append(group),
        "account": account,
        "absent": nothing,
        "once": nothing,
        "retire": nothing,
    }
    with ExitStack() as stack:
        for name, instead in noted.items():
            stack.enter_context(patch.object(operations, name, instead))
        for name in ("_repaired", "_remembered"):
            stack.enter_context(patch.object(drift, name, nothing))
        yield
