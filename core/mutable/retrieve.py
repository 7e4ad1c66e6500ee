"""Reading one version: which copies to ask for blocks, and asking them.

`Picker` is the decider, pure; `Retrieval` its shell, which touches servers, worker pool and clock.
A version is pinned: blocks of another one are never mixed in, since nothing but the signed root
hash vouches for a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import DeferredQueue

from truckee.core.errors import (
    CorruptShareError,
    NotEnoughSharesError,
    StorageError,
    TruckeeError,
)
from truckee.core.formats.mutable_share import Section
from truckee.core.mutable.context import MutableContext, Roster, Slot
from truckee.core.mutable.encoding import Header, decode_segments
from truckee.core.mutable.proofs import Proofs, hash_blocks
from truckee.core.mutable.servermap import Copy, Mode, Servermap
from truckee.core.mutable.survey import advise, read_sections, survey
from truckee.core.storage.deadline import CALL_TIMEOUT, OVERDUE
from truckee.core.tasks import Tasks

BATCH = 1024 * 1024
"""Bytes of contents that are fetched at once, unless a segment is longer."""

_MAX_BATCH_SEGMENTS = 64
_INLINE = 65536  # bytes below which work is not worth a thread hop


class ShareChangedError(StorageError):
    """The share is no longer of the version that was found a moment ago."""


@dataclass(slots=True)
class Picker:
    """Decides which copies to ask, batch after batch.

    Each share number is asked of one server at a time; a copy that is overdue is asked for
    elsewhere, but may still answer. Shares with low numbers come first: they need no decoding.
    """

    k: int
    candidates: list[Copy]
    slow: set[bytes] = field(default_factory=set)
    _good: set[Copy] = field(default_factory=set)
    _done: set[int] = field(default_factory=set)
    _flying: dict[Copy, bool] = field(default_factory=dict)  # is it overdue?

    def begin(self) -> list[Copy]:
        """Start a batch; return the copies to ask. Raises NotEnoughSharesError."""
        self._done.clear()
        self._flying.clear()
        return self._next()

    def arrived(self, copy: Copy) -> list[Copy]:
        """Take note of good blocks."""
        self._flying.pop(copy, None)
        self._done.add(copy.shnum)
        self._good.add(copy)
        return self._next()

    def failed(self, copy: Copy, *, server_gone: bool) -> list[Copy]:
        """Take note that a copy, or its whole server, is of no use."""
        self._flying.pop(copy, None)
        self.candidates = [
            c
            for c in self.candidates
            if c is not copy and not (server_gone and c.server_id == copy.server_id)
        ]
        return self._next()

    def overdue(self, copy: Copy) -> list[Copy]:
        """Take note that a copy is slow to come."""
        if copy in self._flying:
            self._flying[copy] = True
            self.slow.add(copy.server_id)
        return self._next()

    def add(self, copies: Sequence[Copy]) -> list[Copy]:
        """Take note of copies, of which some may be known."""
        known = {(copy.server_id, copy.shnum) for copy in self.candidates}
        self.candidates += [c for c in copies if (c.server_id, c.shnum) not in known]
        return self._next()

    @property
    def complete(self) -> bool:
        """Return whether k share numbers are at hand."""
        return len(self._done) >= self.k

    @property
    def starved(self) -> bool:
        """Return whether everything that is still to come is overdue, and nobody else to ask."""
        fresh = {copy.shnum for copy, late in self._flying.items() if not late}
        return len(self._done | fresh) < self.k

    def _next(self) -> list[Copy]:
        coming = {copy.shnum for copy, late in self._flying.items() if not late} - self._done
        late = {copy.shnum for copy, late in self._flying.items() if late} - self._done
        # where some hang others may: ask for as many again
        missing = self.k - len(self._done) - len(coming) + len(late)
        chosen: list[Copy] = []
        taken = self._done | coming
        for copy in sorted(self.candidates, key=self._rank):
            if len(chosen) >= missing:
                break
            if copy.shnum not in taken and copy not in self._flying:
                chosen.append(copy)
                taken.add(copy.shnum)
        self._flying.update(dict.fromkeys(chosen, False))
        within_reach = self._done | {copy.shnum for copy in self._flying}
        if len(within_reach) < self.k:
            raise NotEnoughSharesError(
                f"only {len(within_reach)} shares of a version are usable, {self.k} are needed"
            )
        return chosen

    def _rank(self, copy: Copy) -> tuple[bool, bool, int]:
        return copy.server_id in self.slow, copy not in self._good, copy.shnum


@dataclass(frozen=True, slots=True)
class _Blocks:
    copy: Copy
    blocks: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class _Lost:
    copy: Copy
    server_gone: bool


@dataclass(frozen=True, slots=True)
class _Late:
    copy: Copy


@dataclass(frozen=True, slots=True)
class _More:
    copies: Sequence[Copy]


class _TimeUp:
    pass


_Event = _Blocks | _Lost | _Late | _More | _TimeUp


class Retrieval:
    """One version being read. Not for use by two readers at once."""

    def __init__(
        self,
        context: MutableContext,
        slot: Slot,
        roster: Roster,
        found: Servermap,
        header: Header,
    ) -> None:
        """Take the map and the version; raise FileTooLargeError or AbsurdGeometryError."""
        header.require_bearable()
        self.header = header
        self._context = context
        self._slot = slot
        self._roster = roster
        self._found = found
        self._proofs = Proofs(header)
        place = {server_id: i for i, server_id in enumerate(roster.order)}
        copies = found.copies_of(header)
        copies.sort(key=lambda copy: (copy.shnum, place[copy.server_id]))
        suspects = {i for i, server in roster.by_id.items() if context.is_suspect(server)}
        self._picker = Picker(header.geometry.needed_shares, copies, suspects)
        self._widened = False

    @property
    def batch_segments(self) -> int:
        """Return how many segments one call of `segments` should ask for at most."""
        size = max(self.header.geometry.segment_size, 1)
        return min(max(BATCH // size, 1), _MAX_BATCH_SEGMENTS)

    async def whole(self) -> bytes:
        """Return all contents; raise NotEnoughSharesError."""
        count, step = self.header.geometry.segments, self.batch_segments
        pieces: list[bytes] = []
        for first in range(0, count, step):
            pieces += await self.segments(range(first, min(first + step, count)))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def segments(self, segnums: range) -> list[bytes]:
        """Return the contents of consecutive segments; raise NotEnoughSharesError."""
        blocks = await self._fetch(segnums)
        by_segment = {
            segnum: {shnum: blocks[shnum][i] for shnum in blocks}
            for i, segnum in enumerate(segnums)
        }
        args = (self.header, self._slot.readkey, by_segment)
        if len(segnums) * self.header.geometry.segment_size < _INLINE:
            return decode_segments(*args)
        return await self._context.cpu.run(decode_segments, *args)

    async def _fetch(self, segnums: range) -> dict[int, Sequence[bytes]]:
        """Return the blocks of k shares by number."""
        picker, clock = self._picker, self._context.clock
        events: DeferredQueue[_Event] = DeferredQueue()
        got: dict[int, Sequence[bytes]] = {}
        time_up = clock.callLater(CALL_TIMEOUT, events.put, _TimeUp())
        async with Tasks() as tasks:
            try:
                wanted = picker.begin()
                while not picker.complete:
                    for copy in wanted:
                        _ = tasks.start(self._ask(copy, segnums, events))
                    match await events.get():
                        case _Blocks(copy, blocks):
                            got[copy.shnum] = blocks
                            wanted = picker.arrived(copy)
                        case _Lost(copy, gone):
                            wanted = picker.failed(copy, server_gone=gone)
                        case _Late(copy):
                            wanted = picker.overdue(copy)
                            self._context.suspect(self._roster.by_id[copy.server_id])
                            if picker.starved and not self._widened:
                                self._widened = True
                                _ = tasks.start(self._widen(events))
                        case _More(copies):
                            wanted = picker.add(copies)
                        case _TimeUp():
                            raise NotEnoughSharesError("too few servers sent blocks in time")
            finally:
                if time_up.active():
                    time_up.cancel()
        chosen = sorted(got)[: picker.k]
        return {shnum: got[shnum] for shnum in chosen}

    async def _ask(self, copy: Copy, segnums: range, events: "DeferredQueue[_Event]") -> None:
        """Put what comes of asking for a copy's blocks on the queue, whatever it is."""
        event: _Event = _Lost(copy, server_gone=False)
        late = self._context.clock.callLater(OVERDUE, events.put, _Late(copy))
        try:
            event = _Blocks(copy, await self._blocks(copy, segnums))
        except CorruptShareError as error:
            self._condemn(copy, str(error))
        except ShareChangedError:
            self._found.copies.pop((copy.server_id, copy.shnum), None)
        except TruckeeError:
            event = _Lost(copy, server_gone=True)
        finally:
            if late.active():
                late.cancel()
            events.put(event)

    async def _widen(self, events: "DeferredQueue[_Event]") -> None:
        """Look for the version on all servers; put each copy on the queue as it is found."""

        def heard(copies: Sequence[Copy]) -> None:
            events.put(_More([copy for copy in copies if copy.header == self.header]))

        await survey(self._context, self._slot, self._roster, Mode.CHECK, heard)

    def _condemn(self, copy: Copy, reason: str) -> None:
        self._found.mark_bad(copy)
        server = self._roster.by_id[copy.server_id]
        advise(self._context, server, self._slot, copy.shnum, reason)

    async def _blocks(self, copy: Copy, segnums: range) -> Sequence[bytes]:
        """Return the validated blocks of one copy."""
        where = [self.header.block_section(copy.sections, segnum) for segnum in segnums]
        data = Section(where[0].start, where[-1].end)
        proofs = self._proofs.wanted(copy, segnums)
        data_raw, *parts = await self._read(copy, [data, *proofs])
        if len(data_raw) != data.size:
            raise CorruptShareError("a share ends before its blocks do")
        blocks = [data_raw[s.start - data.start : s.end - data.start] for s in where]
        if data.size < _INLINE:
            leaves = hash_blocks(blocks)
        else:
            leaves = await self._context.cpu.run(hash_blocks, blocks)
        self._proofs.accept(
            copy,
            dict(zip(segnums, leaves, strict=True)),
            dict(zip(proofs, parts, strict=True)),
        )
        return blocks

    async def _read(self, copy: Copy, sections: Sequence[Section]) -> list[bytes]:
        """Return parts of a share, from what is known of it or from its server."""
        far = [s for s in sections if s.end > len(copy.head)]
        read: dict[Section, bytes] = {}
        if far:
            mine = self.header.checkstring
            server = self._roster.by_id[copy.server_id]
            now, *pieces = await read_sections(
                self._context, server, self._slot, copy.shnum, [Section(0, len(mine)), *far]
            )
            if now != mine:
                raise ShareChangedError("a share was replaced while it was read")
            read = dict(zip(far, pieces, strict=True))
        return [read[s] if s in read else s.cut(copy.head) for s in sections]
