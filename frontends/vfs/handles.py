"""Open files as frontends hold them: one to read, one to write.

Knows read streams, write buffers and when a commit begins; touches them alone. Who opens a handle
closes it; a session's logout closes what was forgotten.
"""

from collections.abc import Callable
from typing import Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer, IReactorTime
from zope.interface import implementer

from truckee.core.errors import DownloadStopped, OperationCancelledError
from truckee.core.interfaces import ImmutableFileNode
from truckee.frontends.vfs.attributes import Attributes
from truckee.frontends.vfs.pending import PendingFile
from truckee.frontends.vfs.read_stream import Budget, ReadStream, Sized

_PIECE = 256 * 1024


class Contents(Protocol):
    """A file open for reading or writing, as its bytes are now."""

    @property
    def attributes(self) -> Attributes:
        """Return what stat would tell of this file."""
        ...

    @property
    def size(self) -> int:
        """Return the number of bytes that can be read now."""
        ...

    async def read(self, offset: int, length: int) -> bytes:
        """Return the range, cut at the end of the file; b"" from the end on."""
        ...

    def close(self) -> None:
        """Stop requests under way; may be called again. A `send_to` is its consumer's to stop."""
        ...


class ReadHandle(Contents, Protocol):
    """A file open for reading."""

    async def send_to(self, consumer: IConsumer, offset: int = 0, size: int | None = None) -> None:
        """Write the range to `consumer` in order; returns when all is written.

        Registers one push producer (none for an empty range) and unregisters it. Pause and resume
        are honoured; after stopProducing: DownloadStopped.
        """
        ...


class LinkedReadHandle:
    """One stored version of a file, open for reading."""

    def __init__(
        self,
        attributes: Attributes,
        source: Sized,
        node: ImmutableFileNode | None,
        clock: IReactorTime,
        budget: Budget,
        on_close: Callable[["LinkedReadHandle"], object],
    ) -> None:
        """Take the version and, if it is an immutable file, its node."""
        self.attributes = attributes
        self.source = source
        self.node = node
        self._stream = ReadStream(source, clock, budget)
        self._on_close = on_close
        self._closed = False

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return self.attributes.size

    async def read(self, offset: int, length: int) -> bytes:
        """Return the range, cut at the end of the file."""
        return await self._stream.read(offset, length)

    async def send_to(self, consumer: IConsumer, offset: int = 0, size: int | None = None) -> None:
        """Write the range to `consumer` straight from the node."""
        if self._closed:
            raise DownloadStopped("the file is closed")
        length = _clip(offset, size, self.size)
        if length:
            await self.source.read(consumer, offset, length)

    def close(self) -> None:
        """Stop requests under way."""
        if not self._closed:
            self._closed = True
            self._stream.close()
            self._on_close(self)


def _clip(offset: int, size: int | None, end: int) -> int:
    left = max(0, end - max(0, offset))
    return left if size is None else min(left, size)


class Closer(Protocol):
    """What handles tell of themselves to the session that gave them out."""

    def describe_pending(self, file: PendingFile) -> Attributes:
        """Return what stat tells of a file being written."""
        ...

    def now(self) -> float:
        """Return the time."""
        ...

    def commit_pending(self, file: PendingFile, *, waits: bool = False) -> Deferred[None]:
        """Begin a commit; the result fires when the client may be answered.

        `waits` makes that its end, whatever the node's way is.
        """
        ...

    def closed_handle(self, handle: "PendingHandle") -> None:
        """Forget the handle, and its file when that was the last."""
        ...


class PendingHandle:
    """A handle on a file being written."""

    def __init__(self, file: PendingFile, owner: Closer) -> None:
        self.file = file
        self._owner = owner
        self._closed = False
        file.handles += 1

    @property
    def attributes(self) -> Attributes:
        """Return what stat would tell of this file now."""
        return self._owner.describe_pending(self.file)

    @property
    def size(self) -> int:
        """Return the size that the file would have if it were committed now."""
        return self.file.buffer.size

    def _check(self) -> None:
        if self._closed:
            raise OperationCancelledError("the file is closed")

    async def read(self, offset: int, length: int) -> bytes:
        """Return the range of the file as written so far, cut at its end."""
        self._check()
        return await self.file.buffer.read(offset, length)

    def _close(self) -> bool:
        """Close the handle; return whether it was open."""
        if self._closed:
            return False
        self._closed = True
        self.file.handles -= 1
        return True

    def close(self) -> None:
        """Let go without a commit; may be called again."""
        if self._close():
            self._owner.closed_handle(self)


