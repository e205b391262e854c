"""pydantic's findings in the reader's words, and secrets in the office file: field, value, message, remedy."""

import json
import re
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ByteSize
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from outpost.office.checks.rule import dotted, nearest
from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.tables.topology import ROLE_NAMES
from outpost.office.tables.values import plainer

BY_EXAMPLE = (
    "IP address", "IP network", "not an address", "not the address", "domain name", "host label", "mailbox address", "age public key",
    "neither a fully", "hardware address",
)  # fmt: skip
"""Field types that an example explains best."""
KINDS = {
    "list": ("tuple_type", "list_type"),
    "table": ("dict_type", "model_type"),
    "text": ("string_type",),
    "whole number": ("int_type", "int_parsing", "int_from_float", "finite_number"),
    "day": ("date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"),
}
"""pydantic's expected types, in the words of the office file."""
BOUNDS = {
    "greater_than_equal": ("ge", "less than {}", "write {} or more"),
    "less_than_equal": ("le", "more than {}", "write {} or less"),
    "string_too_long": ("max_length", "longer than {} characters", "shorten it"),
    "too_long": ("max_length", "more than {} entries", "remove some"),
}
"""pydantic's name of a bound, what is wrong, and the remedy."""
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
        remedy = f"declare one host for each role; a role is one of {', '.join(ROLE_NAMES)}"
        return Problem(field, value, message, remedy)
    if kind == "literal_error":
        wanted = str(detail.get("ctx", {}).get("expected", "")).replace("'", "")
        guess = nearest(value.strip("'"), re.split(r", | or ", wanted))
        return Problem(field, value, "not one of the known values", f"choose one of {wanted}{guess}")
    like, what = _like(location), _help(location)
    text = str(detail["input"])
    text = text.rpartition("@")[2] if "domain name" in message else text
    if ("domain name" in message or "mailbox address" in message) and (guess := plainer(text)):
        like = f'write it like "{guess}"'
    by_kind = {
        "too_short": ("an empty table", like)
        if isinstance(detail["input"], dict)
        else ("an empty list", f"name at least one ({what}){_or_left_out(location)}"),
        "string_pattern_mismatch": ("not a valid value", like),
        "string_too_short": ("an empty text", like),
    }
    by_kind |= dict.fromkeys(
        ("byte_size", "byte_size_unit"), ("not a size", "write a number with a unit, like 25MiB or 2GiB")
    )
    by_kind |= {kind: (f"not a {name}", like) for name, kinds in KINDS.items() for kind in kinds}
    if kind in by_kind:
        return Problem(field, value, *by_kind[kind])
    if bound := BOUNDS.get(kind):
        name, objection, remedy = bound
        most = _in_units(detail["ctx"][name], location)
        return Problem(field, value, objection.format(most), f"{remedy.format(most)} ({what})")
    if "public SSH key" in message:
        return Problem(field, value[:32], message, "paste the whole line of the .pub file")
    by_words = dict.fromkeys(BY_EXAMPLE, like) | {
        "it stands for": f"write {message.rpartition(' ')[2]}",
        "stands twice": "remove one",
        "a password": "remove it",
        "no mail domain": "register a domain, or use one below your organisation's",
        "full path": f"{like}, without wildcards",
        "duration": "write it like 90s, 15m, 6h or 30d",
        "not true or false": f"write true or false, without quotes ({_about(location)})",
        "true or false": f"{like} ({_about(location)})",
        "an invisible character": "remove it",
        "white space": "remove it",
    }
    for words, remedy in by_words.items():
        if words in message:
            return Problem(field, value, message, remedy)
    return Problem(field, value, message[:1].lower() + message[1:], f"{like} ({_about(location)})")


def syntax_problem(file: Path, text: str, error: ValueError | RecursionError) -> Problem:
    """Problems of a file that is not TOML; the line is not repeated: it may hold a secret."""
    message, wrong = str(error), partial(Problem, str(file), "")
    place = re.search(r"at line (\d+)", message)
    line = text.split("\n")[int(place[1]) - 1] if place else ""
    if isinstance(error, RecursionError):
        remedy = "write them as in docs/reference/office.md"
        return wrong("lists or tables within each other, too deep", remedy)
    if not isinstance(error, tomllib.TOMLDecodeError):  # an integer of thousands of digits
        return wrong(f"not valid TOML ({message.partition(';')[0]})", "write a smaller number")
    if "\0" in text:
        return wrong("it contains NUL characters, as UTF-16 does", "save the file as UTF-8")
    if text.startswith("\ufeff"):
        return wrong("it begins with a byte order mark (BOM)", "save the file as UTF-8 without BOM")
    if "Cannot declare" in message or "overwrite" in message:
        listed = re.match(r"\[(users|aliases|shared|peers)\]", line)
        several = f"write [[{listed[1]}]] above each entry" if listed else ""
        remedy = several or "merge them, or rename one: a host has one table and one role"
        return wrong(f"the same table or key stands twice ({message})", remedy)
    if re.search("[\u2018-\u201f]", line):
        return wrong(f"not valid TOML ({message})", 'write straight quotes: "…"')
    remedy = "correct the line that it names; strings need quotes, tables need brackets"
    return wrong(f"not valid TOML ({message})", remedy)


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


