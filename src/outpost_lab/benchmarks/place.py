"""The lab's office behind a slow line: the same hosts, behind ports of a `Link`."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import tomlkit

from outpost.errors import OutpostError
from outpost.office import Office, load
from outpost.target import ROOT, Target
from outpost.tools import run
from outpost.transport import ssh

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


INVENTORY = ROOT / "inventory" / "harbour" / "ssh.py"
FAR = ("hosts", "world", "instance.json")
"""Parts of an instance's directory that do not belong to an office."""


class Place(NamedTuple):
    """An office directory whose hosts are reached over a line, by local ports of it."""

    directory: Path
    office: Office
    link: Link
    ports: dict[str, int]

    @property
    def configuration(self) -> Path:
        """The file for ``ssh -F``."""
        return ssh.configuration(self.office, self.directory)

    def cold(self) -> None:
        """Close the open connections."""
        for host in self.ports:
            command = ["ssh", "-F", str(self.configuration), "-O", "exit", host]
            subprocess.run(command, capture_output=True, check=False)

    def bare(self) -> float:
        """Seconds for one `ssh HOST true` to each host, side by side, each with a connection of its own."""
        command = ["ssh", "-F", str(self.configuration), "-o", "ControlMaster=no"]
        started = time.monotonic()
        running = [subprocess.Popen([*command, host, "true"]) for host in self.ports]
        failed = [process.wait() for process in running]
        if any(failed):
            raise OutpostError("ssh to a host failed", "check that the lab is up: ./outpost lab info")
        return time.monotonic() - started

    def closed(self, then: Callable[[], float]) -> float:
        """A measurement with no connection open."""
        self.cold()
        return then()

    def paired(self, ours: Callable[[], float], runs: int) -> dict[str, list[float]]:
        """Bare logins and ours in turn, with no connection open: a disturbance affects both."""
        samples: dict[str, list[float]] = {"peer": [], "ours": []}
        for _ in range(runs):
            samples["peer"].append(self.closed(self.bare))
            samples["ours"].append(self.closed(ours))
        return samples

    def timed(self, command: Sequence[str], *, environment: dict[str, str] | None = None) -> float:
        """Seconds of a command at the top of the checkout; it must succeed. It may cache compiled Python, as in a normal shell."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "PYINFRA_PROGRESS": "off", "PYTHONDONTWRITEBYTECODE": ""}
        own["XDG_STATE_HOME"] = str(self.directory.parent)
        started = time.monotonic()
        run(*command, lines=25, cwd=ROOT, env=os.environ | own | (environment or {}))
        return time.monotonic() - started


@contextlib.contextmanager
def behind(target: Target, *, rtt: float, rate: float = 0.0) -> Iterator[Place]:
    """The office of a lab instance, behind a line with this round trip time and rate."""
    office = load(target.data)
    link = Link(rtt, rate)
    targets = [ssh.target(office, host)[1:] for host in office.hosts]
    with tempfile.TemporaryDirectory(prefix="outpost-bench-") as temporary, link.open(targets) as ports:
        directory = Path(temporary) / target.name
        shutil.copytree(target.data, directory, ignore=shutil.ignore_patterns(*FAR))
        by_host = dict(zip((host.name for host in office.hosts), ports, strict=True))
        document = tomlkit.parse((directory / "office.toml").read_text(encoding="utf-8"))
        for name, port in by_host.items():
            document["hosts"][name]["ssh"] = f"127.0.0.1:{port}"
        (directory / "office.toml").write_text(tomlkit.dumps(document), encoding="utf-8")
        known = (directory / "known_hosts").read_text(encoding="utf-8")
        lines = [line.split(" ", 1) for line in known.splitlines()]
        for host in office.hosts:
            address = ssh.target(office, host)[1]
            key = next(rest for names, rest in lines if address in names.split(","))
            known += f"[127.0.0.1]:{by_host[host.name]} {key}\n"
        (directory / "known_hosts").write_text(known, encoding="utf-8")
        shutil.copy(INVENTORY, directory / "ssh.py")
        place = Place(directory, load(directory), link, by_host)
        try:
            yield place
        finally:
            place.cold()
            place.configuration.unlink(missing_ok=True)
