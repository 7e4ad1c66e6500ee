"""Putting immutable files on servers: the shell around encoding and placing.

Knows the storage seam, a clock and the door to worker threads. One upload reads its source twice
(once with a random key or a digest that is known), selects servers, and runs a pipeline. Uploads of
one file (the same contents under the same secret) take turns: a server has no room for a share that
is being written already, and the second one finds the shares of the first.
"""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from twisted.internet.defer import CancelledError, DeferredLock
from twisted.internet.interfaces import IReactorTime

from truckee.core.cpu import Cpu, InlineCpu
from truckee.core.crypto import hashes
from truckee.core.formats.caps import ChkReadCap, LitCap
from truckee.core.formats.segments import Segments
from truckee.core.interfaces import Encoding, Uploadable
from truckee.core.storage.api import StorageServer
from truckee.core.tasks import Tasks
from truckee.core.upload.budget import Budget
from truckee.core.upload.encode import FileEncoder, Finish
from truckee.core.upload.pipeline import Key, Pipeline, first_pass
from truckee.core.upload.servers import ServerSelector
from truckee.core.upload.shares import OpenShares
from truckee.core.upload.sources import expect_end, is_private, read_exactly

LIT_MAXIMUM = 55  # bytes; whatever is larger becomes shares
INLINE_LIMIT = 65536  # bytes of shares of a file that is encoded in the reactor's thread
MEMORY = 64 * 1024 * 1024  # bytes of plaintext and shares that all uploads together hold


class Uploader:
    """Stores immutable contents; one serves a whole node."""

    def __init__(
        self,
        servers: Callable[[], Sequence[StorageServer]],
        cpu: Cpu,
        clock: IReactorTime,
        lease_secret: bytes,
        random: Callable[[int], bytes] = os.urandom,
        memory: int = MEMORY,
    ) -> None:
        """Take the servers to choose from at each upload, and the client's 32-byte lease secret.

        `memory` bounds what all uploads together hold; a single group of segments may exceed it.
        """
        self._cpu = cpu
        self._random = random
        self._budget = Budget(memory)
        self._background = Tasks()
        self._turns: dict[bytes, DeferredLock] = {}  # by storage index, of uploads under way
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
                pieces = await read_exactly(uploadable, size)
                await expect_end(uploadable)
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
        if store:
            storage_index = hashes.immutable_storage_index(key.readkey)
            async with self._turn(storage_index):
                shares = await self._selector.select(
                    storage_index,
                    segments.needed_shares,
                    happy,
                    segments.total_shares,
                    encoder.share_size,
                )
                finish = await self._encode(uploadable, key, encoder, shares, cpu)
        else:
            finish = await self._encode(uploadable, key, encoder, self._selector.nowhere(), cpu)
        return ChkReadCap(
            key.readkey,
            finish.ueb_hash,
            segments.needed_shares,
            segments.total_shares,
            segments.size,
        )

    async def _encode(
        self, uploadable: Uploadable, key: Key, encoder: FileEncoder, shares: OpenShares, cpu: Cpu
    ) -> Finish:
        """Fill the shares and close them; none stays open if that fails."""
        try:
            return await Pipeline(uploadable, key, encoder, shares, cpu, self._budget).run()
        except CancelledError:
            _ = self._background.start(shares.abort())
            raise
        except BaseException:
            await shares.abort()
            raise

    @asynccontextmanager
    async def _turn(self, storage_index: bytes) -> AsyncIterator[None]:
        """Wait until no other upload of this file runs, and be the one that does."""
        lock = self._turns.setdefault(storage_index, DeferredLock())
        await lock.acquire()
        try:
            yield
        finally:
            lock.release()
            if not lock.locked and self._turns.get(storage_index) is lock:
                del self._turns[storage_index]

    async def _key(
        self, uploadable: Uploadable, segments: Segments, convergence: bytes | None, cpu: Cpu
    ) -> Key:
        if convergence is None:
            return Key(self._random(16))
        tag = hashes.convergence_tag(
            convergence, segments.needed_shares, segments.total_shares, segments.segment_size
        )
        offered = getattr(uploadable, "content_digest", None)
        digest: bytes | None = None if offered is None else await offered(tag)
        if digest is None:
            digest = await first_pass(uploadable, segments.size, tag, cpu, self._budget)
            await uploadable.rewind()
        return Key(digest[:16], None if is_private(uploadable) else tag, digest)
