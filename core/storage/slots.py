"""Test-and-write of mutable shares as a pure function, for every store.

Knows vectors and share data; touches nothing. A store shows the shares it has, asks
`test_and_write` what is to happen, and makes that durable: for each share a list of edits or its
deletion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from truckee.core.errors import NoSpaceError
from truckee.core.storage.api import ReadVector, TestWriteVectors, WriteVector

MAX_GAP = 65536
"""The most bytes a call may add to a share without writing them (they read as zeros)."""


class SlotShare(Protocol):
    """The data of one existing mutable share."""

    @property
    def length(self) -> int:
        """Bytes of share data."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes at `offset`, fewer where the share ends."""
        ...


@dataclass(frozen=True, slots=True)
class BytesShare:
    """Share data that is in memory."""

    data: bytes | bytearray | memoryview

    @property
    def length(self) -> int:
        """Bytes of share data."""
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes at `offset`, fewer where the share ends."""
        return bytes(self.data[offset : offset + length])


@dataclass(frozen=True, slots=True)
class Fill:
    """Set a stretch of share data to zeros."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Edits:
    """The new contents of a share: edits to what it holds, in order, and the length afterwards.

    `reach` is the end of the furthest edit; it exceeds `length` when the share is then cut.
    """

    steps: tuple[WriteVector | Fill, ...]
    length: int
    reach: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a call comes to; `edits` names the shares to change, None for those to delete."""

    success: bool
    data: Mapping[int, Sequence[bytes]]
    edits: Mapping[int, Edits | None]


def test_and_write(
    shares: Mapping[int, SlotShare],
    changes: Mapping[int, TestWriteVectors],
    vectors: Sequence[ReadVector],
) -> Decision:
    """Evaluate the tests, then read from all shares, then say what the writes come to.

    `shares` are all that exist; an absent one tests as empty. Raises NoSpaceError for a write far
    behind the end of a share.
    """
    success = all(_passes(shares.get(shnum), change) for shnum, change in changes.items())
    data = {
        shnum: [share.read(vector.offset, vector.length) for vector in vectors]
        for shnum, share in shares.items()
    }
    edits: dict[int, Edits | None] = {}
    if success:
        for shnum, change in changes.items():
            share = shares.get(shnum)
            edits[shnum] = _edits(0 if share is None else share.length, change)
    return Decision(success, data, edits)


test_and_write.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


def _passes(share: SlotShare | None, change: TestWriteVectors) -> bool:
    return all(
        (b"" if share is None else share.read(test.offset, test.size)) == test.specimen
        for test in change.tests
    )


def _edits(length: int, change: TestWriteVectors) -> Edits | None:
    if change.new_length == 0:
        return None
    _check_gaps(length, change.writes)
    steps: list[WriteVector | Fill] = []
    reach = length
    for write in change.writes:
        if write.offset > length:
            steps.append(Fill(length, write.offset - length))
        end = write.offset + len(write.data)
        length = max(length, end)
        reach = max(reach, end)
        if write.data:
            steps.append(write)
    if change.new_length is not None and change.new_length < length:
        length = change.new_length
    return Edits(tuple(steps), length, reach)


def _check_gaps(length: int, writes: Sequence[WriteVector]) -> None:
    """Refuse to grow a share by much more than the bytes that were sent for it."""
    gap = 0
    for begin, end in sorted((each.offset, each.offset + len(each.data)) for each in writes):
        gap += max(0, begin - length)
        length = max(length, end)
    if gap > MAX_GAP:
        raise NoSpaceError("a write lies too far behind the end of its share")


def apply_edits(data: bytearray, edits: Edits) -> None:
    """Carry out `edits` on `data`, which may hold stale bytes behind the old length.

    Afterwards `data` reaches at least to `edits.reach`; its first `edits.length` bytes are valid.
    """
    if len(data) < edits.reach:
        data.extend(bytes(edits.reach - len(data)))
    for step in edits.steps:
        if isinstance(step, Fill):
            data[step.offset : step.offset + step.length] = bytes(step.length)
        else:
            data[step.offset : step.offset + len(step.data)] = step.data
