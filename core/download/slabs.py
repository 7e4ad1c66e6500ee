"""Leaves of hash trees, fetched and checked in slabs of up to 512, and forgotten oldest first.

Knows node numbers and hashes; touches nothing. A slab is an aligned stretch of leaves: it hashes up
to one node, and the siblings from there to the root (its uncles) tie it to the trusted root. So one
read serves 512 segments, no inner node is ever fetched below a slab, and what a reader remembers
does not depend on how large a file somebody claims.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from truckee.core.crypto.hashes import tree_node_hash
from truckee.core.errors import BadHashError
from truckee.core.formats.hashtree import HASH_SIZE, padded_leaves

SLAB = 512  # leaves; a power of two


@dataclass(frozen=True, slots=True)
class Slab:
    """Where one slab stands in a tree over `leaf_count` leaves."""

    leaf_count: int
    number: int

    @classmethod
    def holding(cls, leaf_count: int, leaf: int) -> "Slab":
        """Return the slab that holds the leaf at this position."""
        return cls(leaf_count, leaf // SLAB)

    @property
    def width(self) -> int:
        """The number of leaves."""
        return min(SLAB, padded_leaves(self.leaf_count))

    @property
    def first_node(self) -> int:
        """The node number of the first leaf."""
        return padded_leaves(self.leaf_count) - 1 + self.number * self.width

    @property
    def uncles(self) -> list[int]:
        """The nodes that tie the slab to the root, the deepest first."""
        number = self.first_node
        for _ in range(self.width.bit_length() - 1):
            number = (number - 1) // 2
        found = []
        while number:
            found.append(number + 1 if number % 2 else number - 1)
            number = (number - 1) // 2
        return found

    def check(self, root: bytes, leaves: bytes, uncles: Mapping[int, bytes]) -> None:
        """Raise BadHashError unless these leaves and uncles lead to `root`. CPU: 0.4 ms."""
        row = [leaves[i : i + HASH_SIZE] for i in range(0, len(leaves), HASH_SIZE)]
        if len(row) != self.width:
            raise BadHashError("a hash tree lacks leaves")
        while len(row) > 1:
            row = [tree_node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
        value = row[0]
        for uncle in self.uncles:
            pair = (value, uncles[uncle]) if uncle % 2 == 0 else (uncles[uncle], value)
            value = tree_node_hash(*pair)
        if value != root:
            raise BadHashError("leaves contradict the root of their hash tree")

    def leaf(self, leaves: bytes, position: int) -> bytes:
        """Return the leaf at `position` of the whole tree."""
        start = (position - self.number * SLAB) * HASH_SIZE
        return leaves[start : start + HASH_SIZE]


CIPHERTEXT = -1
"""The tree over the ciphertext segments; block trees go by their share number."""


@dataclass(slots=True)
class SlabStore:
    """The checked slabs of one file: of its ciphertext tree and of each share's block tree."""

    limit: int  # slabs kept
    size: int = 0  # bytes held
    _slabs: OrderedDict[tuple[int, int], bytes] = field(default_factory=OrderedDict)

    def get(self, tree: int, slab: Slab) -> bytes | None:
        """Return the leaves of a slab, or None while they are unknown."""
        leaves = self._slabs.get((tree, slab.number))
        if leaves is not None:
            self._slabs.move_to_end((tree, slab.number))
        return leaves

    def put(self, tree: int, slab: Slab, leaves: bytes) -> None:
        """Keep a slab that has been checked; the one unused for longest may go."""
        self.size += len(leaves) - len(self._slabs.pop((tree, slab.number), b""))
        self._slabs[tree, slab.number] = leaves
        while len(self._slabs) > self.limit:
            _, oldest = self._slabs.popitem(last=False)
            self.size -= len(oldest)
