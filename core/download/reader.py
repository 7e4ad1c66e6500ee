"""Reads one immutable file: searches its shares, keeps what is known of them, serves ranges.

Knows the capability, the storage seam, the CPU door and a clock. A reader is made without traffic
and lives as long as its cache lets it: the UEB, the slabs of hashes, the known shares and the last
decoded segments serve every later read. How a read goes: docs/download.rst.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.logger import Logger

from truckee.core.cpu import Cpu
from truckee.core.download.decode import Plaintext, cut
from truckee.core.download.fetch import Holding, Remapped, Stretch
from truckee.core.download.flow import Flow
from truckee.core.download.kept import KeptSegments
from truckee.core.download.requests import MAX_IN_FLIGHT, Requests
from truckee.core.download.search import Search
from truckee.core.download.segment import ShareKey
from truckee.core.download.share import FileFacts, ShareContact
from truckee.core.download.slabs import SLAB
from truckee.core.download.status import ReaderStatus
from truckee.core.errors import BadSegmentNumberError, ShuttingDownError
from truckee.core.formats.caps import ChkReadCap, ChkVerifyCap
from truckee.core.placement import permuted
from truckee.core.storage.api import ShareReader, StorageServer
from truckee.core.storage.deadline import CALL_TIMEOUT, within
from truckee.core.tasks import Tasks

_log = Logger()

_SLACK = 4096  # a segment is a multiple of k, thus often a few bytes more than a round number
READ_AHEAD = (8 << 20) + _SLACK  # bytes of plaintext asked for before they are delivered
RUN_SIZE = (4 << 20) + _SLACK  # bytes of plaintext in one stretch: few requests, many blocks each
_GRADE_STEP = 0.025  # seconds; servers that answer within one step count as equally fast


class FileReader:
    """One file. With a verify cap it reads the ciphertext."""

    def __init__(
        self,
        cap: ChkReadCap | ChkVerifyCap,
        servers: Callable[[], Sequence[StorageServer]],
        cpu: Cpu,
        clock: IReactorTime,
        kept: KeptSegments,
    ) -> None:
        """Take the file, today's servers whenever asked, and where decoded segments are kept."""
        self.size = cap.size
        self.key = cap.readkey if isinstance(cap, ChkReadCap) else None
        self.cpu = cpu
        self.status = ReaderStatus()
        self.requests = Requests(clock, self.status, MAX_IN_FLIGHT)
        self.facts = FileFacts(cap.ueb_hash, cap.needed_shares, cap.total_shares, cap.size)
        self._storage_index = cap.storage_index
        self._servers = servers
        self._clock = clock
        self._kept = kept
        self._place = kept.new_owner()
        self._tasks = Tasks()
        self._holdings: dict[ShareKey, Holding] = {}
        self._search: Search | None = None
        self._hungry: set[Stretch] = set()
        self._active: dict[int, Stretch] = {}
        self._reads = 0
        self._mapped = False
        self._stopped = False

    # for callers

    async def read(
        self, consumer: IConsumer, offset: int = 0, size: int | None = None
    ) -> IConsumer:
        """Write the range, cut to the file, to `consumer` in order; return the consumer.

        Raises a DownloadError: DownloadStopped after stopProducing. The consumer is unregistered
        exactly once; for an empty range it is never registered.
        """
        length = self._clip(offset, size)
        if length == 0:
            return consumer
        flow = Flow()
        consumer.registerProducer(flow, True)
        try:
            await self._send(offset, length, flow, consumer.write)
        finally:
            consumer.unregisterProducer()
        return consumer

    async def read_range(self, offset: int, length: int) -> bytes:
        """Return the range, cut to the file; meant for small pieces. Raises a DownloadError."""
        pieces: list[bytes] = []
        clipped = self._clip(offset, length)
        if clipped:
            await self._send(offset, clipped, Flow(), pieces.append)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def get_segment(self, segnum: int) -> bytes:
        """Return one segment; raise BadSegmentNumberError when the file has no such segment."""
        flow = Flow()
        self._begin()
        if self.facts.ueb is None:
            await self._open(0, flow)
        if not 0 <= segnum < self.facts.segments.count:
            raise BadSegmentNumberError("there is no such segment")
        plaintext: Plaintext = await flow.wait(self._request(segnum, 1)[0])
        return b"".join(plaintext)

    def stop(self) -> None:
        """End all reads and requests; later reads fail with ShuttingDownError."""
        self._stopped = True
        self._tasks.cancel()
        self.forget()

    def forget(self) -> None:
        """Give back the memory of decoded segments."""
        self._kept.drop(self._place)

    @property
    def idle(self) -> bool:
        """Whether nothing is being fetched."""
        return not self._active

    @property
    def weight(self) -> int:
        """Bytes of memory, roughly, beside the decoded segments."""
        return 8192 + self.facts.slabs.size + 1024 * len(self._holdings)

    # one read

    def _clip(self, offset: int, size: int | None) -> int:
        if offset < 0 or (size is not None and size < 0):
            raise ValueError("a range cannot be negative")
        rest = max(0, self.size - offset)
        return rest if size is None else min(size, rest)

    def _begin(self) -> None:
        if self._stopped:
            raise ShuttingDownError("the reader was stopped")
        self._reads += 1
        if self.facts.fault is not None:
            raise type(self.facts.fault)(*self.facts.fault.args)

    async def _send(
        self, offset: int, length: int, flow: Flow, write: Callable[[bytes], object]
    ) -> None:
        """Give the range to `write`, piece by piece, as `flow` allows."""
        self._begin()
        self.status.note(self._clock.seconds(), "read", f"{offset} {length}")
        ready: dict[int, Plaintext] = {}
        if self.facts.ueb is None:
            ready = await self._open(offset, flow)
        size = self.facts.segments.segment_size
        end = offset + length
        queue = _Queue(self._request, flow, offset // size, (end - 1) // size, size, ready)
        try:
            while (arrived := await queue.next()) is not None:
                segnum, plaintext = arrived
                start = segnum * size
                for piece in cut(plaintext, max(offset - start, 0), end - start):
                    await flow.running()
                    write(piece.obj if piece.nbytes == len(piece.obj) else bytes(piece))  # type: ignore[arg-type]
                flow.check()
        finally:
            queue.close()

    async def _open(self, offset: int, flow: Flow) -> dict[int, Plaintext]:
        """Learn how the file is cut, on the way to the segment that is wanted first.

        Returns that segment, unless the segment size was not the usual one.
        """
        while self.facts.ueb is None:
            segnum = offset // self.facts.segments.segment_size
            try:
                return {segnum: await flow.wait(self._request(segnum, 1)[0])}
            except Remapped:
                continue
        return {}

    def _request(self, first: int, count: int) -> list[Deferred[Plaintext]]:
        """Return a Deferred for each of these segments, fetching what is neither here nor coming.

        Adjacent missing segments of one slab make one stretch; one with a bad block goes alone.
        """
        if self._stopped:
            raise ShuttingDownError("the reader was stopped")
        self._check_map()
        found: list[Deferred[Plaintext]] = []
        new: list[Stretch] = []
        troubled = {n for holding in self._holdings.values() for n in holding.bad_segments}
        segnum, end = first, first + count
        while segnum < end:
            kept = self._kept.get(self._place, segnum)
            if kept is not None:
                found.append(succeed(kept))
                segnum += 1
            elif (active := self._active.get(segnum)) is not None:
                found.append(active.wait(segnum))
                segnum += 1
            else:
                stop = self._run_end(segnum, end, troubled)
                stretch = self._add_stretch(segnum, stop - segnum)
                found += [stretch.wait(n) for n in range(segnum, stop)]
                new.append(stretch)
                segnum = stop
        for stretch in new:
            self._start(stretch)
        return found

    def _check_map(self) -> None:
        """Once it is known how the file is cut, end stretches numbered after a wrong guess."""
        if self._mapped or self.facts.ueb is None:
            return
        self._mapped = True
        for stretch in self._stretches():
            stretch.remap()

    def _run_end(self, first: int, end: int, troubled: set[int]) -> int:
        """Return where a stretch that begins at `first` must end."""
        end = min(end, (first // SLAB + 1) * SLAB)
        if first in troubled:
            return first + 1
        for segnum in range(first + 1, end):
            if (
                segnum in troubled
                or segnum in self._active
                or self._kept.get(self._place, segnum) is not None
            ):
                return segnum
        return end

    def _add_stretch(self, first: int, count: int) -> Stretch:
        stretch = Stretch(self, first, count, self._reads)
        for segnum in range(first, first + count):
            self._active[segnum] = stretch
        return stretch

    def _start(self, stretch: Stretch) -> None:
        stretch.task = self._tasks.start(stretch.run())

    # for stretches

    def holdings(self) -> Sequence[Holding]:
        """Return the shares known to be alive."""
        now = self.now()
        return [holding for holding in self._holdings.values() if holding.alive(now)]

    def now(self) -> float:
        """Return the clock's time."""
        return self._clock.seconds()

    def want_shares(self, stretch: Stretch, *, urgent: bool) -> None:
        """Search on; when a search of an earlier read has ended in vain, begin another."""
        search = self._search
        if search is None or (urgent and search.finished and search.birth < stretch.birth):
            search = self._search = self._new_search()
        if urgent:
            self._hungry.add(stretch)
        search.hungry()

    def _new_search(self) -> Search:
        self._holdings = {holding.key: holding for holding in self.holdings()}
        return Search(
            permuted(self._servers(), self._storage_index),
            self._storage_index,
            self.facts.total_shares,
            self._clock,
            self._tasks,
            self.status,
            self._found,
            self._exhausted,
            self._reads,
        )

    def _found(
        self, server: StorageServer, shares: Mapping[int, ShareReader], elapsed: float
    ) -> None:
        grade = int(elapsed / _GRADE_STEP).bit_length()
        for shnum, remote in shares.items():
            key = (server.server_id, shnum)
            holding = self._holdings.get(key)
            if holding is None or not holding.alive(self.now()):
                contact = ShareContact(self.facts, shnum)
                holding = self._holdings[key] = Holding(server, shnum, remote, grade, contact)
            holding.remote, holding.grade = remote, grade
        news = [self._holdings[server.server_id, shnum] for shnum in shares]
        self._hungry.clear()
        for stretch in self._stretches():
            stretch.found(news)

    def _exhausted(self, search: Search) -> None:
        """Tell those who are not younger than the search; the others deserve one of their own."""
        if search is not self._search:
            return
        hungry, self._hungry = self._hungry, set()
        for stretch in self._stretches():
            if stretch.birth <= search.birth:
                stretch.exhausted()
            elif stretch in hungry:
                self.want_shares(stretch, urgent=True)

    def _stretches(self) -> list[Stretch]:
        return list(dict.fromkeys(self._active.values()))

    def settled(self, stretch: Stretch, segnum: int, plaintext: Plaintext | None) -> None:
        """Keep a segment that has arrived; forget one that failed or that nobody wants."""
        if self._active.get(segnum) is stretch:
            del self._active[segnum]
        self._hungry.discard(stretch)
        if plaintext is not None and not self._stopped:
            self._kept.put(self._place, segnum, plaintext)

    def again(self, stretch: Stretch, segnum: int) -> None:
        """Fetch one segment of a stretch on its own; those who wait for it go on waiting."""
        waiting = stretch.waiters.pop(segnum, [])
        if self._active.get(segnum) is stretch:
            del self._active[segnum]
        if not waiting or self._stopped:
            return
        alone = self._add_stretch(segnum, 1)
        alone.adopt(segnum, waiting)
        self._start(alone)

    def withdraw(self, segnum: int, d: Deferred[Plaintext]) -> None:
        """Tell the stretch that now has the segment that somebody waits no longer."""
        stretch = self._active.get(segnum)
        if stretch is not None:
            stretch.withdraw(segnum, d)

    def complain(self, holding: Holding, reason: str) -> None:
        """Tell the server that a share is corrupt, once; nobody waits for that."""
        self.status.note(self._clock.seconds(), "corrupt", f"share {holding.shnum}")
        if not holding.reported:
            holding.reported = True
            _ = self._tasks.start(self._advise(holding, reason))

    async def _advise(self, holding: Holding, reason: str) -> None:
        try:
            await within(self._clock, CALL_TIMEOUT, holding.remote.advise_corrupt_share(reason))
        except Exception as error:  # noqa: BLE001 - a report that fails changes nothing
            _log.info("a corruption report failed", error=type(error).__name__)


class _Queue:
    """The segments of one read, in order, so many asked for ahead of delivery."""

    def __init__(
        self,
        request: Callable[[int, int], list[Deferred[Plaintext]]],
        flow: Flow,
        first: int,
        last: int,
        segment_size: int,
        ready: Mapping[int, Plaintext],
    ) -> None:
        self._request = request
        self._flow = flow
        self._next = first
        self._last = last
        self._longest = max(1, min(SLAB, RUN_SIZE // segment_size))
        self._window = max(1, min(2 * SLAB, READ_AHEAD // segment_size))
        self._run = 1  # grows: the first segment should not wait for its neighbours
        self._coming: deque[tuple[int, Deferred[Plaintext]]] = deque()
        if first in ready:
            self._coming.append((first, succeed(ready[first])))
            self._next += 1

    async def next(self) -> tuple[int, Plaintext] | None:
        """Return the next segment with its number; None after the last."""
        await self._flow.running()
        self._ask()
        if not self._coming:
            return None
        segnum, d = self._coming.popleft()
        return segnum, await self._flow.wait(d)

    def _ask(self) -> None:
        while self._next <= self._last:
            run = min(self._run, self._last + 1 - self._next)
            if self._coming and len(self._coming) + run > self._window:
                return
            for d in self._request(self._next, run):
                self._coming.append((self._next, d))
                self._next += 1
            self._run = min(2 * self._run, self._longest)

    def close(self) -> None:
        """Withdraw what is still asked for."""
        for _, d in self._coming:
            _ = d.addErrback(lambda _: None)
            d.cancel()
        self._coming.clear()
