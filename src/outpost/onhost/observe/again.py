"""The digest of a host's answer to a question that it was asked before, without the answer.

A question is shell that a controller has left in a file (`outpost.engine.unchanged`): `view`, and what the roles ask of the running
host beside it. Where they ask nothing beside, the answer is a function of what `view` sees, and the same where that is.
"""

from __future__ import annotations

import collections.abc
import json
import os
import sys

from outpost.onhost.observe.declared import LOCAL
from outpost.onhost.observe.kept_answers import forget, keep, mark_with, own
from outpost.onhost.observe.reading import content, said
from outpost.onhost.observe.seen import Seen

NOTE = "OUTPOST_OBSERVER_NOTE"
"""In the environment of a question: under what name `view` keeps what its answer is made of."""


def again(file: str, see: collections.abc.Callable[[], Seen]) -> str:
    """Digests of the answer and of the question, as sha256sum(1) writes them."""
    try:
        question = content(file)
    except OSError:
        sys.exit(1)
    known = json.loads(own("again") or b"{}")
    if known.get("question") == question:
        asked = known["asked"]
        LOCAL.extend(asked["local"])
        if made_of(see(), asked) == known["made of"]:
            return str(known["told"])
    name = f"note.{os.getpid()}"
    os.environ[NOTE] = name
    told = "".join(f"{line}\n" for line in said(f"sh {file} 2>/dev/null | sha256sum - {file}"))
    if noted := own(name):
        keep("again", json.dumps({"question": question, "told": told} | json.loads(noted)).encode())
        forget(name)
    return told


def note(seen: Seen, asked: dict[str, list[str]], answer: list[str]) -> None:
    """Tell `again`, where that asks, what an answer is made of; not where the same may have another one tomorrow."""
    name = os.environ.get(NOTE)
    if (
        not name
        or asked["live"]
        or "unmet" in answer
        or any(fleeting in answer[0] for fleeting in ("stale\\t", "blind\\t", "effective\\t"))
    ):
        return
    if all_of_it := made_of(seen, asked):
        keep(name, json.dumps({"asked": asked, "made of": all_of_it}).encode())


def made_of(seen: Seen, asked: dict[str, list[str]]) -> str:
    """All that an answer is made of; empty where a file was touched a moment ago."""
    states = [seen.state_of(unit) for unit in asked["units"]]
    beside = mark_with(seen.mark_of_all(), "", asked["beside"])
    return "\n".join((beside, *states)) if beside else ""
