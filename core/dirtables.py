"""The directories of one process: tables read through one cache, edits collected into batches.

Knows how a table is fetched and changed through the engines; touches nothing but through them and
the clock. The cache holds packed bytes and, beside them, what was made of them under each kind of
capability: who can only read never meets a write cap. Its key is the verify cap, not the storage
index alone: the holder of a read key can make a capability with the same storage index and a public
key of their own, and must not put words into the mouth of the true directory.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from truckee.core.cpu import Cpu
from truckee.core.errors import DirectoryFormatError, NotEnoughSharesError, NotWriteableError
from truckee.core.formats import dirnode
from truckee.core.formats.caps import (
    ChkReadCap,
    DirectoryCap,
    LitCap,
    MdmfReadCap,
    MdmfWriteCap,
    SdmfReadCap,
    SdmfWriteCap,
)
from truckee.core.formats.diredits import Batch, Edit
from truckee.core.formats.dirnode import Child, Table
from truckee.core.mutable.file import MutableFile
from truckee.core.nodes import Engines
from truckee.core.tasks import Tasks

P = ParamSpec("P")
T = TypeVar("T")

_log = Logger()

SMALL = 65536  # bytes of a table that is taken apart in the reactor thread
MANY_CHILDREN = 10_000  # each time so many are full, there is a warning
MAX_BATCH = 10_000  # edits in one modification
MAX_CACHE = 32 * 2**20  # bytes
VIEW_COST = 4  # what is made of a table takes so many times its bytes

BUSY = 4  # edits announced, or in the last modification, from which on a directory is busy
BUSY_SECONDS = 2.0  # how long it stays so
LINGER = 1.0  # most seconds that edits of a busy directory wait for each other
LINGER_GAP = 0.25  # they go when no other came for this long

Key = DirectoryCap


class Shared(Generic[T]):
    """One running job and all who wait for it; it is cancelled when none of them is left."""

    def __init__(self, job: Awaitable[T]) -> None:
        """Start the job."""
        self._waiting: dict[Deferred[T], None] = {}  # in order of arrival
        self._result: T | Failure | None = None
        self._done = False

        async def run() -> T:
            return await job

        self._job = Deferred.fromCoroutine(run())
        self._end = self._job.addBoth(self._finish)

    @property
    def done(self) -> bool:
        """Whether the job has ended."""
        return self._done

    @property
    def failed(self) -> bool:
        """Whether it has ended without a result."""
        return isinstance(self._result, Failure)

    async def wait(self) -> T:
        """Return the job's result, or raise what it raised."""
        d: Deferred[T] = Deferred(self._leave)
        if self._done:
            d.callback(self._result)  # type: ignore[arg-type]  # a Failure starts the errbacks
        else:
            self._waiting[d] = None
        return await d

    def _leave(self, d: Deferred[T]) -> None:
        self._waiting.pop(d, None)
        if not self._waiting and not self._done:
            self._job.cancel()

    def _finish(self, result: T | Failure) -> None:
        self._done, self._result = True, result
        waiting, self._waiting = self._waiting, {}
        for d in waiting:
            d.callback(result)


@dataclass(eq=False)
class _Packed:
    """A table as it was fetched or written, and what was made of it."""

    data: bytes
    until: float | None  # None: immutable
    tables: dict[bytes | None, Shared[Table]] = field(default_factory=dict)
    listings: dict[bytes | None, Shared[dict[str, Child]]] = field(default_factory=dict)

    @property
    def cost(self) -> int:
        """Bytes of memory, roughly, when one kind of capability looks at it."""
        return 1000 + len(self.data) * (1 + VIEW_COST)


