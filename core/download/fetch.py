"""Gets one stretch of adjacent segments: the shell around `truckee.core.download.segment`.

Knows shares through their contacts, the requests of the reader, and the CPU door. A stretch belongs
to a reader; who waits for one of its segments holds a Deferred, and when the last of them has been
cancelled the stretch stops. Results are tied to the stretch object, never to a segment number, so
what finishes late disturbs nobody.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredQueue
from twisted.logger import Logger

from truckee.core.cpu import Cpu
from truckee.core.download.decode import (
    BadBlocks,
    BadSegment,
    Outcome,
    Plaintext,
    SegmentWork,
    decode_segments,
)
from truckee.core.download.requests import Requests
from truckee.core.download.segment import (
    Action,
    Arrived,
    Decode,
    Event,
    Exhausted,
    Fetch,
    Found,
    GiveUp,
    Lost,
    Overdue,
    ShareKey,
    StretchFetch,
    WantShares,
)
from truckee.core.download.share import FileFacts, ShareContact, ShareError, Spans, leaves_of
from truckee.core.download.slabs import CIPHERTEXT
from truckee.core.errors import (
    BadCiphertextHashError,
    BadSegmentNumberError,
    DownloadError,
    StorageError,
    TruckeeError,
)
from truckee.core.storage.api import ShareReader, StorageServer
from truckee.core.tasks import Tasks

_log = Logger()

JOB_SIZE = 1 << 19  # bytes of plaintext in one job: smaller ones lose more in the thread hop
INLINE_SIZE = 1 << 16  # below this the work is done at once
SLOW = 99  # the grade of a server that let a request become overdue
MAX_BAD_SEGMENTS = 64


class Remapped(Exception):
    """The segment size was guessed wrongly; the segment numbers mean nothing. Stays in the room."""


@dataclass(slots=True, eq=False)
class Holding:
    """One share on one server, as this reader knows it."""

    server: StorageServer
    shnum: int
    remote: ShareReader
    grade: int
    contact: ShareContact
    dead: bool = False
    bad_segments: set[int] = field(default_factory=set)
    reported: bool = False

    @property
    def key(self) -> ShareKey:
        """Its name among the shares."""
        return self.server.server_id, self.shnum

    def good_for(self, first: int, count: int) -> bool:
        """Whether it may be asked for these segments."""
        return not self.dead and not any(first <= n < first + count for n in self.bad_segments)


class Owner(Protocol):
    """What a stretch needs of its reader."""

    facts: FileFacts
    requests: Requests
    cpu: Cpu
    key: bytes | None

    def holdings(self) -> Sequence[Holding]:
        """Return the shares known to be alive."""
        ...

    def want_shares(self, stretch: "Stretch", *, urgent: bool) -> None:
        """Look for more shares; `found` or `exhausted` of the stretch will be called."""
        ...

    def settled(self, stretch: "Stretch", segnum: int, plaintext: Plaintext | None) -> None:
        """Take a segment that is done, None when it failed or nobody wants it."""
        ...

    def again(self, stretch: "Stretch", segnum: int) -> None:
        """Fetch one segment of the stretch on its own, for those who wait for it."""
        ...

    def complain(self, holding: Holding, reason: str) -> None:
        """Tell the server that a share is corrupt; nobody waits for that."""
        ...


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What became of segments `first` and on, with blocks of the shares `keys`."""

    first: int
    outcomes: Sequence[Outcome]
    keys: tuple[ShareKey, ...]


@dataclass(frozen=True, slots=True)
class _Failed:
    """The stretch fails as a whole."""

    error: Exception


