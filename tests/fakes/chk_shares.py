"""A small encoder of immutable files for reader tests: whole shares in memory, and crafted ones."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from truckee.core import erasure
from truckee.core.crypto import hashes
from truckee.core.crypto.aes import ctr
from truckee.core.formats import hashtree
from truckee.core.formats.caps import ChkReadCap
from truckee.core.formats.immutable_share import Layout, encode_chain
from truckee.core.formats.segments import Segments
from truckee.core.formats.ueb import Ueb
from truckee.core.storage.api import ShareKind
from truckee.core.storage.memory import MemoryShare, MemoryStore
from truckee.core.storage.server import LocalServer


def stream(seed: str, size: int) -> bytes:
    """Return the test plaintext that the vectors describe by seed and size."""
    count = -(-size // 32)
    parts = (hashlib.sha256(seed.encode() + i.to_bytes(8, "big")).digest() for i in range(count))
    return b"".join(parts)[:size]


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """A file and its shares."""

    plaintext: bytes
    cap: ChkReadCap
    segments: Segments
    layout: Layout
    shares: Mapping[int, bytes]


def encode_chk(
    plaintext: bytes,
    k: int = 3,
    n: int = 10,
    max_segment_size: int = 1 << 20,
    *,
    key: bytes = b"0123456789abcdef",
    version: int | None = None,
    wrong_leaves: frozenset[int] = frozenset(),
    check_blocks: Callable[[int, int, bytes], bytes] = lambda _segnum, _shnum, block: block,
    change_ueb: Callable[[bytes], bytes] = lambda ueb: ueb,
    claimed_size: int | None = None,
) -> EncodedFile:
    """Encode as an uploader would; the last four arguments make it a dishonest one.

    `wrong_leaves`: segments whose leaf in the ciphertext tree is wrong; `check_blocks` may change a
    block before it is hashed; `change_ueb` the description before the capability is made.
    """
    segments = Segments.for_upload(len(plaintext), k, n, max_segment_size)
    ciphertext = ctr(key, plaintext)
    size = segments.segment_size
    leaves, blocks = [], {shnum: [] for shnum in range(n)}
    for segnum in range(segments.count):
        piece = ciphertext[segnum * size : (segnum + 1) * size]
        leaf = hashes.ciphertext_segment_hash(piece)
        leaves.append(bytes(32) if segnum in wrong_leaves else leaf)
        length = segments.block_size_of(segnum)
        padded = piece.ljust(length * k, b"\0")
        pieces = [padded[i * length : (i + 1) * length] for i in range(k)]
        for shnum, block in enumerate(erasure.encode(pieces, n)):
            blocks[shnum].append(check_blocks(segnum, shnum, bytes(block)))
    ciphertext_tree = hashtree.build(leaves)
    block_trees = {s: hashtree.build([hashes.block_hash(b) for b in blocks[s]]) for s in blocks}
    share_tree = hashtree.build([block_trees[s][0] for s in range(n)])
    hasher = hashes.ciphertext_hasher()
    hasher.update(ciphertext)
    ueb = Ueb(segments, hasher.digest(), ciphertext_tree[0], share_tree[0]).encode()
    ueb = change_ueb(ueb)
    layout = Layout.for_file(segments, version)
    shares = {}
    for shnum in range(n):
        chain = hashtree.chain_numbers(n, shnum, include_leaf=True)
        shares[shnum] = b"".join(
            [
                layout.encode(),
                *blocks[shnum],
                bytes(len(ciphertext_tree) * 32),
                *ciphertext_tree,
                *block_trees[shnum],
                encode_chain({number: share_tree[number] for number in chain}),
                layout.encode_ueb(ueb),
            ]
        )
    cap = ChkReadCap(key, hashes.ueb_hash(ueb), k, n, claimed_size or len(plaintext))
    return EncodedFile(plaintext, cap, segments, layout, shares)


def make_servers(count: int, clock) -> tuple[list[MemoryStore], list[LocalServer]]:
    """Return so many empty stores and the servers over them."""
    stores = [MemoryStore(hashlib.sha1(b"server %d" % i).digest()) for i in range(count)]
    return stores, [LocalServer(store, clock, name=f"s{i}") for i, store in enumerate(stores)]


def place(store: MemoryStore, storage_index: bytes, shnum: int, data: bytes) -> None:
    """Put a share on a store, in place of any that is there."""
    share = MemoryShare(ShareKind.IMMUTABLE, bytearray(data))
    store.shares.setdefault(storage_index, {})[shnum] = share


def spread(stores: list[MemoryStore], file: EncodedFile) -> None:
    """Put share i on store i, around the list if there are fewer stores."""
    for shnum, data in file.shares.items():
        place(stores[shnum % len(stores)], file.cap.storage_index, shnum, data)
