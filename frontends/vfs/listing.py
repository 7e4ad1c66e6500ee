"""A directory as a client sees it: what is linked, what its account is writing, in batches.

Knows the order and the hiding of names; touches nothing but the clock, to let the reactor breathe.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import chain

from twisted.logger import Logger

from truckee.core.interfaces import DirectoryNode
from truckee.frontends.vfs.attributes import Attributes
from truckee.frontends.vfs.nodes import Describer, Edge, kind_of
from truckee.frontends.vfs.paths import is_hidden
from truckee.frontends.vfs.pending import PendingFile
from truckee.frontends.vfs.process import Vfs

_log = Logger()

Batch = list[tuple[str, Attributes]]

BATCH = 200
_TURN = 0.008  # seconds of formatting in one reactor turn; the client's side needs as much again


class Listing:
    """One directory at one moment."""

    def __init__(
        self,
        vfs: Vfs,
        describer: Describer,
        directory: DirectoryNode | None,
        children: Mapping[str, Edge],
        pending: Mapping[str, PendingFile],
        *,
        lines: bool,
    ) -> None:
        self._vfs = vfs
        self._describer = describer
        self._directory = directory
        self._children = children
        self._pending = pending
        self._lines = lines
        self._hidden = 0

    async def batches(self) -> AsyncIterator[Batch]:
        """Give at most 200 children at a time, and the reactor its turn between them."""
        clock = self._vfs.clock
        batch: Batch = []
        began = clock.seconds()
        for name in self._names():
            if is_hidden(name, lines=self._lines):
                self._hidden += 1
                continue
            batch.append((name, self._describe(name)))
            late = len(batch) % 16 == 0 and clock.seconds() - began > _TURN
            if late or len(batch) >= BATCH:
                yield batch
                batch = []
                await self._vfs.breathe()
                began = clock.seconds()
        if batch:
            yield batch
        if self._hidden:
            _log.warn("{n} names of a directory are hidden from the client", n=self._hidden)

    def _names(self) -> Iterator[str]:
        new = (name for name in self._pending if name not in self._children)
        return chain(self._children, new)

    def _describe(self, name: str) -> Attributes:
        file = self._pending.get(name)
        if file is not None:
            return self._describer.describe_pending(file)
        node, metadata = self._children[name]
        size = None
        if kind_of(node) == "file" and node.is_mutable():
            size = self._vfs.sizes.known(node)
        return self._describer.describe(node, metadata, self._directory, size)
