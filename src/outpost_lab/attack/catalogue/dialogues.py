"""Attacks that are only dialogues: ``dialogues.toml`` explains the format."""

import tomllib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from outpost_lab.attack.catalogue import attack
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import Ground, compose, token
from outpost_lab.attack.wire import Reply, Session


async def _held(ground: Ground, seen: Evidence, dialogues: list[dict[str, Any]]) -> None:
    words = ground.words | {"reader": ground.reader(), "victim": ground.victim()}
    for dialogue in dialogues:
        before = f"{dialogue['head']} && " if "head" in dialogue else ""
        each = [[line] for line in dialogue["each"]] if "each" in dialogue else [dialogue["lines"]]
        for lines in each:
            if "user" in dialogue:
                session = await ground.submission(seen, dialogue["user"])
            else:
                vantage = ground.stranger if dialogue.get("stranger") else ground.internet
                session = await ground.smtp(seen, vantage, hello=dialogue.get("hello", True))
            async with session:
                for line in (*dialogue.get("before", ()), *lines, *dialogue.get("after", ())):
                    if isinstance(line, dict):
                        await _repeated(ground, seen, session, words, **line)
                        continue
                    command, *expected = [line] if isinstance(line, str) else line
                    reply = await _sent(session, (before + command).format(**words) if command else "")
                    if expected and expected[0].startswith("!"):
                        word = expected[0].removeprefix("!")
                        seen.check(word not in reply.text.upper(), f"no {word}", word)
                    elif expected:
                        seen.expect(reply, *expected)


async def _repeated(
    ground: Ground, seen: Evidence, session: Session, words: dict[str, str], line: str, times: int, *,
    last: Sequence[str] = (), every: Sequence[str] = (), most: tuple[str, int] | None = None,
) -> None:  # fmt: skip
    mailboxes = [address.partition("@")[0] for address in ground.office.mailboxes]
    lines = [line.format(n=n, someone=mailboxes[n % len(mailboxes)], **words) for n in range(times)]
    replies = await session.say_all(lines)
    if last:
        seen.expect(replies[-1][1], *last)
    if every:
        seen.expect_all(replies, *every)
    if most:
        found = sum(reply.begins(most[0]) for _, reply in replies)
        seen.check(found <= most[1], f"{found} answers")


async def _sent(session: Session, observed: str) -> Reply:
    if not observed:
        return await session.reply(patience=5)
    for line in observed.split(" && "):
        if line.startswith("From: "):
            author, recipient = line.removeprefix("From: ").split(" To: ")
            reply = await session.message(compose(author, recipient, token()))
        else:
            reply = await session.say(line)
        if not reply.good:
            break
    return reply


for id_, dialogues in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items():
    attack(id_)(partial(_held, dialogues=dialogues))
