"""What a client has open on one channel, by handles that cannot be guessed or reused.

Knows names for handles and how many there may be; touches randomness alone.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from truckee.frontends.sftp.errors import FAILURE, Refused
from truckee.frontends.sftp.open_flags import Opening
from truckee.frontends.sftp.order import Turns
from truckee.frontends.vfs.handles import Contents, WriteHandle
from truckee.frontends.vfs.paths import Path
from truckee.frontends.vfs.read_stream import Budget
from truckee.frontends.vfs.session import Batch

MAX_FILES = 256
MAX_DIRECTORIES = 64
MAX_ANSWERS = 8 * 1024 * 1024


@dataclass(slots=True, eq=False)
class OpenFile:
    """A file, opened to read, to write, or both."""

    path: Path
    opening: Opening
    reading: Contents
    """Where READ reads, also while the file is written."""
    writing: WriteHandle | None
    """Where WRITE writes; the same object as `reading`."""
    began: float
    turns: Turns
    moved: int = 0
    """Bytes read or written so far."""
    failed: bool = False

    def let_go(self) -> None:
        """Close without a commit."""
        self.turns.close()
        self.reading.close()


@dataclass(slots=True, eq=False)
class OpenDirectory:
    """A directory that is being listed."""

    path: Path
    batches: AsyncIterator[Batch]
    began: float
    turns: Turns
    rest: list[bytes] = field(default_factory=list)
    """Entries that had no room in the last reply, in reverse order."""
    moved: int = 0

    def let_go(self) -> None:
        """Forget it."""
        self.turns.close()


Item = OpenFile | OpenDirectory


@dataclass(slots=True)
class Room:
    """How much is open, and being opened, and owed, on all channels of one connection."""

    files: int = 0
    directories: int = 0
    answers: Budget = field(default_factory=lambda: Budget(MAX_ANSWERS))
    """Bytes of answers that have not left this machine, beyond a little of each channel."""


class Handles:
    """All that is open on one channel."""

    def __init__(
        self, room: Room | None = None, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        """Take the connection's room, and where handles come from."""
        self._room = room or Room()
        self._random = random
        self._items: dict[bytes, Item] = {}

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._items)

    @contextmanager
    def room_for_file(self) -> Iterator[None]:
        """Count a file that is about to be opened; Refused when there are too many."""
        if self._room.files >= MAX_FILES:
            raise Refused(FAILURE, "too many open files")
        self._room.files += 1
        try:
            yield
        except BaseException:
            self._room.files -= 1
            raise

    @contextmanager
    def room_for_directory(self) -> Iterator[None]:
        """Likewise a directory."""
        if self._room.directories >= MAX_DIRECTORIES:
            raise Refused(FAILURE, "too many open directories")
        self._room.directories += 1
        try:
            yield
        except BaseException:
            self._room.directories -= 1
            raise

    def add(self, item: Item) -> bytes:
        """Enter what was opened; return its handle."""
        handle = self._random(8).hex().encode("ascii")
        while handle in self._items:
            handle = self._random(8).hex().encode("ascii")
        self._items[handle] = item
        return handle

    def item(self, handle: bytes) -> Item:
        """Return what is open under the handle; Refused if nothing is."""
        found = self._items.get(handle)
        if found is None:
            raise Refused(FAILURE, "invalid handle")
        return found

    def file(self, handle: bytes) -> OpenFile:
        """Return a file; Refused if it is none."""
        found = self._items.get(handle)
        if not isinstance(found, OpenFile):
            raise Refused(FAILURE, "invalid handle")
        return found

    def directory(self, handle: bytes) -> OpenDirectory:
        """Return a directory; Refused if it is none."""
        found = self._items.get(handle)
        if not isinstance(found, OpenDirectory):
            raise Refused(FAILURE, "invalid handle")
        return found

    def remove(self, handle: bytes) -> Item:
        """Return what is open under the handle, which is invalid from now on."""
        found = self.item(handle)
        del self._items[handle]
        if isinstance(found, OpenFile):
            self._room.files -= 1
        else:
            self._room.directories -= 1
        return found

    def drain(self) -> list[Item]:
        """Make all handles invalid; return what was open."""
        return [self.remove(handle) for handle in list(self._items)]
