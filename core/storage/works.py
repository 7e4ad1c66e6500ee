"""The changes that a disk store makes, each as a `Work` for a group (`truckee.core.storage.sync`).

Knows containers and the store's folder; touches the disk through it, in worker threads. Nothing is
ever changed where it stands, but the four bytes of a lease's expiry: a change is a new file that is
renamed over the old one, so that what a crash leaves is the old or the new share, never a mixture.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from truckee.core.errors import BadWriteEnablerError, ShareConflictError, StorageError
from truckee.core.formats import container
from truckee.core.formats.container import ImmutableHeader, Lease, MutableHeader
from truckee.core.storage.api import LeaseSecrets, ReadVector, TestWriteResult, TestWriteVectors
from truckee.core.storage.files import CHANGE, read_all, write_all
from truckee.core.storage.folder import OpenShare, StoreFolder, read_data
from truckee.core.storage.handles import Handle
from truckee.core.storage.slots import Edits, Fill, apply_edits, test_and_write
from truckee.core.storage.sync import Turn

_IN_MEMORY = 1 << 20  # a container up to this size is rewritten in one piece
_LEASE_CHUNK = 1024  # immutable leases read at once
_SECTOR = 512

Sync = Callable[[int], None]


class FolderWork:
    """What all changes of one store have in common; by itself it does nothing."""

    def __init__(self, folder: StoreFolder) -> None:
        self._folder = folder

    @property
    def root(self) -> str:
        """The store's folder."""
        return self._folder.root

    @property
    def is_written(self) -> bool:
        """False: nothing was written before the group began."""
        return False

    def confirm(self) -> None:
        """Nothing was written before the group began."""

    def undo(self) -> None:
        """Leave what there is."""


class NewShare(FolderWork):
    """An immutable share comes into its place: `contents`, the whole container, or `handle`.

    A handle is a file at `temporary` that holds the whole container already.
    """

    def __init__(
        self,
        folder: StoreFolder,
        slot: str,
        shnum: int,
        temporary: str,
        contents: bytearray | None,
        handle: Handle | None,
    ) -> None:
        super().__init__(folder)
        self._slot = slot
        self._shnum = shnum
        self._temporary = temporary
        self._contents = contents
        self._handle = handle
        self._placed = False
        self.cancelled = False

    def prepare(self, turn: Turn, sync: Sync) -> bool:
        """Write the container."""
        self._folder.check(turn)
        if self._contents is not None:
            _write_file(self._folder, self._temporary, self._contents, sync)
            self._contents = None
        return True

    @property
    def is_written(self) -> bool:
        """Whether it is a large share, written as it came."""
        return self._handle is not None

    def confirm(self) -> None:
        """Learn of errors since the first byte was written; quick after a sync of everything."""
        if self._handle is not None:
            self._folder.files.fsync(self._handle.fd)

    def publish(self, folders: set[str]) -> None:
        """Rename it; a share that is there already stays."""
        if self.cancelled:
            raise StorageError("the upload was given up")
        self._placed = self._folder.place(self._temporary, self._slot, self._shnum, replace=False)
        folders |= self._folder.folders_of(self._slot)

    def undo(self) -> None:
        """Remove the share: whether it is durable is not known. Another's share stays."""
        if self._placed:
            self._folder.remove(self._slot, self._shnum, set())
        else:
            self._folder.discard(self._temporary)


@dataclass(slots=True)
class _Slot:
    """The shares of a slot, open for the time of one change."""

    mutable: dict[int, OpenShare] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)  # numbers of other and of unreadable files


@dataclass(frozen=True, slots=True)
class _View:
    """An open mutable share as the test-and-write function sees it."""

    folder: StoreFolder
    share: OpenShare

    @property
    def length(self) -> int:
        return self.share.header.data_length

    def read(self, offset: int, length: int) -> bytes:
        return read_data(self.folder, self.share, offset, length)


