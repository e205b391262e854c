"""An office of many users: how long all of them take to log in, and what one user more costs. The lab's office grows for it, and shrinks again.

Both rows compare with the same lab at its own size, because a busy machine slows down both.
"""

import asyncio
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

import tomlkit

from outpost.engine import run
from outpost.errors import OutpostError
from outpost.office import load, ports
from outpost.target import Target
from outpost_lab.benchmarks.measure import Figures, of_samples
from outpost_lab.instance import Instance, info
from outpost_lab.office import seal

USERS = 300
MINUTE = 60.0
RUNS = 3
PATIENCE = 300.0


def logins(target: Target) -> Figures:
    """Every user of a large office logs in at the same moment; twice, as programs do that lost their connection."""
    with _grown(target) as instance:
        first, again = (asyncio.run(_storm(instance)) for _ in range(2))
    return Figures(max(first), MINUTE, {"ours": [max(first), max(again)]}, {})


def unchanged(target: Target) -> Figures:
    """A full comparison without differences, with many users and with the lab's few."""
    few = [_plan(target) for _ in range(RUNS)]
    with _grown(target):
        many = [_plan(target) for _ in range(RUNS)]
    return of_samples({"ours": many, "peer": few})


@contextmanager
def _grown(target: Target) -> Iterator[Instance]:
    """The lab's office with many users, applied; afterwards its old size again."""
    instance = Instance.load(target.instance or "lab")
    before = instance.office_file.read_text(encoding="utf-8")
    document = tomlkit.parse(before)
    people, domain = document["users"], document["domain"]
    for number in range(USERS - len(people)):
        person = tomlkit.table()
        person["address"] = f"many{number}@{domain}"
        people.append(person)
    try:
        instance.office_file.write_text(tomlkit.dumps(document), encoding="utf-8")
        grown = Instance(name=instance.name, slot=instance.slot)  # its office is read once
        seal(grown)
        _apply(target)
        yield grown
    finally:
        instance.office_file.write_text(before, encoding="utf-8")
        _apply(target)


def _apply(target: Target) -> None:
    run.apply(target, watcher=run.Silent()).expect_success(f"./outpost apply {target.name} -y")


def _plan(target: Target) -> float:
    outcome = run.plan(target, watcher=run.Silent())
    if outcome.changes or outcome.failed:
        raise OutpostError("the lab is not as declared", f"./outpost apply {target.name} -y")
    return outcome.seconds


async def _storm(instance: Instance) -> list[float]:
    """Seconds until each user's login is answered."""
    known = info(instance)
    passwords = known["users"]
    office = load(instance.directory)
    store = office.with_role("store")[0]
    context = ssl.create_default_context(cafile=known["ca"])
    at, started = str(store.in_zone("lan")[0]), time.monotonic()

    async def login(user: str) -> float:
        reader, writer = await asyncio.open_connection(
            at, ports.IMAPS, ssl=context, server_hostname=store.fqdn, ssl_handshake_timeout=PATIENCE
        )
        await reader.readline()
        writer.write(f'a LOGIN {user} "{passwords[user]}"\r\n'.encode())
        async with asyncio.timeout(PATIENCE):
            while not (line := await reader.readline()).startswith(b"a "):
                if not line:
                    break
        taken = time.monotonic() - started
        if not line.startswith(b"a OK"):
            raise OutpostError(f"{user} could not log in: {line.decode(errors='replace').strip()}")
        writer.write(b"b LOGOUT\r\n")
        await reader.read()
        writer.close()
        return taken

    return list(await asyncio.gather(*(login(user.address) for user in office.users)))
