"""A slow line in front of a port: delay and rate, in userspace, for everything that crosses it.

Every connection through one `Link` shares its rate, as the hosts of an office share a line. Opening a connection costs
its round trip, too, which a proxy that just accepts would hide.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

CHUNK = 16 * 1024


@dataclass
class Traffic:
    """What has crossed a line towards one host, and back."""

    bytes: int = 0


@dataclass
class _Direction:
    """One way of the line: when it is free for the next byte."""

    delay: float
    rate: float  # bytes a second; 0: no limit
    free: float = 0.0

    def arrival(self, now: float, size: int) -> float:
        """When `size` bytes that are sent now have arrived."""
        self.free = max(self.free, now) + (size / self.rate if self.rate else 0.0)
        return self.free + self.delay


@dataclass
class Link:
    """A line with a round trip time and a rate; `open` puts it in front of ports."""

    rtt: float  # seconds
    rate: float = 0.0  # bits a second in each direction; 0: no limit
    traffic: list[Traffic] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    @contextlib.contextmanager
    def open(self, targets: Sequence[tuple[str, int]]) -> Iterator[list[int]]:
        """Local ports that lead to the targets over this line."""
        self._up = _Direction(self.rtt / 2, self.rate / 8)
        self._down = _Direction(self.rtt / 2, self.rate / 8)
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        opened = asyncio.run_coroutine_threadsafe(self._listen(targets), self._loop)
        servers = opened.result()
        try:
            yield [server.sockets[0].getsockname()[1] for server in servers]
        finally:
            asyncio.run_coroutine_threadsafe(_ended(servers), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    def reset(self) -> None:
        """Count from nothing."""
        for traffic in self.traffic:
            traffic.bytes = 0

    async def _listen(self, targets: Sequence[tuple[str, int]]) -> list[asyncio.Server]:
        servers = []
        for target in targets:
            traffic = Traffic()
            self.traffic.append(traffic)
            serve = partial(self._carry, target=target, traffic=traffic)
            servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        return servers

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        target: tuple[str, int],
        traffic: Traffic,
    ) -> None:
        await asyncio.sleep(1.5 * self.rtt)  # SYN there, SYN-ACK back, ACK there: then the far end speaks
        try:
            far_reader, far_writer = await asyncio.open_connection(*target)
        except OSError:
            writer.close()
            return
        waited = self._loop.time()
        up = _pump(reader, far_writer, self._up, traffic, waited)
        down = _pump(far_reader, writer, self._down, traffic, 0.0)
        await asyncio.gather(up, down, return_exceptions=True)


async def _ended(servers: Sequence[asyncio.Server]) -> None:
    """Nobody else comes, and what is under way is cut off."""
    for server in servers:
        server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    direction: _Direction,
    traffic: Traffic,
    waited: float,
) -> None:
    """Carry bytes one way; what was sent while the connection opened has been on its way meanwhile."""
    loop = asyncio.get_running_loop()
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            moment, data = await on_the_way.get()
            await asyncio.sleep(max(0.0, moment - loop.time()))
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.close()

    delivery = asyncio.ensure_future(deliver())
    first = True
    try:
        while data := await reader.read(CHUNK):
            traffic.bytes += len(data)
            now = loop.time()
            moment = direction.arrival(now, len(data))
            if first and waited and now - waited < 0.005:
                moment -= direction.delay
            first = False
            on_the_way.put_nowait((moment, data))
    except ConnectionError:
        pass
    on_the_way.put_nowait((loop.time() + direction.delay, b""))
    await delivery
