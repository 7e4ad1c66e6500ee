"""Open descriptors of share files, few of them, shared by all readers. Knows `Files` and locks.

A descriptor is closed when nobody is inside a system call on it any more, so that its number is
never another file's while it is in use.
"""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock

from truckee.core.storage.files import Files

MAX_OPEN = 256


class Handle:
    """One open descriptor; used from several worker threads."""

    __slots__ = ("_closing", "_files", "_lock", "_users", "fd", "mark")

    def __init__(self, files: Files, fd: int, mark: object = None) -> None:
        """Own `fd`; `mark` is the caller's."""
        self.fd = fd
        self.mark = mark
        self._files = files
        self._users = 0
        self._closing = False
        self._lock = Lock()

    def enter(self) -> bool:
        """Begin to use the descriptor; False when it is closed."""
        with self._lock:
            if self._closing:
                return False
            self._users += 1
            return True

    def leave(self) -> None:
        """End using it."""
        with self._lock:
            self._users -= 1
            last = self._closing and not self._users
        if last:
            self._files.close(self.fd)

    def close(self) -> None:
        """Close it now, or when the last user leaves."""
        with self._lock:
            now = not self._closing and not self._users
            self._closing = True
        if now:
            self._files.close(self.fd)


class Handles:
    """The descriptors that were used last."""

    def __init__(self, most: int = MAX_OPEN) -> None:
        self._most = most
        self._open: OrderedDict[Hashable, Handle] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> Handle | None:
        """Return the descriptor kept under `key`."""
        with self._lock:
            handle = self._open.get(key)
            if handle is not None:
                self._open.move_to_end(key)
            return handle

    def put(self, key: Hashable, handle: Handle) -> None:
        """Keep a descriptor; what it displaces is closed."""
        with self._lock:
            old = [self._open.pop(key)] if key in self._open else []
            self._open[key] = handle
            while len(self._open) > self._most:
                old.append(self._open.popitem(last=False)[1])
        for each in old:
            each.close()

    def drop(self, key: Hashable) -> None:
        """Close the descriptor kept under `key`."""
        with self._lock:
            handle = self._open.pop(key, None)
        if handle is not None:
            handle.close()

    def drop_store(self, store: object) -> None:
        """Close every descriptor whose key begins with `store`."""
        with self._lock:
            keys = [key for key in self._open if isinstance(key, tuple) and key[0] is store]
            handles = [self._open.pop(key) for key in keys]
        for each in handles:
            each.close()

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)
