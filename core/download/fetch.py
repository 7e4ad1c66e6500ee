"""Gets one stretch of adjacent segments: the shell around `truckee.core.download.segment`.

Knows shares through their contacts, the requests of the reader, and the CPU door. A stretch belongs
to a reader; who waits for one of its segments holds a Deferred, and when the last of them has been
cancelled the stretch stops. Results are tied to the stretch object, never to a segment number, so
what finishes late disturbs nobody.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredQueue
from twisted.logger import Logger

from truckee.core.cpu import Cpu, InlineCpu
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
    ShuttingDownError,
    StorageError,
    TruckeeError,
)
from truckee.core.storage.api import ShareReader, StorageServer
from truckee.core.tasks import Tasks

_log = Logger()

JOB_SIZE = 1 << 19  # bytes of plaintext in one job: smaller ones lose more in the thread hop
INLINE_SIZE = 1 << 16  # below this the work is done at once
SLOW = 99  # the grade of a server that let a request become overdue
REST = 60.0  # seconds for which a share that was overdue or failed is spared
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
    resting_until: float = 0.0  # it failed; not asked again before this time
    slow_until: float = 0.0  # it was overdue; asked last before this time
    bad_segments: set[int] = field(default_factory=set)
    reported: bool = False

    @property
    def key(self) -> ShareKey:
        """Its name among the shares."""
        return self.server.server_id, self.shnum

    def alive(self, now: float) -> bool:
        """Whether it may be asked at all."""
        return not self.dead and now >= self.resting_until

    def good_for(self, first: int, count: int) -> bool:
        """Whether none of its blocks of these segments is known to be bad."""
        return not any(first <= n < first + count for n in self.bad_segments)

    def found(self, now: float) -> Found:
        """Return what the choice of shares must know of it."""
        return Found(self.key, SLOW if now < self.slow_until else self.grade)


class Owner(Protocol):
    """What a stretch needs of its reader."""

    facts: FileFacts
    requests: Requests
    cpu: Cpu
    key: bytes | None

    def now(self) -> float:
        """Return the clock's time."""
        ...

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

    def withdraw(self, segnum: int, d: Deferred[Plaintext]) -> None:
        """Tell the stretch that now has the segment that somebody waits no longer."""
        ...

    def complain(self, holding: Holding, reason: str) -> None:
        """Tell the server that a share is corrupt; nobody waits for that."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class _Answer:
    """What a share gave: its blocks, not yet checked, and trusted hashes, by segment."""

    blocks: Sequence[memoryview]
    block_hashes: Sequence[bytes]
    segment_hashes: Sequence[bytes]


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
        self._answers: dict[ShareKey, _Answer] = {}
        self._open = set(range(first, first + count))
        self._over = False

    # who waits

    def wait(self, segnum: int) -> Deferred[Plaintext]:
        """Return a Deferred for one of the segments; cancelling it withdraws the wish."""
        waiters = self.waiters.setdefault(segnum, [])
        d: Deferred[Plaintext] = Deferred(lambda d: self._owner.withdraw(segnum, d))
        waiters.append(d)
        return d

    def adopt(self, segnum: int, waiting: list[Deferred[Plaintext]]) -> None:
        """Take over those who waited for a segment in another stretch."""
        self.waiters[segnum] = waiting

    def withdraw(self, segnum: int, d: Deferred[Plaintext]) -> None:
        """Forget somebody who waited; stop when nobody is left."""
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
            if d.called:  # cancelled by one that was served just now
                continue
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
            self._events.put([holding.found(self._owner.now()) for holding in good])

    def exhausted(self) -> None:
        """Take note that no further share will be found."""
        self._events.put(Exhausted())

    def remap(self) -> None:
        """Fail with Remapped if the segment size was guessed and has turned out to be another."""
        if self._owner.facts.segments != self._segments:
            self._events.put(_Failed(Remapped()))

    async def run(self) -> None:
        """Get the segments; every one of them is settled when this returns."""
        error: Exception
        try:
            async with Tasks() as tasks:
                await self._loop(tasks)
        except CancelledError:
            self._over = True
            error = ShuttingDownError("the reader was stopped")
        except (TruckeeError, Remapped) as raised:
            error = raised
        except Exception:  # noqa: BLE001 - one read fails, with a trace in the log, not the process
            _log.failure("fetching segments failed in an unexpected way")
            error = DownloadError("internal error while reading")
        else:
            return
        finally:
            self._answers.clear()
        for segnum in sorted(self._open):
            self._settle(segnum, error)

    async def _loop(self, tasks: Tasks) -> None:
        if self.first + self.count > self._segments.count:
            raise BadSegmentNumberError("there is no such segment")
        for holding in self._owner.holdings():  # all at once: the choice is made among them
            if holding.good_for(self.first, self.count):
                self._holdings[holding.key] = holding
        known = [holding.found(self._owner.now()) for holding in self._holdings.values()]
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
            holding.slow_until = self._owner.now() + REST
            self._events.put(Overdue(key))

        try:
            self._answers[key] = await self._read_share(holding, late)
        except CancelledError:
            raise
        except ShareError as error:
            self._bury(holding, str(error), corrupt=error.corrupt)
        except StorageError as error:
            self._rest(holding, type(error).__name__)
        except (TruckeeError, Remapped) as error:
            self._events.put(_Failed(error))
        except Exception as error:  # noqa: BLE001 - a server may break anything; others go on
            _log.failure("reading a share failed in an unexpected way")
            self._rest(holding, type(error).__name__)
        else:
            self._events.put(Arrived(key))

    def _bury(self, holding: Holding, reason: str, *, corrupt: bool) -> None:
        holding.dead = True
        if corrupt:
            self._owner.complain(holding, reason)
        self._events.put(Lost(holding.key, reason))

    def _rest(self, holding: Holding, reason: str) -> None:
        holding.resting_until = self._owner.now() + REST
        self._events.put(Lost(holding.key, reason))

    async def _read_share(self, holding: Holding, late: Callable[[], None]) -> _Answer:
        """Return the blocks and the trusted hashes to hold them against.

        Raises ShareError, StorageError, Remapped; CorruptShareError or AbsurdGeometryError when
        the file itself is bad.
        """
        contact, facts = holding.contact, self._owner.facts
        spans = Spans()
        before = None
        while True:
            if facts.segments != self._segments:
                raise Remapped
            blocks = contact.blocks(spans, self.first, self.count)
            ranges = contact.wanted(self.first, self.count, blocks=blocks is None)
            if not ranges and blocks is not None:
                return self._answer(contact, blocks)
            if ranges == before:
                raise ShareError("the share is cut short", corrupt=True)
            before = ranges
            await self._owner.requests.read(holding.remote, ranges, spans, late)
            contact.take(spans, self.first)

    def _answer(self, contact: ShareContact, blocks: list[memoryview]) -> _Answer:
        block_hashes = contact.block_hashes(self.first, self.count)
        segment_hashes = leaves_of(self._owner.facts, CIPHERTEXT, self.first, self.count)
        if block_hashes is None or segment_hashes is None:
            raise ShareError("the hashes of the share are missing", corrupt=False)
        return _Answer(blocks, block_hashes, segment_hashes)

    # the processor's part

    async def _decode(self, keys: tuple[ShareKey, ...]) -> None:
        """Check and decode what is still open, in jobs; each reports on its own, in order."""
        key, n = self._owner.key, self._segments.total_shares
        jobs = self._jobs({key[1]: self._answers[key] for key in keys})
        inline = sum(work.length for job in jobs for work in job) <= INLINE_SIZE
        cpu = InlineCpu() if inline else self._owner.cpu
        calls = [(job[0].segnum, cpu.run(decode_segments, key, n, job)) for job in jobs]
        del jobs
        try:
            for first, call in calls:
                self._events.put(_Decoded(first, await call, keys))
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - the decoder itself failed
            _log.failure("decoding failed in an unexpected way")
            self._events.put(_Failed(DownloadError("a segment could not be decoded")))
        finally:
            for _, call in calls:
                if isinstance(call, Deferred):
                    _ = call.addErrback(lambda _: None)  # nobody waits for the rest any more
                    call.cancel()

    def _jobs(self, answers: Mapping[int, _Answer]) -> list[list[SegmentWork]]:
        jobs: list[list[SegmentWork]] = [[]]
        filled = 0
        for segnum in sorted(self._open):
            i = segnum - self.first
            length = self._segments.size_of(segnum)
            if filled >= JOB_SIZE:
                jobs.append([])
                filled = 0
            filled += length
            work = SegmentWork(
                segnum,
                segnum * self._segments.segment_size,
                length,
                {shnum: answer.blocks[i] for shnum, answer in answers.items()},
                {shnum: answer.block_hashes[i] for shnum, answer in answers.items()},
                next(iter(answers.values())).segment_hashes[i],
            )
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
