"""The two seams of storage: a server, as client code sees it, and a share store below a server.

Knows only their shapes; touches nothing. Operations are those of Tahoe-LAFS' storage protocol
(docs/formats/storage.rst); names follow this project. Any call may fail with a StorageError, be
slow, or never answer: callers set time limits (`truckee.core.storage.deadline`).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

Buffer = bytes | bytearray | memoryview


class ShareKind(Enum):
    """What a share file holds."""

    IMMUTABLE = "immutable"
    MUTABLE = "mutable"


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """What a server says of itself; sizes in bytes."""

    maximum_immutable_share_size: int
    maximum_mutable_share_size: int
    available_space: int
    application_version: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class LeaseSecrets:
    """The two 32-byte secrets that renew and cancel a lease on one server."""

    renew: bytes
    cancel: bytes


@dataclass(frozen=True, slots=True)
class TestVector:
    """Demand that the `size` bytes at `offset`, cut at the share's end, equal `specimen`."""

    __test__ = False  # not a pytest class

    offset: int
    size: int
    specimen: bytes


@dataclass(frozen=True, slots=True)
class WriteVector:
    """Put `data` at `offset`; a gap before it is filled with zeros."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ReadVector:
    """Read `length` bytes at `offset`, fewer where the share ends."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class TestWriteVectors:
    """What to do with one share of a slot.

    `new_length` 0 deletes the share; a value below the length cuts it; None or a larger value
    changes nothing.
    """

    __test__ = False

    tests: Sequence[TestVector] = ()
    writes: Sequence[WriteVector] = ()
    new_length: int | None = None


@dataclass(frozen=True, slots=True)
class TestWriteResult:
    """Whether all tests passed, and what each existing share held before the write."""

    __test__ = False

    success: bool
    data: Mapping[int, Sequence[bytes]]


class ShareWriter(Protocol):
    """One immutable share being written."""

    async def write(self, offset: int, data: Buffer) -> None:
        """Take bytes at `offset`. The buffer must not change until this returns.

        Raises ShareConflictError when bytes there were written before and differ, NoSpaceError,
        ServerGoneError.
        """
        ...

    async def close(self) -> None:
        """Return when the share is complete, durable, and visible to readers."""
        ...

    async def abort(self) -> None:
        """Discard the share; harmless after close or a second time."""
        ...


