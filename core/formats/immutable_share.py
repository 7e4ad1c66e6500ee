"""The inside of an immutable share: header, sections in a fixed order, chain of share hashes.

Knows both layout versions; touches nothing. Offsets count from the first byte of share data.
Everything decoded here is a server's claim, plausible at best, until a hash confirms it.
Format: docs/formats/immutable.rst.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from truckee.core.errors import LayoutError, UnknownVersionError
from truckee.core.formats.hashtree import HASH_SIZE, chain_numbers, node_count
from truckee.core.formats.segments import Segments
from truckee.core.formats.ueb import MAX_UEB_SIZE

MAX_HEADER_SIZE = 0x44
CHAIN_ENTRY_SIZE = 34
MAX_CHAIN_ENTRIES = 510

_VERSION = struct.Struct(">L")
_HEADERS = {1: struct.Struct(">9L"), 2: struct.Struct(">L8Q")}
_LENGTHS = {1: struct.Struct(">L"), 2: struct.Struct(">Q")}
_CHAIN_ENTRY = struct.Struct(">H32s")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the sections of one share begin.

    `block_size` and `share_data_size` are written for others and not believed when read.
    """

    version: int
    block_size: int
    share_data_size: int
    data: int
    plaintext_tree: int
    ciphertext_tree: int
    block_tree: int
    share_chain: int
    ueb: int

    @classmethod
    def for_file(cls, segments: Segments, version: int | None = None) -> Self:
        """Return the layout that a writer gives to each share of a file.

        Without `version`: 1 where it can express the offsets, else 2.
        """
        if version is None:
            first = cls.for_file(segments, 1)
            largest = max(first.block_size, first.share_data_size, first.ueb)
            return first if largest < 1 << 32 else cls.for_file(segments, 2)
        data = _HEADERS[version].size
        tree = node_count(segments.count) * HASH_SIZE
        plaintext = data + segments.share_data_size
        chain = plaintext + 3 * tree
        entries = len(chain_numbers(segments.total_shares, 0, include_leaf=True))
        return cls(
            version,
            segments.block_size,
            segments.share_data_size,
            data,
            plaintext,
            plaintext + tree,
            plaintext + 2 * tree,
            chain,
            chain + entries * CHAIN_ENTRY_SIZE,
        )

    @property
    def header_size(self) -> int:
        """Bytes of the header."""
        return _HEADERS[self.version].size

    @property
    def ueb_length_size(self) -> int:
        """Bytes of the number that precedes the URI extension block."""
        return _LENGTHS[self.version].size

    def share_size(self, ueb_size: int) -> int:
        """Return the bytes of the whole share, given those of its URI extension block."""
        return self.ueb + self.ueb_length_size + ueb_size

    def encode(self) -> bytes:
        """Return the header."""
        return _HEADERS[self.version].pack(
            self.version,
            self.block_size,
            self.share_data_size,
            self.data,
            self.plaintext_tree,
            self.ciphertext_tree,
            self.block_tree,
            self.share_chain,
            self.ueb,
        )

    @classmethod
    def decode(cls, raw: bytes | bytearray | memoryview) -> Self:
        """Return the layout that the first bytes of a share claim; `raw` may be longer.

        Raises UnknownVersionError for another version, LayoutError when the header is cut short
        or its offsets cannot be right. The unused plaintext tree may lie anywhere.
        """
        if len(raw) < _VERSION.size:
            raise LayoutError("the share has no complete header")
        (version,) = _VERSION.unpack_from(raw)
        header = _HEADERS.get(version)
        if header is None:
            raise UnknownVersionError("the share has an unknown layout version")
        if len(raw) < header.size:
            raise LayoutError("the share has no complete header")
        layout = cls(*header.unpack_from(raw))
        layout._check()
        return layout

    def _check(self) -> None:
        chain_size = self.ueb - self.share_chain
        tree_size = self.share_chain - self.block_tree
        ordered = self.header_size <= self.data <= self.ciphertext_tree <= self.block_tree
        if not ordered or tree_size < 0 or chain_size < 0:
            raise LayoutError("the share's sections are out of order")
        if tree_size % HASH_SIZE or chain_size % CHAIN_ENTRY_SIZE:
            raise LayoutError("the share's hash sections have impossible lengths")
        if chain_size > MAX_CHAIN_ENTRIES * CHAIN_ENTRY_SIZE:
            raise LayoutError("the share's chain of share hashes is too long")

    def encode_ueb(self, ueb: bytes) -> bytes:
        """Return the last section: the length of the URI extension block, and the block."""
        return _LENGTHS[self.version].pack(len(ueb)) + ueb

    def decode_ueb_length(self, raw: bytes | bytearray | memoryview) -> int:
        """Return the length that stands at the start of `raw`; raise LayoutError if absurd."""
        number = _LENGTHS[self.version]
        if len(raw) < number.size:
            raise LayoutError("the share ends before its URI extension block")
        (length,) = number.unpack_from(raw)
        if not 0 < length <= MAX_UEB_SIZE:
            raise LayoutError("the URI extension block has an absurd length")
        return int(length)


def encode_chain(nodes: Mapping[int, bytes]) -> bytes:
    """Return the chain of share hashes, by ascending node number."""
    return b"".join(_CHAIN_ENTRY.pack(number, nodes[number]) for number in sorted(nodes))


def decode_chain(raw: bytes | bytearray | memoryview, total_shares: int) -> dict[int, bytes]:
    """Return the share hash tree's nodes in `raw`, in whatever order they stand there.

    Raises LayoutError unless every number lies inside the tree over `total_shares` leaves and none
    stands there twice with different hashes.
    """
    if len(raw) % CHAIN_ENTRY_SIZE or len(raw) > MAX_CHAIN_ENTRIES * CHAIN_ENTRY_SIZE:
        raise LayoutError("the chain of share hashes has an impossible length")
    nodes: dict[int, bytes] = {}
    for number, value in _CHAIN_ENTRY.iter_unpack(raw):
        if number >= node_count(total_shares) or nodes.setdefault(number, value) != value:
            raise LayoutError("the chain of share hashes names a node wrongly")
    return nodes
