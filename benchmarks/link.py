"""A slow wire on loopback: TCP connections through a proxy that delays and paces their bytes.

For machines where the kernel cannot (tc netem). All connections share one wire each way; bytes of
one connection keep their order, as with TCP. Runs in a thread, or as a process:

python -m benchmarks.link TARGET_PORT BYTES_PER_SECOND ONE_WAY_SECONDS   (prints its own port)
"""

import asyncio
import contextlib
import random
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

UP, DOWN = "up", "down"  # to the server, to the client
Direction = Literal["up", "down"]
LARGEST = 1 << 16


class Link:
    """The wire: `open` listens, `close` ends all. Use from one event loop.

    `rate` is in bytes a second, None for as fast as it goes; `delay` and `jitter` are seconds one
    way: each piece comes `delay` plus up to `jitter` later, but never before what was sent
    earlier on its connection. Pieces of different connections do overtake each other.
    """

    def __init__(
        self,
        rate: float | None = None,
        delay: float = 0.0,
        jitter: float = 0.0,
        chance: random.Random | None = None,
    ) -> None:
        self.rate, self.delay, self.jitter = rate, delay, jitter
        self._chance = chance or random.Random()
        self._free = {UP: 0.0, DOWN: 0.0}  # when the wire has carried what was put on it
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()

    async def open(self, target: int, host: str = "127.0.0.1", port: int = 0) -> int:
        """Carry what comes to `host`:`port` to the local port `target`; return the port."""

        async def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._come(reader, writer, target)

        server = await asyncio.start_server(come, host, port, limit=LARGEST, backlog=200)
        self._servers.append(server)
        return server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        self.reset()

    def reset(self) -> None:
        """Break all connections, with a reset to both sides."""
        for connection in list(self._connections):
            connection.reset()

    async def _come(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int
    ) -> None:
        if not self.accepts():
            abort(writer)
            return
        try:
            far = await asyncio.open_connection("127.0.0.1", target, limit=LARGEST)
        except OSError:
            abort(writer)
            return
        connection = Connection(self, (reader, writer), far)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def due(self, direction: Direction, size: int, now: float) -> float:
        """Put `size` bytes on the wire; return when they come out."""
        late = self.delay + (self._chance.random() * self.jitter if self.jitter else 0.0)
        if self.rate is None:
            return now + late
        begin = max(now, self._free[direction])
        self._free[direction] = begin + size / self.rate
        return self._free[direction] + late

    @property
    def room(self) -> int:
        """Return how many bytes may be under way on one connection."""
        if self.rate is None:
            return 1 << 20
        return int(self.rate * self.delay * 3) + (1 << 18)

    # what a worse network does

    def accepts(self) -> bool:
        """Return whether a new connection comes through."""
        return True

    async def pass_on(
        self,
        direction: Direction,
        data: bytes,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Hand `data` to the far side; `data` is empty for the end of the stream."""
        if data:
            writer.write(data)
            await writer.drain()
        elif writer.can_write_eof():
            writer.write_eof()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Connection:
    """One client's connection and ours to the server."""

    def __init__(self, link: Link, client: Stream, server: Stream) -> None:
        self._link = link
        self._client, self._server = client, server
        self._tasks: list[asyncio.Task] = []

    async def run(self) -> None:
        ways = (
            (UP, self._client[0], self._server[1]),
            (DOWN, self._server[0], self._client[1]),
        )
        self._tasks = [asyncio.ensure_future(self._carry(*way)) for way in ways]
        try:
            await asyncio.gather(*self._tasks)
        except (OSError, asyncio.CancelledError):
            self.reset()
        finally:
            for task in self._tasks:
                task.cancel()
            for _, writer in (self._client, self._server):
                writer.close()

    def reset(self) -> None:
        for task in self._tasks:
            task.cancel()
        for _, writer in (self._client, self._server):
            abort(writer)

    async def _carry(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        pieces: deque[tuple[float, bytes]] = deque()
        under_way, changed, last = 0, asyncio.Event(), 0.0

        async def deliver() -> None:
            nonlocal under_way
            while True:
                while not pieces:
                    changed.clear()
                    await changed.wait()
                when, data = pieces[0]
                if when > loop.time():
                    await asyncio.sleep(when - loop.time())
                await self._link.pass_on(direction, data, writer)
                pieces.popleft()
                under_way -= len(data)
                room.set()
                if not data:
                    return

        room = asyncio.Event()
        delivery = asyncio.ensure_future(deliver())
        self._tasks.append(delivery)
        while True:
            while under_way > self._link.room and not delivery.done():
                room.clear()
                await room.wait()
            data = await reader.read(LARGEST)
            if delivery.done():
                break
            last = max(last, self._link.due(direction, len(data), loop.time()))
            pieces.append((last, data))
            under_way += len(data)
            changed.set()
            if not data:
                break
        await delivery


def abort(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, whatever is unsent."""
    found = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def slow_link(target: int, rate: float, delay: float) -> Iterator[int]:
    """Run a link in a process of its own; give its port."""
    command = [sys.executable, "-m", "benchmarks.link", str(target), str(rate), str(delay)]
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root)
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def _main() -> None:
    link = Link(float(sys.argv[2]), float(sys.argv[3]))
    print(await link.open(int(sys.argv[1])), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
