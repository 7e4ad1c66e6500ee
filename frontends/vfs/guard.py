"""Changes of the tree that must not cross: two checks that are right alone and wrong together.

Knows storage indexes and Deferreds; touches nothing. A directory that is found empty must stay so
until it is unlinked, else what was added meanwhile is acknowledged and lost. And two directories
must not be moved below each other at a time, else both leave the tree.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from twisted.internet.defer import DeferredLock

from truckee.core.errors import DirectoryNotEmptyError
from truckee.core.interfaces import DirectoryNode


class TreeGuard:
    """Who adds to which directory, which directories are being removed, who moves directories.

    One per process.
    """

    def __init__(self) -> None:
        self.moving = DeferredLock()
        """Held while a directory moves from one parent to another."""
        self._adding: Counter[bytes] = Counter()
        self._removing: dict[bytes, DeferredLock] = {}

    def __len__(self) -> int:
        """Return how many directories are being added to or removed."""
        return len(self._adding) + len(self._removing)

    async def removed(self, directory: DirectoryNode) -> bool:
        """Wait while the directory is being removed; return whether that was so.

        After False nothing has happened since the call: who goes on without waiting for anything
        else may add to the directory. After True it has to be looked for again.
        """
        lock = self._removing.get(_place(directory))
        if lock is None:
            return False
        await lock.acquire()
        lock.release()
        return True

    @contextmanager
    def adding(self, directory: DirectoryNode) -> Iterator[None]:
        """Keep the directory from being removed while something is added to it."""
        place = _place(directory)
        self._adding[place] += 1
        try:
            yield
        finally:
            self._adding[place] -= 1
            if not self._adding[place]:
                del self._adding[place]

    @asynccontextmanager
    async def removing(self, directory: DirectoryNode) -> AsyncIterator[None]:
        """Let nobody add to the directory; DirectoryNotEmptyError when somebody does already."""
        place = _place(directory)
        lock = self._removing.setdefault(place, DeferredLock())
        await lock.acquire()
        try:
            if place in self._adding:
                raise DirectoryNotEmptyError("something is being added to the directory")
            yield
        finally:
            lock.release()
            if not lock.locked and self._removing.get(place) is lock:
                del self._removing[place]


def _place(directory: DirectoryNode) -> bytes:
    return directory.get_storage_index() or b""  # only mutable directories can be changed