class ShareReader(Protocol):
    """One immutable share that can be read."""

    async def read(self, offset: int, length: int) -> Buffer:
        """Return `length` bytes at `offset`, fewer only at the end of the share."""
        ...

    async def advise_corrupt_share(self, reason: str) -> None:
        """Tell the server that this share failed its checks."""
        ...


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a server agreed to.

    `already` holds every share number that it has complete, asked for or not; `writers` one writer
    per number that it will take now. A number asked for and in neither was refused.
    """

    already: frozenset[int]
    writers: Mapping[int, ShareWriter]


class StorageServer(Protocol):
    """One server that holds shares. Any call may raise ServerGoneError."""

    @property
    def server_id(self) -> bytes:
        """The identity under which this server is known; unique in a grid."""
        ...

    @property
    def name(self) -> str:
        """A short name for logs and messages."""
        ...

    @property
    def permutation_seed(self) -> bytes:
        """The bytes that give this server its place in the permuted order."""
        ...

    @property
    def lease_seed(self) -> bytes:
        """The 20 bytes from which lease secrets and write enablers for this server are derived."""
        ...

    async def get_version(self) -> ServerVersion:
        """Return sizes and free space as they are now."""
        ...

    async def allocate_buckets(
        self, storage_index: bytes, secrets: LeaseSecrets, shnums: frozenset[int], size: int
    ) -> Allocation:
        """Reserve `size` bytes for each share number; add or renew leases on what is there."""
        ...

    async def get_buckets(self, storage_index: bytes) -> Mapping[int, ShareReader]:
        """Return a reader for each complete immutable share; empty when there is none."""
        ...

    async def add_lease(self, storage_index: bytes, secrets: LeaseSecrets) -> None:
        """Add or renew a lease on every share; an unknown storage index is ignored."""
        ...

    async def slot_readv(
        self, storage_index: bytes, shnums: frozenset[int], vectors: Sequence[ReadVector]
    ) -> Mapping[int, Sequence[bytes]]:
        """Read from the given mutable shares, or from all when `shnums` is empty."""
        ...

    async def slot_testv_and_readv_and_writev(
        self,
        storage_index: bytes,
        write_enabler: bytes,
        secrets: LeaseSecrets,
        changes: Mapping[int, TestWriteVectors],
        vectors: Sequence[ReadVector],
    ) -> TestWriteResult:
        """Test, read, and if every test passed write, atomically for the slot, durable on return.

        Raises BadWriteEnablerError when any existing share of the slot has another write enabler.
        """
        ...

    async def advise_corrupt_share(
        self, kind: ShareKind, storage_index: bytes, shnum: int, reason: str
    ) -> None:
        """Tell the server that a share failed its checks."""
        ...


class StoredShare(Protocol):
    """One complete immutable share in a store."""

    @property
    def length(self) -> int:
        """Bytes of share data."""
        ...

    async def read(self, offset: int, length: int) -> Buffer:
        """Return `length` bytes at `offset` of the share data, fewer at its end."""
        ...


class IncomingShare(Protocol):
    """One immutable share on its way into a store; nobody sees it before `commit`."""

    async def write(self, offset: int, data: Buffer) -> None:
        """Take bytes; the buffer may be reused once this returns."""
        ...

    async def read(self, offset: int, length: int) -> Buffer:
        """Return bytes that were written before."""
        ...

    async def commit(self) -> None:
        """Make the share durable and visible."""
        ...

    async def abort(self) -> None:
        """Discard it."""
        ...


class ShareStore(Protocol):
    """Where a local server keeps shares; the rules of the protocol stand in the server above.

    Lease secrets are given raw; the store keeps them hashed. Expiry is in seconds since 1970.
    The server holds a lock per storage index around calls that change it.
    """

    @property
    def nodeid(self) -> bytes:
        """The 20 bytes that identify this store for ever."""
        ...

    async def list(self, storage_index: bytes) -> Mapping[int, ShareKind]:
        """Return the complete shares of a storage index."""
        ...

    async def create_immutable(
        self, storage_index: bytes, shnum: int, size: int, secrets: LeaseSecrets, expiry: int
    ) -> IncomingShare:
        """Begin a share of exactly `size` bytes with one lease."""
        ...

    async def open_immutable(self, storage_index: bytes, shnum: int) -> StoredShare:
        """Return a complete share; raise NoSuchShareError."""
        ...

    async def open_all_immutable(self, storage_index: bytes) -> Mapping[int, StoredShare]:
        """Return all complete immutable shares of a storage index."""
        ...

    async def read_mutable(
        self, storage_index: bytes, shnums: frozenset[int], vectors: Sequence[ReadVector]
    ) -> Mapping[int, Sequence[bytes]]:
        """Read from the given mutable shares that exist, or from all when `shnums` is empty."""
        ...

    async def change_mutable(
        self,
        storage_index: bytes,
        write_enabler: bytes,
        secrets: LeaseSecrets,
        expiry: int,
        changes: Mapping[int, TestWriteVectors],
        vectors: Sequence[ReadVector],
    ) -> TestWriteResult:
        """Do the test-and-write of the seam above on what is stored, durable on return.

        Raises BadWriteEnablerError when any share of the slot has another write enabler,
        ShareConflictError when an immutable share has one of the numbers.
        """
        ...

    async def add_or_renew_lease(
        self, storage_index: bytes, shnums: frozenset[int], secrets: LeaseSecrets, expiry: int
    ) -> None:
        """Set the matching lease's expiry if later, else add a lease; empty `shnums` means all."""
        ...

    async def delete(self, storage_index: bytes, shnum: int) -> None:
        """Remove a share; harmless when it is gone."""
        ...

    def iterate(self) -> AsyncIterator[tuple[bytes, int, int, ShareKind]]:
        """Yield (storage index, share number, bytes on disk, kind) of every share."""
        ...

    async def space(self) -> int | None:
        """Return the free bytes, or None when unbounded."""
        ...

    async def advise_corrupt(
        self, kind: ShareKind, storage_index: bytes, shnum: int, reason: str
    ) -> None:
        """Keep a report about a share."""
        ...
