"""An office of many users, and a mailbox of 50,000 messages: how long logins, searches, deliveries and the nightly scan take.

The lab's office grows for it, and shrinks again.

Most rows compare with the same lab at its own size, because a busy machine slows down both.
"""

import asyncio
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import tomlkit
from imap_tools import AND

from outpost import tools
from outpost.engine import run
from outpost.errors import OutpostError
from outpost.office import ports
from outpost.recovery import backup
from outpost.target import ROOT, Target
from outpost_lab import containers
from outpost_lab.benchmarks.measure import Figures, of_samples
from outpost_lab.instance import Instance, info
from outpost_lab.office import seal
from outpost_lab.post import Town

USERS = 300
MINUTE = 60.0
SESSIONS = 1000
RUNS = 3
PATIENCE = 300.0
AT_ONCE = 20
"""Logins that are under way at the same time while many sessions are opened."""
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
HIBERNATED = "doveadm who -1 2>/dev/null | grep -c imap-hibernate || true"


def logins(target: Target) -> Figures:
    """Every user of a large office logs in at the same moment, twice, like programs that have lost their connection."""
    with _grown(target) as instance:
        first, again = (asyncio.run(_storm(instance)) for _ in range(2))
    return Figures(max(first), MINUTE, {"ours": [max(first), max(again)]}, {})


def unchanged(target: Target) -> Figures:
    """A full comparison without differences, with many users and with the lab's few."""
    few = [_plan(target) for _ in range(RUNS)]
    with _grown(target):
        many = [_plan(target) for _ in range(RUNS)]
    return of_samples({"ours": many, "peer": few})


def added(target: Target) -> Figures:
    """One user more by the command that administrators type, with many users and with the lab's few."""
    samples = {}
    for who, users in (("peer", 0), ("ours", USERS)):
        with _grown(target, users):
            samples[who] = [_add(target, f"another{number}") for number in range(RUNS)]
    return of_samples(samples)


def waiting(target: Target) -> Figures:
    """A new message is announced to a session in IDLE that is one of many, and to one that is alone."""
    allowed = int(INOTIFY.read_text(encoding="ascii"))
    if allowed < 2 * SESSIONS:  # containers share the machine's limit
        problem = f"the kernel allows {allowed} inotify instances, and each session needs one"
        raise OutpostError(problem, f"sudo sysctl -w fs.inotify.max_user_instances={2 * SESSIONS}")
    with _grown(target) as instance:
        alone, many = (asyncio.run(_idle(instance, sessions)) for sessions in (1, SESSIONS))
    notes = {"memory of Dovecot in MB": many[1], "with one session": alone[1]}
    return of_samples({"ours": many[0], "peer": alone[0]}, notes)


@contextmanager
def _grown(target: Target, users: int = USERS) -> Iterator[Instance]:
    """The lab's office with at least this number of users, applied; afterwards its old size again."""
    instance = Instance.load(target.instance or "lab")
    before = instance.office_file.read_text(encoding="utf-8")
    document = tomlkit.parse(before)
    people, domain = document["users"], document["domain"]
    for number in range(users - len(people)):
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
    run.apply(target, watcher=run.Silent()).expect_success(f"run ./outpost apply {target.name} -y")


def _plan(target: Target) -> float:
    outcome = run.plan(target, watcher=run.Silent())
    if outcome.changes or outcome.failed:
        raise OutpostError("the lab is not as declared", f"./outpost apply {target.name} -y")
    return outcome.seconds


def _add(target: Target, user: str) -> float:
    started = time.monotonic()
    tools.run(
        str(ROOT / "outpost"), "user", "add", target.name, user, "--name", target.instance or "lab", lines=25
    )
    return time.monotonic() - started


class _Session:
    """A login by IMAP at the lab's store, as a mail client does it."""

    def __init__(self, instance: Instance) -> None:
        known = info(instance)
        store = instance.office.with_role("store")[0]
        self._passwords, self._name, self._at = known["users"], store.fqdn, str(store.in_zone("lan")[0])
        self._context = ssl.create_default_context(cafile=known["ca"])

    @asynccontextmanager
    async def of(self, user: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Log in; `OutpostError` if the store refuses."""
        options: dict[str, Any] = {"ssl": self._context, "ssl_handshake_timeout": PATIENCE}
        where = self._at, ports.IMAPS
        reader, writer = await asyncio.open_connection(*where, server_hostname=self._name, **options)
        try:
            await reader.readline()
            writer.write(f'a LOGIN {user} "{self._passwords[user]}"\r\n'.encode())
            line = await _until(reader, b"a ")
            if not line.startswith(b"a OK"):
                raise OutpostError(f"{user} could not log in: {line.decode(errors='replace').strip()}")
            yield reader, writer
            writer.write(b"DONE\r\nb LOGOUT\r\n")
            await reader.read()
        finally:
            writer.close()


async def _until(reader: asyncio.StreamReader, start: bytes) -> bytes:
    """The first line that begins so."""
    async with asyncio.timeout(PATIENCE):
        while not (line := await reader.readline()).startswith(start):
            if not line:
                raise OutpostError("the store has ended a session")
    return line


async def _storm(instance: Instance) -> list[float]:
    """Seconds until each user's login is answered."""
    sessions, started = _Session(instance), time.monotonic()

    async def login(user: str) -> float:
        async with sessions.of(user):
            return time.monotonic() - started

    return list(await asyncio.gather(*(login(user.address) for user in instance.office.users)))


async def _idle(instance: Instance, count: int) -> tuple[list[float], float]:
    """Seconds until the last of `count` sessions in IDLE hears of a new message, and Dovecot's memory in MB meanwhile."""
    sessions, turn = _Session(instance), asyncio.Semaphore(AT_ONCE)
    store = instance.container(instance.office.with_role("store")[0].name)
    users = [user.address for user in instance.office.users]
    async with AsyncExitStack() as stack:

        async def idle(user: str) -> asyncio.StreamReader:
            async with turn:
                reader, writer = await stack.enter_async_context(sessions.of(user))
                writer.write(b"c SELECT INBOX\r\nd IDLE\r\n")
                await _until(reader, b"+ ")
            return reader

        last, *_others = await asyncio.gather(*(idle(user) for user in islice(cycle(reversed(users)), count)))
        async with asyncio.timeout(PATIENCE):
            while int(containers.run(store, "sh", "-c", HIBERNATED)) < count:
                await asyncio.sleep(1)
        memory = int(containers.run(store, "systemctl", "show", "--value", "-p", "MemoryCurrent", "dovecot"))
        return [await _announced(store, users[-1], last) for _ in range(RUNS)], round(memory / 2**20, 1)


async def _announced(store: Any, user: str, reader: asyncio.StreamReader) -> float:
    """Seconds from a delivery until the session hears of it."""
    started = time.monotonic()
    script = f"printf 'From: {user}\\nSubject: benchmark\\n\\n.\\n' | doveadm save -u {user}"
    await asyncio.to_thread(containers.run, store, "sh", "-c", script)
    while not (await _until(reader, b"* ")).rstrip().endswith(b"EXISTS"):
        pass
    return time.monotonic() - started


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
    return containers.run(instance.container(store.name), "sh", "-c", script)
