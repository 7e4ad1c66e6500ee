"""Encrypted, nameless files for what clients have sent and the grid does not hold yet.

Knows AES-CTR, a directory of its own on the local disk, and how many bytes and fragments the whole
process may keep there. Touches the disk: the constructor of `Spool` at once (start-up only), all
else through the disk door. A spool file has no name from the moment it is made and its key is in
memory alone, so nothing of it outlives the process; ended files are kept for the next upload for
some seconds (shelf). Errors are SpoolFullError and ConfigError.
"""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from truckee.core.cpu import Cpu
from truckee.core.crypto.aes import CtrStream
from truckee.core.crypto.hashes import TaggedHasher
from truckee.core.errors import ConfigError, SpoolFullError
from truckee.core.files import make_private_directory
from truckee.core.tasks import Tasks
from truckee.frontends.vfs.intervals import Range
from truckee.frontends.vfs.shelf import Shelf

P = ParamSpec("P")
T = TypeVar("T")

_log = Logger()

_PREFIX = ".spool-"
_SCRATCH = 256 * 1024  # bytes encrypted or decrypted at a time
_rooms = threading.local()
_SHARE_OF_FREE = 0.8
_SHARE_OF_ACCOUNT = 0.75  # so that the last quarter is there for the others
CROWDED = 64 * 1024 * 1024
"""With more than this in memory in all buffers together, everything goes to the disk at once."""

MAX_FRAGMENTS = 131072
"""Most disjoint ranges of one file, and an eighth of what all files together may have."""

Piece = tuple[int, bytes | None]
"""Bytes at an offset; None instead of bytes cuts the file there."""


