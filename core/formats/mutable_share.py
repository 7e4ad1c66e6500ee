"""What the two layouts of mutable shares have in common: geometry, sections, hash chains.

Knows arithmetic and byte ranges; touches nothing. The layouts are `sdmf` (one segment) and `mdmf`
(many). Format: docs/formats/mutable.rst.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from truckee.core.crypto import rsa
from truckee.core.errors import AbsurdGeometryError, LayoutError
from truckee.core.formats.hashtree import HASH_SIZE, padded_leaves

MAX_SHARES = 255
MAX_SEQNUM = 2**64 - 1
MAX_SEGMENT_SIZE = 128 * 1024 * 1024
MAX_SDMF_SIZE = 64 * 1024 * 1024
MAX_CHAIN_ENTRIES = 510
SALT_SIZE = 16
_MANY_SEGMENTS = 2**24
_LEAST_SEGMENT_OF_MANY = 128 * 1024
_CHAIN_ENTRY = struct.Struct(">H32s")
CHAIN_ENTRY_SIZE = _CHAIN_ENTRY.size


def next_multiple(x: int, k: int) -> int:
    """Return the least multiple of `k` that is at least `x`."""
    return -(-x // k) * k


class Section(NamedTuple):
    """A range of bytes in a share."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return self.end - self.start

    def cut(self, share: bytes) -> bytes:
        """Return the section's bytes; raise LayoutError when `share` ends before it does."""
        if self.end > len(share):
            raise LayoutError("a section lies beyond the end of a share")
        return share[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Sections:
    """Where the parts of one share lie. Nobody signs this: each part proves itself when read."""

    pubkey: Section
    signature: Section
    chain: Section
    block_hashes: Section
    data: Section
    encprivkey: Section
    end: int

    def check(self, *, header_size: int) -> None:
        """Raise LayoutError when a part lies in the header, ends before it starts, or is too long.

        That the parts follow each other is for the layouts to check.
        """
        limits = (
            (self.pubkey, rsa.MAX_PUBLIC_DER),
            (self.signature, rsa.MAX_SIGNATURE_SIZE),
            (self.chain, MAX_CHAIN_ENTRIES * CHAIN_ENTRY_SIZE),
            (self.encprivkey, rsa.MAX_PRIVATE_DER),
            (self.block_hashes, self.end),
            (self.data, self.end),
        )
        for section, limit in limits:
            if not header_size <= section.start <= section.end <= self.end:
                raise LayoutError("the offsets of a mutable share are out of order")
            if section.size > limit:
                raise LayoutError("a section of a mutable share is too long")
        if self.chain.size % CHAIN_ENTRY_SIZE:
            raise LayoutError("the length of a share hash chain is odd")

    @property
    def proof_end(self) -> int:
        """Return how many bytes from the start of the share it takes to check its signature."""
        return max(self.pubkey.end, self.signature.end)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How contents are cut into segments and blocks."""

    needed_shares: int
    total_shares: int
    segment_size: int
    size: int

    def __post_init__(self) -> None:
        if not 1 <= self.needed_shares <= self.total_shares <= MAX_SHARES:
            raise LayoutError("k and N of a mutable share are out of range")
        if not (0 <= self.size < 2**64 and 0 <= self.segment_size < 2**64):
            raise LayoutError("sizes of a mutable share are out of range")
        if self.segment_size % self.needed_shares or (self.size and not self.segment_size):
            raise LayoutError("the segment size of a mutable share is wrong")

    def require_bearable(self) -> None:
        """Raise AbsurdGeometryError for sizes that would cost more than this program will pay."""
        many = self.segments > _MANY_SEGMENTS and self.segment_size < _LEAST_SEGMENT_OF_MANY
        if self.segment_size > MAX_SEGMENT_SIZE or many:
            raise AbsurdGeometryError("segments of a mutable file are too large or too many")

    @property
    def segments(self) -> int:
        """Return the number of segments; none for empty contents."""
        return -(-self.size // self.segment_size) if self.size else 0

    def segment_length(self, segnum: int) -> int:
        """Return how many bytes of contents segment `segnum` holds."""
        return min(self.segment_size, self.size - segnum * self.segment_size)

    @property
    def block_size(self) -> int:
        """Return the size of every block but the last of a segmented file."""
        return self.segment_size // self.needed_shares

    def mdmf_block_size(self, segnum: int) -> int:
        """Return the size of a block of segment `segnum` in the segmented layout."""
        k = self.needed_shares
        return next_multiple(self.segment_length(segnum), k) // k

    @property
    def mdmf_data_size(self) -> int:
        """Return the size of all salts and blocks of one share in the segmented layout."""
        if not self.segments:
            return 0
        last = self.segments - 1
        return last * (SALT_SIZE + self.block_size) + SALT_SIZE + self.mdmf_block_size(last)

    @property
    def block_tree_size(self) -> int:
        """Return the size of the block hash tree of one share."""
        return (2 * padded_leaves(self.segments) - 1) * HASH_SIZE


def encode_chain(chain: Mapping[int, bytes]) -> bytes:
    """Return a share hash chain, in ascending order of node numbers."""
    return b"".join(_CHAIN_ENTRY.pack(number, chain[number]) for number in sorted(chain))


def decode_chain(raw: bytes, total_shares: int) -> dict[int, bytes]:
    """Return the nodes of a share hash chain, of which there may be more than needed.

    Raises LayoutError for a length that cannot be, a node outside the tree, or two values of one.
    """
    if len(raw) % CHAIN_ENTRY_SIZE or len(raw) > MAX_CHAIN_ENTRIES * CHAIN_ENTRY_SIZE:
        raise LayoutError("the length of a share hash chain is wrong")
    nodes: dict[int, bytes] = {}
    limit = 2 * padded_leaves(total_shares) - 1
    for number, value in _CHAIN_ENTRY.iter_unpack(raw):
        if number >= limit or nodes.setdefault(number, value) != value:
            raise LayoutError("a share hash chain names a wrong node")
    return nodes


def decode_nodes(raw: bytes) -> list[bytes]:
    """Return the 32-byte nodes in `raw`; raise LayoutError when the length does not divide."""
    if len(raw) % HASH_SIZE:
        raise LayoutError("the length of a block hash tree is wrong")
    return [raw[i : i + HASH_SIZE] for i in range(0, len(raw), HASH_SIZE)]
