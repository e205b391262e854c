"""An office of many users, and a mailbox of 50,000 messages: how long logins, searches, deliveries and the nightly scan take.

The lab's office grows for it, and shrinks again.

Both rows compare with the same lab at its own size, because a busy machine slows down both.
"""

import asyncio
import json
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

import tomlkit
from imap_tools import AND

from outpost.engine import run
from outpost.errors import OutpostError
from outpost.office import load, ports
from outpost.recovery import backup
from outpost.target import Target
from outpost_lab import containers, engine
from outpost_lab.benchmarks.measure import Figures, median, of_samples
from outpost_lab.instance import Instance, info
from outpost_lab.office import seal
from outpost_lab.post import Town

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


MESSAGES, FEW, SCANNED = 50_000, 50, 3_000
SEARCHES = 5
ANSWER = 2.0
"""Seconds that a person waits for the answer of a search."""
SCANNED_USERS, DAILY = 300, 50
NIGHT = 6 * 3600.0
"""Seconds that a scan may take (``TimeoutStartSec`` of outpost-rescan.service)."""
FOLDER = "Benchmark"
FILL = """import os, pathlib, pwd
os.setgid(pwd.getpwnam("vmail").pw_gid); os.setuid(pwd.getpwnam("vmail").pw_uid); os.umask(0o077)
box = pathlib.Path("/srv/mail/{local}/Maildir/.{folder}")
for part in ("cur", "new", "tmp"):
    (box / part).mkdir(parents=True, exist_ok=True)
for number in range({count}):
    (box / "cur" / f"1700000000.M{{number}}P1.x:2,").write_text(
        f"From: a{{number % 97}}@example.test\\nSubject: tender {{number}}\\n\\n"
        + f"word{{number}} pump valve{{number % 31}} flange offer delivery Tuesday. " * 20 + "\\n")
"""


def search(target: Target) -> Figures:
    """Words in the text of messages that are indexed, by IMAP, in a full folder and in a small one."""
    instance = Instance.load(target.instance or "lab")
    samples = {}
    for who, count in (("peer", FEW), ("ours", MESSAGES)):
        with filled(instance, count) as user:
            started = time.monotonic()
            _on(instance, f"doveadm index -u {user} {FOLDER}")
            indexing = time.monotonic() - started
            samples[who] = [_search(instance, user, f"word{count - 1 - run}") for run in range(SEARCHES)]
    few, indexed = round(median(samples["peer"]), 3), round(MESSAGES / indexing)
    notes = {"a folder of 50 messages": few, "messages indexed a second": indexed}
    return Figures(median(samples["ours"]), ANSWER, samples, notes)


def frozen(target: Target) -> Figures:
    """How long a backup stops delivery; the first one after many messages is not counted, because it copies them."""
    instance = Instance.load(target.instance or "lab")
    store = instance.office.with_role("store")[0]
    samples = {}
    for who, count in (("peer", FEW), ("ours", MESSAGES)):
        with filled(instance, count):
            made = [backup.run_now(target, instance.office, [store])[store.name] for _ in range(SEARCHES)]
        samples[who] = [float(each["frozen"]) for each in made[1:]]
    return Figures(median(samples["ours"]), 1.0, samples, {})


def rescanned(target: Target) -> Figures:
    """The nightly scan of some days' mail, extrapolated to an office of 300 users."""
    instance = Instance.load(target.instance or "lab")
    settings = json.loads(_on(instance, "cat /etc/outpost/rescan.json"))
    with filled(instance, SCANNED):
        started = time.monotonic()
        _on(instance, "systemctl start outpost-rescan.service")
        seconds = time.monotonic() - started
    output = _on(instance, "journalctl --unit outpost-rescan.service --lines 20 --output cat --no-pager")
    scanned = int(re.findall(r"^(\d+) messages scanned", output, re.MULTILINE)[-1])
    due = SCANNED_USERS * DAILY * settings["days"]
    notes = {"messages a second": round(scanned / seconds, 1), "scanned": scanned, "due": due}
    return Figures(due * seconds / scanned, NIGHT, {}, notes)


@contextmanager
def filled(instance: Instance, count: int) -> Iterator[str]:
    """Put many messages into a folder of a user, who is returned; afterwards the folder is deleted."""
    user = instance.office.users[0].address
    script = FILL.format(local=user.partition("@")[0], folder=FOLDER, count=count)
    try:
        _on(instance, f"python3 - <<'END'\n{script}END\n")
        yield user
    finally:
        _on(instance, f"doveadm mailbox delete -u {user} -s {FOLDER}")


def _search(instance: Instance, user: str, word: str) -> float:
    with Town(info(instance)).user(user.partition("@")[0]).mailbox() as box:
        box.folder.set(FOLDER, readonly=True)
        started = time.monotonic()
        found = box.uids(AND(text=word))
        seconds = time.monotonic() - started
    if len(found) != 1:
        raise OutpostError(f"the search for {word} found {found}", f"./outpost verify {instance.name}")
    return seconds


def _on(instance: Instance, script: str) -> str:
    store = instance.office.with_role("store")[0]
    return containers.run(instance.container(store.name, engine.connect()), "sh", "-c", script)