def misspelt(problems: list[Problem]) -> set[str]:
    """The keys that unknown ones were probably meant to be, as fields: they are not missing, too."""
    guesses = ((problem, re.match(r"did you mean (\w+)\? Else", problem.remedy)) for problem in problems)
    return {
        ".".join(filter(None, (problem.field.rpartition(".")[0], guess[1])))
        for problem, guess in guesses
        if guess
    }


def _missing_message(location: tuple[int | str, ...]) -> str:
    known: dict[tuple[int | str, ...], str] = {
        ("peers", "next_hop"): "a peer without a route",
        ("peers", "tls"): "a peer without a TLS policy",
        ("hosts", "addresses"): "the host is in no zone",
    }
    return known.get((location[0], location[-1]), "required, but missing")


def _model_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    """The model of the table at a location: through lists and named tables."""
    model: type[BaseModel] = Office
    for step in location:
        if isinstance(step, int):
            continue
        by_alias = _keys(model)
        if step not in by_alias:
            continue  # the name of a host or zone
        inner = (item for item in _flatten(by_alias[step].annotation) if isinstance(item, type))
        model = next((item for item in inner if issubclass(item, BaseModel)), model)
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
    """The first sentence about a key, and an example."""
    example = _example(location)
    return f"{_about(location)}; like {example}" if example else _about(location)


def _about(location: tuple[int | str, ...]) -> str:
    info = _field_info(location)
    if not info:
        return "docs/reference/office.md"
    return " ".join(str(info.description).split()).partition(". ")[0].rstrip(".")


def _like(location: tuple[int | str, ...]) -> str:
    """An imperative: how a value, a list or a table is written."""
    if example := _example(location):
        return f"write it like {example}"
    names = [step for step in location if isinstance(step, str)]
    info = _keys(_model_at(tuple(names[:-1]))).get(names[-1]) or _keys(Office).get(names[0])
    models = [item for item in _flatten(info.annotation) if hasattr(item, "model_fields")] if info else []
    if info is None or not models:
        return f"see {_help(location)}"
    keys = ", ".join(name for name, key in _keys(models[0]).items() if not key.exclude)
    shape, header = get_origin(info.annotation), ".".join(names)
    if shape is tuple:
        return f"write each as a table, [[{header}]], with keys of {keys}"
    header += ".NAME" if shape is dict and len(names) == 1 else ""
    return f"write it as a table, [{header}], with keys of {keys}"


def _in_units(bound: Any, location: tuple[int | str, ...]) -> str:
    info = _field_info(location)
    extra = info.json_schema_extra if info and isinstance(info.json_schema_extra, dict) else {}
    if info and ByteSize in _flatten(info.annotation):
        return ByteSize(bound).human_readable().replace(".0", "")
    return f"{bound}s" if extra.get("format") == "duration" else str(bound)


def _or_left_out(location: tuple[int | str, ...]) -> str:
    info = _field_info(location)
    return "" if info is None or info.is_required() else ", or leave the key out"


def _example(location: tuple[int | str, ...]) -> str:
    """A value as the file may have it; empty where only the pages can show one."""
    info = _field_info(location)
    if info is None:
        return ""
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    known = [*(info.examples or ()), extra.get("default"), info.default]
    found = next(
        (item for item in known if isinstance(item, bool | int | str | list | dict) and item != ""), ""
    )
    if found == {}:
        return ""
    return toml(found[0] if isinstance(found, list) and isinstance(location[-1], int) else found)


def toml(value: Any) -> str:
    """A value as the office file has it; nothing for an empty text."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml(item)}' for key, item in value.items())} }}"
    return json.dumps(value, ensure_ascii=False) if value != "" else ""


GONE = object()
_SECRET_KEY = re.compile(r"(^|_)(password|passwd|passphrase|secret|private_key|token|hash|credential)s?($|_)")
_SECRET_VALUE = re.compile(
    r"PRIVATE KEY|AGE-SECRET-KEY-|\$argon2|\$2[aby]\$|\$[156y]\$|\{(SSHA|ARGON2|PLAIN|CRYPT|BLF|SHA)",
    re.IGNORECASE,
)


def without_secrets(data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """A copy of the data without keys and values that look like secrets, so that nothing can show them, and a problem for each."""
    problems: list[Problem] = []

    def strip(node: Any, location: tuple[int | str, ...]) -> Any:
        """The node without secrets; `GONE` if it is one."""
        if not isinstance(node, dict | list):
            if not _looks_secret(location, node):
                return node
            message = "a secret in the data file, which is not encrypted"
            remedy = "keep it in secrets.age (./outpost secrets)"
            problems.append(Problem(dotted(location), "", message, remedy))
            return GONE
        each = node.items() if isinstance(node, dict) else enumerate(node)
        below = [(key, item, strip(item, (*location, key))) for key, item in each]
        kept = {key: new for key, old, new in below if new is not GONE and (new != [] or old == [])}
        return kept if isinstance(node, dict) else list(kept.values())

    return strip(data, ()), problems


def _looks_secret(location: tuple[int | str, ...], value: Any) -> bool:
    key = next((str(step) for step in reversed(location) if isinstance(step, str)), "")
    return bool(_SECRET_KEY.search(key.lower()) and location[0] != "secrets") or (
        isinstance(value, str) and bool(_SECRET_VALUE.search(value))
    )
