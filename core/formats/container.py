"""The files in which a storage server keeps shares: share data, leases, write enabler.

Knows bytes; touches nothing. Format: docs/formats/storage.rst. Files come from disks that people
edit and restore, so every number is checked against the size of the file before it is used.

A secret `as stored` is the secret itself in version 1 and its BLAKE2b-256 hash in version 2.
"""

import hashlib
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from truckee.core.errors import LayoutError, UnknownVersionError

Buffer = bytes | bytearray | memoryview

LEASE_DURATION = 31 * 24 * 3600
"""Seconds from adding or renewing a lease to its expiry."""

NEWEST = 2
"""The container version that is written; version 1 is read, and stays version 1."""

_MAX_U32 = 0xFFFFFFFF

_IMMUTABLE = struct.Struct(">LLL")
_IMMUTABLE_LEASE = struct.Struct(">L32s32sL")
IMMUTABLE_HEADER_SIZE = _IMMUTABLE.size
IMMUTABLE_LEASE_SIZE = _IMMUTABLE_LEASE.size

_MAGICS = {
    1: b"Tahoe mutable container v1\n\x75\x09\x44\x03\x8e",
    2: b"Tahoe mutable container v2\n\xc3\x55\x21\x99\x25",
}
_VERSIONS = {magic: version for version, magic in _MAGICS.items()}
_MUTABLE = struct.Struct(">32s20s32sQQ")
_MUTABLE_LEASE = struct.Struct(">LL32s32s20s")
_EXTRA_COUNT = struct.Struct(">L")
MUTABLE_LEASE_SIZE = _MUTABLE_LEASE.size
MUTABLE_LEASE_SLOTS = 4
MUTABLE_HEADER_SIZE = _MUTABLE.size + MUTABLE_LEASE_SLOTS * MUTABLE_LEASE_SIZE
EXTRA_COUNT_SIZE = _EXTRA_COUNT.size

HEAD_SIZE = 32
"""So many bytes from the front of a file tell its kind."""


@dataclass(frozen=True, slots=True, repr=False)
class Lease:
    """One promise to keep a share; secrets as stored, `nodeid` only in mutable containers."""

    owner: int
    expires: int
    renew: bytes
    cancel: bytes
    nodeid: bytes = bytes(20)


def stored_secret(version: int, secret: bytes) -> bytes:
    """Return a 32-byte lease secret as a container of `version` keeps it."""
    if version == 1:
        return secret
    return hashlib.blake2b(secret, digest_size=32).digest()


def new_lease(
    version: int, owner: int, renew: bytes, cancel: bytes, expires: int, nodeid: bytes = bytes(20)
) -> Lease:
    """Return a lease made of raw secrets for a container of `version`."""
    expires = max(0, min(expires, _MAX_U32))
    return Lease(
        owner, expires, stored_secret(version, renew), stored_secret(version, cancel), nodeid
    )


def find_lease(leases: Sequence[Lease | None], renew: bytes) -> int | None:
    """Return the position of the lease with this renew secret as stored, or None."""
    for position, lease in enumerate(leases):
        if lease is not None and hmac.compare_digest(lease.renew, renew):
            return position
    return None


def is_mutable(head: Buffer) -> bool:
    """Tell the kind of a container by its first HEAD_SIZE bytes (fewer in a short file).

    Raises UnknownVersionError when it is no container that is known here.
    """
    if bytes(head[:HEAD_SIZE]) in _VERSIONS:
        return True
    if len(head) >= 4 and int.from_bytes(head[:4], "big") in (1, 2):
        return False
    raise UnknownVersionError("the file is no share container of a known version")


# immutable shares


@dataclass(frozen=True, slots=True)
class ImmutableHeader:
    """What the header of an immutable container says, given the size of its file."""

    version: int
    data_length: int
    lease_count: int

    @property
    def leases_offset(self) -> int:
        """Where the lease records begin, that is where share data ends."""
        return IMMUTABLE_HEADER_SIZE + self.data_length

    @property
    def file_size(self) -> int:
        """The size of the whole container."""
        return self.leases_offset + self.lease_count * IMMUTABLE_LEASE_SIZE

    def encode(self) -> bytes:
        """Return the 12 header bytes."""
        return _IMMUTABLE.pack(self.version, min(self.data_length, _MAX_U32), self.lease_count)

    @classmethod
    def decode(cls, head: Buffer, file_size: int) -> Self:
        """Read the header of a file of `file_size` bytes.

        The length field is not looked at: the data ends where the lease records begin. Raises
        UnknownVersionError, and LayoutError when the leases do not fit the file.
        """
        if len(head) < IMMUTABLE_HEADER_SIZE or file_size < IMMUTABLE_HEADER_SIZE:
            raise LayoutError("the share container is cut short")
        version, _, lease_count = _IMMUTABLE.unpack_from(head)
        if version not in (1, 2):
            raise UnknownVersionError("the file is no immutable container of a known version")
        data_length = file_size - IMMUTABLE_HEADER_SIZE - lease_count * IMMUTABLE_LEASE_SIZE
        if data_length < 0:
            raise LayoutError("the share container is shorter than its leases")
        return cls(version, data_length, lease_count)


def encode_immutable_lease(lease: Lease) -> bytes:
    """Return the 72-byte record of a lease."""
    return _IMMUTABLE_LEASE.pack(lease.owner, lease.renew, lease.cancel, lease.expires)


