"""Reads whole immutable shares by the rules of the format, without the code that writes them."""

from truckee.core import erasure
from truckee.core.crypto import hashes
from truckee.core.crypto.aes import ctr
from truckee.core.formats import hashtree, immutable_share
from truckee.core.formats.immutable_share import Layout
from truckee.core.formats.ueb import Ueb


def read_shares(shares, cap):
    """Return the plaintext of `cap` from exactly k whole shares by number; assert every hash."""
    k, n = cap.needed_shares, cap.total_shares
    assert len(shares) == k
    layouts = {shnum: Layout.decode(share) for shnum, share in shares.items()}
    blocktrees, segtree, ueb = {}, None, None
    for shnum, share in shares.items():
        layout = layouts[shnum]
        raw = share[layout.ueb + layout.ueb_length_size :]
        assert layout.decode_ueb_length(share[layout.ueb :]) == len(raw)
        assert hashes.ueb_hash(raw) == cap.ueb_hash
        ueb = Ueb.decode(raw, k, n, cap.size)
        tree = hashtree.PartialTree(n, ueb.share_root)
        tree.add(immutable_share.decode_chain(share[layout.share_chain : layout.ueb], n))
        blocktrees[shnum] = hashtree.PartialTree(ueb.segments.count, tree.leaf(shnum))
        blocktrees[shnum].add(_nodes(share[layout.block_tree : layout.share_chain]))
        segtree = hashtree.PartialTree(ueb.segments.count, ueb.ciphertext_root)
        segtree.add(_nodes(share[layout.ciphertext_tree : layout.block_tree]))
        assert not any(share[layout.plaintext_tree : layout.ciphertext_tree])
    segments, ciphertext = ueb.segments, bytearray()
    for segnum in range(segments.count):
        blocks = {}
        for shnum, share in shares.items():
            begin = layouts[shnum].data + segnum * segments.block_size
            blocks[shnum] = share[begin : begin + segments.block_size_of(segnum)]
            assert hashes.block_hash(blocks[shnum]) == blocktrees[shnum].leaf(segnum)
        segment = b"".join(erasure.decode(blocks, k, n))[: segments.size_of(segnum)]
        assert hashes.ciphertext_segment_hash(segment) == segtree.leaf(segnum)
        ciphertext += segment
    flat = hashes.ciphertext_hasher()
    flat.update(ciphertext)
    assert flat.digest() == ueb.ciphertext_hash
    return ctr(cap.readkey, bytes(ciphertext))


def _nodes(raw):
    return {i: raw[i * 32 : i * 32 + 32] for i in range(len(raw) // 32)}
