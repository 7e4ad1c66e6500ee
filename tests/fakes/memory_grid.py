"""Clients over ten servers in memory, for tests of everything above the engines."""

import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from truckee.core.client import Client
from truckee.core.cpu import Cpu, InlineCpu
from truckee.core.crypto import rsa
from truckee.core.download.cache import ReaderCache
from truckee.core.interfaces import Encoding
from truckee.core.mutable.context import MutableContext
from truckee.core.mutable.keys import KeyPool
from truckee.core.storage.memory import MemoryStore
from truckee.core.storage.server import LocalServer
from truckee.core.upload.upload import Uploader

T = TypeVar("T")

_KEYS: list[rsa.KeyPair] = []  # made once; every grid uses them in the same order


def _keys() -> Iterator[rsa.KeyPair]:
    for i in itertools.count():
        if i == len(_KEYS):
            _KEYS.append(rsa.generate())
        yield _KEYS[i]


class CountingServer(LocalServer):
    """A server that counts the writes to mutable slots, and can be told to wait or fail before."""

    writes = 0
    before_write: Callable[[], Awaitable[None]] | None = None

    async def slot_testv_and_readv_and_writev(self, *args: Any, **kwargs: Any) -> Any:
        self.writes += 1
        if self.before_write is not None:
            await self.before_write()
        return await super().slot_testv_and_readv_and_writev(*args, **kwargs)


class MemoryGrid:
    """Servers, a virtual clock that only `run` moves, and clients made by `client`."""

    def __init__(
        self,
        servers: int = 10,
        now: float = 1_800_000_000.5,
        cpu: Cpu | None = None,
        clock: Any = None,  # a real reactor, for tests that do not call `run`
    ) -> None:
        self.cpu = cpu or InlineCpu()
        self.clock = clock or Clock()
        if clock is None:
            self.clock.advance(now)
        self.servers = [
            CountingServer(MemoryStore(bytes([i]) * 20), self.clock) for i in range(servers)
        ]
        self._next_key = _keys()

    def client(
        self, convergence: bytes = b"c" * 32, encoding: Encoding | None = None, ttl: float = 3.0
    ) -> Client:
        """Return a client with a context of its own: another one is like another process."""
        encoding = encoding or Encoding()
        cpu = self.cpu
        context = MutableContext(
            lambda: self.servers,
            cpu,
            self.clock,
            b"l" * 32,
            KeyPool(cpu, lambda: next(self._next_key), ready=0),
            encoding,
        )
        return Client(
            Uploader(lambda: self.servers, cpu, self.clock, b"l" * 32),
            ReaderCache(lambda: self.servers, cpu, self.clock),
            context,
            encoding,
            convergence,
            self.clock,
            ttl,
            wall=self.clock.seconds,
        )

    @property
    def publishes(self) -> int:
        """How many mutable versions were written, were each spread over all servers."""
        return sum(server.writes for server in self.servers) // len(self.servers)

    def run(self, work: Awaitable[T], patience: float = 100.0) -> T:
        """Return the result of `work`, moving the clock while it waits."""
        d = self.start(work)
        results: list[Any] = []
        d.addBoth(results.append)
        end = self.clock.seconds() + patience
        while not results and self.clock.seconds() < end:
            self.clock.advance(0.01)
        if not results:
            raise AssertionError("it never ended")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]  # type: ignore[no-any-return]

    @staticmethod
    def start(work: Awaitable[T]) -> Deferred[T]:
        """Start `work` beside others."""

        async def go() -> T:
            return await work

        return Deferred.fromCoroutine(go())
