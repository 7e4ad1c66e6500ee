"""MDMF shares: layout version 1, contents in segments that each have their own salt.

Knows the bytes of one share; touches nothing. Format: docs/formats/mutable.rst.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from truckee.core.errors import LayoutError, UnknownVersionError
from truckee.core.formats.hashtree import HASH_SIZE
from truckee.core.formats.mutable_share import (
    SALT_SIZE,
    Geometry,
    Section,
    Sections,
    decode_chain,
    decode_nodes,
    encode_chain,
    next_multiple,
)

VERSION = 1
SEGMENT_SIZE = 131072  # before it is rounded up to a multiple of k
DATA_OFFSET = 2167  # where every writer puts the first salt
_PREFIX = struct.Struct(">BQ32sBBQQ")
_CHECKSTRING = struct.Struct(">BQ32s")
_OFFSETS = struct.Struct(">8Q")
PREFIX_SIZE = _PREFIX.size
HEADER_SIZE = PREFIX_SIZE + _OFFSETS.size
CHECKSTRING_SIZE = _CHECKSTRING.size


def geometry(size: int, needed_shares: int, total_shares: int) -> Geometry:
    """Return how a writer cuts contents of `size` bytes."""
    return Geometry(needed_shares, total_shares, next_multiple(SEGMENT_SIZE, needed_shares), size)


@dataclass(frozen=True, slots=True)
class MdmfHeader:
    """The signed part of a share: it names one version of one file."""

    seqnum: int
    root_hash: bytes
    geometry: Geometry

    version: ClassVar[int] = VERSION

    def __post_init__(self) -> None:
        if not 0 <= self.seqnum < 2**64:
            raise LayoutError("sequence number out of range")
        if len(self.root_hash) != HASH_SIZE:
            raise LayoutError("root hash of wrong length")
        if not self.geometry.segment_size:
            raise LayoutError("an MDMF share has no segment size")

    @property
    def prefix(self) -> bytes:
        """Return the 59 bytes that are signed."""
        g = self.geometry
        return _PREFIX.pack(
            VERSION,
            self.seqnum,
            self.root_hash,
            g.needed_shares,
            g.total_shares,
            g.segment_size,
            g.size,
        )

    @property
    def checkstring(self) -> bytes:
        """Return the 41 bytes by which a server tells this version from others."""
        return _CHECKSTRING.pack(VERSION, self.seqnum, self.root_hash)

    def require_bearable(self) -> None:
        """Raise AbsurdGeometryError when reading would cost too much."""
        self.geometry.require_bearable()

    def block_section(self, sections: Sections, segnum: int) -> Section:
        """Return where salt and block of segment `segnum` lie."""
        start = sections.data.start + segnum * (SALT_SIZE + self.geometry.block_size)
        return Section(start, start + SALT_SIZE + self.geometry.mdmf_block_size(segnum))


def decode_header(raw: bytes) -> tuple[MdmfHeader, Sections]:
    """Return header and sections from the first 123 bytes of a share.

    Raises UnknownVersionError or LayoutError.
    """
    if raw[:1] != bytes([VERSION]):
        raise UnknownVersionError("not an MDMF share")
    if len(raw) < HEADER_SIZE:
        raise LayoutError("an MDMF share is shorter than its header")
    _, seqnum, root_hash, k, n, segment_size, size = _PREFIX.unpack_from(raw)
    header = MdmfHeader(seqnum, root_hash, Geometry(k, n, segment_size, size))
    key, chain, signature, pubkey, pubkey_end, data, tree, end = _OFFSETS.unpack_from(
        raw, PREFIX_SIZE
    )
    sections = Sections(
        pubkey=Section(pubkey, pubkey_end),
        signature=Section(signature, pubkey),
        chain=Section(chain, signature),
        block_hashes=Section(tree, end),
        data=Section(data, tree),
        encprivkey=Section(key, chain),
        end=end,
    )
    sections.check(header_size=HEADER_SIZE)
    if pubkey_end > data:
        raise LayoutError("the offsets of a mutable share are out of order")
    if sections.data.size < header.geometry.mdmf_data_size:
        raise LayoutError("the blocks of an MDMF share do not fit")
    if sections.block_hashes.size < header.geometry.block_tree_size:
        raise LayoutError("the block hash tree of an MDMF share does not fit")
    return header, sections


@dataclass(frozen=True, slots=True, repr=False)
class MdmfShare:
    """All of one share. `data` holds salt and block of each segment, in any pieces."""

    header: MdmfHeader
    encprivkey: bytes
    chain: Mapping[int, bytes]
    signature: bytes
    pubkey: bytes
    data: Sequence[bytes]
    block_hashes: Sequence[bytes]

    def encode(self) -> bytes:
        """Return the bytes of the share; raise LayoutError when a part does not fit."""
        geometry = self.header.geometry
        parts = (self.encprivkey, encode_chain(self.chain), self.signature, self.pubkey)
        offsets, position = [], HEADER_SIZE
        for part in parts:
            offsets.append(position)
            position += len(part)
        data_size = sum(map(len, self.data))
        tree = b"".join(self.block_hashes)
        if position > DATA_OFFSET or data_size != geometry.mdmf_data_size:
            raise LayoutError("the parts of an MDMF share have wrong sizes")
        if len(tree) != geometry.block_tree_size:
            raise LayoutError("the block hash tree of an MDMF share has a wrong size")
        tree_offset = DATA_OFFSET + data_size
        offsets += [position, DATA_OFFSET, tree_offset, tree_offset + len(tree)]
        gap = bytes(DATA_OFFSET - position)
        head = (self.header.prefix, _OFFSETS.pack(*offsets), *parts, gap)
        return b"".join((*head, *self.data, tree))

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Return the share in `raw`; the gap, and bytes after its end, are ignored.

        Raises UnknownVersionError or LayoutError. Nothing is verified.
        """
        header, sections = decode_header(raw)
        g = header.geometry
        if sections.end > len(raw):
            raise LayoutError("a section lies beyond the end of a share")
        blocks = [header.block_section(sections, s).cut(raw) for s in range(g.segments)]
        start = sections.block_hashes.start
        return cls(
            header,
            sections.encprivkey.cut(raw),
            decode_chain(sections.chain.cut(raw), g.total_shares),
            sections.signature.cut(raw),
            sections.pubkey.cut(raw),
            blocks,
            decode_nodes(raw[start : start + g.block_tree_size]),
        )
