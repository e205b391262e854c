"""SMTP and similar protocols byte by byte, valid or invalid as an attack needs.

``aiosmtplib`` speaks valid SMTP only; what must not be valid goes over these raw sessions. Sockets are made in the
network namespace of a machine of the lab, so that an attack really comes from that machine.
"""

import asyncio
import base64
import contextlib
import ctypes
import os
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from outpost.errors import OutpostError
from outpost_lab import pace

CLONE_NEWNET = 0x40000000
PATIENCE = 20.0
CLOSED = 0
SILENT = -1


class Reply(NamedTuple):
    """An answer: its code (0: the connection was closed, -1: nothing came) and its lines."""

    code: int
    text: str
    seconds: float = 0.0

    def begins(self, *beginnings: str) -> bool:
        """Whether it begins with one of these; ``closed`` means the end of the connection."""
        return self.text.startswith(beginnings)

    @property
    def brief(self) -> str:
        """Its last line, shortened."""
        return (self.text.strip().splitlines() or [""])[-1][:160]

    @property
    def good(self) -> bool:
        """Whether it is a positive reply (RFC 5321, section 4.2.1)."""
        return 200 <= self.code < 400


class Vantage:
    """A place to attack from: a machine of the lab by its network namespace, or this machine."""

    def __init__(self, name: str, namespace: str | None = None) -> None:
        self.name = name
        self.sources: tuple[str, ...] = ()  # source addresses to use in turn; none: the machine's own
        self._next = 0
        self._namespace = namespace
        self._descriptor: int | None = None

    def fresh_source(self) -> str | None:
        """An address that has not been used for a while; None if there is only one."""
        self._next += 1
        return self.sources[self._next % len(self.sources)] if self.sources else None

    def socket(
        self, family: socket.AddressFamily, kind: socket.SocketKind, protocol: int = 0
    ) -> socket.socket:
        """A socket in this place's network."""
        if self._namespace is None:
            return socket.socket(family, kind, protocol)
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self._namespace, os.O_RDONLY)
            except PermissionError:
                problem = "attacks from the lab's machines need root on this one"
                raise OutpostError(problem, "run the command as root") from None
        with _inside(self._descriptor):
            return socket.socket(family, kind, protocol)

    async def connect(
        self, address: str, port: int, *, source: str | None = None, patience: float = PATIENCE
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP connection from here; `OSError` if it is refused, `TimeoutError` if nobody answers."""
        family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
        made = self.socket(family, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            if source:
                made.bind((source, 0))
            loop = asyncio.get_running_loop()
            await asyncio.wait_for(loop.sock_connect(made, (address, port)), patience * pace.load())
            return await asyncio.open_connection(sock=made, limit=2**20)
        except BaseException:
            made.close()
            raise


@contextlib.contextmanager
def _inside(namespace: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """Put this thread into another network namespace; the block must not await anything."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as home:
        if libc.setns(namespace, CLONE_NEWNET):
            remedy = "run the command as root"
            raise OutpostError(f"cannot enter the lab's network: {os.strerror(ctypes.get_errno())}", remedy)
        try:
            yield
        finally:
            if libc.setns(home.fileno(), CLONE_NEWNET):
                raise SystemError("cannot return to this machine's own network")


class Session:
    """One TCP session with a line protocol; it records the dialogue."""

    def __init__(
        self,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        note: Callable[[str], None] = lambda _line: None,
        *,
        patience: float = PATIENCE,
    ) -> None:
        self.reader, self.writer = streams
        self.note = note
        self.patience = patience
        self.greeting = Reply(SILENT, "")

    async def __aenter__(self) -> "Session":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.writer.close()

    async def send(self, data: bytes, *, shown: str | None = None) -> None:
        """Send bytes unchanged; the next reply shows whether the connection has ended."""
        self.note("C: " + (shown if shown is not None else _shown(data)))
        with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
            self.writer.write(data)
            await asyncio.wait_for(self.writer.drain(), self.patience * pace.load())

    async def reply(self, patience: float | None = None) -> Reply:
        """The next SMTP reply with all its lines."""
        started, code = time.monotonic(), SILENT
        lines: list[str] = []
        patience = (patience or self.patience) * pace.load()
        try:
            while not lines or lines[-1][3:4] == "-":
                if not (line := await asyncio.wait_for(self.reader.readline(), patience)):
                    raise ConnectionResetError
                lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
            code = int(lines[-1][:3]) if lines[-1][:3].isdigit() else SILENT
        except TimeoutError:
            lines.append("no answer")
        except (ConnectionError, ssl.SSLError):
            lines.append("closed")
            code = CLOSED
        except ValueError:
            lines.append("an endless line")
        for text in lines:
            self.note(f"S: {text}")
        return Reply(code, "\n".join(lines), time.monotonic() - started)

    async def line(self, patience: float = 10.0) -> str:
        """The next line of a protocol other than SMTP; empty at the end of the connection."""
        line = await asyncio.wait_for(self.reader.readline(), patience * pace.load())
        self.note(f"S: {line.decode('utf-8', 'replace').rstrip()[:200]}")
        return line.decode("utf-8", "replace").rstrip()

    async def lines(self, *lasts: str, patience: float = 10.0) -> list[str]:
        """Lines up to one that begins with one of these, or to the end of the connection."""
        received = [await self.line(patience)]
        while received[-1] and not received[-1].startswith(lasts):
            received.append(await self.line(patience))
        return received

    async def say(self, line: str, patience: float | None = None) -> Reply:
        """Send a line with CRLF; returns the reply."""
        data = line.encode("utf-8", "surrogateescape")
        await self.send(data + b"\r\n", shown=line if line.isprintable() and len(line) < 200 else None)
        return await self.reply(patience)

    async def say_all(self, lines: Sequence[str]) -> list[tuple[str, Reply]]:
        """Send line after line, each after a reply, until the connection ends."""
        replies: list[tuple[str, Reply]] = []
        for line in lines:
            replies.append((line, await self.say(line)))
            if replies[-1][1].code in (CLOSED, 421):
                break
        return replies

    async def while_good(self, *lines: str) -> Reply:
        """Send line after line while the replies are good; returns the last one."""
        for line in lines:
            if not (reply := await self.say(line)).good:
                break
        return reply

    async def envelope(self, sender: str, recipient: str) -> Reply:
        """Send MAIL, and RCPT if the sender is accepted; returns the last reply."""
        return await self.while_good(f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>")

    async def deliver(self, sender: str, recipient: str, content: bytes, *, patience: float = 120.0) -> Reply:
        """Send a whole message, as far as it is accepted; returns the last reply."""
        reply = await self.envelope(sender, recipient)
        return await self.message(content, patience=patience) if reply.good else reply

    async def message(self, content: bytes, *, patience: float = 120.0) -> Reply:
        """Send DATA and a message, dot-stuffed; returns the last reply."""
        answer = await self.say("DATA")
        if answer.code != 354:
            return answer
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        await self.send(stuffed + b"\r\n.\r\n", shown=f"(a message of {len(content)} bytes)")
        return await self.reply(patience)

    async def start_tls(self, name: str, context: ssl.SSLContext) -> None:
        handshake = self.writer.start_tls(context, server_hostname=name)
        await asyncio.wait_for(handshake, self.patience * pace.load())
        self.note("(TLS)")

    async def starttls(self, name: str, context: ssl.SSLContext, hello: str) -> Reply:
        """Start TLS in an open SMTP session (RFC 3207); returns the reply to the EHLO after it."""
        await self.say("STARTTLS")
        await self.start_tls(name, context)
        return await self.say(f"EHLO {hello}")


@contextlib.asynccontextmanager
async def meanwhile(*work: Coroutine[Any, Any, Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Run a task while the block runs, and end it afterwards."""
    tasks = list(map(asyncio.create_task, work))
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def catching(vantage: Vantage) -> AsyncIterator[list[bytes]]:
    """A mail server of the attacker while the block runs: it accepts all messages and keeps them byte by byte."""
    caught: list[bytes] = []

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.write(b"220 attacker ESMTP\r\n")
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    writer.write(b"354 go on\r\n")
                    caught.append(await reader.readuntil(b"\r\n.\r\n"))
                writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
                await writer.drain()
        writer.close()

    listening = vantage.socket(socket.AF_INET6, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listening.bind(("::", 25))
    server = await asyncio.start_server(client, sock=listening, limit=2**24)
    try:
        yield caught
    finally:
        server.close()


def taken_and_last(answers: Sequence[Reply]) -> tuple[int, Reply]:
    """The number of good answers, and the first bad one; the last one if all are good."""
    bad = [each for each in answers if not each.good]
    return len(answers) - len(bad), (bad or answers[-1:])[0]


def syn(source: str, target: str, port: int, number: int) -> bytes:
    """An IPv4 packet that asks for a connection, from an address that never answers (RFC 9293, section 3.1)."""
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    tcp = struct.pack("!HHIIBBHHH", 1024 + number % 60000, port, number, 0, 5 << 4, 2, 64240, 0, 0)
    summed = ends + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp)) + tcp
    total: int = sum(struct.unpack(f"!{len(summed) // 2}H", summed))
    total = (total >> 16) + (total & 0xFFFF)
    check = ~(total + (total >> 16)) & 0xFFFF
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), number & 0xFFFF, 0, 64, socket.IPPROTO_TCP, 0)
    return ip + ends + tcp[:16] + struct.pack("!H", check) + tcp[18:]


def plain(address: str, password: str) -> str:
    """The initial response of SASL PLAIN (RFC 4616)."""
    return base64.b64encode(f"\0{address}\0{password}".encode()).decode()


def unverified() -> ssl.SSLContext:
    """TLS without checking who answers."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _shown(data: bytes) -> str:
    text = repr(data)[2:-1]
    return text if len(text) < 200 else f"{text[:120]}… ({len(data)} bytes)"
