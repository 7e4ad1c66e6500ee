"""Reading a file in roughly rising order, by many requests that overlap: SFTP's way.

Knows one window that moves over the file: a running read of the node fills it, requests that fall
into it are served from it in any order. Requests elsewhere are fetched alone; two in a row there
move the window. Touches the node and a clock. Errors are those of reading the node.
"""

from collections import deque
from typing import Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IProducer,
    IPushProducer,
    IReactorTime,
)
from zope.interface import implementer

from truckee.core.errors import DownloadError, DownloadStopped
from truckee.core.tasks import Tasks
from truckee.frontends.vfs.collector import Source, read_range

FIRST_WINDOW = 256 * 1024
LAST_WINDOW = 8 * 1024 * 1024
BEHIND = 1024 * 1024
"""So much is kept behind the reading position, for requests that come late."""

SMALL = 128 * 1024
"""Files up to this size are fetched whole."""

IDLE = 30.0
"""Seconds after which an unused stream stops."""


class Budget:
    """Bytes of read-ahead beyond the first window, shared; one budget may stand under another."""

    def __init__(self, limit: int, above: "Budget | None" = None) -> None:
        self._left = limit
        self._above = above

    def take(self, size: int) -> bool:
        """Take `size` bytes if they are there."""
        if size > self._left or (self._above is not None and not self._above.take(size)):
            return False
        self._left -= size
        return True

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self._left += size
        if self._above is not None:
            self._above.give(size)


class Sized(Source, Protocol):
    """One version of a file (core.interfaces.Readable fits)."""

    def get_size(self) -> int:
        """Return the number of bytes."""
        ...


