"""Contents to shares and back: encryption, erasure coding, hash trees. Pure; for worker threads.

Knows keys, salts and geometry; touches nothing. Given the same salts it makes the same bytes,
signature excepted. Format: docs/formats/mutable.rst.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from truckee.core import erasure
from truckee.core.crypto import aes
from truckee.core.crypto.hashes import block_hash, mutable_datakey
from truckee.core.errors import LayoutError
from truckee.core.formats import hashtree
from truckee.core.formats.mdmf import MdmfHeader, MdmfShare
from truckee.core.formats.mutable_share import SALT_SIZE, Geometry
from truckee.core.formats.sdmf import SdmfHeader, SdmfShare

Header = SdmfHeader | MdmfHeader


@dataclass(slots=True, repr=False)
class Strands:
    """What the shares-to-be hold so far, by share number: pieces of data, and block hashes."""

    data: list[list[bytes]]
    hashes: list[list[bytes]]

    @classmethod
    def empty(cls, total_shares: int) -> "Strands":
        """Return strands before the first segment."""
        return cls([[] for _ in range(total_shares)], [[] for _ in range(total_shares)])

    def extend(self, other: "Strands") -> None:
        """Append the following segments."""
        for mine, theirs in zip(self.data, other.data, strict=True):
            mine.extend(theirs)
        for mine, theirs in zip(self.hashes, other.hashes, strict=True):
            mine.extend(theirs)


def _blocks(segment: memoryview, key: bytes, block_size: int, g: Geometry) -> list[bytes]:
    """Return all N blocks of one segment; the padding is added to the ciphertext."""
    k = g.needed_shares
    ciphertext = aes.ctr(key, segment) + bytes(k * block_size - len(segment))
    pieces = [ciphertext[i * block_size : (i + 1) * block_size] for i in range(k)]
    return [bytes(block) for block in erasure.encode(pieces, g.total_shares)]


def encode_sdmf(contents: bytes, salt: bytes, readkey: bytes, g: Geometry) -> Strands:
    """Return the one block of each share, if there is one."""
    strands = Strands.empty(g.total_shares)
    if not contents:
        return strands
    key = mutable_datakey(salt, readkey)
    for shnum, block in enumerate(_blocks(memoryview(contents), key, g.block_size, g)):
        strands.data[shnum].append(block)
        strands.hashes[shnum].append(block_hash(block))
    return strands


def encode_mdmf(
    contents: bytes, first: int, salts: Sequence[bytes], readkey: bytes, g: Geometry
) -> Strands:
    """Return salted blocks of the segments from `first`, as many as there are salts."""
    strands = Strands.empty(g.total_shares)
    view = memoryview(contents)
    for segnum, salt in enumerate(salts, first):
        start = segnum * g.segment_size
        segment = view[start : start + g.segment_length(segnum)]
        key = mutable_datakey(salt, readkey)
        for shnum, block in enumerate(_blocks(segment, key, g.mdmf_block_size(segnum), g)):
            strands.data[shnum] += (salt, block)
            strands.hashes[shnum].append(block_hash(salt, block))
    return strands


@dataclass(slots=True, repr=False)
class Draft:
    """All shares of one version, but for keys and signature."""

    header: Header
    data: list[list[bytes]]
    block_trees: list[list[bytes]]
    share_tree: list[bytes]

    def shares(self, signature: bytes, pubkey: bytes, encprivkey: bytes) -> Iterator[bytes]:
        """Yield the shares by number; a share's data leaves the draft as it is yielded."""
        n = self.header.geometry.total_shares
        for shnum in range(n):
            numbers = hashtree.chain_numbers(n, shnum, include_leaf=False)
            chain = {number: self.share_tree[number] for number in numbers}
            data, tree = self.data[shnum], self.block_trees[shnum]
            self.data[shnum] = []
            if isinstance(self.header, SdmfHeader):
                block = b"".join(data)
                yield SdmfShare(
                    self.header, pubkey, signature, chain, tree[0], block, encprivkey
                ).encode()
            else:
                yield MdmfShare(
                    self.header, encprivkey, chain, signature, pubkey, data, tree
                ).encode()


def draft(strands: Strands, seqnum: int, salt: bytes | None, g: Geometry) -> Draft:
    """Return the unsigned version made of `strands`: SDMF when there is a `salt`, else MDMF."""
    trees = [hashtree.build(leaves) for leaves in strands.hashes]
    share_tree = hashtree.build([tree[0] for tree in trees])
    header: Header
    if salt is None:
        header = MdmfHeader(seqnum, share_tree[0], g)
    else:
        header = SdmfHeader(seqnum, share_tree[0], salt, g)
    return Draft(header, strands.data, trees, share_tree)


def decode_segments(
    header: Header, readkey: bytes, segments: Mapping[int, Mapping[int, bytes]]
) -> list[bytes]:
    """Return the contents of segments, given k validated blocks of each by share number.

    MDMF blocks come with their salt in front. Raises LayoutError when blocks of one segment carry
    different salts, and ErasureError.
    """
    g = header.geometry
    found = []
    for segnum in sorted(segments):
        blocks = segments[segnum]
        if isinstance(header, SdmfHeader):
            salt = header.salt
        else:
            salts = {block[:SALT_SIZE] for block in blocks.values()}
            if len(salts) != 1:
                raise LayoutError("blocks of one segment carry different salts")
            salt = salts.pop()
            blocks = {shnum: block[SALT_SIZE:] for shnum, block in blocks.items()}
        pieces = erasure.decode(blocks, g.needed_shares, g.total_shares)
        ciphertext = memoryview(b"".join(pieces))[: g.segment_length(segnum)]
        found.append(aes.ctr(mutable_datakey(salt, readkey), ciphertext))
    return found
