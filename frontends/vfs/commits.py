"""How a written file becomes a linked one.

Knows the order of steps: hold back writers, store the contents (or find that they are stored
already), link them under the name the file has by then. Touches client, parent directory and
buffer. A commit that has begun belongs to the process: neither a cancelled caller nor the end of
its session stops it. Errors are the caller's to see; in background mode they are logged and
counted.
"""

from typing import Literal

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from truckee.core.errors import (
    FileTooLargeError,
    OperationCancelledError,
    ShuttingDownError,
    TruckeeError,
)
from truckee.core.interfaces import Client, DirectoryNode, Metadata
from truckee.core.tasks import Tasks
from truckee.frontends.vfs import attributes
from truckee.frontends.vfs.buffer_source import BufferSource
from truckee.frontends.vfs.nodes import Edge, find_child, is_same, kind_of
from truckee.frontends.vfs.pending import PendingFile, PendingTable
from truckee.frontends.vfs.sizes import MutableSizes

_log = Logger()

CommitMode = Literal["wait", "background"]

_QUEUE = 64  # commits that may run behind the clients' backs


class Commits:
    """All commits of the process."""

    def __init__(
        self,
        clock: IReactorTime,
        table: PendingTable,
        sizes: MutableSizes,
        mode: CommitMode,
        max_file_bytes: int,
    ) -> None:
        self._clock = clock
        self._table = table
        self._sizes = sizes
        self._mode = mode
        self._max_file_bytes = max_file_bytes
        self._tasks = Tasks()
        self._stopped = False
        self.failed = 0
        """How many commits have failed."""

    @property
    def running(self) -> int:
        """Return how many commits have begun and not ended."""
        return len(self._tasks)

    def begin(self, file: PendingFile, client: Client, *, waits: bool = False) -> Deferred[None]:
        """Start a commit; return what fires when the client may be answered.

        `waits` makes that its end in background mode, too. Cancelling it does not touch the commit.
        """
        answer: Deferred[None] = Deferred()
        if self._stopped:
            answer.errback(ShuttingDownError("the node is stopping"))
            return answer
        file.commit_begins()
        waits = waits or self._mode == "wait" or self.running >= _QUEUE
        _ = self._tasks.start(self._run(file, client, answer, waits=waits))
        return answer

    async def drain(self, seconds: float) -> None:
        """Take no new commits; wait for those under way, then cancel the rest."""
        self._stopped = True
        deadline = self._clock.seconds() + seconds
        while self._tasks and self._clock.seconds() < deadline:
            await _moment(self._clock)
        self._tasks.cancel()

    async def _run(
        self, file: PendingFile, client: Client, answer: Deferred[None], *, waits: bool
    ) -> None:
        result: Exception | None = OperationCancelledError("the commit was broken off")
        try:
            if not waits:
                await file.buffer.flush()
                _fire(answer, None)
            async with file.lock:
                await self._commit(file, client)
            result = None
        except Exception as error:  # noqa: BLE001 - handed to whoever waits, or logged
            self.failed += 1
            if answer.called:
                self._log_lost(error)
            result = error
        finally:
            file.commit_ended()
            self._table.drop(file)
            _fire(answer, result)

    @staticmethod
    def _log_lost(error: Exception) -> None:
        if isinstance(error, TruckeeError):
            _log.error("a commit failed: {kind}", kind=type(error).__name__)
        else:
            _log.failure("a commit failed")

    async def _commit(self, file: PendingFile, client: Client) -> None:
        """Link or publish the file as it is now. The lock is held."""
        parent, buffer = file.parent, file.buffer
        if file.abandoned or parent is None:
            return
        await buffer.freeze()
        try:
            if buffer.size > self._max_file_bytes:
                raise FileTooLargeError(f"more than {self._max_file_bytes} bytes")
            if buffer.changed:
                await self._store(file, client, parent)
                buffer.committed()
            elif file.mtime is not None or file.mode is not None:
                await _set_edge(file, parent)
            file.last_write = file.shown_mtime
            file.mtime = file.mode = None
        finally:
            buffer.thaw()

    async def _store(self, file: PendingFile, client: Client, parent: DirectoryNode) -> None:
        child = await find_child(parent, file.name) if _needs_edge(file) else None
        mutable = file.published
        if mutable is not None and child is not None and is_same(child[0], mutable):
            await mutable.overwrite(BufferSource(file.buffer))
            self._sizes.learn(mutable, file.buffer.size)
            if file.mtime is not None:
                await _set_edge(file, parent)
            return
        with parent.expecting():  # other edits of this directory may wait for this one
            text = await self._contents(file, client)
            metadata = _metadata(file, child[1] if child is not None else {}, text)
            await parent.set_uri(file.name, None, text, metadata, overwrite="only-files")

    async def _contents(self, file: PendingFile, client: Client) -> bytes:
        """Return the read cap of the contents, stored now or before."""
        base = file.immutable_base
        if base is not None and file.buffer.pure_base is base:
            return base.get_readonly_uri()
        cap = await client.upload(BufferSource(file.buffer))
        return cap.text.encode("ascii")


def _needs_edge(file: PendingFile) -> bool:
    """Return whether the link that stands there now matters to the new one."""
    dated = file.mtime is not None or file.mode is not None or file.had_mtime
    return dated or file.published is not None


def _metadata(file: PendingFile, old: Metadata, readcap: bytes) -> Metadata | None:
    """Return what the new link shall carry; None leaves what is there."""
    if file.mtime is None and file.mode is None and "truckee" not in old:
        return None
    kept = {key: value for key, value in old.items() if key != "tahoe"}
    new = attributes.with_mtime(kept, readcap, file.mtime)
    return new if file.mode is None else attributes.with_mode(new, file.mode)


async def _set_edge(file: PendingFile, parent: DirectoryNode) -> None:
    """Write time and mode that a client set, if the name is linked."""
    child = await find_child(parent, file.name)
    if child is not None:
        await edit_edge(parent, file.name, child, file.mtime, file.mode)


async def edit_edge(
    parent: DirectoryNode, name: str, child: Edge, mtime: int | None, mode: int | None
) -> None:
    """Write time and mode into the metadata of a link; no publish if that changes nothing.

    The mode matters for immutable files alone.
    """
    node, old = child
    new = {key: value for key, value in old.items() if key != "tahoe"}
    before = dict(new)
    if mtime is not None:
        new = attributes.with_mtime(new, node.get_readonly_uri(), mtime)
    if mode is not None and kind_of(node) == "file" and not node.is_mutable():
        new = attributes.with_mode(new, mode)
    if new != before:
        await parent.set_metadata_for(name, new)


async def _moment(clock: IReactorTime) -> None:
    await deferLater(clock, 0.02)


def _fire(answer: Deferred[None], result: Exception | None) -> None:
    if answer.called:
        return
    if result is None:
        answer.callback(None)
    else:
        answer.errback(result)
