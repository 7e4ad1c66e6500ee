"""The immutable uploads that are open on one local server, and the rules they obey.

Knows the store seam and a clock; touches nothing else. An upload is open from allocation until it
is complete, aborted, or silent for `IDLE` seconds; so long its number is taken and its full size is
counted as used. One timer serves all uploads and runs only while some are open.
"""

from collections.abc import Iterable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from truckee.core.errors import NoSuchShareError, ShareConflictError, StorageError
from truckee.core.storage.api import Buffer, IncomingShare
from truckee.core.storage.spans import Spans

IDLE = 30 * 60.0
"""Seconds of silence after which an upload is aborted."""

Address = tuple[bytes, int]

_log = Logger()


class LocalWriter:
    """One upload; implements ShareWriter."""

    __slots__ = (
        "_incoming",
        "_over",
        "_pending",
        "_uploads",
        "_waiting",
        "_written",
        "address",
        "size",
        "touched",
    )

    def __init__(
        self, uploads: "Uploads", address: Address, size: int, incoming: IncomingShare
    ) -> None:
        self.address = address
        self.size = size
        self.touched = uploads.seconds()
        self._uploads = uploads
        self._incoming = incoming
        self._written = Spans()
        self._pending = 0  # writes on their way to the store
        self._waiting: list[Deferred[None]] = []
        self._over = False

    async def write(self, offset: int, data: Buffer) -> None:
        """Take bytes; those written before must be the same again."""
        size = len(data) if isinstance(data, bytes | bytearray) else data.nbytes
        end = offset + size
        self._check_open()
        if not 0 <= offset <= end <= self.size:
            raise ShareConflictError("a write reaches beyond the allocated size")
        self.touched = self._uploads.seconds()
        if self._written.overlap(offset, end):
            await self._settled()
            await self._compare(offset, data)
            self._check_open()
        self._written.add(offset, end)
        self._pending += 1
        try:
            await self._incoming.write(offset, data)
        except BaseException:
            self._pending -= 1
            await self.abort()
            raise
        self._pending -= 1
        self._wake()

    def missing(self) -> list[tuple[int, int]]:
        """Return the ranges that were not written yet."""
        return self._written.missing(self.size)

    async def close(self) -> None:
        """Return when the share is complete, durable and visible; on failure it is discarded."""
        await self._settled()
        self._check_open()
        if not self._written.covers(self.size):
            await self.abort()
            raise StorageError("the share is closed before all of it was written")
        self._over = True
        try:
            await self._incoming.commit()
        except BaseException:
            self._uploads.forget(self)
            await self._incoming.abort()
            raise
        self._uploads.forget(self)

    async def abort(self) -> None:
        """Discard the share; harmless after close or a second time."""
        if self._over:
            return
        self._over = True
        self._uploads.forget(self)
        self._wake()
        await self._incoming.abort()

    def _check_open(self) -> None:
        if self._over:
            raise NoSuchShareError("the upload is over")

    async def _compare(self, offset: int, data: Buffer) -> None:
        """Raise ShareConflictError unless `data` repeats what was written where it overlaps."""
        view = memoryview(data).cast("B")
        for begin, end in self._written.overlap(offset, offset + len(view)):
            for at in range(begin, end, 1 << 20):
                length = min(1 << 20, end - at)
                old = await self._incoming.read(at, length)
                if old != view[at - offset : at - offset + length]:
                    raise ShareConflictError("other bytes were written here before")

    async def _settled(self) -> None:
        """Return when no write is on its way to the store."""
        while self._pending and not self._over:
            d: Deferred[None] = Deferred()
            self._waiting.append(d)
            await d

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for d in waiting:
            d.callback(None)


class Uploads:
    """All open uploads of one server."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._open: dict[Address, LocalWriter] = {}
        self._timer: IDelayedCall | None = None
        self.reserved = 0

    def seconds(self) -> float:
        """Return the time on the clock."""
        return self._clock.seconds()

    def numbers(self, storage_index: bytes, shnums: Iterable[int]) -> set[int]:
        """Return those of `shnums` that are being uploaded now."""
        return {shnum for shnum in shnums if (storage_index, shnum) in self._open}

    def begin(self, address: Address, size: int, incoming: IncomingShare) -> LocalWriter:
        """Open an upload."""
        writer = LocalWriter(self, address, size, incoming)
        self._open[address] = writer
        self.reserved += size
        if self._timer is None:
            self._timer = self._clock.callLater(IDLE, self._sweep)
        return writer

    def forget(self, writer: LocalWriter) -> None:
        """Close an upload's account."""
        if self._open.pop(writer.address, None) is None:
            return
        self.reserved -= writer.size
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def abort_all(self) -> None:
        """Discard every open upload."""
        for writer in list(self._open.values()):
            await writer.abort()

    def _sweep(self) -> None:
        """Abort what was silent too long, and come again when the next may be."""
        self._timer = None
        now = self._clock.seconds()
        for writer in list(self._open.values()):
            if writer.touched + IDLE <= now:
                d = Deferred.fromCoroutine(writer.abort())
                _ = d.addErrback(lambda failure: _log.failure("an abort failed", failure=failure))
        if self._open:
            oldest = min(writer.touched for writer in self._open.values())
            self._timer = self._clock.callLater(max(0.0, oldest + IDLE - now), self._sweep)