class SlotChange(FolderWork):
    """Test-and-write on one slot; `result` is there when the work is done."""

    def __init__(
        self,
        folder: StoreFolder,
        slot: str,
        write_enabler: bytes,
        secrets: LeaseSecrets,
        expiry: int,
        changes: Mapping[int, TestWriteVectors],
        vectors: Sequence[ReadVector],
    ) -> None:
        super().__init__(folder)
        self._slot = slot
        self._write_enabler = write_enabler
        self._secrets = secrets
        self._expiry = expiry
        self._changes = changes
        self._vectors = vectors
        self._new: dict[int, str] = {}
        self._gone: list[int] = []
        self.result = TestWriteResult(False, {})

    def prepare(self, turn: Turn, sync: Sync) -> bool:
        """Read, decide, and write the new containers."""
        self._folder.check(turn)
        with ExitStack() as stack:
            held = self._open(stack)
            self._check_enabler(held)
            if not held.taken.isdisjoint(self._changes):
                raise ShareConflictError("a number is taken by something that is no mutable share")
            views = {n: _View(self._folder, share) for n, share in held.mutable.items()}
            decision = test_and_write(views, self._changes, self._vectors)
            self.result = TestWriteResult(decision.success, decision.data)
            for shnum, edits in decision.edits.items():
                if edits is None:
                    self._gone.append(shnum)
                else:
                    self._new[shnum] = self._folder.temporary()
                    self._write(self._new[shnum], held.mutable.get(shnum), edits, sync)
        return bool(self._new or self._gone)

    def publish(self, folders: set[str]) -> None:
        """Rename the new containers over the old ones; remove what is to go."""
        for shnum, temporary in self._new.items():
            self._folder.place(temporary, self._slot, shnum, replace=True)
        for shnum in self._gone:
            self._folder.remove(self._slot, shnum, folders)
        if self._new:
            folders |= self._folder.folders_of(self._slot)

    def undo(self) -> None:
        """Remove new files that are not in place; what is in place cannot be taken back."""
        for temporary in self._new.values():
            self._folder.discard(temporary)

    def _open(self, stack: ExitStack) -> _Slot:
        held = _Slot()
        for shnum in self._folder.numbers(self._slot):
            share = self._folder.open_share(self._slot, shnum)
            if share is not None:
                stack.callback(self._folder.files.close, share.fd)
            if share is not None and isinstance(share.header, MutableHeader):
                held.mutable[shnum] = share
            else:
                held.taken.add(shnum)
        return held

    def _check_enabler(self, held: _Slot) -> None:
        good = [
            hmac.compare_digest(_mutable(share).write_enabler, self._write_enabler)
            for share in held.mutable.values()
        ]
        if not all(good):
            raise BadWriteEnablerError("wrong write enabler")

    def _write(self, path: str, old: OpenShare | None, edits: Edits, sync: Sync) -> None:
        """Write the container that `edits` make of `old`."""
        nodeid = self._folder.nodeid or bytes(20)
        extra: list[Lease] = []
        if old is None:
            header = container.new_mutable_header(nodeid, self._write_enabler[:32].ljust(32, b"\0"))
        else:
            header = _mutable(old)
            extra = _extra_leases(self._folder, old)
        lease = container.new_lease(
            header.version, 1, self._secrets.renew, self._secrets.cancel, self._expiry, nodeid
        )
        region = header.region
        header, extra = container.with_mutable_lease(header, extra, lease)
        header = replace(
            header,
            data_length=edits.length,
            extra_offset=container.MUTABLE_HEADER_SIZE + max(region, edits.reach),
        )
        tail = container.encode_extra_leases(extra)
        if header.extra_offset <= _IN_MEMORY:
            data = bytearray(_region(self._folder, old))
            apply_edits(data, edits)
            _write_file(self._folder, path, b"".join((header.encode(), data, tail)), sync)
        else:
            _rewrite(self._folder, path, old, header, edits, tail, sync)


class LeaseChange(FolderWork):
    """A lease is added to, or renewed on, shares of one storage index.

    A renewal sets four bytes in place and is not waited for: should the power fail at once, the
    older expiry stands. A new lease makes a new file.
    """

    def __init__(
        self,
        folder: StoreFolder,
        slot: str,
        shnums: frozenset[int],
        secrets: LeaseSecrets,
        expiry: int,
    ) -> None:
        super().__init__(folder)
        self._slot = slot
        self._shnums = shnums
        self._secrets = secrets
        self._expiry = expiry
        self._new: dict[int, str] = {}

    def prepare(self, turn: Turn, sync: Sync) -> bool:
        """Renew where the lease is there; else write the file anew with one lease more."""
        self._folder.check(turn)
        for shnum in self._folder.numbers(self._slot):
            if self._shnums and shnum not in self._shnums:
                continue
            share = self._folder.open_share(self._slot, shnum, CHANGE)
            if share is None:
                continue
            try:
                if isinstance(share.header, MutableHeader):
                    self._lease_mutable(shnum, share, share.header, sync)
                else:
                    self._lease_immutable(shnum, share, share.header, sync)
            finally:
                self._folder.files.close(share.fd)
        return bool(self._new)

    def publish(self, folders: set[str]) -> None:
        """Rename the new files over the old ones."""
        for shnum, temporary in self._new.items():
            self._folder.place(temporary, self._slot, shnum, replace=True)
        folders |= self._folder.folders_of(self._slot)

    def undo(self) -> None:
        """Remove new files that are not in place."""
        for temporary in self._new.values():
            self._folder.discard(temporary)

    def _lease(self, version: int) -> Lease:
        return container.new_lease(
            version,
            1,
            self._secrets.renew,
            self._secrets.cancel,
            self._expiry,
            self._folder.nodeid or bytes(20),
        )

    def _renew(self, share: OpenShare, offset: int, old: Lease, new: Lease) -> bool:
        """Make an expiry later in place; False when its bytes lie across two sectors."""
        if old.expires >= new.expires:
            return True
        if offset // _SECTOR != (offset + 3) // _SECTOR:
            return False
        write_all(self._folder.files, share.fd, new.expires.to_bytes(4, "big"), offset)
        return True

    def _lease_immutable(
        self, shnum: int, share: OpenShare, header: ImmutableHeader, sync: Sync
    ) -> None:
        lease = self._lease(header.version)
        size = container.IMMUTABLE_LEASE_SIZE
        found: tuple[int, Lease] | None = None
        for first in range(0, header.lease_count, _LEASE_CHUNK):
            count = min(_LEASE_CHUNK, header.lease_count - first)
            at = header.leases_offset + first * size
            leases = container.decode_immutable_leases(
                read_all(self._folder.files, share.fd, count * size, at)
            )
            position = container.find_lease(leases, lease.renew)
            if position is not None:
                found = (at + position * size, leases[position])
                break
        if found is not None:
            at, old = found
            if self._renew(share, at + size - 4, old, lease):
                return
            record, grown = replace(old, expires=lease.expires), header
        else:
            at, record = header.file_size, lease
            grown = replace(header, lease_count=header.lease_count + 1)
        self._new[shnum] = self._folder.temporary()
        pieces = [
            (0, grown.encode()[:4] + share.head[4:8] + grown.encode()[8:]),
            (at, container.encode_immutable_lease(record)),
        ]
        _copy_file(self._folder, self._new[shnum], share, header.file_size, pieces, sync)

    def _lease_mutable(
        self, shnum: int, share: OpenShare, header: MutableHeader, sync: Sync
    ) -> None:
        lease = self._lease(header.version)
        extra = _extra_leases(self._folder, share)
        position = container.find_lease([*header.slots, *extra], lease.renew)
        size = container.MUTABLE_LEASE_SIZE
        slots = container.MUTABLE_LEASE_SLOTS
        if position is not None:
            old = [*header.slots, *extra][position]
            start = container.MUTABLE_HEADER_SIZE - slots * size + position * size
            if position >= slots:
                start = header.extra_offset + container.EXTRA_COUNT_SIZE + (position - slots) * size
            if old is not None and self._renew(share, start + 4, old, lease):
                return
        header, extra = container.with_mutable_lease(header, extra, lease)
        self._new[shnum] = self._folder.temporary()
        pieces = [
            (0, header.encode()),
            (header.extra_offset, container.encode_extra_leases(extra)),
        ]
        _copy_file(self._folder, self._new[shnum], share, header.extra_offset, pieces, sync)


