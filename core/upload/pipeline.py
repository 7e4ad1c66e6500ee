"""One file on its way from its source through the encoder to its shares.

Knows the source, the encoder, the open shares and the door to worker threads. A short pipeline:
read, encode in a worker, write to all servers at once. The slowest server paces the reading.
"""

import hmac
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from truckee.core.cpu import Cpu
from truckee.core.crypto import hashes
from truckee.core.errors import SourceChangedError
from truckee.core.interfaces import Uploadable
from truckee.core.upload.ask import deferred
from truckee.core.upload.budget import Budget
from truckee.core.upload.encode import (
    WRITE_SIZE,
    FileEncoder,
    Finish,
    Group,
    encode_group,
    encode_whole,
    segments_per_group,
)
from truckee.core.upload.shares import OpenShares
from truckee.core.upload.sources import expect_end, read_exactly

Buffer = bytes | bytearray | memoryview

WHOLE_LIMIT = 4 * 1024 * 1024  # bytes of shares of a file whose shares are written in one go
TAILS_LIMIT = 16 * 1024 * 1024  # bytes of share ends in memory at a time, unless one has more
FIRST_PASS = 2 * 1024 * 1024  # bytes read and hashed at a time
IN_FLIGHT = 2  # groups being encoded while one is written and one is read


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """The key of a file, and how to notice that another plaintext passes under it."""

    readkey: bytes
    tag: bytes | None = None  # None: nothing to compare
    digest: bytes = b""


async def first_pass(
    uploadable: Uploadable, size: int, tag: bytes, cpu: Cpu, budget: Budget
) -> bytes:
    """Return the tagged hash of the contents; the next piece is read while one is hashed."""
    hasher = hashes.TaggedHasher(tag)

    def update(pieces: Sequence[Buffer]) -> None:
        for piece in pieces:
            hasher.update(piece)

    hashing: Deferred[None] | None = None
    share = min(size, 2 * FIRST_PASS)  # of the memory
    await budget.take(share)
    try:
        for begin in range(0, size, FIRST_PASS):
            pieces = await read_exactly(uploadable, min(FIRST_PASS, size - begin))
            if hashing is not None:
                await hashing
            hashing = deferred(cpu.run(update, pieces))
        if hashing is not None:
            await hashing
    except BaseException:
        _drop(hashing)
        raise
    finally:
        budget.give(share)
    return hasher.digest()


def _drop(d: Deferred[None] | Deferred[Group] | None) -> None:
    """Cancel what nobody will wait for."""
    if d is not None:
        _ = d.addErrback(lambda _: None)
        d.cancel()


class Pipeline:
    """One file on its way from its source through the encoder to its shares.

    At any time one group is being read, up to `IN_FLIGHT` are being encoded and one is being
    written, as far as the memory that all uploads share allows.
    """

    def __init__(
        self,
        uploadable: Uploadable,
        key: Key,
        encoder: FileEncoder,
        shares: OpenShares,
        cpu: Cpu,
        budget: Budget,
    ) -> None:
        self._uploadable = uploadable
        self._key = key
        self._encoder = encoder
        self._segments = encoder.segments
        self._shares = shares
        self._cpu = cpu
        self._budget = budget
        self._held = 0  # bytes of the budget
        self._encoding: deque[tuple[Deferred[Group], Sequence[Buffer]]] = deque()
        self._writing: Deferred[None] | None = None

    async def run(self) -> Finish:
        """Return the end of the file's encoding, once all shares are durable."""
        segments = self._segments
        try:
            if segments.share_data_size * segments.total_shares <= WHOLE_LIMIT:
                return await self._run_whole()
            step = segments_per_group(segments)
            for first in range(0, segments.count, step):
                await self._begin(first, min(step, segments.count - first))
                if len(self._encoding) > IN_FLIGHT:
                    await self._pass_on()
            await expect_end(self._uploadable)
            while self._encoding:
                await self._pass_on()
            if self._writing is not None:
                await self._writing
            finish = await self._finish()
            await self._shares.close()
            return finish
        except BaseException:
            for d, _ in self._encoding:
                _drop(d)
            _drop(self._writing)
            raise
        finally:
            self._give(self._held)

    async def _run_whole(self) -> Finish:
        """Encode a small file in one job, and write and close each share in one go."""
        await self._take(self._cost(self._segments.count))
        plaintext = await read_exactly(self._uploadable, self._segments.size)
        await expect_end(self._uploadable)
        finish, whole = await self._cpu.run(
            encode_whole, self._key.readkey, self._encoder, plaintext, self._shares.numbers()
        )
        self._check_plaintext()
        await self._shares.write_whole(whole)
        return finish

    def _cost(self, count: int) -> int:
        """Return the bytes of memory that `count` segments take, plaintext and shares."""
        segments = self._segments
        data = min(segments.share_data_size, count * segments.block_size)
        return data * (segments.needed_shares + segments.total_shares)

    async def _take(self, size: int) -> None:
        """Take memory; whoever waits for it must first let go of what it can."""
        while not self._budget.try_take(size):
            if not self._encoding:
                await self._budget.take(size)
                break
            await self._pass_on()
        self._held += size

    def _give(self, size: int) -> None:
        self._held -= size
        self._budget.give(size)

    async def _begin(self, first: int, count: int) -> None:
        """Read a group and start to encode it."""
        segments = self._segments
        begin = first * segments.segment_size
        end = min(segments.size, begin + count * segments.segment_size)
        await self._take(self._cost(count))
        plaintext = await read_exactly(self._uploadable, end - begin)
        job = self._cpu.run(encode_group, self._key.readkey, segments, first, count, plaintext)
        self._encoding.append((deferred(job), plaintext))

    async def _pass_on(self) -> None:
        """Start to write the oldest group, once the one before it is written."""
        encoding, plaintext = self._encoding[0]
        group = await encoding
        _ = self._encoding.popleft()
        if self._writing is not None:
            await self._writing
        self._writing = Deferred.fromCoroutine(self._write(group, plaintext))

    async def _write(self, group: Group, plaintext: Sequence[Buffer]) -> None:
        chained = deferred(self._cpu.run(self._encoder.chain, group, plaintext))
        del plaintext
        layout = self._encoder.layout
        offset = layout.data + group.first * self._segments.block_size
        try:
            if group.first == 0:
                header = layout.encode()
                await self._shares.write(0, [header] * self._segments.total_shares)
            await self._shares.write(offset, group.shares)
            await chained
        except BaseException:
            _drop(chained)
            raise
        self._give(self._cost(group.count))

    async def _finish(self) -> Finish:
        """Write the ends of all shares, few at a time if they are large."""
        self._check_plaintext()
        finish = await self._cpu.run(self._encoder.finish)
        numbers = self._shares.numbers()
        step = max(1, TAILS_LIMIT // finish.tail_size)
        for i in range(0, len(numbers), step):
            some = numbers[i : i + step]
            tails = await self._cpu.run(finish.tails, some)
            await self._write_tails(finish.tail_offset, tails)
        return finish

    async def _write_tails(self, offset: int, tails: Mapping[int, bytes]) -> None:
        views = {shnum: memoryview(tail) for shnum, tail in tails.items()}
        size = max(len(view) for view in views.values())
        for begin in range(0, size, WRITE_SIZE):
            await self._shares.write(
                offset + begin,
                {shnum: view[begin : begin + WRITE_SIZE] for shnum, view in views.items()},
            )

    def _check_plaintext(self) -> None:
        digest = self._encoder.plaintext_digest()
        if digest is not None and not hmac.compare_digest(digest, self._key.digest):
            raise SourceChangedError("the contents changed between their two readings")
