"""A share store in memory: for tests, and as the plainest reading of what a store does.

Knows the store seam; touches nothing. Sizes count share data; containers exist on disks only.
"""

import hmac
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from truckee.core.errors import (
    BadWriteEnablerError,
    NoSpaceError,
    NoSuchShareError,
    ShareConflictError,
)
from truckee.core.formats.container import NEWEST, stored_secret
from truckee.core.storage.api import (
    Buffer,
    LeaseSecrets,
    ReadVector,
    ShareKind,
    TestWriteResult,
    TestWriteVectors,
)
from truckee.core.storage.slots import BytesShare, apply_edits, test_and_write


@dataclass(slots=True, repr=False)
class MemoryShare:
    """One share: its data, its leases (renew secret as stored -> expiry), its write enabler."""

    kind: ShareKind
    data: bytearray
    write_enabler: bytes = b""
    leases: dict[bytes, int] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Bytes of share data."""
        return len(self.data)

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes at `offset`, fewer where the share ends."""
        return bytes(self.data[offset : offset + length])

    def lease(self, secrets: LeaseSecrets, expiry: int) -> None:
        """Add or renew a lease."""
        key = stored_secret(NEWEST, secrets.renew)
        self.leases[key] = max(expiry, self.leases.get(key, 0))


Slots = dict[bytes, dict[int, MemoryShare]]


class MemoryIncoming:
    """One immutable share on its way into a MemoryStore."""

    def __init__(
        self, store: "MemoryStore", address: tuple[bytes, int], share: MemoryShare
    ) -> None:
        self._store = store
        self._address = address
        self._share = share
        self._over = False

    async def write(self, offset: int, data: Buffer) -> None:
        """Take bytes."""
        held = self._share.data
        if offset > len(held):
            held.extend(bytes(offset - len(held)))
        held[offset : offset + len(data)] = data

    async def read(self, offset: int, length: int) -> Buffer:
        """Return bytes that were written before."""
        return bytes(self._share.data[offset : offset + length])

    async def commit(self) -> None:
        """Make the share visible."""
        if self._over:
            raise NoSuchShareError("the upload is over")
        self._over = True
        self._store.put(*self._address, self._share)

    async def abort(self) -> None:
        """Discard it."""
        self._over = True


