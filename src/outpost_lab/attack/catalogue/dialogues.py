"""Attacks that are nothing but words: ``dialogues.toml``, which says how."""

from __future__ import annotations

import tomllib
from functools import partial
from pathlib import Path
from typing import Any

from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import Ground
from outpost_lab.attack.registry import attack
from outpost_lab.attack.wire import Session


async def _held(ground: Ground, seen: Evidence, dialogues: list[dict[str, Any]]) -> None:
    for dialogue in dialogues:
        each = [[line] for line in dialogue["each"]] if "each" in dialogue else [dialogue["lines"]]
        for lines in each:
            async with await _session(ground, seen, dialogue) as session:
                for line in (*dialogue.get("before", ()), *lines, *dialogue.get("after", ())):
                    said, *expected = [line] if isinstance(line, str) else line
                    told = said.format(**ground.words).split(" && ")
                    reply = await (session.while_good(*told) if said else session.reply(patience=5))
                    if expected:
                        seen.expect(reply, *expected)


async def _session(ground: Ground, seen: Evidence, dialogue: dict[str, Any]) -> Session:
    if "user" in dialogue:
        return await ground.submission(seen, dialogue["user"])
    return await ground.smtp(seen, hello=dialogue.get("hello", True))


for id_, dialogues in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items():
    attack(id_)(partial(_held, dialogues=dialogues))
