"""The arithmetic of cutting a file into segments and blocks. Knows numbers; touches nothing.

Format: docs/formats/immutable.rst.
"""

from dataclasses import dataclass
from typing import Self

from truckee.core.errors import AbsurdGeometryError, FormatError

MAX_SEGMENT_SIZE = 128 * 1024 * 1024  # a whole segment is held in memory
MANY_SEGMENTS = 1 << 24  # more than these only when ...
SIZE_OF_MANY = 128 * 1024  # ... each has at least this size


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True, slots=True)
class Segments:
    """How `size` bytes (>= 1) are cut: all segments but the last have `segment_size` bytes.

    Raises FormatError when the numbers cannot belong together, AbsurdGeometryError when they can
    but exceed what is held in memory here.
    """

    size: int
    needed_shares: int
    total_shares: int
    segment_size: int

    def __post_init__(self) -> None:
        if not 1 <= self.needed_shares <= self.total_shares <= 256:
            raise FormatError("k and N are out of range")
        if self.size < 1 or self.segment_size < 1 or self.segment_size % self.needed_shares:
            raise FormatError("the segment size is impossible")
        if self.segment_size > MAX_SEGMENT_SIZE:
            raise AbsurdGeometryError("the file has segments of more than 128 MiB")
        if self.count > MANY_SEGMENTS and self.segment_size < SIZE_OF_MANY:
            raise AbsurdGeometryError("the file has too many small segments")

    @classmethod
    def for_upload(cls, size: int, needed: int, total: int, max_segment_size: int) -> Self:
        """Return how a writer cuts a file, given the largest segment it should make."""
        return cls(size, needed, total, round_up(min(max_segment_size, size), needed))

    @property
    def count(self) -> int:
        """The number of segments."""
        return -(-self.size // self.segment_size)

    @property
    def tail_size(self) -> int:
        """Bytes of the last segment."""
        return self.size % self.segment_size or self.segment_size

    @property
    def padded_tail(self) -> int:
        """Bytes of the last segment with the zeros that make it divisible by k."""
        return round_up(self.tail_size, self.needed_shares)

    @property
    def block_size(self) -> int:
        """Bytes of one share's part of a segment other than the last."""
        return self.segment_size // self.needed_shares

    @property
    def tail_block_size(self) -> int:
        """Bytes of one share's part of the last segment."""
        return self.padded_tail // self.needed_shares

    @property
    def share_data_size(self) -> int:
        """Bytes of all blocks of one share."""
        return (self.count - 1) * self.block_size + self.tail_block_size

    def size_of(self, segnum: int) -> int:
        """Return the bytes of segment `segnum`, without padding."""
        return self.tail_size if segnum == self.count - 1 else self.segment_size

    def block_size_of(self, segnum: int) -> int:
        """Return the bytes of each block of segment `segnum`."""
        return self.tail_block_size if segnum == self.count - 1 else self.block_size
