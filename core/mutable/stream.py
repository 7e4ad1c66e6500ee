"""Writing a range of contents to a consumer, batch by batch, as fast as the consumer takes it.

Knows IConsumer and IPushProducer; touches only the consumer. While one batch is delivered the next
is being fetched, so two batches are in memory at most.
"""

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from truckee.core.errors import DownloadStopped
from truckee.core.formats.mutable_share import Geometry

_PIECE = 262144  # bytes handed over between two looks at the consumer's wish to pause

Fetch = Callable[[range], Awaitable[list[bytes]]]


async def stream(
    consumer: IConsumer, fetch: Fetch, geometry: Geometry, offset: int, size: int, step: int
) -> IConsumer:
    """Write `size` (> 0) bytes from `offset`, which lie within the contents; return the consumer.

    `fetch` gives the contents of consecutive segments, `step` says how many at once. Raises
    DownloadStopped after stopProducing, and whatever `fetch` raises.
    """
    pump = _Pump(consumer)
    consumer.registerProducer(pump, True)
    try:
        await pump.run(fetch, geometry, offset, size, step)
    except CancelledError:
        if pump.stopped:
            raise DownloadStopped("the consumer asked to stop") from None
        raise
    finally:
        pump.end()
        consumer.unregisterProducer()
    return consumer


@implementer(IPushProducer)
class _Pump:
    """The producer that the consumer sees."""

    def __init__(self, consumer: IConsumer) -> None:
        self.stopped = False
        self._consumer = consumer
        self._gate: Deferred[None] | None = None
        self._waiting: Deferred[None] | Deferred[list[bytes]] | None = None
        self._ahead: Deferred[list[bytes]] | None = None

    def pauseProducing(self) -> None:
        """Write no more until resumeProducing."""
        if self._gate is None:
            self._gate = Deferred()

    def resumeProducing(self) -> None:
        """Write on."""
        gate, self._gate = self._gate, None
        if gate is not None and not gate.called:
            gate.callback(None)

    def stopProducing(self) -> None:
        """End the reading with DownloadStopped."""
        self.stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    def end(self) -> None:
        """Cancel what is being fetched ahead."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()
            _ = ahead.addErrback(lambda _: None)

    async def run(
        self, fetch: Fetch, geometry: Geometry, offset: int, size: int, step: int
    ) -> None:
        """Fetch and write the range."""
        segment_size = geometry.segment_size
        position, end = offset, offset + size
        last = (end - 1) // segment_size + 1
        starts = range(offset // segment_size, last, step)
        self._fetch(fetch, starts[0], step, last)
        for first in starts:
            segments = await self._batch()
            if first + step < last:
                self._fetch(fetch, first + step, step, last)
            for segnum, segment in enumerate(segments, first):
                base = segnum * segment_size
                view = memoryview(segment)[max(position - base, 0) : end - base]
                for i in range(0, len(view), _PIECE):
                    await self._write(bytes(view[i : i + _PIECE]))

    def _fetch(self, fetch: Fetch, first: int, step: int, last: int) -> None:
        async def get() -> list[bytes]:
            return await fetch(range(first, min(first + step, last)))

        self._ahead = Deferred.fromCoroutine(get())

    async def _batch(self) -> list[bytes]:
        ahead, self._ahead = self._ahead, None
        if ahead is None:  # pragma: no cover - `run` fetches before it takes
            raise DownloadStopped("nothing was asked for")
        self._check()
        self._waiting = ahead
        try:
            return await ahead
        finally:
            self._waiting = None
            self._check()

    async def _write(self, piece: bytes) -> None:
        self._check()
        if self._gate is not None:
            self._waiting = self._gate
            try:
                await self._gate
            finally:
                self._waiting = None
        self._check()
        self._consumer.write(piece)

    def _check(self) -> None:
        if self.stopped:
            raise DownloadStopped("the consumer asked to stop")
