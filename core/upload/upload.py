"""Putting immutable files on servers: the shell around encoding and placing.

Knows the storage seam, a clock and the door to worker threads. One upload reads its source twice
(once with a random key), selects servers, and passes groups of segments through a short pipeline:
read, encode in a worker, write to all servers at once. The slowest server paces the reading.
"""

import hmac
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from truckee.core.cpu import Cpu, InlineCpu
from truckee.core.crypto import hashes
from truckee.core.errors import SourceChangedError
from truckee.core.formats.caps import ChkReadCap, LitCap
from truckee.core.formats.segments import Segments
from truckee.core.interfaces import Encoding, Uploadable
from truckee.core.storage.api import StorageServer
from truckee.core.tasks import Tasks
from truckee.core.upload.ask import deferred
from truckee.core.upload.encode import (
    WRITE_SIZE,
    FileEncoder,
    Finish,
    Group,
    encode_group,
    encode_whole,
    segments_per_group,
)
from truckee.core.upload.servers import ServerSelector
from truckee.core.upload.shares import OpenShares
from truckee.core.upload.sources import is_private

Buffer = bytes | bytearray | memoryview

LIT_MAXIMUM = 55  # bytes; whatever is larger becomes shares
INLINE_LIMIT = 65536  # bytes of shares of a file that is encoded in the reactor's thread
WHOLE_LIMIT = 4 * 1024 * 1024  # bytes of shares of a file whose shares are written in one go
TAILS_LIMIT = 16 * 1024 * 1024  # bytes of share ends in memory at a time, unless one has more
FIRST_PASS = 4 * 1024 * 1024  # bytes read and hashed at a time
IN_FLIGHT = 2  # groups being encoded while one is written and one is read
IN_FLIGHT_LIMIT = 64 * 1024 * 1024  # bytes of shares being encoded, unless one group has more


@dataclass(frozen=True, slots=True, repr=False)
class _Key:
    """The key of a file, and how to notice that another plaintext passes under it."""

    readkey: bytes
    tag: bytes | None = None  # None: nothing to compare
    digest: bytes = b""


