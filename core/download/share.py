"""What to ask of one share of an immutable file, and what to make of the answers.

Knows the share layout, hash trees and byte ranges; touches nothing: no clock, no network. Every
byte is hostile until a hash that hangs from the capability confirms it: the capability vouches for
the UEB, the UEB for the two roots, the chain of share hashes for the root of this share's block
tree, the slabs of leaves for each block and each decoded segment.

Until the first header is known the layout is guessed (1 MiB segments), and everything is asked for
at once: for a right guess one round is enough. Ranges that lie close together become one request.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from truckee.core.crypto.hashes import ueb_hash
from truckee.core.download.slabs import CIPHERTEXT, Slab, SlabStore
from truckee.core.errors import (
    AbsurdGeometryError,
    BadHashError,
    CorruptShareError,
    FormatError,
    LayoutError,
    NotEnoughHashesError,
    TruckeeError,
)
from truckee.core.formats.hashtree import HASH_SIZE, PartialTree
from truckee.core.formats.immutable_share import Layout, decode_chain
from truckee.core.formats.segments import Segments
from truckee.core.formats.ueb import Ueb
from truckee.core.storage.api import Buffer

GUESSED_SEGMENT_SIZE = 1 << 20
HEADER_READ = 1024
UEB_READ = 2048
GAP = 32768  # closer ranges are read as one: bytes cost less than a request
MAX_OFFSET = 1 << 63


class ShareError(Exception):
    """One share is of no use to this reader. Never leaves the room."""

    def __init__(self, reason: str, *, corrupt: bool) -> None:
        """`corrupt`: its server should be told."""
        super().__init__(reason)
        self.corrupt = corrupt


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """`length` bytes at `offset`."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset after the last byte."""
        return self.offset + self.length


def merge(ranges: Sequence[Range], gap: int = GAP) -> list[Range]:
    """Return ranges that cover the given ones, those closer than `gap` joined."""
    merged: list[Range] = []
    for r in sorted(r for r in ranges if r.length > 0 and r.end <= MAX_OFFSET):
        if merged and r.offset - merged[-1].end <= gap:
            last = merged.pop()
            merged.append(Range(last.offset, max(last.end, r.end) - last.offset))
        else:
            merged.append(r)
    return merged


@dataclass(slots=True)
class Spans:
    """The answers of one share so far: buffers by their offset."""

    _spans: list[tuple[int, memoryview]] = field(default_factory=list)

    def add(self, offset: int, data: Buffer) -> None:
        """Take the bytes that stand at `offset`."""
        self._spans.append((offset, memoryview(data)))

    def get(self, offset: int, length: int) -> memoryview | None:
        """Return exactly these bytes, or None unless one buffer has them all."""
        found = self.some(offset, length)
        return found if len(found) == length else None

    def some(self, offset: int, length: int) -> memoryview:
        """Return the longest beginning of these bytes that one buffer has."""
        best = memoryview(b"")
        for start, data in self._spans:
            if start <= offset <= start + len(data):
                found = data[offset - start : offset - start + length]
                best = max(best, found, key=len)
        return best


@dataclass(slots=True)
class FileFacts:
    """What is known for certain about one file, whichever share told it."""

    ueb_hash: bytes
    needed_shares: int
    total_shares: int
    size: int
    ueb: Ueb | None = None
    fault: TruckeeError | None = None  # the file itself is bad; no share will help
    slabs: SlabStore = field(init=False)
    share_tree: PartialTree = field(init=False)

    def __post_init__(self) -> None:
        self.slabs = SlabStore(max(64, 3 * (self.needed_shares + 1)))
        self.share_tree = PartialTree(self.total_shares)

    @property
    def segments(self) -> Segments:
        """How the file is cut, or the guess while that is not known."""
        if self.ueb is not None:
            return self.ueb.segments
        return Segments.for_upload(
            self.size, self.needed_shares, self.total_shares, GUESSED_SEGMENT_SIZE
        )

    def learn_ueb(self, raw: bytes) -> None:
        """Take the URI extension block; raise ShareError if this is not the file's.

        Raises CorruptShareError or AbsurdGeometryError when the authentic block itself is bad.
        """
        if ueb_hash(raw) != self.ueb_hash:
            raise ShareError("the URI extension block fails its hash", corrupt=True)
        if self.ueb is not None:
            return
        try:
            ueb = Ueb.decode(raw, self.needed_shares, self.total_shares, self.size)
        except AbsurdGeometryError as error:
            self.fault = error
            raise
        except FormatError as error:
            self.fault = CorruptShareError(f"the file's own description is malformed: {error}")
            raise self.fault from None
        self.share_tree.set_root(ueb.share_root)
        self.ueb = ueb


