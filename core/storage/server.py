"""The rules of the storage protocol, once, over one share store: a storage server in this process.

Knows both storage seams, a clock and the wall time; touches neither disk nor network. What it adds
to a store: which share numbers are taken or refused, space, leases on what is there already, one
change at a time per storage index.
"""

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from truckee.core.errors import NoSpaceError, StorageError
from truckee.core.formats import base32
from truckee.core.formats.container import LEASE_DURATION
from truckee.core.storage.api import (
    Allocation,
    Buffer,
    LeaseSecrets,
    ReadVector,
    ServerVersion,
    ShareKind,
    ShareReader,
    ShareStore,
    ShareWriter,
    StoredShare,
    TestWriteResult,
    TestWriteVectors,
)
from truckee.core.storage.uploads import LocalWriter, Uploads

MAX_SHNUM = 255
MAX_MUTABLE_SHARE_SIZE = 69_105_000_000_000_000
UNBOUNDED = (1 << 63) - 1
APPLICATION_VERSION = "truckee"


class LocalReader:
    """One complete immutable share; implements ShareReader."""

    __slots__ = ("_address", "_share", "_store")

    def __init__(self, store: ShareStore, storage_index: bytes, n: int, share: StoredShare) -> None:
        self._store = store
        self._address = (storage_index, n)
        self._share = share

    async def read(self, offset: int, length: int) -> Buffer:
        """Return `length` bytes at `offset`, fewer only at the end of the share."""
        return await self._share.read(offset, length)

    async def advise_corrupt_share(self, reason: str) -> None:
        """Keep a report about this share."""
        await self._store.advise_corrupt(ShareKind.IMMUTABLE, *self._address, reason)


