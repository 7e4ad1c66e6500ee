"""A mutable file: create, read, overwrite, modify.

Knows how map, download and publish follow each other, under which lock, and what is tried again;
touches servers through them. How a write goes: docs/mutable.rst.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

from twisted.internet.interfaces import IConsumer
from twisted.internet.task import deferLater
from twisted.logger import Logger

from truckee.core.crypto import rsa
from truckee.core.crypto.hashes import mutable_fingerprint, mutable_writekey
from truckee.core.errors import (
    NotEnoughSharesError,
    UncoordinatedWriteError,
    UnrecoverableFileError,
)
from truckee.core.formats.caps import MdmfWriteCap, SdmfWriteCap
from truckee.core.formats.mutable_share import MAX_SHARES
from truckee.core.interfaces import Modifier
from truckee.core.mutable.context import MutableCap, MutableContext, Roster, Slot
from truckee.core.mutable.encoding import Header
from truckee.core.mutable.publish import (
    NewVersion,
    next_seqnum,
    publish,
    writers_geometry,
)
from truckee.core.mutable.retrieve import Retrieval
from truckee.core.mutable.servermap import Mode, Servermap
from truckee.core.mutable.stream import stream
from truckee.core.mutable.survey import key_pair, survey

__all__ = ["MutableContext", "MutableFile", "MutableVersion"]

_log = Logger()

_TRIES = 4
_FIRST_DELAY = 1.0
_FACTOR = 2.7182818284590451
_JITTER = 0.11962656472
_INLINE = 65536  # bytes of contents up to which a modifier runs in the calling thread


@dataclass(frozen=True, slots=True)
class _Found:
    """What a survey found, and who was asked."""

    roster: Roster
    map: Servermap

    def best(self) -> Header:
        """Return the best version; raise UnrecoverableFileError when there is none."""
        header = self.map.best()
        if header is None:
            raise UnrecoverableFileError("no version of the mutable file has enough shares")
        return header


@dataclass(slots=True, eq=False)
class _Change:
    """One modification over all its attempts; `tried` are the versions it left unfinished."""

    modifier: Modifier
    tried: list[Header] = field(default_factory=list)
    _floor: int = -1  # sequence number of the version that the last attempt began with

    def base(self, found: _Found) -> Header:
        """Return the version to change; raise UnrecoverableFileError when there is none.

        An unfinished version of ours may have k shares and a number above the one that another
        writer finished meanwhile. His is taken then: ours lacks his change, while the modifier
        puts ours upon his. Only what is newer than our own beginning can be that; an older one
        would lose changes that ours has.
        """
        header = found.map.best(self._floor, self.tried) or found.best()
        if header not in self.tried:
            self._floor = header.seqnum
        return header


@dataclass(frozen=True, slots=True)
class MutableVersion:
    """One version of a mutable file, as it was found. `size` is that of the contents."""

    seqnum: int
    root_hash: bytes
    size: int
    needed_shares: int
    total_shares: int
    _header: Header = field(repr=False)
    _found: _Found = field(repr=False, compare=False)

    @classmethod
    def of(cls, header: Header, found: _Found) -> Self:
        """Return the version with this header."""
        g = header.geometry
        return cls(
            header.seqnum,
            header.root_hash,
            g.size,
            g.needed_shares,
            g.total_shares,
            header,
            found,
        )


class MutableFile:
    """One mutable file, bound to a capability to write or to read it."""

    def __init__(self, context: MutableContext, cap: MutableCap) -> None:
        """Take what all files of the process share, and a file capability."""
        self.cap = cap
        self._context = context
        self._slot = Slot.of(cap)

    @classmethod
    async def create(
        cls,
        context: MutableContext,
        contents: bytes | Callable[[bytes], bytes],
        *,
        mdmf: bool,
        keypair: rsa.KeyPair | None = None,
    ) -> Self:
        """Store a new file; `contents` may be a function of its write key.

        Raises FileTooLargeError, UploadUnhappinessError, NotEnoughServersError; and
        UncoordinatedWriteError when a given key pair is in use already.
        """
        pair = keypair or await context.keys.take()
        writekey = mutable_writekey(pair.private_der)
        fingerprint = mutable_fingerprint(pair.public_der)
        cap = (MdmfWriteCap if mdmf else SdmfWriteCap)(writekey, fingerprint)
        made = cls(context, cap)
        data = contents if isinstance(contents, bytes) else contents(writekey)
        context.pairs.put(writekey, pair)
        async with context.locks.hold(cap.storage_index, alone=True):
            await made._create(data, pair)
        return made

    async def best_version(self) -> MutableVersion:
        """Return the newest version that can be read; raise UnrecoverableFileError."""
        async with self._context.locks.hold(self._slot.storage_index, alone=False):
            found = await self._survey(Mode.READ)
        return MutableVersion.of(found.best(), found)

    async def download(self, version: MutableVersion | None = None) -> bytes:
        """Return all contents of a version, by default the best.

        Raises UnrecoverableFileError, NotEnoughSharesError, FileTooLargeError.
        """
        async with self._context.locks.hold(self._slot.storage_index, alone=False):
            if version is not None:
                return await self._whole(version._found, version._header)
            found = await self._survey(Mode.READ)
            try:
                return await self._retrieval(found, found.best()).whole()
            except NotEnoughSharesError:
                # shares broke, or were replaced under us: look everywhere, choose again
                found = await self._survey(Mode.CHECK)
                return await self._retrieval(found, found.best()).whole()

    async def _whole(self, found: _Found, header: Header) -> bytes:
        try:
            return await self._retrieval(found, header).whole()
        except NotEnoughSharesError:
            return await self._retrieval(await self._survey(Mode.CHECK), header).whole()

    async def read(
        self,
        consumer: IConsumer,
        offset: int = 0,
        size: int | None = None,
        version: MutableVersion | None = None,
    ) -> IConsumer:
        """Write a range of one version, cut at its end, to `consumer`; return the consumer.

        The version stays the same throughout; if another replaces it meanwhile on too many servers,
        that is a NotEnoughSharesError, never a mixture. The lock is not held while the consumer
        takes its time. Raises also DownloadStopped, UnrecoverableFileError, FileTooLargeError.
        """
        chosen = version or await self.best_version()
        header = chosen._header
        end = header.geometry.size if size is None else min(offset + size, header.geometry.size)
        if end <= offset:
            return consumer
        first = self._retrieval(chosen._found, header)
        fetch = self._fetcher(first)
        step = first.batch_segments
        return await stream(consumer, fetch, header.geometry, offset, end - offset, step)

    def _fetcher(self, retrieval: Retrieval) -> Callable[[range], Awaitable[list[bytes]]]:
        """Return a function that fetches segments of one version, looking again for lost shares."""
        current = retrieval

        async def fetch(segnums: range) -> list[bytes]:
            nonlocal current
            async with self._context.locks.hold(self._slot.storage_index, alone=False):
                try:
                    return await current.segments(segnums)
                except NotEnoughSharesError:
                    found = await self._survey(Mode.CHECK)
                    current = self._retrieval(found, current.header)
                    return await current.segments(segnums)

        return fetch

    async def overwrite(self, contents: bytes) -> None:
        """Replace the contents whatever they are; not tried again after a collision.

        k and N stay those of the best version. Raises NotWriteableError, UncoordinatedWriteError,
        UploadUnhappinessError, NotEnoughServersError, FileTooLargeError, UnrecoverableFileError
        (the private key cannot be had), SequenceNumberExhaustedError.
        """
        self._slot.require_writekey()
        async with self._context.locks.hold(self._slot.storage_index, alone=True):
            found = await self._survey_to_write(Mode.WRITE)
            await self._publish(found, found.map.best(), contents, [])

    async def modify(self, modifier: Modifier) -> None:
        """Replace the contents by what `modifier` makes of them; None or equal means no change.

        After a collision the best version is chosen and read anew, and the modifier applied to it:
        it must notice that its change is there already. It runs in a worker thread when the
        contents are long. Gives up with UncoordinatedWriteError at the fourth collision; other
        errors are those of `download` and `overwrite`.
        """
        self._slot.require_writekey()
        delay, change = _FIRST_DELAY, _Change(modifier)
        for attempt in range(_TRIES):
            try:
                async with self._context.locks.hold(self._slot.storage_index, alone=True):
                    await self._attempt(change, first=attempt == 0)
                return
            except (UncoordinatedWriteError, NotEnoughSharesError):
                if attempt == _TRIES - 1:
                    raise
            except UnrecoverableFileError:
                # after a collision the other writer may still be at work
                if attempt in (0, _TRIES - 1):
                    raise
            mean = delay * _FACTOR
            delay = max(self._context.normal(mean, mean * _JITTER), 0.0)
            _log.info("collision on a mutable file; next try in {delay:.1f} s", delay=delay)
            await deferLater(self._context.clock, delay)

    async def _attempt(self, change: "_Change", *, first: bool) -> None:
        found = await self._survey_to_write(Mode.WRITE if first else Mode.CHECK)
        header = change.base(found)
        old = await self._retrieval(found, header).whole()
        if len(old) <= _INLINE:
            new = change.modifier(old, first)
        else:
            new = await self._context.cpu.run(change.modifier, old, first)
        if new is None or new == old:
            if first:
                return
            new = old  # after a collision: make one version out of the mixture
        await self._publish(found, header, new, change.tried)

    async def _survey(self, mode: Mode) -> _Found:
        roster = Roster.of(self._context, self._slot.storage_index)
        return _Found(roster, await survey(self._context, self._slot, roster, mode))

    async def _survey_to_write(self, mode: Mode) -> _Found:
        """Return the map, of all servers when a newer version might be saved by looking further."""
        found = await self._survey(mode)
        if found.map.unrecoverable_newer() and mode is Mode.WRITE:
            found = await self._survey(Mode.CHECK)
        if found.map.unrecoverable_newer() and found.map.best() is not None:
            _log.warn("a newer version of a mutable file has too few shares and is written over")
        return found

    def _retrieval(self, found: _Found, header: Header) -> Retrieval:
        return Retrieval(self._context, self._slot, found.roster, found.map, header)

    async def _publish(
        self, found: _Found, old: Header | None, contents: bytes, tried: list[Header]
    ) -> None:
        """Write the next version over `found`, with the k and N of `old`."""
        seqnum = next_seqnum(found.map)
        k, n = self._shares_of(old)
        geometry = writers_geometry(len(contents), k, n, is_mdmf=self._slot.mdmf)
        pair = await key_pair(self._context, self._slot, found.roster, found.map)
        version = NewVersion(contents, seqnum, geometry, pair, tried)
        await publish(self._context, self._slot, found.roster, found.map, version)

    async def _create(self, contents: bytes, pair: rsa.KeyPair) -> None:
        """Write version 1, without a survey: the tests demand that nothing is there.

        Servers that lately let calls run out of time are passed over if there are enough others.
        """
        k, n = self._shares_of(None)
        geometry = writers_geometry(len(contents), k, n, is_mdmf=self._slot.mdmf)
        roster = Roster.of(self._context, self._slot.storage_index)
        slow = {i for i, server in roster.by_id.items() if self._context.is_suspect(server)}
        if len(roster.order) - len(slow) < max(self._context.encoding.happy, 1):
            slow = set()
        version = NewVersion(contents, 1, geometry, pair)
        await publish(self._context, self._slot, roster, Servermap(failed=slow), version)

    def _shares_of(self, old: Header | None) -> tuple[int, int]:
        """Return k and N for the next version: those it has, else our own, cut to fit a byte."""
        if old is not None:
            return old.geometry.needed_shares, old.geometry.total_shares
        encoding = self._context.encoding
        return min(encoding.needed_shares, MAX_SHARES), min(encoding.total_shares, MAX_SHARES)
