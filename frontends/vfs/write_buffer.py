"""One file being written, in any order, before it goes to the grid.

Knows what was written (`held`: ranges that lie in the spool), what the file was before (`base`, of
which the first `base_limit` bytes still count and are fetched only when somebody needs them) and
that everything else is zeros. Small files stay in memory; larger ones go to the spool in large
pieces. While data comes in sequence it is hashed on its way, so that an upload need not read it
twice. Touches the spool and, lazily, the base. Errors: SpoolFullError, after which the buffer is
poisoned and nothing of it will ever be linked; FileTooLargeError; those of reading the base.
"""

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer

from truckee.core.errors import FileTooLargeError, SpoolFullError
from truckee.frontends.vfs.collector import read_range
from truckee.frontends.vfs.intervals import IntervalSet
from truckee.frontends.vfs.spool import MAX_FRAGMENTS, Piece, PrefixDigest, Spool, SpoolFile

MAX_OFFSET = 2**63 - 1
SMALL = 128 * 1024
"""Files up to this size are kept in memory."""

JOB = 512 * 1024
"""As much is gathered before the disk is given work."""

WAITING = 2 * 1024 * 1024
"""With more than this not yet on disk, a writer waits."""

FETCH = 1024 * 1024
"""The base is fetched in pieces of this size."""

_MAX_PIECES = 1024


class Base(Protocol):
    """One version of the file as it was before (core.interfaces.Readable fits)."""

    def get_size(self) -> int:
        """Return the number of bytes."""
        ...

    async def read(
        self, consumer: IConsumer, offset: int = 0, size: int | None = None
    ) -> IConsumer:
        """Write the range to `consumer`."""
        ...


