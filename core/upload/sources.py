"""Where immutable contents come from: bytes, or a file. Knows the Uploadable seam; reads disks.

A source may carry two things beside that seam. `content_digest` (DigestingUploadable) spares the
uploader its first reading. `is_private` true says that nobody else can change the contents between
the two readings, and so spares the check that they are the same.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from truckee.core.cpu import Cpu
from truckee.core.errors import SourceChangedError
from truckee.core.interfaces import Uploadable

Buffer = bytes | bytearray | memoryview


def is_private(source: Uploadable) -> bool:
    """Return whether a source says that its contents cannot change under the reader."""
    return bool(getattr(source, "is_private", False))


class BytesSource:
    """Contents in memory."""

    is_private = True

    def __init__(self, data: bytes) -> None:
        """Take the contents."""
        self._data = memoryview(data)
        self._position = 0

    async def get_size(self) -> int:
        """Return the number of bytes."""
        return len(self._data)

    async def read(self, length: int) -> Sequence[Buffer]:
        """Return the next `length` bytes, fewer only at the end."""
        piece = self._data[self._position : self._position + length]
        self._position += len(piece)
        return [piece]

    async def rewind(self) -> None:
        """Go back to the first byte."""
        self._position = 0

    async def close(self) -> None:
        """Let go of the contents."""
        self._data = memoryview(b"")


class FileSource:
    """Contents of a file, read behind the disk's door."""

    is_private = False

    def __init__(self, source: str | Path | BinaryIO, disk: Cpu) -> None:
        """Take a path, opened at first use, or a file open for reading in binary.

        An open file is read by position from its byte 0 and closed at the end.
        """
        self._source = source
        self._disk = disk
        self._file: BinaryIO | None = None
        self._position = 0

    def _open(self) -> BinaryIO:
        if self._file is None:
            if isinstance(self._source, str | Path):
                self._file = open(self._source, "rb", buffering=0)  # noqa: SIM115 - see close
            else:
                self._file = self._source
        return self._file

    async def get_size(self) -> int:
        """Return the number of bytes the file has now."""
        return await self._disk.run(lambda: os.fstat(self._open().fileno()).st_size)

    async def read(self, length: int) -> Sequence[Buffer]:
        """Return the next `length` bytes, fewer only at the end."""
        data = await self._disk.run(self._read, self._position, length)
        self._position += len(data)
        return [data]

    def _read(self, position: int, length: int) -> bytes:
        number = self._open().fileno()
        data = os.pread(number, length, position)
        while len(data) < length and (
            more := os.pread(number, length - len(data), position + len(data))
        ):
            data += more
        return data

    async def rewind(self) -> None:
        """Go back to the first byte."""
        self._position = 0

    async def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is None and not isinstance(self._source, str | Path):
            file = self._source
        if file is not None:
            await self._disk.run(file.close)


async def read_exactly(uploadable: Uploadable, size: int) -> list[Buffer]:
    """Return the next `size` bytes in pieces; raise SourceChangedError if there are fewer."""
    pieces: list[Buffer] = []
    left = size
    while left:
        more = await uploadable.read(left)
        got = sum(len(piece) for piece in more)
        if not 0 < got <= left:
            raise SourceChangedError("the contents became shorter while they were read")
        pieces.extend(more)
        left -= got
    return pieces


async def expect_end(uploadable: Uploadable) -> None:
    """Raise SourceChangedError if there is more to read."""
    if any(len(piece) for piece in await uploadable.read(1)):
        raise SourceChangedError("the contents became longer while they were read")
