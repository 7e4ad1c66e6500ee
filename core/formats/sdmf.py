"""SDMF shares: layout version 0, the whole contents in one segment.

Knows the bytes of one share; touches nothing. Format: docs/formats/mutable.rst.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from truckee.core.errors import FileTooLargeError, LayoutError, UnknownVersionError
from truckee.core.formats.hashtree import HASH_SIZE
from truckee.core.formats.mutable_share import (
    MAX_SDMF_SIZE,
    SALT_SIZE,
    Geometry,
    Section,
    Sections,
    decode_chain,
    encode_chain,
    next_multiple,
)

VERSION = 0
_PREFIX = struct.Struct(">BQ32s16sBBQQ")
_CHECKSTRING = struct.Struct(">BQ32s16s")
_OFFSETS = struct.Struct(">LLLLQQ")
PREFIX_SIZE = _PREFIX.size
HEADER_SIZE = PREFIX_SIZE + _OFFSETS.size
CHECKSTRING_SIZE = _CHECKSTRING.size


def geometry(size: int, needed_shares: int, total_shares: int) -> Geometry:
    """Return how a writer cuts contents of `size` bytes."""
    return Geometry(needed_shares, total_shares, next_multiple(size, needed_shares), size)


@dataclass(frozen=True, slots=True)
class SdmfHeader:
    """The signed part of a share: it names one version of one file."""

    seqnum: int
    root_hash: bytes
    salt: bytes
    geometry: Geometry

    version: ClassVar[int] = VERSION

    def __post_init__(self) -> None:
        if not 0 <= self.seqnum < 2**64:
            raise LayoutError("sequence number out of range")
        if len(self.root_hash) != HASH_SIZE or len(self.salt) != SALT_SIZE:
            raise LayoutError("root hash or salt of wrong length")
        if self.geometry.size > self.geometry.segment_size:
            raise LayoutError("contents do not fit into the one segment")

    @property
    def prefix(self) -> bytes:
        """Return the 75 bytes that are signed."""
        g = self.geometry
        return _PREFIX.pack(
            VERSION,
            self.seqnum,
            self.root_hash,
            self.salt,
            g.needed_shares,
            g.total_shares,
            g.segment_size,
            g.size,
        )

    @property
    def checkstring(self) -> bytes:
        """Return the 57 bytes by which a server tells this version from others."""
        return _CHECKSTRING.pack(VERSION, self.seqnum, self.root_hash, self.salt)

    def require_bearable(self) -> None:
        """Raise FileTooLargeError or AbsurdGeometryError when reading would cost too much."""
        if self.geometry.size > MAX_SDMF_SIZE:
            raise FileTooLargeError("an SDMF file is larger than 64 MiB")
        self.geometry.require_bearable()

    def block_section(self, sections: Sections, _segnum: int = 0) -> Section:
        """Return where the one block lies."""
        return sections.data


def decode_header(raw: bytes) -> tuple[SdmfHeader, Sections]:
    """Return header and sections from the first 107 bytes of a share.

    Raises UnknownVersionError or LayoutError.
    """
    if raw[:1] != bytes([VERSION]):
        raise UnknownVersionError("not an SDMF share")
    if len(raw) < HEADER_SIZE:
        raise LayoutError("an SDMF share is shorter than its header")
    _, seqnum, root_hash, salt, k, n, segment_size, size = _PREFIX.unpack_from(raw)
    header = SdmfHeader(seqnum, root_hash, salt, Geometry(k, n, segment_size, size))
    signature, chain, tree, data, encprivkey, end = _OFFSETS.unpack_from(raw, PREFIX_SIZE)
    sections = Sections(
        pubkey=Section(HEADER_SIZE, signature),
        signature=Section(signature, chain),
        chain=Section(chain, tree),
        block_hashes=Section(tree, data),
        data=Section(data, encprivkey),
        encprivkey=Section(encprivkey, end),
        end=end,
    )
    sections.check(header_size=HEADER_SIZE)
    if sections.block_hashes.size != HASH_SIZE:
        raise LayoutError("the block hash tree of an SDMF share has not one node")
    if sections.data.size != (header.geometry.block_size if size else 0):
        raise LayoutError("the block of an SDMF share has a wrong size")
    return header, sections


@dataclass(frozen=True, slots=True, repr=False)
class SdmfShare:
    """All of one share."""

    header: SdmfHeader
    pubkey: bytes
    signature: bytes
    chain: Mapping[int, bytes]
    block_hash: bytes
    block: bytes
    encprivkey: bytes

    def encode(self) -> bytes:
        """Return the bytes of the share."""
        parts = (
            self.pubkey,
            self.signature,
            encode_chain(self.chain),
            self.block_hash,
            self.block,
            self.encprivkey,
        )
        offsets, position = [], HEADER_SIZE
        for part in parts:
            position += len(part)
            offsets.append(position)
        if offsets[3] >= 2**32:
            raise LayoutError("an SDMF share is too long for its offsets")
        return b"".join((self.header.prefix, _OFFSETS.pack(*offsets), *parts))

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Return the share in `raw`; bytes after its end are ignored, as Tahoe-LAFS leaves them.

        Raises UnknownVersionError or LayoutError. Nothing is verified.
        """
        header, sections = decode_header(raw)
        return cls(
            header,
            sections.pubkey.cut(raw),
            sections.signature.cut(raw),
            decode_chain(sections.chain.cut(raw), header.geometry.total_shares),
            sections.block_hashes.cut(raw),
            sections.data.cut(raw),
            sections.encprivkey.cut(raw),
        )