class MemoryStore:
    """Shares in a dictionary, in `shares`; `quota` bounds the sum of their sizes."""

    def __init__(self, nodeid: bytes, quota: int | None = None) -> None:
        """Take the 20 bytes that identify the store, and its size."""
        self._nodeid = nodeid
        self._quota = quota
        self.shares: Slots = {}
        self.advisories: list[tuple[ShareKind, bytes, int, str]] = []

    @property
    def nodeid(self) -> bytes:
        """The 20 bytes that identify this store."""
        return self._nodeid

    async def list(self, storage_index: bytes) -> Mapping[int, ShareKind]:
        """Return the complete shares of a storage index."""
        return {n: share.kind for n, share in self.shares.get(storage_index, {}).items()}

    async def create_immutable(
        self, storage_index: bytes, shnum: int, size: int, secrets: LeaseSecrets, expiry: int
    ) -> MemoryIncoming:
        """Begin a share with one lease; `size` is not set aside before it is written."""
        share = MemoryShare(ShareKind.IMMUTABLE, bytearray())
        share.lease(secrets, expiry)
        return MemoryIncoming(self, (storage_index, shnum), share)

    def put(self, storage_index: bytes, shnum: int, share: MemoryShare) -> None:
        """Put a share in its place; one that is complete there stays."""
        self._make_room(len(share.data))
        self.shares.setdefault(storage_index, {}).setdefault(shnum, share)

    async def open_immutable(self, storage_index: bytes, shnum: int) -> MemoryShare:
        """Return a complete share; raise NoSuchShareError."""
        share = self.shares.get(storage_index, {}).get(shnum)
        if share is None or share.kind is not ShareKind.IMMUTABLE:
            raise NoSuchShareError("no such immutable share")
        return share

    async def open_all_immutable(self, storage_index: bytes) -> Mapping[int, MemoryShare]:
        """Return all complete immutable shares of a storage index."""
        return {
            n: share
            for n, share in self.shares.get(storage_index, {}).items()
            if share.kind is ShareKind.IMMUTABLE
        }

    async def read_mutable(
        self, storage_index: bytes, shnums: frozenset[int], vectors: Sequence[ReadVector]
    ) -> Mapping[int, Sequence[bytes]]:
        """Read from the given mutable shares that exist, or from all when `shnums` is empty."""
        return {
            n: [BytesShare(share.data).read(v.offset, v.length) for v in vectors]
            for n, share in self._slot(storage_index).items()
            if not shnums or n in shnums
        }

    async def change_mutable(
        self,
        storage_index: bytes,
        write_enabler: bytes,
        secrets: LeaseSecrets,
        expiry: int,
        changes: Mapping[int, TestWriteVectors],
        vectors: Sequence[ReadVector],
    ) -> TestWriteResult:
        """Test, read, write."""
        slot = self._slot(storage_index)
        if any(n in changes for n in self.shares.get(storage_index, {}) if n not in slot):
            raise ShareConflictError("an immutable share has this number")
        good = [hmac.compare_digest(share.write_enabler, write_enabler) for share in slot.values()]
        if not all(good):
            raise BadWriteEnablerError("wrong write enabler")
        views = {n: BytesShare(share.data) for n, share in slot.items()}
        decision = test_and_write(views, changes, vectors)
        new = {}
        for shnum, edits in decision.edits.items():
            if edits is None:
                continue
            old = slot.get(shnum)
            data = bytearray() if old is None else bytearray(old.data)
            apply_edits(data, edits)
            del data[edits.length :]
            share = MemoryShare(ShareKind.MUTABLE, data, write_enabler)
            share.leases = {} if old is None else dict(old.leases)
            share.lease(secrets, expiry)
            new[shnum] = share
        self._make_room(
            sum(len(share.data) for share in new.values())
            - sum(len(slot[n].data) for n in decision.edits if n in slot)
        )
        for shnum in decision.edits:
            await self.delete(storage_index, shnum)
        if new:
            self.shares.setdefault(storage_index, {}).update(new)
        return TestWriteResult(decision.success, decision.data)

    async def add_or_renew_lease(
        self, storage_index: bytes, shnums: frozenset[int], secrets: LeaseSecrets, expiry: int
    ) -> None:
        """Set the matching lease's expiry if later, else add a lease; empty `shnums` means all."""
        for shnum, share in self.shares.get(storage_index, {}).items():
            if not shnums or shnum in shnums:
                share.lease(secrets, expiry)

    async def delete(self, storage_index: bytes, shnum: int) -> None:
        """Remove a share; harmless when it is gone."""
        bucket = self.shares.get(storage_index, {})
        bucket.pop(shnum, None)
        if not bucket:
            self.shares.pop(storage_index, None)

    async def iterate(self) -> AsyncIterator[tuple[bytes, int, int, ShareKind]]:
        """Yield (storage index, share number, bytes, kind) of every share."""
        for storage_index in sorted(self.shares):
            for shnum, share in sorted(self.shares.get(storage_index, {}).items()):
                yield storage_index, shnum, len(share.data), share.kind

    async def space(self) -> int | None:
        """Return the free bytes, or None when unbounded."""
        return None if self._quota is None else max(0, self._quota - self._used())

    async def advise_corrupt(
        self, kind: ShareKind, storage_index: bytes, shnum: int, reason: str
    ) -> None:
        """Keep a report about a share."""
        self.advisories.append((kind, storage_index, shnum, reason))

    def _slot(self, storage_index: bytes) -> dict[int, MemoryShare]:
        return {
            n: share
            for n, share in self.shares.get(storage_index, {}).items()
            if share.kind is ShareKind.MUTABLE
        }

    def _used(self) -> int:
        return sum(len(s.data) for bucket in self.shares.values() for s in bucket.values())

    def _make_room(self, size: int) -> None:
        if self._quota is not None and size > 0 and self._used() + size > self._quota:
            raise NoSpaceError("the store is full")
