"""Which of many sockets can be reached from here; run with ``nsenter --net`` in a machine's network.

Reads a JSON list of [protocol, address, port] from standard input, writes the list of those that answered. A refusal
by the machine itself (RST, port unreachable) counts as an answer: the packet came through. One by a filter does not.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys

AT_ONCE = 900
DNS_QUESTION = bytes.fromhex("4f50010000010000000000000000020001")
NTP_QUESTION = bytes([0x23]) + bytes(47)


async def tcp(address: str, port: int, seconds: float) -> bool:
    """Whether a connection opens, or is refused by the machine."""
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def udp(address: str, port: int, seconds: float) -> bool:
    """Whether a datagram is answered, or refused by the machine."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_DGRAM) as endpoint:
        endpoint.setblocking(False)
        try:
            async with asyncio.timeout(seconds):
                await loop.sock_connect(endpoint, (address, port))
                await loop.sock_sendall(endpoint, NTP_QUESTION if port == 123 else DNS_QUESTION)
                await loop.sock_recv(endpoint, 512)
        except ConnectionRefusedError:
            return True
        except (OSError, TimeoutError):
            return False
    return True


async def reached(targets: list[tuple[str, str, int]], seconds: float) -> list[tuple[str, str, int]]:
    """The targets that answer."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(target: tuple[str, str, int]) -> bool:
        protocol, address, port = target
        async with gate:
            return await (tcp if protocol == "tcp" else udp)(address, port, seconds)

    answers = await asyncio.gather(*map(ask, targets))
    return [target for target, answer in zip(targets, answers, strict=True) if answer]


if __name__ == "__main__":
    wanted = [tuple(target) for target in json.load(sys.stdin)]
    json.dump(asyncio.run(reached(wanted, float(sys.argv[1]))), sys.stdout)