class TableCache:
    """Packed tables by verify cap, the longest unused leaving first.

    Fetches of one directory coalesce. A fetch that was under way when the process itself wrote the
    directory is answered with what was written.
    """

    def __init__(self, clock: IReactorTime, ttl: float, max_bytes: int = MAX_CACHE) -> None:
        """Take the seconds for which a mutable directory is believed to be unchanged."""
        self._clock = clock
        self._ttl = ttl
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, _Packed] = OrderedDict()
        self._total = 0
        self._flights: dict[Key, Shared[_Packed]] = {}
        self._current: dict[Key, object] = {}  # fetches that nothing has overtaken

    def peek(self, key: Key) -> _Packed | None:
        """Return what is believed to be the table now, or None."""
        found = self._entries.get(key)
        if found is None:
            return None
        if found.until is not None and not 0 < found.until - self._clock.seconds() < self._ttl + 1:
            return None  # too old, or from a time before the clock was set back
        self._entries.move_to_end(key)
        return found

    async def get(self, key: Key, fetch: Callable[[], Awaitable[bytes]], mutable: bool) -> _Packed:
        """Return the table, fetching it if need be; raises what `fetch` does."""
        found = self.peek(key)
        if found is not None:
            return found
        flight = self._flights.get(key)
        if flight is None or flight.done:
            flight = self._flights[key] = Shared(self._fetch(key, fetch, mutable))
            if flight.done:
                self._flights.pop(key, None)
        return await flight.wait()

    def put(self, key: Key, data: bytes, mutable: bool = True) -> None:
        """Believe `data`, which was just written."""
        until = self._clock.seconds() + self._ttl if mutable else None
        old = self._take(key)
        self._add(key, _Packed(data, until), old)

    def forget(self, key: Key) -> None:
        """Believe nothing about a directory: a write of it may or may not have happened."""
        self._take(key)

    def _take(self, key: Key) -> _Packed | None:
        self._flights.pop(key, None)
        self._current.pop(key, None)
        old = self._entries.pop(key, None)
        if old is not None:
            self._total -= old.cost
        return old

    def _add(self, key: Key, new: _Packed, old: _Packed | None) -> None:
        if old is not None and old.data == new.data:
            new.tables, new.listings = old.tables, old.listings
        self._entries[key] = new
        self._total += new.cost
        while self._total > self._max_bytes and len(self._entries) > 1:
            self._total -= self._entries.popitem(last=False)[1].cost

    async def _fetch(
        self, key: Key, fetch: Callable[[], Awaitable[bytes]], mutable: bool
    ) -> _Packed:
        """Fetch a table; believe it unless a write of this process came in between."""
        me = self._current[key] = object()
        until = self._clock.seconds() + self._ttl if mutable else None
        try:
            new = _Packed(await fetch(), until)
        except BaseException:
            if self._current.get(key) is me:
                self._current.pop(key)
                self._flights.pop(key, None)
            raise
        if self._current.get(key) is not me:
            return self.peek(key) or new
        self._add(key, new, self._take(key))
        return new


