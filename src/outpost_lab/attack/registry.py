"""Which function runs which attack of ``controls/attacks.toml``."""

import importlib
import pkgutil
import tomllib
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import Ground
from outpost_lab.attack.weakness import Weakness, switches

Work = Callable[[Ground, Evidence], Awaitable[None]]


class Attack(NamedTuple):
    """An attack that can be run; without the defence, if that has a switch, it must succeed."""

    id: str
    work: Work
    without: Weakness | None


_known: dict[str, Attack] = {}


def attack(id: str) -> Callable[[Work], Work]:  # noqa: A002
    """Registers the function of an attack."""

    def register(work: Work) -> Work:
        if id in _known:
            raise ValueError(f"attack {id} is carried out twice")
        _known[id] = Attack(id, work, switches().get(id))
        return work

    return register


@cache
def words() -> dict[str, Any]:
    """Texts of attacks, by their ids, from ``catalogue/words.toml``."""
    from outpost_lab.attack import catalogue

    file = Path(catalogue.__path__[0]) / "words.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def attacks() -> dict[str, Attack]:
    """Every attack that can be run, by id."""
    from outpost_lab.attack import catalogue

    for module in pkgutil.iter_modules(catalogue.__path__):
        importlib.import_module(f"{catalogue.__name__}.{module.name}")
    return dict(sorted(_known.items(), key=lambda entry: entry[0]))
