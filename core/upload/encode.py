"""Encoding of one immutable file, from plaintext to the bytes of its shares. Pure.

Several segments are coded together as a *group*: the erasure code works byte by byte, so the blocks
of neighbouring segments of one share come out of one call already joined, ready to be written at
once. Encryption puts the ciphertext straight into the first k of those buffers. All functions here
are CPU work for a worker thread, but those said to be small. Format: docs/formats/immutable.rst.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from truckee.core import erasure
from truckee.core.crypto import hashes
from truckee.core.crypto.aes import CtrStream
from truckee.core.formats import hashtree, immutable_share, ueb
from truckee.core.formats.immutable_share import Layout
from truckee.core.formats.segments import Segments

Buffer = bytes | bytearray | memoryview

WRITE_SIZE = 1_000_000  # bytes of one share in a group, roughly
GROUP_LIMIT = 16 * 1024 * 1024  # bytes of all shares in a group, unless one segment has more


def segments_per_group(segments: Segments) -> int:
    """Return how many segments to code together."""
    wanted = -(-WRITE_SIZE // segments.block_size)
    allowed = GROUP_LIMIT // (segments.block_size * segments.total_shares)
    return max(1, min(wanted, allowed, segments.count))


@dataclass(frozen=True, slots=True)
class Group:
    """Some neighbouring segments, encoded: `shares[shnum]` holds their blocks, joined."""

    first: int  # number of the first segment
    count: int
    shares: Sequence[Buffer]
    segment_hashes: bytes  # 32 bytes for each segment
    block_hashes: Sequence[bytes]  # by share number, 32 bytes for each segment


def _pieces_of(
    primaries: Sequence[Buffer], segments: Segments, first: int, count: int
) -> Iterator[list[memoryview]]:
    """Yield, segment by segment, the places of its bytes in the first k shares, without padding."""
    views = [memoryview(primary) for primary in primaries]
    for i in range(count):
        begin = i * segments.block_size
        size, left = segments.block_size_of(first + i), segments.size_of(first + i)
        places = []
        for view in views:
            if left > 0:
                places.append(view[begin : begin + min(size, left)])
                left -= size
        yield places


class _Encryption:
    """Plaintext in pieces of any length, on its way through the cipher into given places."""

    def __init__(self, key: bytes, offset: int, plaintext: Sequence[Buffer]) -> None:
        self._stream = CtrStream(key, offset)
        self._pieces = iter(plaintext)
        self._piece = memoryview(b"")

    def fill(self, place: memoryview) -> None:
        """Encrypt the next len(place) bytes of plaintext, which must be there, into `place`."""
        while len(place):
            if not len(self._piece):
                self._piece = memoryview(next(self._pieces))
                continue
            size = min(len(place), len(self._piece))
            self._stream.update_into(self._piece[:size], place[:size])
            place, self._piece = place[size:], self._piece[size:]


def encode_group(
    key: bytes, segments: Segments, first: int, count: int, plaintext: Sequence[Buffer]
) -> Group:
    """Return `count` segments from number `first` on, given exactly their plaintext in pieces."""
    last = first + count - 1
    size = (count - 1) * segments.block_size + segments.block_size_of(last)
    primaries = [bytearray(size) for _ in range(segments.needed_shares)]
    encryption = _Encryption(key, first * segments.segment_size, plaintext)
    segment_hashes = []
    for places in _pieces_of(primaries, segments, first, count):
        for place in places:
            encryption.fill(place)
        segment_hashes.append(hashes.ciphertext_segment_hash(*places))
    shares = erasure.encode(primaries, segments.total_shares)
    return Group(
        first, count, shares, b"".join(segment_hashes), _block_hashes(shares, segments, count)
    )


def _block_hashes(shares: Sequence[Buffer], segments: Segments, count: int) -> list[bytes]:
    if segments.needed_shares == 1:  # all shares are the same bytes
        shares = shares[:1]
    size = segments.block_size
    found = []
    for share in shares:
        view = memoryview(share)
        blocks = (hashes.block_hash(view[i * size : (i + 1) * size]) for i in range(count))
        found.append(b"".join(blocks))
    return found * segments.total_shares if segments.needed_shares == 1 else found


@dataclass(frozen=True, slots=True)
class Finish:
    """What only the whole file tells: the hash in the capability, and the ends of the shares."""

    ueb_hash: bytes
    segments: Segments
    layout: Layout
    _ueb: bytes
    _share_tree: Sequence[bytes]
    _ciphertext_tree: bytes
    _block_hashes: Sequence[bytearray]

    @property
    def tail_offset(self) -> int:
        """Where in a share its tail begins: after the blocks."""
        return self.layout.plaintext_tree

    @property
    def tail_size(self) -> int:
        """Bytes of a tail."""
        return self.layout.share_size(len(self._ueb)) - self.tail_offset

    def tail(self, shnum: int) -> bytes:
        """Return all that follows the blocks of a share: trees, chain, URI extension block."""
        chain = hashtree.chain_numbers(self.segments.total_shares, shnum, include_leaf=True)
        return b"".join(
            (
                bytes(self.layout.ciphertext_tree - self.layout.plaintext_tree),
                self._ciphertext_tree,
                *hashtree.build(_split(self._block_hashes[shnum])),
                immutable_share.encode_chain({n: self._share_tree[n] for n in chain}),
                self.layout.encode_ueb(self._ueb),
            )
        )

    def tails(self, shnums: Sequence[int]) -> dict[int, bytes]:
        """Return the tails of several shares."""
        return {shnum: self.tail(shnum) for shnum in shnums}


def _split(joined: bytes | bytearray) -> list[bytes]:
    return [bytes(joined[i : i + 32]) for i in range(0, len(joined), 32)]


class FileEncoder:
    """The hashes of one file while its groups are encoded; groups are given in order."""

    def __init__(self, segments: Segments, rehash_tag: bytes | None = None) -> None:
        """Take the geometry; with `rehash_tag` the plaintext is hashed once more as it passes."""
        self.segments = segments
        self.layout = Layout.for_file(segments)
        self._segment_hashes = bytearray()
        self._block_hashes = [bytearray() for _ in range(segments.total_shares)]
        self._ciphertext = hashes.ciphertext_hasher()
        self._plaintext = None if rehash_tag is None else hashes.TaggedHasher(rehash_tag)

    @property
    def share_size(self) -> int:
        """Bytes of each share."""
        return self.layout.share_size(ueb.encoded_size(self.segments))

    def chain(self, group: Group, plaintext: Sequence[Buffer]) -> None:
        """Take the next group into the running hashes, which cannot be split over threads."""
        self._segment_hashes += group.segment_hashes
        for collected, more in zip(self._block_hashes, group.block_hashes, strict=True):
            collected.extend(more)
        primaries = group.shares[: self.segments.needed_shares]
        for places in _pieces_of(primaries, self.segments, group.first, group.count):
            for place in places:
                self._ciphertext.update(place)
        if self._plaintext is not None:
            for piece in plaintext:
                self._plaintext.update(piece)

    def plaintext_digest(self) -> bytes | None:
        """Return the tagged hash of all plaintext that passed, if it was asked for."""
        return None if self._plaintext is None else self._plaintext.digest()

    def finish(self) -> Finish:
        """Return what follows from all groups."""
        ciphertext_tree = hashtree.build(_split(self._segment_hashes))
        roots = [hashtree.build(_split(collected))[0] for collected in self._block_hashes]
        share_tree = hashtree.build(roots)
        block = ueb.Ueb(
            self.segments, self._ciphertext.digest(), ciphertext_tree[0], share_tree[0]
        ).encode()
        return Finish(
            hashes.ueb_hash(block),
            self.segments,
            self.layout,
            block,
            share_tree,
            b"".join(ciphertext_tree),
            self._block_hashes,
        )


def encode_whole(
    key: bytes, encoder: FileEncoder, plaintext: Sequence[Buffer], shnums: Sequence[int]
) -> tuple[Finish, dict[int, bytes]]:
    """Return the end of a small file, and the whole bytes of the shares asked for."""
    group = encode_group(key, encoder.segments, 0, encoder.segments.count, plaintext)
    encoder.chain(group, plaintext)
    finish = encoder.finish()
    header = encoder.layout.encode()
    whole = {n: b"".join((header, group.shares[n], finish.tail(n))) for n in shnums}
    return finish, whole