class PendingReadHandle(PendingHandle):
    """A file being written, open for reading by the session that writes it."""

    async def send_to(self, consumer: IConsumer, offset: int = 0, size: int | None = None) -> None:
        """Write the range, as it is when it is read, to `consumer`."""
        self._check()
        length = _clip(offset, size, self.size)
        if length:
            await _BufferProducer(self, consumer, offset, offset + length).run()


class WriteHandle(PendingHandle):
    """A file open for writing. Nothing is linked before `commit`; `abandon` forgets it all."""

    def __init__(
        self, file: PendingFile, owner: Closer, *, append: bool, created: bool = False
    ) -> None:
        super().__init__(file, owner)
        self._append = append
        self.created = created
        """Whether the name did not exist before this handle."""

    async def write(self, offset: int | None, data: bytes) -> None:
        """Put `data` at `offset` (None, or a handle opened with append: at the current end).

        Returns once the data is taken and no more than a few MiB wait for the disk: await each call
        and the sender is slowed down to the disk. SpoolFullError, FileTooLargeError.
        """
        self._check()
        self.file.last_write = self._owner.now()
        if offset is None or self._append:
            await self.file.buffer.append(data)
        else:
            await self.file.buffer.write(offset, data)

    async def truncate(self, size: int) -> None:
        """Cut the file, or lengthen it with zeros."""
        self._check()
        self.file.last_write = self._owner.now()
        await self.file.buffer.truncate(size)

    def set_mtime(self, mtime: int) -> None:
        """Keep a modification time; it is written with the commit."""
        self._check()
        self.file.mtime = mtime

    def set_mode(self, mode: int) -> None:
        """Keep the owner's write bit; it is written with the commit."""
        self._check()
        self.file.mode = mode

    async def adopt(self, source: Contents) -> None:
        """Become a copy of `source`, without moving data if that is a stored file.

        Only for a file that is empty so far; a commit without further changes links the same
        capability.
        """
        self._check()
        if isinstance(source, LinkedReadHandle) and not self.size:
            self.file.last_write = self._owner.now()
            self.file.buffer.open_over(source.source)
            self.file.buffer.changed = True
            self.file.immutable_base = source.node
            return
        at = 0
        while data := await source.read(at, _PIECE):
            await self.write(at, data)
            at += len(data)

    async def sync(self) -> None:
        """Commit what is there now and keep the handle open; returns when it is linked."""
        self._check()
        if not self.file.abandoned:
            await self._owner.commit_pending(self.file, waits=True)

    async def commit(self) -> None:
        """Make it the file of that name: store, link, and close the handle whatever happens.

        Once begun it runs to the end, also when the caller is cancelled or the session ends.
        """
        self._check()
        self._close()
        if self.file.abandoned:
            self._owner.closed_handle(self)
            return
        answer = self._owner.commit_pending(self.file)
        self._owner.closed_handle(self)
        await answer

    def abandon(self) -> None:
        """Close the handle without a trace; may be called again, does nothing after commit."""
        self.close()


@implementer(IPushProducer)
class _BufferProducer:
    """Sends a range of a buffer at the pace of a consumer."""

    def __init__(self, handle: PendingHandle, consumer: IConsumer, start: int, end: int) -> None:
        self._handle = handle
        self._consumer = consumer
        self._at = start
        self._end = end
        self._stopped = False
        self._resumed: Deferred[None] | None = None

    async def run(self) -> None:
        """Send it all, or raise DownloadStopped."""
        self._consumer.registerProducer(cast("IProducer", self), True)
        try:
            while self._at < self._end:
                if self._resumed is not None:
                    await self._resumed
                if self._stopped:
                    raise DownloadStopped("the consumer has stopped")
                data = await self._handle.read(self._at, min(_PIECE, self._end - self._at))
                if not data:
                    break
                self._at += len(data)
                self._consumer.write(data)
        finally:
            self._consumer.unregisterProducer()

    def pauseProducing(self) -> None:
        """Send nothing before resumeProducing."""
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        """Go on."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        """Send nothing more."""
        self._stopped = True
        self.resumeProducing()
