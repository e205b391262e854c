"""Secrets in the office file."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from outpost.office.checks.rule import dotted
from outpost.office.problems import Problem

_SECRET_KEY = re.compile(r"(^|_)(password|passwd|passphrase|secret|private_key|token|hash|credential)s?($|_)")
_SECRET_VALUE = re.compile(
    r"PRIVATE KEY|AGE-SECRET-KEY-|\$argon2|\$2[aby]\$|\$[156y]\$|\{(SSHA|ARGON2|PLAIN|CRYPT|BLF|SHA)",
    re.IGNORECASE,
)


def secrets_in(data: Mapping[str, Any]) -> list[Problem]:
    """Keys and values that look like secrets; messages never repeat the values."""
    return [
        Problem(
            dotted(location),
            "",
            "a secret in the data file, which is not encrypted",
            "keep it in secrets.age (./outpost secrets)",
        )
        for location, value in _leaves(data, ())
        if _looks_secret(location, value)
    ]


def without_secrets(data: dict[str, Any], found: list[Problem]) -> dict[str, Any]:
    """A copy of the data without the secrets that were found, so that nothing can show them."""
    fields = {problem.field for problem in found}

    def strip(node: Any, location: tuple[int | str, ...]) -> Any:
        if isinstance(node, dict):
            return {
                key: strip(item, (*location, key))
                for key, item in node.items()
                if dotted((*location, key)) not in fields
            }
        if isinstance(node, list):
            kept = [
                (index, item) for index, item in enumerate(node) if dotted((*location, index)) not in fields
            ]
            return [strip(item, (*location, index)) for index, item in kept]
        return node

    stripped: dict[str, Any] = strip(data, ())
    return stripped


def _leaves(node: Any, location: tuple[int | str, ...]) -> Iterator[tuple[tuple[int | str, ...], Any]]:
    if isinstance(node, Mapping):
        for key, item in node.items():
            yield from _leaves(item, (*location, key))
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from _leaves(item, (*location, index))
    else:
        yield location, node


def _looks_secret(location: tuple[int | str, ...], value: Any) -> bool:
    key = next((str(step) for step in reversed(location) if isinstance(step, str)), "")
    return bool(_SECRET_KEY.search(key.lower()) and location[0] != "secrets") or (
        isinstance(value, str) and bool(_SECRET_VALUE.search(value))
    )