@implementer(IConsumer)
class _Window:
    """A stretch of the file in memory, filled from its upper end."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self.ahead = FIRST_WINDOW
        self.position = start  # the end of the furthest request served
        self.wanted = start  # the end of the furthest request made
        self._error: Exception | None = None
        self._chunks: deque[bytes] = deque()
        self._waiting: list[tuple[int, int, Deferred[bytes]]] = []
        self._producer: IPushProducer | None = None
        self._paused = False

    def reaches(self, offset: int) -> bool:
        """Return whether the window holds this place or soon will."""
        return self.start <= offset <= max(self.end, self.wanted) + self.ahead

    async def take(self, offset: int, length: int) -> bytes:
        """Return the range, as soon as it is here."""
        if self._error is not None:  # a node may fail before it is first waited for
            raise self._error
        stop = offset + length
        self.wanted = max(self.wanted, stop)
        if stop <= self.end:
            data = self._slice(offset, length)
            self._served(stop)
            return data
        d: Deferred[bytes] = Deferred()
        self._waiting.append((offset, length, d))
        self._steer()
        return await d

    def _slice(self, offset: int, length: int) -> bytes:
        parts = []
        at = self.start
        for chunk in self._chunks:
            if at >= offset + length:
                break
            if at + len(chunk) > offset:
                parts.append(chunk[max(0, offset - at) : offset + length - at])
            at += len(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _served(self, stop: int) -> None:
        self.position = max(self.position, stop)
        keep = min([self.position - BEHIND, *(offset for offset, _, _ in self._waiting)])
        while self._chunks and self.start + len(self._chunks[0]) <= keep:
            self.start += len(self._chunks.popleft())
        self._steer()

    def _steer(self) -> None:
        """Pause or resume the node."""
        if self._producer is None:
            return
        full = self.end >= max(self.position + self.ahead, self.wanted)
        if full and not self._paused:
            self._paused = True
            self._producer.pauseProducing()
        elif not full and self._paused:
            self._paused = False
            self._producer.resumeProducing()

    # as the node sees it

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Keep the producer, to steer it; nodes register push producers alone."""
        self._producer = cast("IPushProducer", producer)
        if self.dead:
            producer.stopProducing()
        else:
            self._steer()

    def unregisterProducer(self) -> None:
        """Forget the producer: everything has come."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """Take the next bytes and serve those who wait for them."""
        if self.dead or not data:
            return
        self._chunks.append(bytes(data))
        self.end += len(data)
        ready = [w for w in self._waiting if w[0] + w[1] <= self.end]
        self._waiting = [w for w in self._waiting if w[0] + w[1] > self.end]
        answers = [(d, self._slice(offset, length)) for offset, length, d in ready]
        if ready:
            self._served(max(offset + length for offset, length, _ in ready))
        for d, answer in answers:
            if not d.called:
                d.callback(answer)
        self._steer()

    @property
    def busy(self) -> bool:
        """Return whether requests wait."""
        return bool(self._waiting)

    @property
    def dead(self) -> bool:
        """Return whether it failed or was closed."""
        return self._error is not None

    def fail(self, error: Exception) -> None:
        """Give up: those who wait get the error, nobody is served any more."""
        self._error = self._error or error
        self._chunks.clear()
        waiting, self._waiting = self._waiting, []
        for _, _, d in waiting:
            if not d.called:
                d.errback(error)
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()


class ReadStream:
    """One open file, read by requests."""

    def __init__(self, source: Sized, clock: IReactorTime, budget: Budget) -> None:
        """Take one version of a file and the session's budget of read-ahead."""
        self._source = source
        self._size = source.get_size()
        self._clock = clock
        self._budget = budget
        self._taken = 0
        self._grown_at = 0
        self._window: _Window | None = None
        self._stray = -1  # where the last request elsewhere ended
        self._tasks = Tasks()
        self._used = 0.0
        self._timer: IDelayedCall | None = None
        self._closed = False

    async def read(self, offset: int, length: int) -> bytes:
        """Return the range, cut at the end of the file."""
        if self._closed:
            raise DownloadStopped("the file is closed")
        length = min(length, self._size - offset)
        if length <= 0 or offset < 0:
            return b""
        self._used = self._clock.seconds()
        window = self._window
        if window is None or window.dead:
            window = self._begin(offset)
        elif not window.reaches(offset):
            if window.busy or not self._moves(offset):
                self._stray = offset + length
                return await read_range(self._source, offset, length)
            self._drop()
            window = self._begin(offset)
        self._stray = -1
        data = await window.take(offset, length)
        self._grow(window)
        return data

    def _moves(self, offset: int) -> bool:
        return self._stray >= 0 and abs(offset - self._stray) <= FIRST_WINDOW

    def _begin(self, offset: int) -> _Window:
        start = 0 if self._size <= SMALL else offset
        window = self._window = _Window(start)
        self._grown_at = start
        _ = self._tasks.start(self._fill(window))
        if self._timer is None:
            self._timer = self._clock.callLater(IDLE, self._look)
        return window

    async def _fill(self, window: _Window) -> None:
        try:
            await self._source.read(window, window.start, self._size - window.start)
        except Exception as error:  # noqa: BLE001 - handed to the requests
            window.fail(error)
        else:
            if not window.dead and window.end < self._size:
                window.fail(DownloadError("the file ended early"))

    def _grow(self, window: _Window) -> None:
        """Double the read-ahead once a whole window was read in sequence."""
        if window.ahead < LAST_WINDOW and window.position - self._grown_at >= window.ahead:
            self._grown_at = window.position
            if self._budget.take(window.ahead):
                self._taken += window.ahead
                window.ahead *= 2

    def _drop(self) -> None:
        window, self._window = self._window, None
        if window is not None:
            window.fail(DownloadStopped("the stream moved"))
        self._budget.give(self._taken)
        self._taken = 0

    def _look(self) -> None:
        """Stop a stream that nobody has used for long."""
        self._timer = None
        left = self._used + IDLE - self._clock.seconds()
        if left <= 0 and not (self._window is not None and self._window.busy):
            self._drop()
        elif self._window is not None:
            self._timer = self._clock.callLater(max(left, 1.0), self._look)

    def close(self) -> None:
        """Stop; requests under way fail with DownloadStopped."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop()
