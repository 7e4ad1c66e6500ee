"""The readers that are kept alive for all sessions: bounded in number and in bytes.

Knows readers; touches nothing itself. What the next read of a file saves is the search for shares,
the hash trees, and with luck the segment.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from weakref import WeakSet

from twisted.internet.interfaces import IReactorTime

from truckee.core.cpu import Cpu
from truckee.core.download.kept import KeptSegments
from truckee.core.download.reader import FileReader
from truckee.core.errors import ShuttingDownError
from truckee.core.formats.caps import ChkReadCap, ChkVerifyCap
from truckee.core.storage.api import StorageServer

MAX_READERS = 256
MAX_BYTES = 48 << 20


class ReaderCache:
    """One reader per capability, the ones unused for longest forgotten first."""

    def __init__(
        self,
        servers: Callable[[], Sequence[StorageServer]],
        cpu: Cpu,
        clock: IReactorTime,
        max_readers: int = MAX_READERS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Take today's servers whenever asked, and the bounds.

        Two thirds of `max_bytes` are for decoded segments, the rest for what readers remember.
        """
        self._servers = servers
        self._cpu = cpu
        self._clock = clock
        self._max_readers = max(1, max_readers)
        self._max_weight = max_bytes // 3
        self._kept = KeptSegments(max_bytes - self._max_weight)
        self._readers: OrderedDict[ChkReadCap | ChkVerifyCap, FileReader] = OrderedDict()
        self._all: WeakSet[FileReader] = WeakSet()
        self._stopped = False

    def get(self, cap: ChkReadCap | ChkVerifyCap) -> FileReader:
        """Return the reader of a file; with a verify cap, of its ciphertext. No traffic."""
        if self._stopped:
            raise ShuttingDownError("the reader cache was stopped")
        reader = self._readers.get(cap)
        if reader is None:
            reader = FileReader(cap, self._servers, self._cpu, self._clock, self._kept)
            self._readers[cap] = reader
            self._all.add(reader)
        self._readers.move_to_end(cap)
        self._make_room()
        return reader

    def __len__(self) -> int:
        """Return how many readers are kept."""
        return len(self._readers)

    @property
    def size(self) -> int:
        """Bytes held, roughly."""
        return self._kept.size + sum(reader.weight for reader in self._readers.values())

    def _make_room(self) -> None:
        """Forget readers beyond the bounds, idle ones only; a busy one goes when it is done."""
        weight = sum(reader.weight for reader in self._readers.values())
        spare = list(self._readers)[:-1]
        for cap in spare:
            if len(self._readers) <= self._max_readers and weight <= self._max_weight:
                return
            reader = self._readers[cap]
            if reader.idle:
                weight -= reader.weight
                del self._readers[cap]
                reader.forget()

    def stop(self) -> None:
        """End all reads and requests; nothing runs afterwards, and no reader is given out."""
        self._stopped = True
        for reader in list(self._all):
            reader.stop()
        self._readers.clear()
