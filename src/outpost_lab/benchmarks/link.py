"""A slow line in front of a port: delay and rate, in userspace, for everything that crosses it.

Every connection through one `Link` shares its rate, as the hosts of an office share a line. Opening a connection costs
its round trip, too, which a proxy that just accepts would hide.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

CHUNK = 16 * 1024


@dataclass
class _Direction:
    """One direction of the line: when it is free for the next byte."""

    delay: float
    rate: float  # bytes a second; 0: no limit
    free: float = 0.0

    def arrival(self, now: float, size: int) -> float:
        """When `size` bytes arrive that are sent now."""
        self.free = max(self.free, now) + (size / self.rate if self.rate else 0.0)
        return self.free + self.delay


@dataclass
class Link:
    """A line with a round trip time and a rate; `open` puts it in front of ports.

    Attributes:
        traffic: Bytes that have crossed it towards each target, and back.
    """

    rtt: float  # seconds
    rate: float = 0.0  # bits a second in each direction; 0: no limit
    traffic: list[int] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    @contextlib.contextmanager
    def open(self, targets: Sequence[tuple[str, int]]) -> Iterator[list[int]]:
        """Local ports that lead to the targets over this line."""
        self._up, self._down = (_Direction(self.rtt / 2, self.rate / 8) for _ in range(2))
        self.traffic = [0] * len(targets)
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        carried = [partial(self._carry, target, number) for number, target in enumerate(targets)]
        begun = (asyncio.start_server(carry, "127.0.0.1", 0) for carry in carried)
        servers = [asyncio.run_coroutine_threadsafe(each, self._loop).result() for each in begun]
        try:
            yield [server.sockets[0].getsockname()[1] for server in servers]
        finally:
            asyncio.run_coroutine_threadsafe(_ended(servers), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    def reset(self) -> None:
        """Start counting at zero."""
        self.traffic = [0] * len(self.traffic)

    async def _carry(
        self, target: tuple[str, int], number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await asyncio.sleep(1.5 * self.rtt)  # SYN, SYN-ACK, ACK: then the far end speaks
        try:
            far_reader, far_writer = await asyncio.open_connection(*target)
        except OSError:
            writer.close()
            return
        up = self._pump(number, reader, far_writer, self._up, self._loop.time())
        down = self._pump(number, far_reader, writer, self._down, 0.0)
        await asyncio.gather(up, down, return_exceptions=True)

    async def _pump(
        self,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: _Direction,
        waited: float,
    ) -> None:
        """Carry bytes in one direction; bytes sent while the connection opened have been under way meanwhile."""
        last = 0.0
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                self.traffic[number] += len(data)
                now = self._loop.time()
                moment = way.arrival(now, len(data))
                if not last and now - waited < 0.005:
                    moment -= way.delay
                last = max(moment, last + 1e-6)  # bytes that are due at the same moment may change places
                self._loop.call_at(last, writer.write, data)
        last = max(self._loop.time() + way.delay, last + 1e-6)
        self._loop.call_at(last, writer.close)
        await asyncio.sleep(last - self._loop.time())


async def _ended(servers: Sequence[asyncio.Server]) -> None:
    """Accept nobody else, and cut off what is under way."""
    for server in servers:
        server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