class LocalServer:
    """A StorageServer over one ShareStore."""

    def __init__(
        self,
        store: ShareStore,
        clock: IReactorTime,
        name: str | None = None,
        *,
        permutation_seed: bytes | None = None,
        reserved_space: int = 0,
        readonly: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Take the store, which must be open, and the clock of idle uploads.

        `wall` gives the seconds since 1970 from which leases run; `reserved_space` is left free on
        the disk; a `readonly` server takes no new shares, but goes on changing mutable ones.
        """
        self._store = store
        self._name = name or base32.b2a(store.nodeid)[:8]
        self._seed = store.nodeid if permutation_seed is None else permutation_seed
        self._reserved_space = reserved_space
        self.readonly = readonly
        self._wall = wall
        self._uploads = Uploads(clock)
        self._locks = _Locks()

    @property
    def server_id(self) -> bytes:
        """The store's nodeid."""
        return self._store.nodeid

    @property
    def name(self) -> str:
        """A short name for logs and messages."""
        return self._name

    @property
    def permutation_seed(self) -> bytes:
        """The bytes that give this server its place in the permuted order."""
        return self._seed

    @property
    def lease_seed(self) -> bytes:
        """The store's nodeid."""
        return self._store.nodeid

    @property
    def reserved(self) -> int:
        """Bytes promised to open uploads."""
        return self._uploads.reserved

    @property
    def store(self) -> ShareStore:
        """The store below."""
        return self._store

    async def stop(self) -> None:
        """Discard all open uploads; nothing is left running."""
        await self._uploads.abort_all()

    async def get_version(self) -> ServerVersion:
        """Return sizes and free space as they are now."""
        available = await self._available()
        return ServerVersion(available, MAX_MUTABLE_SHARE_SIZE, available, APPLICATION_VERSION)

    async def allocate_buckets(
        self, storage_index: bytes, secrets: LeaseSecrets, shnums: frozenset[int], size: int
    ) -> Allocation:
        """Give a writer for each number that is neither complete nor taken nor without room."""
        _check_address(storage_index, shnums)
        if size < 0:
            raise StorageError("a share cannot have a negative size")
        async with self._locks.hold(storage_index):
            # Looked up first: an upload that ends meanwhile may be missing in the listing.
            busy = self._uploads.numbers(storage_index, shnums)
            present = await self._store.list(storage_index)
            available = await self._available()
            already = frozenset(n for n, kind in present.items() if kind is ShareKind.IMMUTABLE)
            if already:
                await self._store.add_or_renew_lease(
                    storage_index, already, secrets, self._expiry()
                )
            wanted = [] if self.readonly else sorted(shnums - present.keys() - busy)
            if size * len(wanted) > available:
                del wanted[available // size :]
            writers = await self._begin(storage_index, secrets, wanted, size)
            return Allocation(already, writers)

    async def _begin(
        self, storage_index: bytes, secrets: LeaseSecrets, shnums: Sequence[int], size: int
    ) -> Mapping[int, ShareWriter]:
        writers: dict[int, LocalWriter] = {}
        try:
            for shnum in shnums:
                incoming = await self._store.create_immutable(
                    storage_index, shnum, size, secrets, self._expiry()
                )
                writers[shnum] = self._uploads.begin((storage_index, shnum), size, incoming)
        except BaseException:
            for writer in writers.values():
                await writer.abort()
            raise
        return writers

    async def get_buckets(self, storage_index: bytes) -> Mapping[int, ShareReader]:
        """Return a reader for each complete immutable share."""
        shares = await self._store.open_all_immutable(storage_index)
        return {n: LocalReader(self._store, storage_index, n, each) for n, each in shares.items()}

    async def add_lease(self, storage_index: bytes, secrets: LeaseSecrets) -> None:
        """Add or renew a lease on every share; an unknown storage index is ignored."""
        async with self._locks.hold(storage_index):
            await self._store.add_or_renew_lease(
                storage_index, frozenset(), secrets, self._expiry()
            )

    async def slot_readv(
        self, storage_index: bytes, shnums: frozenset[int], vectors: Sequence[ReadVector]
    ) -> Mapping[int, Sequence[bytes]]:
        """Read from the given mutable shares, or from all when `shnums` is empty."""
        return await self._store.read_mutable(storage_index, shnums, vectors)

    async def slot_testv_and_readv_and_writev(
        self,
        storage_index: bytes,
        write_enabler: bytes,
        secrets: LeaseSecrets,
        changes: Mapping[int, TestWriteVectors],
        vectors: Sequence[ReadVector],
    ) -> TestWriteResult:
        """Test, read, and if every test passed write, atomically for the slot.

        Raises BadWriteEnablerError; NoSpaceError when a new share finds no room.
        """
        _check_address(storage_index, changes.keys())
        async with self._locks.hold(storage_index):
            await self._check_room(storage_index, changes)
            return await self._store.change_mutable(
                storage_index, write_enabler, secrets, self._expiry(), changes, vectors
            )

    async def advise_corrupt_share(
        self, kind: ShareKind, storage_index: bytes, shnum: int, reason: str
    ) -> None:
        """Keep a report about a share."""
        _check_address(storage_index, (shnum,))
        await self._store.advise_corrupt(kind, storage_index, shnum, reason)

    def _expiry(self) -> int:
        return int(self._wall()) + LEASE_DURATION

    async def _available(self) -> int:
        if self.readonly:
            return 0
        free = await self._store.space()
        if free is None:
            return UNBOUNDED
        return max(0, free - self._reserved_space - self._uploads.reserved)

    async def _check_room(
        self, storage_index: bytes, changes: Mapping[int, TestWriteVectors]
    ) -> None:
        """Refuse to create shares where there is no room; changing existing ones is always tried.

        Anything else would let a full disk lose the directories that are on it.
        """
        size = sum(len(write.data) for change in changes.values() for write in change.writes)
        if not size or size <= await self._available():
            return
        present = await self._store.list(storage_index)
        if any(n not in present and change.writes for n, change in changes.items()):
            raise NoSpaceError("there is no room for new shares")


def _check_address(storage_index: bytes, shnums: Iterable[int]) -> None:
    if len(storage_index) != 16:
        raise StorageError("a storage index has 16 bytes")
    if not all(0 <= shnum <= MAX_SHNUM for shnum in shnums):
        raise StorageError("a share number is out of range")


class _Locks:
    """One lock per key, kept only while somebody holds it."""

    def __init__(self) -> None:
        self._queues: dict[bytes, deque[Deferred[None]]] = {}

    @asynccontextmanager
    async def hold(self, key: bytes) -> AsyncIterator[None]:
        """Hold the lock of `key` inside the block."""
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = deque()
        else:
            turn: Deferred[None] = Deferred()
            queue.append(turn)
            try:
                await turn
            except BaseException:
                if turn in queue:
                    queue.remove(turn)
                else:
                    self._release(key)
                raise
        try:
            yield
        finally:
            self._release(key)

    def _release(self, key: bytes) -> None:
        queue = self._queues[key]
        if queue:
            queue.popleft().callback(None)
        else:
            del self._queues[key]