def decode_immutable_leases(raw: Buffer) -> list[Lease]:
    """Read whole 72-byte lease records; raise LayoutError for a remainder."""
    if len(raw) % IMMUTABLE_LEASE_SIZE:
        raise LayoutError("a lease record is cut short")
    return [
        Lease(owner, expires, renew, cancel)
        for owner, renew, cancel, expires in _IMMUTABLE_LEASE.iter_unpack(raw)
    ]


# mutable shares


@dataclass(frozen=True, slots=True, repr=False)
class MutableHeader:
    """The first 468 bytes of a mutable container: all but data and extra leases."""

    version: int
    nodeid: bytes
    write_enabler: bytes
    data_length: int
    extra_offset: int
    slots: tuple[Lease | None, ...] = (None,) * MUTABLE_LEASE_SLOTS

    @property
    def region(self) -> int:
        """The bytes set aside for data, of which the first `data_length` are valid."""
        return self.extra_offset - MUTABLE_HEADER_SIZE

    def encode(self) -> bytes:
        """Return the 468 header bytes."""
        fixed = _MUTABLE.pack(
            _MAGICS[self.version],
            self.nodeid,
            self.write_enabler,
            self.data_length,
            self.extra_offset,
        )
        return fixed + b"".join(encode_mutable_lease(lease) for lease in self.slots)

    @classmethod
    def decode(cls, head: Buffer, file_size: int) -> Self:
        """Read the header of a file of `file_size` bytes.

        Raises UnknownVersionError, and LayoutError when data or the extra leases' count do not fit
        the file.
        """
        if len(head) < MUTABLE_HEADER_SIZE or file_size < MUTABLE_HEADER_SIZE:
            raise LayoutError("the mutable container is cut short")
        magic, nodeid, write_enabler, data_length, extra_offset = _MUTABLE.unpack_from(head)
        version = _VERSIONS.get(magic)
        if version is None:
            raise UnknownVersionError("the file is no mutable container of a known version")
        if not (MUTABLE_HEADER_SIZE + data_length <= extra_offset <= file_size - EXTRA_COUNT_SIZE):
            raise LayoutError("the mutable container is shorter than its data")
        raw = head[_MUTABLE.size : MUTABLE_HEADER_SIZE]
        slots = tuple(_decode_mutable_lease(*fields) for fields in _MUTABLE_LEASE.iter_unpack(raw))
        return cls(version, nodeid, write_enabler, data_length, extra_offset, slots)


def new_mutable_header(nodeid: bytes, write_enabler: bytes) -> MutableHeader:
    """Return the header of an empty container of the newest version."""
    return MutableHeader(NEWEST, nodeid, write_enabler, 0, MUTABLE_HEADER_SIZE)


def encode_mutable_lease(lease: Lease | None) -> bytes:
    """Return the 92-byte record of a lease; of an empty slot for None."""
    if lease is None:
        return bytes(MUTABLE_LEASE_SIZE)
    return _MUTABLE_LEASE.pack(lease.owner, lease.expires, lease.renew, lease.cancel, lease.nodeid)


def _decode_mutable_lease(
    owner: int, expires: int, renew: bytes, cancel: bytes, nodeid: bytes
) -> Lease | None:
    return Lease(owner, expires, renew, cancel, nodeid) if owner else None


def encode_extra_leases(leases: Sequence[Lease]) -> bytes:
    """Return what stands behind the data: the count and the leases that found no slot."""
    return _EXTRA_COUNT.pack(len(leases)) + b"".join(map(encode_mutable_lease, leases))


def decode_extra_leases(raw: Buffer) -> list[Lease]:
    """Read what stands behind the data; bytes behind the last lease are ignored.

    Raises LayoutError when the count promises more than is there.
    """
    if len(raw) < EXTRA_COUNT_SIZE:
        raise LayoutError("the count of extra leases is cut short")
    (count,) = _EXTRA_COUNT.unpack_from(raw)
    if count * MUTABLE_LEASE_SIZE > len(raw) - EXTRA_COUNT_SIZE:
        raise LayoutError("the mutable container is shorter than its leases")
    end = EXTRA_COUNT_SIZE + count * MUTABLE_LEASE_SIZE
    return [
        Lease(owner, expires, renew, cancel, nodeid)
        for owner, expires, renew, cancel, nodeid in _MUTABLE_LEASE.iter_unpack(
            raw[EXTRA_COUNT_SIZE:end]
        )
    ]


def with_mutable_lease(
    header: MutableHeader, extra: Sequence[Lease], lease: Lease
) -> tuple[MutableHeader, list[Lease]]:
    """Renew the lease that has the same renew secret, or add this one; return header and extras.

    A renewal never makes an expiry earlier. A new lease takes the first empty slot, else it is
    appended to the extra leases.
    """
    leases = [*header.slots, *extra]
    position = find_lease(leases, lease.renew)
    if position is not None:
        old = leases[position]
        if old is not None and old.expires < lease.expires:
            leases[position] = replace(old, expires=lease.expires)
    elif None in header.slots:
        leases[header.slots.index(None)] = lease
    else:
        leases.append(lease)
    slots = tuple(leases[:MUTABLE_LEASE_SLOTS])
    rest = [each for each in leases[MUTABLE_LEASE_SLOTS:] if each is not None]
    return replace(header, slots=slots), rest
