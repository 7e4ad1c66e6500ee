"""A share store in a folder, laid out as Tahoe-LAFS lays it out.

Knows the store seam and the disk pool; touches the disk through `truckee.core.storage.folder` and
`…works`, in worker threads only. docs/storage.rst says how a share becomes durable.

Stores that are given the same disk pool share their groups (`truckee.core.storage.sync`) and their
open descriptors. A folder that vanishes makes every call raise ServerGoneError until it is back.
"""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from twisted.logger import Logger

from truckee.core.cpu import Cpu
from truckee.core.errors import (
    NoSuchShareError,
    ServerGoneError,
)
from truckee.core.formats import container
from truckee.core.formats.container import ImmutableHeader, MutableHeader
from truckee.core.storage.advisories import write_advisory
from truckee.core.storage.api import (
    LeaseSecrets,
    ReadVector,
    ShareKind,
    TestWriteResult,
    TestWriteVectors,
)
from truckee.core.storage.diskshares import DiskIncoming, DiskShare
from truckee.core.storage.files import Files, OsFiles, read_all
from truckee.core.storage.folder import StoreFolder, read_data, storage_error
from truckee.core.storage.handles import Handle
from truckee.core.storage.sync import Filesystem, Job, Turn, Work, shared_by
from truckee.core.storage.works import LeaseChange, Removal, SlotChange

T = TypeVar("T")

_SPACE_AGE = 1.0  # seconds for which free space is believed

_OS_FILES = OsFiles()
_log = Logger()