@dataclass(slots=True)
class ShareContact:
    """One share on one server: what is known of it, what to ask next."""

    facts: FileFacts
    shnum: int
    layout: Layout | None = None

    def wanted(self, first: int, count: int, *, blocks: bool = True) -> list[Range]:
        """Return what to ask for, to get the blocks of segments `first` and on.

        The segments must lie in one slab. Without `blocks` only what vouches for them.
        """
        facts = self.facts
        segments = facts.segments
        layout = self.layout or Layout.for_file(segments)
        ranges = [] if self.layout else [Range(0, HEADER_READ)]
        if facts.ueb is None:
            ranges.append(Range(layout.ueb, UEB_READ))
        if facts.share_tree.leaf(self.shnum) is None:
            ranges.append(Range(layout.share_chain, layout.ueb - layout.share_chain))
        if facts.ueb is not None or self.layout is None:  # else the blocks' places are not known
            ranges += self._slab_ranges(layout, segments, first)
            if blocks:
                ranges.append(_block_range(layout, segments, first, count))
        return merge(ranges)

    def _slab_ranges(self, layout: Layout, segments: Segments, first: int) -> list[Range]:
        slab = Slab.holding(segments.count, first)
        ranges = []
        for tree, start in (
            (CIPHERTEXT, layout.ciphertext_tree),
            (self.shnum, layout.block_tree),
        ):
            if self.facts.slabs.get(tree, slab) is None:
                place = start + slab.first_node * HASH_SIZE
                ranges.append(Range(place, slab.width * HASH_SIZE))
                ranges += [Range(start + node * HASH_SIZE, HASH_SIZE) for node in slab.uncles]
        return ranges

    def take(self, spans: Spans, first: int) -> None:
        """Check and keep whatever the answers so far allow, towards segments in one slab.

        Raises ShareError; CorruptShareError or AbsurdGeometryError when the file is bad.
        """
        try:
            self._take_header(spans)
            self._take_ueb(spans)
            if self.facts.ueb is not None:
                self._take_chain(spans)
                self._take_slab(spans, CIPHERTEXT, first)
                self._take_slab(spans, self.shnum, first)
        except (BadHashError, NotEnoughHashesError, LayoutError) as error:
            raise ShareError(str(error), corrupt=True) from None
        except (AbsurdGeometryError, CorruptShareError):
            raise
        except FormatError as error:  # an unknown version: not ours to complain about
            raise ShareError(str(error), corrupt=False) from None

    def _take_header(self, spans: Spans) -> None:
        if self.layout is None:
            self.layout = Layout.decode(spans.some(0, HEADER_READ))

    def _take_ueb(self, spans: Spans) -> None:
        layout = self._known_layout()
        head = spans.get(layout.ueb, layout.ueb_length_size)
        if self.facts.ueb is not None or head is None:
            return
        length = layout.decode_ueb_length(head)
        raw = spans.get(layout.ueb + layout.ueb_length_size, length)
        if raw is not None:
            self.facts.learn_ueb(bytes(raw))

    def _take_chain(self, spans: Spans) -> None:
        tree, layout = self.facts.share_tree, self._known_layout()
        if tree.leaf(self.shnum) is not None:
            return
        raw = spans.get(layout.share_chain, layout.ueb - layout.share_chain)
        if raw is None:
            return
        tree.add(decode_chain(raw, self.facts.total_shares))
        if tree.leaf(self.shnum) is None:
            raise ShareError("the chain of share hashes does not reach this share", corrupt=True)

    def _take_slab(self, spans: Spans, tree: int, first: int) -> None:
        layout, root = self._known_layout(), self._root(tree)
        slab = Slab.holding(self.facts.segments.count, first)
        if root is None or self.facts.slabs.get(tree, slab) is not None:
            return
        start = layout.ciphertext_tree if tree == CIPHERTEXT else layout.block_tree
        leaves = spans.get(start + slab.first_node * HASH_SIZE, slab.width * HASH_SIZE)
        uncles: dict[int, bytes] = {}
        for node in slab.uncles:
            value = spans.get(start + node * HASH_SIZE, HASH_SIZE)
            if value is None:
                return
            uncles[node] = bytes(value)
        if leaves is not None:
            kept = bytes(leaves)
            slab.check(root, kept, uncles)
            self.facts.slabs.put(tree, slab, kept)

    def _root(self, tree: int) -> bytes | None:
        """Return the trusted root of a tree, or None while it is unknown."""
        if tree == CIPHERTEXT:
            return self.facts.ueb.ciphertext_root if self.facts.ueb else None
        return self.facts.share_tree.leaf(self.shnum)

    def _known_layout(self) -> Layout:
        if self.layout is None:
            raise ShareError("the header is not known", corrupt=False)
        return self.layout

    def blocks(self, spans: Spans, first: int, count: int) -> list[memoryview] | None:
        """Return the blocks of these segments, or None while some are missing. Not checked."""
        if self.layout is None or self.facts.ueb is None:
            return None
        segments = self.facts.segments
        whole = _block_range(self.layout, segments, first, count)
        raw = spans.get(whole.offset, whole.length)
        if raw is None:
            return None
        size = segments.block_size
        return [raw[i * size : (i + 1) * size] for i in range(count)]

    def block_hashes(self, first: int, count: int) -> list[bytes] | None:
        """Return the trusted hashes of this share's blocks, or None while they are unknown."""
        return leaves_of(self.facts, self.shnum, first, count)


def leaves_of(facts: FileFacts, tree: int, first: int, count: int) -> list[bytes] | None:
    """Return trusted leaves of a tree, all in one slab, or None while they are unknown."""
    slab = Slab.holding(facts.segments.count, first)
    leaves = facts.slabs.get(tree, slab)
    if leaves is None:
        return None
    return [slab.leaf(leaves, position) for position in range(first, first + count)]


def _block_range(layout: Layout, segments: Segments, first: int, count: int) -> Range:
    last = first + count - 1
    length = (count - 1) * segments.block_size + segments.block_size_of(last)
    return Range(layout.data + first * segments.block_size, length)
