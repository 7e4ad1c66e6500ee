"""The immutable shares of a disk store: complete ones, and those on their way in.

Knows the store seam; touches the disk through the store that made it, in worker threads only.
"""

from threading import Lock
from typing import Protocol, TypeVar

from truckee.core.errors import NoSuchShareError, ShareConflictError, StorageError
from truckee.core.formats import container
from truckee.core.formats.container import ImmutableHeader
from truckee.core.storage.api import Buffer
from truckee.core.storage.files import read_all, write_all
from truckee.core.storage.folder import StoreFolder
from truckee.core.storage.handles import Handle
from truckee.core.storage.sync import Job, Turn, Work
from truckee.core.storage.works import NewShare

T = TypeVar("T")

BUFFERED = 128 * 1024
"""Shares up to this size are kept in memory until they are complete."""

SMALL = 64 * 1024
"""Reads and writes up to this size share a thread hop."""

_WRITEBACK = 8 << 20  # bytes after which the medium is told to begin


class Runner(Protocol):
    """What a share needs of its store."""

    @property
    def folder(self) -> StoreFolder:
        """The store's folder."""
        ...

    async def small(self, job: Job[T]) -> T:
        """Run a job of a few system calls."""
        ...

    async def large(self, job: Job[T]) -> T:
        """Run a job on its own."""
        ...

    async def commit(self, work: Work) -> None:
        """Carry out a change, in a group."""
        ...

    def spend(self, size: int) -> None:
        """Take note of bytes that were stored since free space was measured."""
        ...

    def read_share(self, share: "DiskShare", offset: int, length: int, turn: Turn) -> bytes:
        """Read from an immutable share; runs in a worker thread."""
        ...


class DiskShare:
    """One complete immutable share; implements StoredShare."""

    __slots__ = ("_length", "_store", "shnum", "slot")

    def __init__(self, store: Runner, slot: str, shnum: int, length: int) -> None:
        self._store = store
        self.slot = slot
        self.shnum = shnum
        self._length = length

    @property
    def length(self) -> int:
        """Bytes of share data."""
        return self._length

    async def read(self, offset: int, length: int) -> Buffer:
        """Return `length` bytes at `offset` of the share data, fewer at its end."""
        length = min(length, self._length - offset)
        if length <= 0:
            return b""

        def job(turn: Turn) -> bytes:
            return self._store.read_share(self, offset, length, turn)

        if length <= SMALL:
            return await self._store.small(job)
        return await self._store.large(job)


class DiskIncoming:
    """One immutable share on its way in; implements IncomingShare.

    A small one is a buffer that holds the whole container; a large one is a file in `incoming`.
    """

    def __init__(
        self,
        store: Runner,
        storage_index: bytes,
        shnum: int,
        size: int,
        lease: container.Lease,
    ) -> None:
        self._store = store
        self._folder = store.folder
        self._address = (storage_index, shnum)
        self._header = ImmutableHeader(container.NEWEST, size, 1)
        self._lease = lease
        self._buffer: bytearray | None = None
        self._temporary = ""
        self._handle: Handle | None = None
        self._lock = Lock()
        self._fresh = 0  # bytes that the medium was not told of
        self._over = False
        self._aborted = False
        self._work: NewShare | None = None

    async def write(self, offset: int, data: Buffer) -> None:
        """Take bytes; the buffer may be reused once this returns."""
        end = offset + memoryview(data).nbytes
        if self._over:
            raise NoSuchShareError("the upload is over")
        if end > self._header.data_length:
            raise ShareConflictError("a write reaches beyond the end of its share")
        at = container.IMMUTABLE_HEADER_SIZE + offset
        if self._header.data_length <= BUFFERED:
            self._take(at, data)
        elif end - offset <= SMALL:
            await self._store.small(lambda turn: self._write(turn, at, data))
        else:
            await self._store.large(lambda turn: self._write(turn, at, data))

    async def read(self, offset: int, length: int) -> Buffer:
        """Return bytes that were written before."""
        at = container.IMMUTABLE_HEADER_SIZE + offset
        length = min(length, self._header.data_length - offset)
        if self._header.data_length <= BUFFERED:
            return bytes(self._container()[at : at + length])
        return await self._store.small(lambda turn: self._read(turn, at, length))

    async def commit(self) -> None:
        """Make the share durable and visible."""
        if self._over:
            raise NoSuchShareError("the upload is over")
        self._over = True
        contents = None
        if self._header.data_length <= BUFFERED:
            contents, self._buffer = self._container(), None
            self._temporary = self._folder.temporary()
        else:
            await self._store.small(self._make)  # it may be that nothing was written
        storage_index, shnum = self._address
        self._work = NewShare(
            self._folder,
            self._folder.slot_path(storage_index),
            shnum,
            self._temporary,
            contents,
            self._handle,
        )
        await self._store.commit(self._work)
        if self._handle is not None:
            self._handle.close()
        self._store.spend(self._header.file_size)

    async def abort(self) -> None:
        """Discard it; a commit that is under way may still succeed."""
        self._over = True
        self._buffer = None
        if self._work is not None:
            self._work.cancelled = True
        with self._lock:
            self._aborted = True
            handle = self._handle
        if handle is None:
            return
        handle.close()
        await self._store.small(lambda _: self._folder.discard(self._temporary))

    def _container(self) -> bytearray:
        """Return the buffer of a small share, with header and lease in place."""
        if self._buffer is None:
            self._buffer = bytearray(self._header.file_size)
            self._buffer[: container.IMMUTABLE_HEADER_SIZE] = self._header.encode()
            self._buffer[self._header.leases_offset :] = container.encode_immutable_lease(
                self._lease
            )
        return self._buffer

    def _take(self, at: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self._container()[at : at + len(view)] = view

    # jobs, in worker threads

    def _make(self, turn: Turn) -> Handle:
        """Create the file of a large share at its first use."""
        with self._lock:
            if self._aborted:
                raise StorageError("the upload was given up")
            if self._handle is None:
                self._folder.check(turn)
                files = self._folder.files
                self._temporary = self._folder.temporary()
                fd = self._folder.create(self._temporary)
                self._handle = Handle(files, fd)
                write_all(files, fd, self._header.encode(), 0)
                lease = container.encode_immutable_lease(self._lease)
                write_all(files, fd, lease, self._header.leases_offset)
            return self._handle

    def _enter(self, turn: Turn) -> Handle:
        handle = self._make(turn)
        if not handle.enter():
            raise StorageError("the upload was given up")
        return handle

    def _write(self, turn: Turn, at: int, data: Buffer) -> None:
        handle = self._enter(turn)
        try:
            write_all(self._folder.files, handle.fd, data, at)
            self._fresh += memoryview(data).nbytes
            if self._fresh >= _WRITEBACK:
                self._fresh = 0
                self._folder.files.start_writeback(handle.fd, 0, 0)
        finally:
            handle.leave()

    def _read(self, turn: Turn, at: int, length: int) -> bytes:
        handle = self._enter(turn)
        try:
            return read_all(self._folder.files, handle.fd, length, at)
        finally:
            handle.leave()