class DiskStore:
    """Shares in a folder; implements ShareStore. Call `open` before anything else."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        disk: Cpu,
        *,
        fsync: bool = True,
        nodeid: bytes | None = None,
        files: Files = _OS_FILES,
        random: Callable[[int], bytes] = os.urandom,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Take the folder and the disk pool; nothing is touched yet.

        `nodeid`, where it is known already, is demanded of the folder, and lets a store whose
        folder is not there now be used when it comes. Without `fsync` what was acknowledged
        survives the end of the process, not a power cut.
        """
        self._folder = StoreFolder(os.path.abspath(path), files, nodeid)
        self._disk = disk
        self._fsync = fsync
        self._random = random
        self._wall = wall
        self._shared = shared_by(disk)
        self._free: tuple[float, int] | None = None
        self._reported: set[str] = set()

    @property
    def nodeid(self) -> bytes:
        """The 20 bytes that identify this store; ServerGoneError while they are unknown."""
        if self._folder.nodeid is None:
            raise ServerGoneError("the store was never opened")
        return self._folder.nodeid

    @property
    def path(self) -> str:
        """The folder."""
        return self._folder.root

    @property
    def folder(self) -> StoreFolder:
        """What is done in the folder, for the shares of this store."""
        return self._folder

    @property
    def files(self) -> Files:
        """The way to the disk."""
        return self._folder.files

    @property
    def damaged(self) -> int:
        """How many damaged share files were met since the store was made."""
        return len(self._reported)

    async def open(self, create: bool = True) -> None:
        """Look at the folder; with `create`, make what is missing of it (not the folders above).

        Remains of uploads are removed. Raises ServerGoneError when the folder is not there or is
        another store's, NoSpaceError.
        """
        await self._run(self._disk.run(self._folder.open, create, self._random, self._fsync))

    def close(self) -> None:
        """Let go of open descriptors."""
        self._shared.handles.drop_store(self)

    async def list(self, storage_index: bytes) -> Mapping[int, ShareKind]:
        """Return the complete shares of a storage index."""
        slot = self._folder.slot_path(storage_index)
        return await self.small(lambda turn: self._folder.kinds(slot, turn))

    async def create_immutable(
        self, storage_index: bytes, shnum: int, size: int, secrets: LeaseSecrets, expiry: int
    ) -> DiskIncoming:
        """Begin a share of exactly `size` bytes with one lease; the disk is not touched yet."""
        lease = container.new_lease(container.NEWEST, 0, secrets.renew, secrets.cancel, expiry)
        return DiskIncoming(self, storage_index, shnum, size, lease)

    async def open_immutable(self, storage_index: bytes, shnum: int) -> DiskShare:
        """Return a complete share; raise NoSuchShareError."""
        slot = self._folder.slot_path(storage_index)
        return await self.small(lambda turn: self._open_one(slot, shnum, turn))

    async def open_all_immutable(self, storage_index: bytes) -> Mapping[int, DiskShare]:
        """Return all complete immutable shares of a storage index."""
        slot = self._folder.slot_path(storage_index)
        return await self.small(lambda turn: self._open_all(slot, turn))

    async def read_mutable(
        self, storage_index: bytes, shnums: frozenset[int], vectors: Sequence[ReadVector]
    ) -> Mapping[int, Sequence[bytes]]:
        """Read from the given mutable shares that exist, or from all when `shnums` is empty."""
        slot = self._folder.slot_path(storage_index)
        return await self.small(lambda turn: self._read_mutable(slot, shnums, vectors, turn))

    async def change_mutable(
        self,
        storage_index: bytes,
        write_enabler: bytes,
        secrets: LeaseSecrets,
        expiry: int,
        changes: Mapping[int, TestWriteVectors],
        vectors: Sequence[ReadVector],
    ) -> TestWriteResult:
        """Do the test-and-write; every changed share is replaced by a complete new file."""
        slot = self._folder.slot_path(storage_index)
        work = SlotChange(self._folder, slot, write_enabler, secrets, expiry, changes, vectors)
        await self.commit(work)
        return work.result

    async def add_or_renew_lease(
        self, storage_index: bytes, shnums: frozenset[int], secrets: LeaseSecrets, expiry: int
    ) -> None:
        """Set the matching lease's expiry if later, else add a lease; empty `shnums` means all."""
        slot = self._folder.slot_path(storage_index)
        await self.commit(LeaseChange(self._folder, slot, shnums, secrets, expiry))

    async def delete(self, storage_index: bytes, shnum: int) -> None:
        """Remove a share; harmless when it is gone."""
        slot = self._folder.slot_path(storage_index)
        await self.commit(Removal(self._folder, slot, shnum))

    async def iterate(self) -> AsyncIterator[tuple[bytes, int, int, ShareKind]]:
        """Yield (storage index, share number, bytes on disk, kind) of every share."""
        for prefix in await self.small(self._folder.prefixes):
            for found in await self._walk(prefix):
                yield found

    async def space(self) -> int | None:
        """Return the free bytes as they were at most a second ago, less what was stored since."""
        now = time.monotonic()
        if self._free is None or now - self._free[0] > _SPACE_AGE:
            self._free = (now, await self.small(self._measure))
        return self._free[1]

    async def advise_corrupt(
        self, kind: ShareKind, storage_index: bytes, shnum: int, reason: str
    ) -> None:
        """Keep a report about a share, in a file."""

        def job(turn: Turn) -> None:
            self._folder.check(turn)
            write_advisory(
                self.files,
                self._folder.advisories,
                (kind, storage_index, shnum),
                reason,
                self._wall(),
            )

        await self.small(job)

    # for the shares of this store

    async def small(self, job: Job[T]) -> T:
        """Run a job of a few system calls."""
        try:
            return await self._run((await self._filesystem()).small(job))
        finally:
            self._report()

    async def large(self, job: Job[T]) -> T:
        """Run a job on its own."""
        return await self._run((await self._filesystem()).large(job))

    async def commit(self, work: Work) -> None:
        """Carry out a change, in a group."""
        try:
            await self._run((await self._filesystem()).commit(work))
        finally:
            self._report()

    def spend(self, size: int) -> None:
        """Take note of bytes that were stored since free space was measured."""
        if self._free is not None:
            self._free = (self._free[0], max(0, self._free[1] - size))

    async def _filesystem(self) -> Filesystem:
        if not self._folder.ready:
            await self._run(self._disk.run(self._folder.open, False, self._random, self._fsync))
        return self._shared.filesystem(self._folder.device, self.files, self._fsync)

    async def _run(self, result: Awaitable[T]) -> T:
        try:
            return await result
        except OSError as error:
            raise storage_error(error) from None

    def _report(self) -> None:
        """Log damaged files that worker threads met; each once, and a bounded number."""
        while self._folder.damaged:
            path = self._folder.damaged.popleft()
            if path not in self._reported and len(self._reported) < 10_000:
                self._reported.add(path)
                _log.warn("a share file is damaged and was passed over")

    # jobs, in worker threads

    def _measure(self, turn: Turn) -> int:
        self._folder.check(turn)
        return self.files.free(self._folder.root)

    def _open_one(self, slot: str, shnum: int, turn: Turn) -> DiskShare:
        self._folder.check(turn)
        share = self._folder.open_share(slot, shnum)
        if share is None:
            raise NoSuchShareError("no such share")
        if isinstance(share.header, MutableHeader):
            self.files.close(share.fd)
            raise NoSuchShareError("no such immutable share")
        return self._keep(slot, shnum, share.fd, share.header)

    def _open_all(self, slot: str, turn: Turn) -> dict[int, DiskShare]:
        self._folder.check(turn)
        found = {}
        for shnum, share in self._folder.open_shares(slot):
            if isinstance(share.header, MutableHeader):
                self.files.close(share.fd)
            else:
                found[shnum] = self._keep(slot, shnum, share.fd, share.header)
        return found

    def _keep(self, slot: str, shnum: int, fd: int, header: ImmutableHeader) -> DiskShare:
        """Keep the descriptor for the reads that will follow."""
        handle = Handle(self.files, fd, self._folder.epoch)
        self._shared.handles.put((self, slot, shnum), handle)
        return DiskShare(self, slot, shnum, header.data_length)

    def _read_mutable(
        self, slot: str, shnums: frozenset[int], vectors: Sequence[ReadVector], turn: Turn
    ) -> Mapping[int, Sequence[bytes]]:
        self._folder.check(turn)
        found: dict[int, Sequence[bytes]] = {}
        for shnum in sorted(shnums) if shnums else self._folder.numbers(slot):
            share = self._folder.open_share(slot, shnum)
            if share is None:
                continue
            try:
                if isinstance(share.header, MutableHeader):
                    found[shnum] = [
                        read_data(self._folder, share, each.offset, each.length) for each in vectors
                    ]
            finally:
                self.files.close(share.fd)
        return found

    def read_share(self, share: DiskShare, offset: int, length: int, turn: Turn) -> bytes:
        """Read from an immutable share, opening it anew where that is needed."""
        self._folder.check(turn)
        key = (self, share.slot, share.shnum)
        for _ in range(3):
            handle = self._shared.handles.get(key)
            if handle is None or handle.mark != self._folder.epoch:
                self._open_one(share.slot, share.shnum, turn)
                continue
            if not handle.enter():
                continue
            try:
                if self.files.fstat(handle.fd).st_nlink:
                    at = container.IMMUTABLE_HEADER_SIZE + offset
                    return read_all(self.files, handle.fd, length, at)
            finally:
                handle.leave()
            self._shared.handles.drop(key)  # removed, or replaced by one with another lease
        raise ServerGoneError("the share could not be kept open")

    async def _walk(self, prefix: str) -> Sequence[tuple[bytes, int, int, ShareKind]]:
        return await self.large(lambda turn: self._folder.walk(prefix, turn))