class WriteBuffer:
    """Random-access contents of one file. Calls may overlap; writes take effect when called."""

    def __init__(self, spool: Spool, account: str, tag: Callable[[], bytes] | None = None) -> None:
        """Begin empty. `tag` gives the tag under which large contents will be hashed."""
        self.size = 0
        self.changed = False
        """Whether the contents are other than those last committed or opened."""
        self._spool = spool
        self._account = account
        self._tag = tag
        self._base: Base | None = None
        self._base_limit = 0
        self._pure = False  # exactly the base, nothing else
        self._held = IntervalSet()
        self._charged = 0
        self._fragments = 0
        self._in_memory = 0
        self._small: bytearray | None = bytearray()
        self._file: SpoolFile | None = None
        self._prefix: PrefixDigest | None = None
        self._pieces: list[Piece] = []
        self._queued = 0  # bytes taken that no job has stored yet
        self._storing = False
        self._waiters: list[Deferred[None]] = []
        self._frozen = 0
        self._error: str | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<WriteBuffer {self.size} bytes, {self._charged} in the spool>"

    # what it holds

    def open_over(self, base: Base) -> None:
        """Take an existing version as contents, without fetching anything."""
        self._base = base
        self._base_limit = self.size = base.get_size()
        self._pure = True

    @property
    def pure_base(self) -> Base | None:
        """Return the version that the contents are equal to, if they are exactly that."""
        return self._base if self._pure else None

    @property
    def poisoned(self) -> bool:
        """Return whether data was lost, so that this may never be committed."""
        return self._error is not None

    @property
    def spooled(self) -> int:
        """Return how many bytes are counted against the spool."""
        return self._charged

    def _check(self) -> None:
        if self._error is not None:
            raise SpoolFullError(self._error)
        if self._closed:
            raise SpoolFullError("the upload buffer is closed")

    def _poison(self, message: str) -> None:
        """Remember that data was lost, and let go of the rest."""
        if self._error is None:
            self._error = message
        self._let_go()

    # changing it

    async def write(self, offset: int, data: bytes) -> None:
        """Put `data` at `offset`; returns when few enough bytes wait for the disk."""
        self._check()
        while self._frozen:
            await self._next_event()
        self.put(offset, data)
        await self._keep_pace()
        self._check()

    async def _keep_pace(self) -> None:
        """Wait while too much waits for the disk."""
        while self._is_behind():
            self._pump()
            if self._is_behind():
                await self._next_event()

    def _is_behind(self) -> bool:
        many = self._queued > WAITING or len(self._pieces) > 2 * _MAX_PIECES
        return many or (self._queued > 0 and self._spool.crowded)

    async def append(self, data: bytes) -> None:
        """Put `data` at the end as it is when the data is taken."""
        self._check()
        while self._frozen:
            await self._next_event()
        await self.write(self.size, data)

    def put(self, offset: int, data: bytes) -> None:
        """Take data without waiting. Only for a buffer that is not frozen."""
        self._check()
        if not data:
            return
        end = offset + len(data)
        if offset < 0 or end > MAX_OFFSET:
            raise FileTooLargeError("offset beyond 2^63")
        self._changes()
        self._place(offset, bytes(data))
        self.size = max(self.size, end)

    def _changes(self) -> None:
        self.changed = True
        self._pure = False

    def _place(self, offset: int, data: bytes) -> None:
        """Put bytes into memory or on their way to the spool, and count them."""
        end = offset + len(data)
        if self._small is not None and (end > SMALL or self._spool.crowded):
            self._leave_memory()
        try:
            new = self._held.add(offset, end)
            if new:
                self._spool.reserve(self._account, new)
                self._charged += new
            self._count_fragments()
        except SpoolFullError as error:
            self._poison(str(error))
            raise
        if self._small is not None:
            if len(self._small) < end:
                self._small.extend(bytes(end - len(self._small)))
            self._small[offset:end] = data
        else:
            self._pieces.append((offset, data))
            self._queued += len(data)
        self._count_memory()
        self._pump()

    def _count_memory(self) -> None:
        """Tell the spool how much is held here."""
        held = self._queued + len(self._small or b"")
        self._spool.in_memory += held - self._in_memory
        self._in_memory = held

    def _count_fragments(self) -> None:
        change = len(self._held) - self._fragments
        if change:
            self._fragments += change
            self._spool.count_fragments(change)
            if self._fragments > MAX_FRAGMENTS:
                raise SpoolFullError("the file is written in too many fragments")

    def _leave_memory(self) -> None:
        """Send what is in memory to a spool file."""
        small = self._small or bytearray()
        self._small = None
        self._file = SpoolFile(self._spool)
        self._prefix = PrefixDigest(self._tag()) if self._tag is not None else None
        for low, high in self._held:
            self._pieces.append((low, bytes(small[low:high])))
            self._queued += high - low

    async def truncate(self, size: int) -> None:
        """Cut the contents, or lengthen them with zeros."""
        self._check()
        while self._frozen:
            await self._next_event()
        self._check()
        if size < 0 or size > MAX_OFFSET:
            raise FileTooLargeError("size beyond 2^63")
        if size == self.size:
            return
        self._changes()
        if size < self.size:
            self._cut(size)
        self.size = size

    def _cut(self, size: int) -> None:
        self._base_limit = min(self._base_limit, size)
        freed = self._held.cut(size)
        self._charged -= freed
        self._spool.release(self._account, freed)
        self._count_fragments()
        if size == 0:
            self._start_over()
        elif self._small is not None:
            del self._small[size:]
        else:
            self._prefix = None  # it may have run past the cut; the commit hashes anew
            self._pieces.append((size, None))
            self._pump()
        self._count_memory()

    def _start_over(self) -> None:
        """Return to an empty buffer in memory; a job that still runs writes to the old file."""
        self._pieces.clear()
        self._queued = 0
        self._prefix = None
        if self._file is not None:
            self._file.close()
            self._file = None
        self._base = None
        self._small = bytearray()

    # to the disk

    def _pump(self, *, everything: bool = False) -> None:
        """Start a job when there is enough for one, and none runs."""
        if self._storing or not self._pieces:
            return
        if everything or self._is_enough():
            self._storing = True
            _ = self._spool.tasks.start(self._store())

    def _is_enough(self) -> bool:
        """Return whether a job is worth its while."""
        many = self._queued >= JOB or len(self._pieces) >= _MAX_PIECES
        return many or (self._queued > 0 and self._spool.crowded)

    async def _store(self) -> None:
        """Store what was gathered, again and again while there is enough."""
        try:
            while self._file is not None and self._pieces:
                pieces, self._pieces = self._pieces, []
                file, size = self._file, sum(len(data or b"") for _, data in pieces)
                try:
                    await file.store(pieces, self._prefix)
                except SpoolFullError as error:
                    if file is self._file:
                        self._poison(str(error))
                if file is self._file:
                    self._queued -= size
                self._count_memory()
                if not self._is_enough():
                    break
                self._wake()
        finally:
            self._storing = False
            self._wake()
            self._pump()

    def _next_event(self) -> Deferred[None]:
        """Return what fires when a job has ended or the buffer is thawed."""
        d: Deferred[None] = Deferred()
        self._waiters.append(d)
        return d

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for d in waiters:
            if not d.called:
                d.callback(None)

    async def flush(self) -> None:
        """Wait until all that was written lies in the spool (or in memory)."""
        while self._pieces or self._storing:
            self._pump(everything=True)
            if not self._storing and not self._pieces:
                break
            await self._next_event()
        self._check()

    # reading it

    async def read(self, offset: int, length: int) -> bytes:
        """Return the range as it is now, cut at the end; what is needed of the base is fetched."""
        self._check()
        start, end = offset, min(offset + length, self.size)
        if start >= end:
            return b""
        await self.fetch_base(start, end)
        await self.flush()
        end = min(end, self.size)
        return bytes(await self._load(start, end)) if start < end else b""

    async def fetch_base(self, start: int, end: int) -> None:
        """Bring the part of the base that still counts in this range into the spool."""
        while True:
            gaps = self._held.missing(start, min(end, self._base_limit))
            if not gaps or self._base is None:
                return
            low, high = gaps[0]
            high = min(high, low + FETCH)
            base = self._base
            data = await read_range(base, low, high - low)
            self._check()
            if base is not self._base:
                continue
            # whoever wrote or cut here meanwhile goes first
            for a, b in self._held.missing(low, min(high, self._base_limit)):
                self._place(a, data[a - low : b - low])
            await self._keep_pace()
            self._check()

    async def _load(self, start: int, end: int) -> bytes | bytearray:
        if self._small is not None:
            piece = bytes(self._small[start:end])
            return piece + bytes(end - start - len(piece))
        if self._file is None:
            return bytes(end - start)
        return await self._file.load(start, end, self._held.within(start, end))

    # while it is committed

    async def freeze(self) -> None:
        """Flush, and hold back every change until `thaw`; the contents are then fixed."""
        self._frozen += 1
        try:
            await self.flush()
        except BaseException:
            self.thaw()
            raise

    def thaw(self) -> None:
        """Let changes go on."""
        self._frozen -= 1
        if not self._frozen:
            self._wake()

    def committed(self) -> None:
        """Note that the contents as they are now are linked. Only while frozen."""
        self.changed = False

    async def load_frozen(self, start: int, end: int) -> bytes | bytearray:
        """Return a range of fixed contents; may be called with others under way."""
        await self.fetch_base(start, end)
        if self._pieces or self._storing:
            await self.flush()
        self._check()
        return await self._load(start, end)

    async def digest_frozen(self, tag: bytes) -> bytes:
        """Return the tagged hash of fixed contents, going on where the running one stands."""
        digest = PrefixDigest(tag)
        prefix = self._prefix
        if prefix is not None and prefix.intact and prefix.tag == tag and prefix.end <= self.size:
            digest = prefix.copy()
        while digest.end < self.size:
            start, end = digest.end, min(self.size, digest.end + 4 * FETCH)
            await self.fetch_base(start, end)
            await self.flush()
            if self._file is None:
                data = await self._load(start, end)
                if end - start > SMALL:  # zeros without end: a job, as for a file
                    await self._spool.disk.run(digest.feed, start, data)
                else:
                    digest.feed(start, data)
            else:
                held = self._held.within(start, end)
                await self._file.hash_range(digest, start, end, held)
        return digest.digest()

    # the end

    def close(self) -> None:
        """Let go of everything; may be called again."""
        self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        self._pieces.clear()
        self._queued = 0
        if self._file is not None:
            self._file.close()
            self._file = None
        self._small = None
        self._base = self._prefix = None
        self._spool.release(self._account, self._charged)
        self._spool.count_fragments(-self._fragments)
        self._charged = self._fragments = 0
        self._held = IntervalSet()
        self._count_memory()
        self._wake()