class Stretch:
    """Segments `first` to `first + count - 1`, all in one slab, on their way."""

    def __init__(self, owner: Owner, first: int, count: int, birth: int) -> None:
        self.first = first
        self.count = count
        self.birth = birth
        self.waiters: dict[int, list[Deferred[Plaintext]]] = {}
        self.task: Deferred[None] | None = None
        self._owner = owner
        self._segments = owner.facts.segments
        self._machine = StretchFetch(owner.facts.needed_shares)
        self._events: DeferredQueue[Event | list[Found] | _Decoded | _Failed] = DeferredQueue()
        self._holdings: dict[ShareKey, Holding] = {}
        self._blocks: dict[ShareKey, list[memoryview]] = {}
        self._open = set(range(first, first + count))
        self._over = False

    # who waits

    def wait(self, segnum: int) -> Deferred[Plaintext]:
        """Return a Deferred for one of the segments; cancelling it withdraws the wish."""
        waiters = self.waiters.setdefault(segnum, [])
        d: Deferred[Plaintext] = Deferred(lambda d: self._withdraw(segnum, d))
        waiters.append(d)
        return d

    def adopt(self, segnum: int, waiting: list[Deferred[Plaintext]]) -> None:
        """Take over those who waited for a segment in another stretch."""
        self.waiters[segnum] = waiting

    def _withdraw(self, segnum: int, d: Deferred[Plaintext]) -> None:
        waiters = self.waiters.get(segnum, [])
        if d in waiters:
            waiters.remove(d)
        if not any(self.waiters.values()):
            self._stop()

    def _stop(self) -> None:
        self._over = True
        for segnum in sorted(self._open):
            self._owner.settled(self, segnum, None)
        self._open.clear()
        if self.task is not None:
            self.task.cancel()

    def _settle(self, segnum: int, result: Plaintext | Exception) -> None:
        if segnum not in self._open:
            return
        self._open.discard(segnum)
        plaintext = None if isinstance(result, Exception) else result
        self._owner.settled(self, segnum, plaintext)
        for d in self.waiters.pop(segnum, []):
            if isinstance(result, Exception):
                d.errback(result)
            else:
                d.callback(result)

    # what happens

    def found(self, holdings: Sequence[Holding]) -> None:
        """Take note of shares that one server holds."""
        good = [h for h in holdings if h.good_for(self.first, self.count)]
        if good:
            self._holdings.update({holding.key: holding for holding in good})
            self._events.put([Found(holding.key, holding.grade) for holding in good])

    def exhausted(self) -> None:
        """Take note that no further share will be found."""
        self._events.put(Exhausted())

    async def run(self) -> None:
        """Get the segments; every one of them is settled when this returns."""
        error: Exception
        try:
            async with Tasks() as tasks:
                await self._loop(tasks)
        except CancelledError:
            self._over = True
            error = DownloadError("the download was cancelled")
        except (TruckeeError, Remapped) as raised:
            error = raised
        except Exception:  # noqa: BLE001 - one read fails, with a trace in the log, not the process
            _log.failure("fetching segments failed in an unexpected way")
            error = DownloadError("internal error while reading")
        else:
            return
        finally:
            self._blocks.clear()
        for segnum in sorted(self._open):
            self._settle(segnum, error)

    async def _loop(self, tasks: Tasks) -> None:
        if self.first + self.count > self._segments.count:
            raise BadSegmentNumberError("there is no such segment")
        for holding in self._owner.holdings():  # all at once: the choice is made among them
            if holding.good_for(self.first, self.count):
                self._holdings[holding.key] = holding
        known = [Found(key, holding.grade) for key, holding in self._holdings.items()]
        self._perform(self._machine.handle(*known), tasks)
        while self._open and not self._over:
            match await self._events.get():
                case _Failed(error):
                    raise error
                case _Decoded() as decoded:
                    self._perform(self._machine.handle(*self._take(decoded)), tasks)
                case list() as found:
                    self._perform(self._machine.handle(*found), tasks)
                case event:
                    self._perform(self._machine.handle(event), tasks)

    def _perform(self, actions: Sequence[Action], tasks: Tasks) -> None:
        for action in actions:
            if self._over:
                return
            match action:
                case Fetch(key):
                    _ = tasks.start(self._fetch(self._holdings[key]))
                case WantShares(urgent):
                    self._owner.want_shares(self, urgent=urgent)
                case Decode(keys):
                    _ = tasks.start(self._decode(keys))
                case GiveUp(error):
                    raise error

    # one share

    async def _fetch(self, holding: Holding) -> None:
        key = holding.key

        def late() -> None:
            holding.grade = SLOW
            self._events.put(Overdue(key))

        try:
            blocks = await self._read_share(holding, late)
        except CancelledError:
            raise
        except ShareError as error:
            self._bury(holding, str(error), corrupt=error.corrupt)
        except StorageError as error:
            self._bury(holding, type(error).__name__, corrupt=False)
        except (TruckeeError, Remapped) as error:
            self._events.put(_Failed(error))
        except Exception as error:  # noqa: BLE001 - a server may break anything; others go on
            _log.failure("reading a share failed in an unexpected way")
            self._bury(holding, type(error).__name__, corrupt=False)
        else:
            self._blocks[key] = blocks
            self._events.put(Arrived(key))

    def _bury(self, holding: Holding, reason: str, *, corrupt: bool) -> None:
        holding.dead = True
        if corrupt:
            self._owner.complain(holding, reason)
        self._events.put(Lost(holding.key, reason))

    async def _read_share(self, holding: Holding, late: Callable[[], None]) -> list[memoryview]:
        """Return the blocks; all that vouches for them is in the facts then.

        Raises ShareError, StorageError, Remapped; CorruptShareError or AbsurdGeometryError when
        the file itself is bad.
        """
        contact, facts = holding.contact, self._owner.facts
        spans = Spans()
        before = None
        while True:
            blocks = contact.blocks(spans, self.first, self.count)
            ranges = contact.wanted(self.first, self.count, blocks=blocks is None)
            if not ranges and blocks is not None:
                return blocks
            if ranges == before:
                raise ShareError("the share is cut short", corrupt=True)
            before = ranges
            await self._owner.requests.read(holding.remote, ranges, spans, late)
            contact.take(spans, self.first)
            if facts.segments != self._segments:
                raise Remapped

    # the processor's part

    async def _decode(self, keys: tuple[ShareKey, ...]) -> None:
        """Check and decode what is still open, in jobs; each reports on its own, in order."""
        owner = self._owner
        jobs = self._jobs(keys)
        if sum(work.length for job in jobs for work in job) <= INLINE_SIZE:
            for job in jobs:
                outcomes = decode_segments(owner.key, self._segments.total_shares, job)
                self._events.put(_Decoded(job[0].segnum, outcomes, keys))
            return
        calls = [
            (
                job[0].segnum,
                owner.cpu.run(decode_segments, owner.key, owner.facts.total_shares, job),
            )
            for job in jobs
        ]
        del jobs
        try:
            for first, call in calls:
                self._events.put(_Decoded(first, await call, keys))
        except CancelledError:
            for _, call in calls:
                if isinstance(call, Deferred):
                    _ = call.addErrback(lambda _: None)
                    call.cancel()
            raise
        except Exception:  # noqa: BLE001 - the decoder itself failed
            _log.failure("decoding failed in an unexpected way")
            self._events.put(_Failed(DownloadError("a segment could not be decoded")))

    def _jobs(self, keys: tuple[ShareKey, ...]) -> list[list[SegmentWork]]:
        facts, size = self._owner.facts, self._segments.segment_size
        segment_hashes = leaves_of(facts, CIPHERTEXT, self.first, self.count)
        block_hashes = {
            key[1]: self._holdings[key].contact.block_hashes(self.first, self.count) for key in keys
        }
        jobs: list[list[SegmentWork]] = [[]]
        for segnum in sorted(self._open):
            i = segnum - self.first
            if segment_hashes is None or None in block_hashes.values():
                raise DownloadError("hashes were forgotten while they were needed")
            work = SegmentWork(
                segnum,
                segnum * size,
                self._segments.size_of(segnum),
                {key[1]: self._blocks[key][i] for key in keys},
                {shnum: leaves[i] for shnum, leaves in block_hashes.items() if leaves},
                segment_hashes[i],
            )
            if sum(other.length for other in jobs[-1]) >= JOB_SIZE:
                jobs.append([])
            jobs[-1].append(work)
        return jobs

    def _take(self, decoded: _Decoded) -> list[Event]:
        """Settle what is decided; return what the machine must know of bad blocks."""
        lost: dict[ShareKey, None] = {}
        for segnum, outcome in enumerate(decoded.outcomes, decoded.first):
            match outcome:
                case BadSegment():
                    error = BadCiphertextHashError("a segment contradicts the file's hash tree")
                    self._settle(segnum, error)
                case BadBlocks(shnums):
                    for key in decoded.keys:
                        if key[1] in shnums:
                            self._bad_block(key, segnum)
                            lost[key] = None
                    if self.count > 1:  # the others need not wait for its second attempt
                        self._again(segnum)
                case plaintext:
                    self._settle(segnum, plaintext)
        if self.count > 1:
            return []
        return [Lost(key, "a block fails its hash") for key in lost]

    def _bad_block(self, key: ShareKey, segnum: int) -> None:
        holding = self._holdings[key]
        holding.bad_segments.add(segnum)
        if len(holding.bad_segments) > MAX_BAD_SEGMENTS:
            holding.dead = True
        self._owner.complain(holding, "a block fails its hash")

    def _again(self, segnum: int) -> None:
        if segnum in self._open:
            self._open.discard(segnum)
            self._owner.again(self, segnum)
