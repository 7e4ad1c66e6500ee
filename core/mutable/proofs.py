"""Whether blocks belong to the version whose header was signed. Pure.

Knows how a block hangs by its block hash tree, and that tree's root by the share hash tree, from
the signed root; touches nothing. What it knows of a share number holds for all copies of it.
"""

from collections.abc import Mapping, Sequence

from truckee.core.crypto.hashes import block_hash
from truckee.core.errors import CorruptShareError, FormatError
from truckee.core.formats.hashtree import HASH_SIZE, PartialTree
from truckee.core.formats.mutable_share import Section, decode_chain
from truckee.core.mutable.encoding import Header
from truckee.core.mutable.servermap import Copy

_WHOLE_TREE = 65536
"""Bytes up to which a block hash tree is read at once; of longer ones only what is needed."""


class Proofs:
    """The hash trees of one version, as far as they are known."""

    def __init__(self, header: Header) -> None:
        """Take the header, whose signature was checked."""
        self._geometry = header.geometry
        self._shares = PartialTree(header.geometry.total_shares, header.root_hash)
        self._blocks: dict[int, PartialTree] = {}

    def wanted(self, copy: Copy, segnums: Sequence[int]) -> list[Section]:
        """Return the parts of a share that, with these blocks, are still needed to prove them."""
        sections = []
        root_known = self._shares.leaf(copy.shnum) is not None
        if not root_known and copy.sections.chain.size:
            sections.append(copy.sections.chain)
        start, size = copy.sections.block_hashes.start, self._geometry.block_tree_size
        if copy.shnum not in self._blocks and size <= _WHOLE_TREE:
            return [*sections, Section(start, start + size)]
        tree = self._tree(copy.shnum)
        missing: set[int] = set() if root_known else {0}
        for segnum in segnums:
            missing |= tree.missing_for_leaf(segnum, include_leaf=False)
        for number in sorted(missing):
            node = Section(start + number * HASH_SIZE, start + (number + 1) * HASH_SIZE)
            if sections and sections[-1].end == node.start:
                node = Section(sections.pop().start, node.end)
            sections.append(node)
        return sections

    def accept(
        self, copy: Copy, leaves: Mapping[int, bytes], parts: Mapping[Section, bytes]
    ) -> None:
        """Take block hashes by segment, and the parts asked for; raise CorruptShareError."""
        nodes: dict[int, bytes] = {}
        chain: dict[int, bytes] = {}
        try:
            for section, raw in parts.items():
                if len(raw) != section.size:
                    raise CorruptShareError("a share ends before its parts do")
                if section == copy.sections.chain:
                    chain = decode_chain(raw, self._geometry.total_shares)
                else:
                    first = (section.start - copy.sections.block_hashes.start) // HASH_SIZE
                    for i in range(section.size // HASH_SIZE):
                        nodes[first + i] = raw[i * HASH_SIZE : (i + 1) * HASH_SIZE]
            self._check(copy.shnum, chain, nodes, leaves)
        except FormatError as error:
            raise CorruptShareError(str(error)) from error

    def _check(
        self,
        shnum: int,
        chain: Mapping[int, bytes],
        nodes: Mapping[int, bytes],
        leaves: Mapping[int, bytes],
    ) -> None:
        root = self._shares.leaf(shnum)
        if root is None:
            root = nodes.get(0)
            if root is None:
                raise CorruptShareError("the root of a block hash tree is missing")
            self._shares.add(chain, {shnum: root})
        tree = self._tree(shnum)
        tree.set_root(root)
        tree.add(nodes, leaves)
        self._blocks[shnum] = tree

    def _tree(self, shnum: int) -> PartialTree:
        return self._blocks.get(shnum) or PartialTree(max(self._geometry.segments, 1))


def hash_blocks(blocks: Sequence[bytes]) -> list[bytes]:
    """Return the hash of each block, which in MDMF has its salt in front."""
    return [block_hash(block) for block in blocks]
