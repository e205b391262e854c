"""Mail from head office into mailboxes: through all filters and TLS, against the same hosts with both turned off.

A message's time is Postfix's own account of it (``delays=a/b/c/d``, postconf(5), ``delay_logging_resolution_limit``): before the
queue, where the filters are, in it, connecting to the store, handing over. Two loads: as fast as some senders can (how many a second),
and a message now and then (how long one takes). What is turned off is put back as attacks put their positive controls back.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle, islice

from outpost.engine import run
from outpost.errors import OutpostError
from outpost.office import load, ports
from outpost.target import Target
from outpost_lab.attack.ground import Ground, compose, leave, stand, token
from outpost_lab.attack.probe import percentile
from outpost_lab.attack.weakness import Weakness, postfix, weakened
from outpost_lab.attack.wire import Session
from outpost_lab.benchmarks.measure import Figures, median

MESSAGES = 200  # as fast as they go
CLIENTS = 4  # sessions at a time
PACED = 60  # one after the other
PACE = 0.5  # seconds between two of them
SIZE = 20_000  # bytes
HOPS = ("before the queue", "in the queue", "connecting to the store", "handing over")
SENT = re.compile(r"to=<[^>]*>.*, delay=([\d.]+), delays=([\d.]+)/([\d.]+)/([\d.]+)/([\d.]+), .*status=sent")
FILTERED = re.compile(r"\btime: ([\d.]+)ms")


@dataclass(frozen=True)
class Run:
    """What became of a number of messages."""

    total: list[float]
    hops: list[list[float]]
    filters: list[float]

    def as_data(self) -> dict[str, float]:
        """Medians, in seconds."""
        found = {"median": median(self.total), "p95": percentile(self.total, 0.95)}
        found |= {name: median(seconds) for name, seconds in zip(HOPS, self.hops, strict=True)}
        found |= {"Rspamd": median(self.filters)} if self.filters else {}
        return {name: round(value, 3) for name, value in found.items()}


def mail_path(target: Target) -> Figures:
    """Mail through filters and TLS into mailboxes: p95; the rate, and where the time goes, as notes."""
    (hardened, fast), (bare, bare_fast) = asyncio.run(_both(target))
    notes = {
        "hardened": {"messages/s": round(fast, 1), **hardened.as_data()},
        "filters and TLS off": {"messages/s": round(bare_fast, 1), **bare.as_data()},
    }
    samples = {"ours": hardened.total, "peer": bare.total}
    return Figures(percentile(hardened.total, 0.95), percentile(bare.total, 0.95), samples, notes)


async def _both(target: Target) -> tuple[tuple[Run, float], tuple[Run, float]]:
    ground = await stand(target, load(target.data))
    try:
        hardened = await _paced(ground, tls=True), await _rate(ground, tls=True)
        async with AsyncExitStack() as stack:
            for weakness in _without(ground):
                await stack.enter_async_context(weakened(ground, weakness))
            bare = await _paced(ground, tls=False), await _rate(ground, tls=False)
        if left := await asyncio.to_thread(_plan, target):
            raise OutpostError(f"not everything came back: {left}", f"./outpost apply {target.name} -y")
        return hardened, bare
    finally:
        await leave(ground)


def _plan(target: Target) -> str:
    """What an apply would change; nothing, if all is unchanged."""
    changes = run.plan(target, watcher=run.Silent()).changes
    return ", ".join(f"{change.host}: {change.operation}" for change in changes)


def _without(ground: Ground) -> tuple[Weakness, Weakness]:
    """The store takes LMTP in clear, at the same port; the MTA neither filters nor encrypts."""
    store = str(ground.role("store").in_zone(ground.office.core.name)[0])
    proxy = "/usr/lib/systemd/systemd-socket-proxyd /run/dovecot/lmtp"
    listening = f"{ground.role('mta').in_zone('wan')[0]}:{ground.office.peers[0].listen}/inet"
    return Weakness(
        "store", "stunnel before LMTP", (),
        "systemctl stop stunnel@lmtp.service; "
        f"systemd-run --quiet --unit=outpost-bench --socket-property=ListenStream={store}:{ports.LMTP} {proxy}",
        "true", "systemctl stop outpost-bench.socket outpost-bench.service; systemctl start stunnel@lmtp.service",
    ), postfix(
        f"{listening}/smtpd_tls_security_level=none", smtpd_milters="", non_smtpd_milters="",
        lmtp_tls_security_level="none", lmtp_tls_wrappermode="no", virtual_transport=f"lmtp:[{store}]:{ports.LMTP}",
    )  # fmt: skip


async def _rate(ground: Ground, *, tls: bool) -> float:
    """Messages a second, from the first connection until the last message is in its mailbox."""
    mark, started = token(), time.monotonic()
    senders = (_sender(ground, mark, number, MESSAGES // CLIENTS, tls=tls) for number in range(CLIENTS))
    await asyncio.gather(*senders)
    await ground.settled(patience=120)
    seconds = time.monotonic() - started
    await ground.expunge(mark, *ground.office.mailboxes)
    return MESSAGES / seconds


async def _paced(ground: Ground, *, tls: bool) -> Run:
    mark, began = token(), time.time()
    await _sender(ground, mark, 0, PACED, tls=tls, pace=PACE)
    await ground.settled(patience=120)
    lines = await ground.on_mta(
        f"journalctl --quiet --output=cat --since=@{began:.3f} --unit=postfix.service --unit=rspamd.service "
        "--grep='status=sent|time: '"
    )
    await ground.expunge(mark, *ground.office.mailboxes)
    return _parsed(lines.splitlines())


def _parsed(lines: list[str]) -> Run:
    sent = [[float(number) for number in match.groups()] for match in map(SENT.search, lines) if match]
    if len(sent) < PACED:
        raise OutpostError(f"{len(sent)} of {PACED} messages arrived", "./outpost queue lab says why")
    total, *hops = (list(column) for column in zip(*sent, strict=True))
    filters = [float(match[1]) / 1000 for match in map(FILTERED.search, lines) if match]
    return Run(total, hops, filters)


async def _sender(
    ground: Ground, mark: str, number: int, count: int, *, tls: bool, pace: float = 0.0
) -> None:
    """One session of head office's, message after message; no two write to the same mailbox at once, which takes one at a time."""
    address, port = str(ground.role("mta").in_zone("wan")[0]), ground.office.peers[0].listen
    async with Session(await ground.peer.connect(address, port)) as session:
        await session.reply()
        await session.say("EHLO mx.myertor.test")
        if tls:
            await session.starttls(ground.role("mta").fqdn, ground.trust, "mx.myertor.test")
        for box in islice(cycle(ground.office.mailboxes), number, number + count):
            await asyncio.sleep(pace)
            text = compose("head@myertor.test", box, mark) + b"We agreed upon this, too.\r\n" * (SIZE // 27)
            if not (answer := await session.deliver("head@myertor.test", box, text)).good:
                raise OutpostError(f"a message was not taken: {answer.brief}", "run ./outpost plan lab")
