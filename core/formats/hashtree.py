"""Binary hash trees: built whole by writers, filled node by node by readers.

Knows node numbers (root 0, children of i at 2i+1 and 2i+2) and 32-byte hashes; touches nothing.
A reader's tree is sparse: what it costs depends on the nodes seen, never on the number of leaves
that somebody claims. Format: docs/formats/primitives.rst.
"""

from collections.abc import Mapping, Sequence

from truckee.core.crypto.hashes import empty_leaf_hash, tree_node_hash
from truckee.core.errors import BadHashError, NotEnoughHashesError

HASH_SIZE = 32
_NO_LEAVES: Mapping[int, bytes] = {}


def padded_leaves(count: int) -> int:
    """Return the smallest power of two that is at least `count`; 1 for 0."""
    return 1 << (count - 1).bit_length() if count > 1 else 1


def node_count(leaf_count: int) -> int:
    """Return how many nodes the whole tree has."""
    return 2 * padded_leaves(leaf_count) - 1


def build(leaves: Sequence[bytes]) -> list[bytes]:
    """Return all nodes over `leaves`, root first; the row of leaves is padded to a power of two.

    CPU work: about a microsecond per leaf.
    """
    row = [*leaves, *(empty_leaf_hash(i) for i in range(len(leaves), padded_leaves(len(leaves))))]
    rows = [row]
    while len(row) > 1:
        row = [tree_node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
        rows.append(row)
    return [node for row in reversed(rows) for node in row]


def _sibling(number: int) -> int:
    return number + 1 if number % 2 else number - 1


def chain_numbers(leaf_count: int, leaf: int, *, include_leaf: bool) -> list[int]:
    """Return, ascending, the nodes that lead from the root to leaf position `leaf`.

    They are the siblings along the path; `include_leaf` adds the leaf's own node.
    """
    number = padded_leaves(leaf_count) - 1 + leaf
    found = [number] if include_leaf else []
    while number:
        found.append(_sibling(number))
        number = (number - 1) // 2
    return sorted(found)


class PartialTree:
    """The nodes of one tree that are known to be right.

    Everything in it hangs together up to the root, and the root came from a trusted source.
    """

    __slots__ = ("_first_leaf", "_nodes", "leaf_count")

    def __init__(self, leaf_count: int, root: bytes | None = None) -> None:
        """Take the number of leaves (>= 1) and the root, if it is known already."""
        self.leaf_count = leaf_count
        self._first_leaf = padded_leaves(leaf_count) - 1
        self._nodes: dict[int, bytes] = {}
        if root is not None:
            self.set_root(root)

    def __len__(self) -> int:
        """Return how many nodes are known."""
        return len(self._nodes)

    def set_root(self, root: bytes) -> None:
        """Take the root from a trusted source; raise BadHashError if another one is known."""
        if len(root) != HASH_SIZE or self._nodes.get(0, root) != root:
            raise BadHashError("two roots of one hash tree")
        self._nodes[0] = root

    def node(self, number: int) -> bytes | None:
        """Return a node, or None while it is unknown."""
        return self._nodes.get(number)

    def leaf(self, index: int) -> bytes | None:
        """Return the leaf at position `index`, or None while it is unknown."""
        return self._nodes.get(self._first_leaf + index)

    def missing_for_leaf(self, index: int, *, include_leaf: bool) -> set[int]:
        """Return the nodes still needed before `add` can take the leaf at position `index`.

        With `include_leaf` the leaf's own node is one of them; empty once the leaf is known.
        """
        number = self._first_leaf + index
        missing = set()
        if include_leaf and number not in self._nodes:
            missing.add(number)
        while number and number not in self._nodes:
            sibling = _sibling(number)
            if sibling not in self._nodes:
                missing.add(sibling)
            number = (number - 1) // 2
        return missing

    def add(self, nodes: Mapping[int, bytes], leaves: Mapping[int, bytes] = _NO_LEAVES) -> None:
        """Take nodes by number and leaves by position, if they agree with the root; else nothing.

        Raises BadHashError when one contradicts what is known or lies outside the tree, and
        NotEnoughHashesError when one cannot be checked for want of its sibling or of a root.
        """
        new = self._candidates(nodes, leaves)
        if new and 0 not in self._nodes:
            raise NotEnoughHashesError("the root of the hash tree is not known")
        levels: dict[int, set[int]] = {}
        for number in new:
            levels.setdefault((number + 1).bit_length(), set()).add(number)
        for depth in range(max(levels, default=0), 1, -1):
            above = levels.setdefault(depth - 1, set())
            for number in levels.get(depth, ()):
                if number % 2 or number - 1 not in levels[depth]:  # each pair once
                    self._check_pair(number, new, above)
        self._nodes.update(new)

    def _candidates(
        self, nodes: Mapping[int, bytes], leaves: Mapping[int, bytes]
    ) -> dict[int, bytes]:
        """Return the given nodes that are not known yet, by number."""
        new: dict[int, bytes] = {}
        positions = [(self._first_leaf + index, value) for index, value in leaves.items()]
        if any(number < self._first_leaf for number, _ in positions):
            raise BadHashError("a leaf lies outside its hash tree")
        for number, value in (*nodes.items(), *positions):
            if not 0 <= number <= 2 * self._first_leaf or len(value) != HASH_SIZE:
                raise BadHashError("a node lies outside its hash tree")
            known = self._nodes.get(number)
            if known is None:
                known = new.setdefault(number, value)
            if known != value:
                raise BadHashError("a node contradicts the hash tree")
        return new

    def _check_pair(self, number: int, new: dict[int, bytes], above: set[int]) -> None:
        """Check a new node together with its sibling; put their parent among the new ones."""
        left = number if number % 2 else number - 1
        a = new.get(left) or self._nodes.get(left)
        b = new.get(left + 1) or self._nodes.get(left + 1)
        if a is None or b is None:
            raise NotEnoughHashesError("a node of the hash tree lacks its sibling")
        parent, value = left // 2, tree_node_hash(a, b)
        known = self._nodes.get(parent)
        if known is None:
            known = new.setdefault(parent, value)
            above.add(parent)
        if known != value:
            raise BadHashError("nodes contradict the hash tree")
