"""A network that cuts, stalls, delays and reorders, between a real client and a node.

Stands on ``127.0.0.2`` with the node's own port numbers, so that a client which is told a port for
data finds it there, too. Runs in a thread of its own; the calls below may come from any other.
Reordered are the connections of a session among each other (FTP's data and its commands): within
one, TCP keeps the order whatever the network does.
"""

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.link import DOWN, UP, Connection, Direction, Link

HOST = "127.0.0.2"
Fault = Literal["reset", "close", "vanish", "stall"]


@dataclass(frozen=True)
class Event:
    """When `after` bytes have gone `direction` (of all connections together), `fault` happens."""

    direction: Direction
    after: int
    fault: Fault
    seconds: float = 0.0  # how long a stall lasts
    back: bool = False  # after a cut: new connections come through at once


class _Wire(Link):
    """The link with its accidents. All of it runs in the network's thread."""

    def __init__(self, delay: float, jitter: float, seed: int) -> None:
        super().__init__(None, delay, jitter, random.Random(seed))
        self.passed = {UP: 0, DOWN: 0}
        self.up = True
        self.event: Event | None = None
        self.happened = threading.Event()
        self._moving: asyncio.Event | None = None
        self._gone = False  # bytes vanish, nobody is told

    def accepts(self) -> bool:
        return self.up

    def arm(self, event: Event | None) -> None:
        self.passed = {UP: 0, DOWN: 0}
        self.happened.clear()
        self.event = event

    def heal(self) -> None:
        """Let new connections through; those that were cut or forgotten stay so."""
        if self._gone:
            self.reset()
        self.event = None
        self.up, self._gone = True, False

    async def pass_on(
        self, direction: Direction, data: bytes, writer: asyncio.StreamWriter
    ) -> None:
        if self._gone:
            return
        if self._moving is not None:
            await self._moving.wait()
        event = self.event
        if event is None or event.direction != direction or not data:
            self.passed[direction] += len(data)
            await super().pass_on(direction, data, writer)
            return
        room = event.after - self.passed[direction]
        if room > len(data):
            self.passed[direction] += len(data)
            await super().pass_on(direction, data, writer)
            return
        self.event = None
        self.passed[direction] += room
        if room > 0:
            await super().pass_on(direction, data[:room], writer)
        if event.fault == "stall":
            await self._stall(event.seconds)
            self.passed[direction] += len(data) - room
            await super().pass_on(direction, data[room:], writer)
        else:
            self._cut(event)

    async def _stall(self, seconds: float) -> None:
        self._moving = moving = asyncio.Event()
        self.happened.set()
        await asyncio.sleep(seconds)
        self._moving = None
        moving.set()

    def _cut(self, event: Event) -> None:
        self.up = event.back
        if event.fault == "vanish":
            self._gone = True
        elif event.fault == "close":
            for connection in list(self._connections):
                close(connection)
        else:
            self.reset()
        self.happened.set()


def close(connection: Connection) -> None:
    """End a connection in order, as when a middle box closes it for both sides."""
    for task in connection._tasks:
        task.cancel()
    for _, writer in (connection._client, connection._server):
        writer.close()


class BadNetwork:
    """``with BadNetwork([2121, …]) as network: network.arm(Event("up", 5000, "reset"))``."""

    def __init__(
        self, ports: Iterable[int], delay: float = 0.0, jitter: float = 0.0, seed: int = 1
    ) -> None:
        self._ports = list(ports)
        self._wire = _Wire(delay, jitter, seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "BadNetwork":
        self._thread.start()
        for port in self._ports:
            self._wait(self._wire.open(port, HOST, port))
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._wire.close())
        self._wait(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @staticmethod
    async def _end_tasks() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _call(self, work: Callable[[], Any]) -> Any:
        async def called() -> Any:
            return work()

        return self._wait(called())

    def arm(self, event: Event | None) -> None:
        """Count from nothing, and let `event` happen once."""
        self._call(lambda: self._wire.arm(event))

    def heal(self) -> None:
        """Let new connections through again."""
        self._call(self._wire.heal)

    def weather(self, delay: float = 0.0, jitter: float = 0.0) -> None:
        """Change how late bytes come from now on."""

        def change() -> None:
            self._wire.delay, self._wire.jitter = delay, jitter

        self._call(change)

    @property
    def happened(self) -> threading.Event:
        """Set when the event has come."""
        return self._wire.happened

    @property
    def passed(self) -> dict[Direction, int]:
        """Bytes each way since `arm`."""
        return dict(self._wire.passed)
