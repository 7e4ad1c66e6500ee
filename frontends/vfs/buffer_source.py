"""A write buffer as the uploader reads it: from front to back, large pieces, one ahead.

Knows the Uploadable calls of core.interfaces; touches the frozen buffer. The source is private and
cannot change between the two readings: writers wait until the commit has ended.
"""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from truckee.frontends.vfs.write_buffer import WriteBuffer

PIECE = 1024 * 1024
"""The least that is read at once."""


class BufferSource:
    """Fixed contents of a buffer; the buffer must be frozen from before until after."""

    is_private = True
    """Nobody else can write here, so the bytes need not be hashed again as they go out."""

    def __init__(self, buffer: WriteBuffer) -> None:
        """Begin at the first byte."""
        self._buffer = buffer
        self._size = buffer.size
        self._fetched = 0  # where the next read of the buffer begins
        self._left = memoryview(b"")  # read, not yet taken
        self._ahead: Deferred[bytes | bytearray] | None = None

    async def get_size(self) -> int:
        """Return the number of bytes."""
        return self._size

    async def content_digest(self, tag: bytes) -> bytes | None:
        """Return the hash that the contents' key is made of."""
        return await self._buffer.digest_frozen(tag)

    async def read(self, length: int) -> Sequence[memoryview]:
        """Return the next `length` bytes in pieces, fewer only at the end."""
        pieces = []
        while length > 0:
            if not self._left:
                if self._ahead is None:
                    self._ahead = self._next_piece(length)
                if self._ahead is None:
                    break
                ahead, self._ahead = self._ahead, None
                self._left = memoryview(await ahead)
                self._ahead = self._next_piece(length)
            piece, self._left = self._left[:length], self._left[length:]
            pieces.append(piece)
            length -= len(piece)
        return pieces

    def _next_piece(self, length: int) -> Deferred[bytes | bytearray] | None:
        start = self._fetched
        if start >= self._size:
            return None
        self._fetched = min(self._size, start + max(PIECE, length))
        return Deferred.fromCoroutine(self._buffer.load_frozen(start, self._fetched))

    async def rewind(self) -> None:
        """Go back to the first byte."""
        self._drop_ahead()
        self._fetched = 0
        self._left = memoryview(b"")

    async def close(self) -> None:
        """Let go of what was read ahead; the buffer stays with its owner."""
        self._drop_ahead()
        self._fetched = self._size
        self._left = memoryview(b"")

    def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            _ = ahead.addErrback(_ignore)


def _ignore(failure: Failure) -> None:
    """Let a piece that nobody will take fail in peace."""