class DirectoryTables:
    """Reads and changes directories for all clients of a process."""

    def __init__(
        self,
        engines: Engines,
        cpu: Cpu,
        clock: IReactorTime,
        ttl: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Take the engines, the worker threads, the clock and the cache's time to live.

        `wall` gives the seconds since 1970 that links carry.
        """
        self._wall = wall
        self._engines = engines
        self._cpu = cpu
        self._clock = clock
        self.cache = TableCache(clock, ttl)
        self._queues: dict[Key, _Queue] = {}

    async def table(self, cap: DirectoryCap, key: Key | None) -> Table:
        """Return the directory as `cap` sees it; raise a DownloadError or DirectoryFormatError."""
        return await self._table(cap, await self._packed(cap, key))

    async def listing(self, cap: DirectoryCap, key: Key | None) -> dict[str, Child]:
        """Return all lawful entries in order of name; the caller must not change the dict."""
        packed = await self._packed(cap, key)
        table = await self._table(cap, packed)
        view = _writekey(cap)
        job = packed.listings.get(view)
        if job is None or job.failed:
            job = packed.listings[view] = Shared(self._list(table))
        return await job.wait()

    async def _list(self, table: Table) -> dict[str, Child]:
        children = await self._run(table.size, table.children)
        if len(children) < table.count:
            hidden = table.count - len(children)
            _log.warn("entries of a directory break its rules: {hidden} not shown", hidden=hidden)
        return children

    async def fresh(self, cap: DirectoryCap, key: Key | None) -> Table:
        """Return the directory as it is on the servers now, whatever the cache says."""
        if key is not None and cap.is_mutable:
            self.cache.forget(key)
        return await self.table(cap, key)

    async def size(self, cap: DirectoryCap, key: Key | None) -> int:
        """Return the bytes of the packed table."""
        return len((await self._packed(cap, key)).data)

    def size_seen(self, key: Key | None) -> int | None:
        """Return the bytes of the packed table if it is in the cache."""
        found = self.cache.peek(key) if key is not None else None
        return None if found is None else len(found.data)

    async def edit(self, cap: DirectoryCap, key: Key | None, edit: Edit) -> Child | None:
        """Put an edit into the next modification of the directory and return its result.

        Raises NotWriteableError at once; else what the edit raises, or why nothing was written.
        """
        if cap.is_readonly or key is None:
            raise NotWriteableError("the directory can only be read")
        return await self._queue(cap, key).submit(edit)

    @contextmanager
    def expecting(self, cap: DirectoryCap, key: Key | None) -> Iterator[None]:
        """Announce an edit, so that others wait a moment for it: it comes before this is left."""
        if cap.is_readonly or key is None:
            raise NotWriteableError("the directory can only be read")
        queue = self._queue(cap, key)
        queue.announced += 1
        try:
            yield
        finally:
            queue.announced -= 1

    def _queue(self, cap: DirectoryCap, key: Key) -> "_Queue":
        queue = self._queues.get(key)
        if queue is None:
            self._drop_idle_queues()
            queue = _Queue(self._clock, lambda edits: self._write(cap, key, edits))
            self._queues[key] = queue
        return queue

    def _drop_idle_queues(self) -> None:
        if len(self._queues) >= 1000:
            for key in [key for key, queue in self._queues.items() if queue.idle]:
                del self._queues[key]

    async def _packed(self, cap: DirectoryCap, key: Key | None) -> _Packed:
        inner = cap.inner
        if isinstance(inner, LitCap) or key is None:
            return _Packed(inner.data if isinstance(inner, LitCap) else b"", None)
        return await self.cache.get(key, lambda: self._fetch(cap), cap.is_mutable)

    async def _fetch(self, cap: DirectoryCap) -> bytes:
        match cap.inner:
            case ChkReadCap() as inner:
                _check_size(inner.size)
                return await self._engines.reader(inner).read_range(0, inner.size)
            case SdmfWriteCap() | MdmfWriteCap() | SdmfReadCap() | MdmfReadCap() as inner:
                return await _read(self._engines.mutable(inner.read_cap()))
            case _:
                raise DirectoryFormatError("not a directory that can be read")

    async def _table(self, cap: DirectoryCap, packed: _Packed) -> Table:
        view = _writekey(cap)
        job = packed.tables.get(view)
        if job is None or job.failed:
            deep = not cap.is_mutable
            make = self._run(len(packed.data), _load, packed.data, view, deep)
            job = packed.tables[view] = Shared(make)
        return await job.wait()

    async def _run(self, size: int, f: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function of a table with `size` bytes where it does not hold up the reactor."""
        if size <= SMALL:
            return f(*args, **kwargs)
        return await self._cpu.run(f, *args, **kwargs)

    async def _write(self, cap: DirectoryCap, key: Key, edits: list[Edit]) -> Batch:
        """Do one modification with all edits; raise why nothing was written."""
        inner = cap.inner
        if not isinstance(inner, SdmfWriteCap | MdmfWriteCap):
            raise NotWriteableError("the directory can only be read")
        batch = Batch(edits, inner.writekey, self._wall())
        result = b""

        def modify(old: bytes, _first: bool) -> bytes | None:
            nonlocal result
            new = batch(old)
            result = old if new is None else new
            return new

        file = self._engines.mutable(inner)
        if isinstance(inner, MdmfWriteCap):  # which may be of any size
            _check_size((await file.best_version()).size)
        try:
            await file.modify(modify)
        except BaseException:
            self.cache.forget(key)
            raise
        self.cache.put(key, result)
        if batch.entries // MANY_CHILDREN > batch.entries_before // MANY_CHILDREN:
            _log.warn("a directory has {entries} entries", entries=batch.entries)
        return batch


async def _read(file: MutableFile) -> bytes:
    try:
        return await _read_once(file)
    except NotEnoughSharesError:  # replaced by somebody else under us: choose again
        return await _read_once(file)


async def _read_once(file: MutableFile) -> bytes:
    version = await file.best_version()
    _check_size(version.size)
    return await file.download(version)


def _writekey(cap: DirectoryCap) -> bytes | None:
    inner = cap.inner
    return inner.writekey if isinstance(inner, SdmfWriteCap | MdmfWriteCap) else None


def _load(data: bytes, writekey: bytes | None, deep: bool) -> Table:
    return Table(data, writekey=writekey, deep_immutable=deep)


def _check_size(size: int) -> None:
    if size > dirnode.MAX_PACKED:
        raise DirectoryFormatError("the directory is too large")


@dataclass(eq=False)
class _Job:
    edit: Edit
    result: Deferred[Child | None]


class _Queue:
    """The edits of one directory. All that wait when a modification starts go into it.

    Many callers who each add file after file come back soon after each modification, but not in one
    moment: in a busy directory the next modification waits a little, until as many are there as
    were announced (or else three in four of those seen last time), or no more come. Who is alone
    never waits.
    """

    def __init__(
        self, clock: IReactorTime, write: Callable[[list[Edit]], Awaitable[Batch]]
    ) -> None:
        """Take the function that does one modification."""
        self._clock = clock
        self._write = write
        self._waiting: deque[_Job] = deque()
        self._running = False
        self.announced = 0
        self._expected = 0
        self._ended = self._alone_until = float("-inf")
        self._arrival: Deferred[None] | None = None
        self._tasks = Tasks()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do or to remember."""
        quiet = self._clock.seconds() - self._ended > BUSY_SECONDS
        return not self._waiting and not self.announced and not self._running and quiet

    async def submit(self, edit: Edit) -> Child | None:
        """Return the edit's result; a caller who goes away takes the edit back if it can."""

        def give_up(_: Deferred[Child | None]) -> None:
            if job in self._waiting:
                self._waiting.remove(job)

        job = _Job(edit, Deferred(give_up))
        self._waiting.append(job)
        if self._arrival is not None and not self._arrival.called:
            self._arrival.callback(None)
        if not self._running:
            self._running = True
            self._run_ended = self._tasks.start(self._run())
        return await job.result

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                jobs = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
                if jobs:
                    await self._modify(jobs)
                    self._expected = (len(jobs) + len(self._waiting)) * 3 // 4
                    self._ended = self._clock.seconds()
        finally:
            self._running = False

    async def _modify(self, jobs: list[_Job]) -> None:
        try:
            batch = await self._write([job.edit for job in jobs])
        except Exception:  # noqa: BLE001 - handed to everyone who waits
            failure = Failure()
            for job in jobs:
                if not job.result.called:
                    job.result.errback(failure)
            return
        for job, outcome in zip(jobs, batch.outcomes, strict=True):
            if job.result.called:  # its caller went away
                continue
            if outcome.error is not None:
                job.result.errback(Failure(outcome.error))
            else:
                job.result.callback(outcome.child)

    async def _gather(self) -> None:
        """In a busy directory, wait for those who are likely to come."""
        start = self._clock.seconds()
        if start - self._ended > BUSY_SECONDS:
            self._expected = 0
        if start < self._alone_until or (self.announced or self._expected) < BUSY:
            return
        before = len(self._waiting)
        while len(self._waiting) < (self.announced or self._expected):
            left = start + LINGER - self._clock.seconds()
            if left <= 0 or not await self._one_more(min(left, LINGER_GAP)):
                break
        if len(self._waiting) <= before:  # in vain: do not try it again at once
            self._alone_until = self._clock.seconds() + BUSY_SECONDS

    async def _one_more(self, seconds: float) -> bool:
        """Wait for the next edit; return False when none comes in time."""
        arrival: Deferred[None] = Deferred()
        self._arrival = arrival
        timer: IDelayedCall = self._clock.callLater(seconds, arrival.cancel)
        try:
            await arrival
        except CancelledError:
            return False
        finally:
            self._arrival = None
            if timer.active():
                timer.cancel()
        return True
