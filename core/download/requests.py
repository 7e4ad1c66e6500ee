"""Byte ranges asked of shares: so many at a time, each with its two time limits.

Knows the storage seam, ranges and a clock; touches servers through the seam only.
"""

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, DeferredSemaphore, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime

from truckee.core.download.share import Range, Spans
from truckee.core.download.status import ReaderStatus
from truckee.core.errors import ServerGoneError
from truckee.core.storage.api import ShareReader
from truckee.core.storage.deadline import CALL_TIMEOUT, OVERDUE, within

MAX_IN_FLIGHT = 64


class Requests:
    """The requests of one reader.

    At most `limit` are under way; one that is overdue no longer counts, its place is given on.
    """

    def __init__(self, clock: IReactorTime, status: ReaderStatus, limit: int) -> None:
        """Take the clock, where to note what is asked, and the number under way at most."""
        self._clock = clock
        self._status = status
        self._slots = DeferredSemaphore(limit)

    async def read(
        self,
        remote: ShareReader,
        ranges: Sequence[Range],
        spans: Spans,
        late: Callable[[], None],
    ) -> None:
        """Read all ranges at once into `spans`; call `late` for each that becomes overdue.

        Raises what the server raises; ServerGoneError for an answer that makes no sense.
        """
        if len(ranges) == 1:
            return await self._read_one(remote, ranges[0], spans, late)
        calls = [
            Deferred.fromCoroutine(self._read_one(remote, wanted, spans, late)) for wanted in ranges
        ]
        try:
            await gatherResults(calls, consumeErrors=True)
        except FirstError as error:
            for call in calls:
                call.cancel()
            error.subFailure.raiseException()

    async def _read_one(
        self, remote: ShareReader, wanted: Range, spans: Spans, late: Callable[[], None]
    ) -> None:
        await self._slots.acquire()
        in_time = True

        def overdue() -> None:
            nonlocal in_time
            in_time = False
            self._status.note(self._clock.seconds(), "overdue")
            self._slots.release()
            late()

        timer = None
        try:
            call = Deferred.fromCoroutine(remote.read(wanted.offset, wanted.length))
            if not call.called:
                timer = self._clock.callLater(OVERDUE, overdue)
            data = await within(self._clock, CALL_TIMEOUT, call)
        finally:
            if timer is not None and timer.active():
                timer.cancel()
            if in_time:
                self._slots.release()
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ServerGoneError("the answer to a read is not bytes")
        self._status.note(self._clock.seconds(), "request", f"{wanted.offset} {wanted.length}")
        spans.add(wanted.offset, memoryview(data)[: wanted.length])