class Removal(FolderWork):
    """A share is deleted."""

    def __init__(self, folder: StoreFolder, slot: str, shnum: int) -> None:
        super().__init__(folder)
        self._slot = slot
        self._shnum = shnum

    def prepare(self, turn: Turn, sync: Sync) -> bool:
        """See that the store is there."""
        self._folder.check(turn)
        return True

    def publish(self, folders: set[str]) -> None:
        """Remove the file."""
        self._folder.remove(self._slot, self._shnum, folders)


def _mutable(share: OpenShare) -> MutableHeader:
    if not isinstance(share.header, MutableHeader):
        raise ShareConflictError("not a mutable share")
    return share.header


def _extra_leases(folder: StoreFolder, share: OpenShare) -> list[Lease]:
    at = _mutable(share).extra_offset
    return container.decode_extra_leases(read_all(folder.files, share.fd, share.size - at, at))


def _region(folder: StoreFolder, share: OpenShare | None) -> bytes:
    """Return the data of a mutable share with the stale bytes behind it."""
    if share is None:
        return b""
    region = _mutable(share).region
    start = container.MUTABLE_HEADER_SIZE
    if start + region <= len(share.head):
        return share.head[start : start + region]
    return read_all(folder.files, share.fd, region, start)


def _write_file(folder: StoreFolder, path: str, contents: bytes | bytearray, sync: Sync) -> None:
    files = folder.files
    fd = folder.create(path)
    try:
        write_all(files, fd, contents, 0)
        sync(fd)
    finally:
        files.close(fd)


def _copy_file(
    folder: StoreFolder,
    path: str,
    old: OpenShare | None,
    length: int,
    pieces: Sequence[tuple[int, bytes]],
    sync: Sync,
) -> None:
    """Write a file: the first `length` bytes of `old`, then `pieces` put where they say."""
    files = folder.files
    fd = folder.create(path)
    try:
        if old is not None:
            files.copy(old.fd, fd, length)
        for offset, data in pieces:
            write_all(files, fd, data, offset)
        sync(fd)
    finally:
        files.close(fd)


def _rewrite(
    folder: StoreFolder,
    path: str,
    old: OpenShare | None,
    header: MutableHeader,
    edits: Edits,
    tail: bytes,
    sync: Sync,
) -> None:
    """Write a large mutable container by copying the old one and editing the copy."""
    start = container.MUTABLE_HEADER_SIZE
    region = 0 if old is None else _mutable(old).region
    pieces: list[tuple[int, bytes]] = []
    for step in edits.steps:
        if not isinstance(step, Fill):
            pieces.append((start + step.offset, step.data))
        elif step.offset < region:  # behind the region a new file has zeros anyway
            length = min(step.length, region - step.offset)
            pieces.append((start + step.offset, bytes(length)))
    pieces += [(0, header.encode()), (header.extra_offset, tail)]
    _copy_file(folder, path, old, start + region, pieces, sync)
