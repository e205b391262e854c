"""pydantic's findings in the reader's words, and secrets in the office file: field, value, message, remedy."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from outpost.office.checks.rule import dotted, nearest
from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.tables.topology import ROLE_NAMES

BY_EXAMPLE = (
    "IP address", "IP network", "domain name", "host label", "mailbox address", "mirror", "age public key", "neither a fully"
)  # fmt: skip
"""Field types that an example explains best."""
SHOWN = 100
"""Most characters of a wrong value that a message repeats."""


def schema_problem(detail: ErrorDetails) -> Problem:
    """One of pydantic's findings as field, value, message and remedy."""
    location = tuple(
        step for step in detail["loc"] if not (isinstance(step, str) and step.startswith("function-"))
    )
    named_by_table = location[0] in ("hosts", "zones") and location[-1] == "name"
    field, value = dotted(location[:-1] if named_by_table else location), _shown(detail)
    kind, message = detail["type"], detail["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return _unknown_key(location, value)
    if kind == "missing":
        return Problem(field, "", _missing_message(location), f"add {location[-1]} ({_help(location)})")
    if "two roles" in message:
        return Problem(
            field, value, message, f"declare one host for each role; a role is one of {', '.join(ROLE_NAMES)}"
        )
    if kind == "literal_error":
        wanted = str(detail.get("ctx", {}).get("expected", "")).replace("'", "")
        guess = nearest(value.strip("'"), re.split(r", | or ", wanted))
        return Problem(field, value, "not one of the known values", f"choose one of {wanted}{guess}")
    like, what = f"write it like {_example(location)}", _help(location)
    by_kind = {
        "byte_size": ("not a size", "write a number with a unit, like 25MiB or 2GiB"),
        "too_short": ("an empty list", f"name at least one ({what}), or leave the key out"),
        "string_pattern_mismatch": ("not a valid value", like),
    }
    if kind in by_kind:
        return Problem(field, value, *by_kind[kind])
    if "public SSH key" in message:
        return Problem(field, value[:32], message, "paste the whole line of the .pub file")
    by_words = dict.fromkeys(BY_EXAMPLE, like) | {
        "full path": f"{like}, without wildcards",
        "duration": "write it like 90s, 15m, 6h or 30d",
        "true or false": what,
        "cannot be seen": "remove it",
        "white space": "remove it",
    }
    for words, remedy in by_words.items():
        if words in message:
            return Problem(field, value, message, remedy)
    return Problem(field, value, message[:1].lower() + message[1:], f"see {what}")


def syntax_problem(file: Path, error: tomllib.TOMLDecodeError) -> Problem:
    """Problems of a file that is not TOML; a table that is declared twice gets a message of its own."""
    text, wrong = str(error), partial(Problem, str(file), "")
    if "Cannot declare" in text or "overwrite" in text:
        remedy = "merge them, or rename one: a host has one table and one role"
        return wrong(f"the same table or key stands twice ({text})", remedy)
    remedy = "correct the line that it names; strings need quotes, tables need brackets"
    return wrong(f"not valid TOML ({text})", remedy)


def derived(
    location: tuple[int | str, ...], kind: str, pruned: set[str], gone: list[tuple[int | str, ...]]
) -> bool:
    """Whether a finding is only a consequence of an entry that was reported and left out."""
    if len(location) == 1 and str(location[0]) in pruned:
        return True
    return kind in ("missing", "too_short") and any(past[: len(location)] == location for past in gone)


def _shown(detail: ErrorDetails) -> str:
    value = detail.get("input")
    if detail["type"] == "missing" or isinstance(value, dict):
        return ""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


def _unknown_key(location: tuple[int | str, ...], value: str) -> Problem:
    key = str(location[-1])
    known = sorted(name for name, info in _keys(_model_at(location[:-1])).items() if not info.exclude)
    if key == "roles":
        remedy = 'write role = "…" and one host for each role'
        return Problem(dotted(location), value, "unknown key; a host has one role", remedy)
    guess = nearest(key, known).removeprefix("; ")
    listed = f"remove it, or use one of {', '.join(known)}"
    return Problem(dotted(location), value, "unknown key", f"{guess} Else {listed}" if guess else listed)


def _missing_message(location: tuple[int | str, ...]) -> str:
    if location[0] == "peers" and location[-1] == "next_hop":
        return "a peer without a route"
    if location[0] == "peers" and location[-1] == "tls":
        return "a peer without a TLS policy"
    if location[0] == "hosts" and location[-1] == "addresses":
        return "the host is in no zone"
    return "required, but missing"


def _model_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    """The model of the table at a location: through lists and named tables."""
    model: type[BaseModel] = Office
    for step in location:
        if isinstance(step, int):
            continue
        by_alias = _keys(model)
        if step not in by_alias:
            continue  # the name of a host or zone
        nested = [
            item
            for item in _flatten(by_alias[step].annotation)
            if isinstance(item, type) and issubclass(item, BaseModel)
        ]
        if nested:
            model = nested[0]
    return model


def _flatten(annotation: Any) -> Iterator[Any]:
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for item in inner:
        yield from _flatten(item)


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _field_info(location: tuple[int | str, ...]) -> Any:
    names = [step for step in location if isinstance(step, str)]
    for end in range(len(names), 0, -1):
        fields = _keys(_model_at(tuple(names[: end - 1])))
        if names[end - 1] in fields:
            return fields[names[end - 1]]
    return None


def _help(location: tuple[int | str, ...]) -> str:
    info = _field_info(location)
    if info:
        about = " ".join(str(info.description).split()).rstrip(".")
        return f"{about}; like {_example(location)}"
    return "docs/reference/office.md"


def _example(location: tuple[int | str, ...]) -> str:
    info = _field_info(location)
    example = info.examples[0] if info and info.examples else ""
    if not example:
        return "the reference page shows"
    return f'"{example}"' if isinstance(example, str) else str(example)


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