class Spool:
    """The room that all files of the process share."""

    def __init__(
        self,
        disk: Cpu,
        clock: IReactorTime,
        directory: Path,
        limit: int | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Make the directory or check it; `limit` None is 80 % of the space that is free now.

        ConfigError if others may enter it.
        """
        self.disk = disk
        self.random = random
        self.tasks = Tasks()
        self.directory = directory
        _prepare(directory)
        if limit is None:
            free = os.statvfs(directory)
            limit = int(free.f_bavail * free.f_frsize * _SHARE_OF_FREE)
        self.limit = limit
        self.shelf = Shelf(clock, limit // 8, self._close_behind)
        self.used = 0
        self.fragments = 0
        self.in_memory = 0
        """Bytes that the buffers hold in memory."""
        self._accounts: dict[str, int] = {}

    @property
    def crowded(self) -> bool:
        """Return whether buffers should hold no more in memory than they must."""
        return self.in_memory > CROWDED

    def reserve(self, account: str, size: int) -> None:
        """Count `size` more bytes for `account`, or raise SpoolFullError.

        No account may hold more than three quarters of it all.
        """
        if self.used + size + self.shelf.size > self.limit:
            self.shelf.clear()
        held = self._accounts.get(account, 0) + size
        if self.used + size > self.limit or held > self.limit * _SHARE_OF_ACCOUNT:
            raise SpoolFullError("no space for upload buffer")
        self.used += size
        self._accounts[account] = held

    def release(self, account: str, size: int) -> None:
        """Give back what was reserved."""
        self.used -= size
        left = self._accounts.get(account, 0) - size
        if left > 0:
            self._accounts[account] = left
        else:
            self._accounts.pop(account, None)

    def _close_behind(self, fds: Sequence[int]) -> None:
        """Close files behind the door: freeing the blocks of large ones takes long."""
        _ = self.tasks.start(_close(self.disk, fds))

    def count_fragments(self, change: int) -> None:
        """Count fragments held in memory; raise SpoolFullError beyond the process's bound."""
        self.fragments += change
        if change > 0 and self.fragments > 8 * MAX_FRAGMENTS:
            raise SpoolFullError("too many fragments in upload buffers")


def _prepare(directory: Path) -> None:
    """Make the directory ours alone; remove what a killed process left between open and unlink."""
    try:
        make_private_directory(directory)
        for left in directory.glob(_PREFIX + "*"):
            with suppress(OSError):
                left.unlink()
    except OSError as error:
        raise ConfigError(f"the spool directory cannot be used (errno {error.errno})") from None


class PrefixDigest:
    """The hash of a file's first `end` bytes, taken while they pass; fed by one job at a time."""

    __slots__ = ("_hasher", "end", "intact", "tag")

    def __init__(self, tag: bytes) -> None:
        """Start at the first byte, under `tag`."""
        self.tag = tag
        self.end = 0
        self.intact = True
        self._hasher = TaggedHasher(tag)

    def feed(self, offset: int, data: bytes | bytearray) -> None:
        """Take bytes that follow; bytes further on are ignored, rewritten ones spoil the hash."""
        if offset < self.end:
            self.intact = False
        elif offset == self.end and self.intact:
            self._hasher.update(data)
            self.end += len(data)

    def copy(self) -> "PrefixDigest":
        """Return an independent one at the same place."""
        other = PrefixDigest(self.tag)
        other.end, other.intact = self.end, self.intact
        other._hasher = self._hasher.copy()
        return other

    def digest(self) -> bytes:
        """Return the hash of what was fed, 32 bytes."""
        return self._hasher.digest()


class SpoolFile:
    """One encrypted file. `store` calls must not overlap each other; `load` may overlap anything.

    Holes are not known here: reading one gives zeros or noise, so callers say what is there.
    """

    def __init__(self, spool: Spool) -> None:
        """Make a key; the file itself is made by the first `store`."""
        self._spool = spool
        self._key = spool.random(32)
        self._fd = -1
        self._end = 0  # how far the file was written
        self._busy = 0
        self._closed = False

    async def store(self, pieces: Sequence[Piece], prefix: PrefixDigest | None) -> None:
        """Write the pieces in order and show them to `prefix`; SpoolFullError when it fails.

        Hashing takes as long as writing, so each has a job of its own.
        """
        hashing: Deferred[None] | None = None
        if prefix is not None:
            hashing = Deferred.fromCoroutine(self._run(_feed, prefix, pieces))
        try:
            await self._run(self._store_now, pieces)
        finally:
            if hashing is not None:
                await hashing

    async def load(self, start: int, end: int, held: Sequence[Range]) -> bytearray:
        """Return the range; what is not in `held` is zeros."""
        return await self._run(self._load_now, start, end, held)

    async def hash_range(
        self, digest: PrefixDigest, start: int, end: int, held: Sequence[Range]
    ) -> None:
        """Feed the range to `digest`; what is not in `held` is zeros."""
        await self._run(self._hash_now, digest, start, end, held)

    def close(self) -> None:
        """Forget key and file, once the last job has ended."""
        self._closed = True
        self._close_if_idle()

    async def _run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise SpoolFullError("the upload buffer is closed")
        self._busy += 1
        try:
            return await self._spool.disk.run(job, *args, **kwargs)
        except OSError as error:
            _log.error("spool: errno {errno}", errno=error.errno)
            self._spool.shelf.clear()
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise SpoolFullError("no space for upload buffer") from None
            raise SpoolFullError("the upload buffer cannot be used") from None
        finally:
            self._busy -= 1
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._closed and not self._busy and self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._spool.shelf.keep(fd, self._end)

    # below: in a worker thread

    def _store_now(self, pieces: Sequence[Piece]) -> None:
        if self._fd < 0:
            kept = self._spool.shelf.take()
            self._fd = self._open() if kept is None else kept
        for offset, data in _runs(pieces):
            if data is None:
                os.ftruncate(self._fd, offset)
                continue
            stream, plain, at = CtrStream(self._key, offset), memoryview(data), offset
            for begin in range(0, len(plain), _SCRATCH):
                piece = plain[begin : begin + _SCRATCH]
                sealed = _scratch()[: stream.update_into(piece, _scratch())]
                while sealed:
                    n = os.pwrite(self._fd, sealed, at)
                    sealed, at = sealed[n:], at + n
                self._end = max(self._end, at)

    def _open(self) -> int:
        return _open_nameless(self._spool.directory, self._spool.random)

    def _load_now(self, start: int, end: int, held: Sequence[Range]) -> bytearray:
        whole = bytearray(end - start)
        view = memoryview(whole)
        for low, high in held:
            self._read_open(low, view[low - start : high - start])
        return whole

    def _hash_now(self, digest: PrefixDigest, start: int, end: int, held: Sequence[Range]) -> None:
        digest.feed(start, self._load_now(start, end, held))

    def _read_open(self, start: int, target: memoryview) -> None:
        stream, scratch = CtrStream(self._key, start), _scratch()
        while target:
            size = os.preadv(self._fd, [scratch[: len(target)]], start)
            if not size:
                raise OSError(errno.EIO, "the spool file is shorter than it was")
            stream.update_into(scratch[:size], target)
            target, start = target[size:], start + size


def _scratch() -> memoryview:
    """Return this thread's own room for ciphertext; new memory each time costs more than AES."""
    found: memoryview | None = getattr(_rooms, "scratch", None)
    if found is None:
        found = _rooms.scratch = memoryview(bytearray(_SCRATCH))
    return found


async def _close(disk: Cpu, fds: Sequence[int]) -> None:
    for fd in fds:
        await disk.run(os.close, fd)


def _open_nameless(directory: Path, random: Callable[[int], bytes]) -> int:
    """Return a descriptor of a new file without a name."""
    flags = os.O_RDWR | os.O_CLOEXEC
    nameless = getattr(os, "O_TMPFILE", 0)
    if nameless:
        # a filesystem that does not know the flag says so in several ways
        with suppress(OSError):
            return os.open(directory, flags | nameless | os.O_EXCL, 0o600)
    path = directory / (_PREFIX + random(16).hex())
    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    os.unlink(path)
    return fd


def _feed(prefix: PrefixDigest, pieces: Sequence[Piece]) -> None:
    for offset, data in pieces:
        if data is not None:
            prefix.feed(offset, data)


def _runs(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces with neighbours joined, order kept."""
    runs: list[Piece] = []
    group: list[bytes] = []
    start = end = 0
    for offset, data in pieces:
        if data is not None and group and offset == end:
            group.append(data)
            end += len(data)
            continue
        if group:
            runs.append((start, group[0] if len(group) == 1 else b"".join(group)))
            group = []
        if data is None:
            runs.append((offset, None))
        else:
            group, start, end = [data], offset, offset + len(data)
    if group:
        runs.append((start, group[0] if len(group) == 1 else b"".join(group)))
    return runs
