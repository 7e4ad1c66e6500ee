"""How large mutable files are: a query each, so the answers are remembered for a moment.

Knows storage indexes and a clock; asks the node.
"""

from collections import OrderedDict

from twisted.internet.interfaces import IReactorTime

from truckee.core.interfaces import FileNode, FilesystemNode

_MOST = 4096


class MutableSizes:
    """Sizes by storage index, the ones unused for longest forgotten first."""

    def __init__(self, clock: IReactorTime, ttl: float) -> None:
        """Take the clock and the seconds for which an answer counts."""
        self._clock = clock
        self._ttl = ttl
        self._known: OrderedDict[bytes, tuple[float, int]] = OrderedDict()

    def known(self, node: FilesystemNode) -> int | None:
        """Return the size, if somebody asked or wrote lately."""
        index = node.get_storage_index()
        if index is None or index not in self._known:
            return None
        when, size = self._known[index]
        return size if self._clock.seconds() - when < self._ttl else None

    def learn(self, node: FilesystemNode, size: int) -> None:
        """Remember the size of the best version."""
        index = node.get_storage_index()
        if index is not None:
            self._known[index] = (self._clock.seconds(), size)
            self._known.move_to_end(index)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)

    async def of(self, node: FileNode) -> int:
        """Return the size of a file, immutable ones included; a DownloadError if it is unknown."""
        if not node.is_mutable():
            return node.get_size() or 0
        size = self.known(node)
        if size is None:
            size = await node.get_size_of_best_version()
            self.learn(node, size)
        return size
