"""The attacks, one module for each family of ``controls/attacks.toml``, and which function runs which attack."""

import importlib
import pkgutil
import tomllib
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import Ground

Work = Callable[[Ground, Evidence], Awaitable[None]]


_known: dict[str, Work] = {}


def attack(id: str) -> Callable[[Work], Work]:  # noqa: A002
    """Registers the function of an attack."""

    def register(work: Work) -> Work:
        if id in _known:
            raise ValueError(f"attack {id} is carried out twice")
        _known[id] = work
        return work

    return register


@cache
def words() -> dict[str, Any]:
    """Texts of attacks, by their ids."""
    return tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))


def attacks() -> dict[str, Work]:
    """Every attack that can be run, by id."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_known.items()))