class Uploader:
    """Stores immutable contents; one serves a whole node."""

    def __init__(
        self,
        servers: Callable[[], Sequence[StorageServer]],
        cpu: Cpu,
        clock: IReactorTime,
        lease_secret: bytes,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Take the servers to choose from at each upload, and the client's 32-byte lease secret."""
        self._cpu = cpu
        self._random = random
        self._background = Tasks()
        self._selector = ServerSelector(servers, clock, lease_secret, self._background)

    def stop(self) -> None:
        """Give up what still runs for uploads that are over: aborting shares of slow servers."""
        self._background.cancel()

    async def upload(
        self, uploadable: Uploadable, encoding: Encoding, convergence: bytes | None
    ) -> LitCap | ChkReadCap:
        """Store the contents and return their read cap once every share is durable.

        `convergence` is the secret mixed into the key, None for a random key. The uploadable is
        closed in any case. Raises NoServersError, UploadUnhappinessError, SourceChangedError, or
        what the source raises; then, and when cancelled, no share stays open.
        """
        return await self._run(uploadable, encoding, convergence, store=True)

    async def compute_cap(
        self, uploadable: Uploadable, encoding: Encoding, convergence: bytes | None
    ) -> LitCap | ChkReadCap:
        """Return the cap that `upload` would, and store nothing."""
        return await self._run(uploadable, encoding, convergence, store=False)

    async def _run(
        self, uploadable: Uploadable, encoding: Encoding, convergence: bytes | None, store: bool
    ) -> LitCap | ChkReadCap:
        try:
            size = await uploadable.get_size()
            if size <= LIT_MAXIMUM:
                pieces = await _read_exactly(uploadable, size)
                await _expect_end(uploadable)
                return LitCap(b"".join(pieces))
            segments = Segments.for_upload(
                size, encoding.needed_shares, encoding.total_shares, encoding.max_segment_size
            )
            return await self._run_chk(uploadable, segments, encoding.happy, convergence, store)
        finally:
            await uploadable.close()

    async def _run_chk(
        self,
        uploadable: Uploadable,
        segments: Segments,
        happy: int,
        convergence: bytes | None,
        store: bool,
    ) -> ChkReadCap:
        expanded = segments.share_data_size * segments.total_shares
        cpu = InlineCpu() if expanded <= INLINE_LIMIT else self._cpu
        key = await self._key(uploadable, segments, convergence, cpu)
        encoder = FileEncoder(segments, key.tag)
        shares = self._selector.nowhere()
        if store:
            shares = await self._selector.select(
                hashes.immutable_storage_index(key.readkey),
                segments.needed_shares,
                happy,
                segments.total_shares,
                encoder.share_size,
            )
        try:
            finish = await _Pipeline(uploadable, key, encoder, shares, cpu).run()
        except CancelledError:
            _ = self._background.start(shares.abort())
            raise
        except BaseException:
            await shares.abort()
            raise
        return ChkReadCap(
            key.readkey,
            finish.ueb_hash,
            segments.needed_shares,
            segments.total_shares,
            segments.size,
        )

    async def _key(
        self, uploadable: Uploadable, segments: Segments, convergence: bytes | None, cpu: Cpu
    ) -> _Key:
        if convergence is None:
            return _Key(self._random(16))
        tag = hashes.convergence_tag(
            convergence, segments.needed_shares, segments.total_shares, segments.segment_size
        )
        offered = getattr(uploadable, "content_digest", None)
        digest: bytes | None = None if offered is None else await offered(tag)
        if digest is None:
            digest = await _first_pass(uploadable, segments.size, tag, cpu)
            await uploadable.rewind()
        return _Key(digest[:16], None if is_private(uploadable) else tag, digest)


async def _read_exactly(uploadable: Uploadable, size: int) -> list[Buffer]:
    """Return the next `size` bytes in pieces; raise SourceChangedError if there are fewer."""
    pieces: list[Buffer] = []
    left = size
    while left:
        more = await uploadable.read(left)
        got = sum(len(piece) for piece in more)
        if not 0 < got <= left:
            raise SourceChangedError("the contents became shorter while they were read")
        pieces.extend(more)
        left -= got
    return pieces


async def _expect_end(uploadable: Uploadable) -> None:
    if any(len(piece) for piece in await uploadable.read(1)):
        raise SourceChangedError("the contents became longer while they were read")


async def _first_pass(uploadable: Uploadable, size: int, tag: bytes, cpu: Cpu) -> bytes:
    """Return the tagged hash of the contents; the next piece is read while one is hashed."""
    hasher = hashes.TaggedHasher(tag)

    def update(pieces: Sequence[Buffer]) -> None:
        for piece in pieces:
            hasher.update(piece)

    hashing: Deferred[None] | None = None
    try:
        for begin in range(0, size, FIRST_PASS):
            pieces = await _read_exactly(uploadable, min(FIRST_PASS, size - begin))
            if hashing is not None:
                await hashing
            hashing = deferred(cpu.run(update, pieces))
        if hashing is not None:
            await hashing
    except BaseException:
        _drop(hashing)
        raise
    return hasher.digest()


def _drop(d: Deferred[None] | Deferred[Group] | None) -> None:
    """Cancel what nobody will wait for."""
    if d is not None:
        _ = d.addErrback(lambda _: None)
        d.cancel()


class _Pipeline:
    """One file on its way from its source through the encoder to its shares.

    At any time one group is being read, `IN_FLIGHT` are being encoded and one is being written.
    """

    def __init__(
        self,
        uploadable: Uploadable,
        key: _Key,
        encoder: FileEncoder,
        shares: OpenShares,
        cpu: Cpu,
    ) -> None:
        self._uploadable = uploadable
        self._key = key
        self._encoder = encoder
        self._segments = encoder.segments
        self._shares = shares
        self._cpu = cpu
        self._encoding: deque[tuple[Deferred[Group], Sequence[Buffer]]] = deque()
        self._writing: Deferred[None] | None = None

    async def run(self) -> Finish:
        """Return the end of the file's encoding, once all shares are durable."""
        segments = self._segments
        if segments.share_data_size * segments.total_shares <= WHOLE_LIMIT:
            return await self._run_whole()
        step = segments_per_group(segments)
        group_size = step * segments.block_size * segments.total_shares
        in_flight = max(0, min(IN_FLIGHT, IN_FLIGHT_LIMIT // group_size))
        try:
            for first in range(0, segments.count, step):
                await self._begin(first, min(step, segments.count - first))
                if len(self._encoding) > in_flight:
                    await self._pass_on()
            await _expect_end(self._uploadable)
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

    async def _run_whole(self) -> Finish:
        """Encode a small file in one job, and write and close each share in one go."""
        plaintext = await _read_exactly(self._uploadable, self._segments.size)
        await _expect_end(self._uploadable)
        finish, whole = await self._cpu.run(
            encode_whole, self._key.readkey, self._encoder, plaintext, self._shares.numbers()
        )
        self._check_plaintext()
        await self._shares.write_whole(whole)
        return finish

    async def _begin(self, first: int, count: int) -> None:
        """Read a group and start to encode it."""
        segments = self._segments
        begin = first * segments.segment_size
        end = min(segments.size, begin + count * segments.segment_size)
        plaintext = await _read_exactly(self._uploadable, end - begin)
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
        except BaseException:
            _drop(chained)
            raise
        await chained

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
