"""What each request does. Knows the vfs session and the order of requests; answers with replies.

A request is a coroutine of the channel's state and the request. What it does before its first
``await`` happens when the packet is read: finding the handle, taking a place in the order,
entering the name of a file that is opened. Whatever it raises becomes a STATUS (errors.py).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from truckee.core.errors import FileTooLargeError, OperationCancelledError
from truckee.frontends.gate.journal import Ending, Journal, Verb
from truckee.frontends.sftp import attributes, packets
from truckee.frontends.sftp.attributes import Wanted
from truckee.frontends.sftp.errors import (
    BAD_MESSAGE,
    FAILURE,
    NO_SUCH_FILE,
    OP_UNSUPPORTED,
    PERMISSION_DENIED,
    Refused,
)
from truckee.frontends.sftp.handles import Handles, Item, OpenDirectory, OpenFile
from truckee.frontends.sftp.open_flags import Opening, decide
from truckee.frontends.sftp.order import PathOrder, Starter, Turns
from truckee.frontends.sftp.packets import MAX_READ, Reply
from truckee.frontends.vfs import paths
from truckee.frontends.vfs.paths import Path
from truckee.frontends.vfs.session import VFSSession, WriteHandle

MAX_ENTRIES = 200
MAX_NAMES = 200 * 1024
"""One reply to READDIR holds at most so many entries and bytes of them."""

_LAST = 2**63 - 1


@dataclass(slots=True)
class State:
    """What the requests of one channel share."""

    session: VFSSession
    journal: Journal
    peer: str
    seconds: Callable[[], float]
    """The monotonic clock, for durations."""
    handles: Handles
    starter: Starter
    order: PathOrder = field(init=False)
    closing: set[Item] = field(default_factory=set)
    """What a CLOSE has come for that is not answered yet."""
    lost: bool = False

    def __post_init__(self) -> None:
        self.order = PathOrder(self.starter)

    def path(self, raw: bytes, *, creating: bool = False) -> Path:
        """Return the path; what is not UTF-8 cannot exist, and cannot be created."""
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            code = FAILURE if creating else NO_SUCH_FILE
            raise Refused(code, "the path is not UTF-8") from None
        return paths.parse(text)

    def report(self, item: Item, ending: Ending) -> None:
        """Tell the journal what was moved through a handle that is closed now."""
        verb: Verb = "list"
        if isinstance(item, OpenFile):
            verb = "get" if item.writing is None else "append" if item.opening.append else "put"
        self.journal.transfer(
            "sftp",
            self.peer,
            self.session.account,
            verb,
            paths.format_path(item.path),
            item.moved,
            self.seconds() - item.began,
            ending,
        )

    def let_go(self) -> None:
        """Close everything that is open and commit nothing; requests that wait do not begin."""
        self.lost = True
        self.order.close()
        for item in list(self.closing):
            item.let_go()
        for item in self.handles.drain():
            item.let_go()
            self.report(item, "aborted")


Server = Callable[[State, Any], Awaitable[Reply]]


# paths


async def realpath(s: State, r: packets.Realpath) -> Reply:
    """REALPATH: no look at what exists."""
    return packets.names(r.id, [attributes.bare_entry(paths.format_path(s.path(r.path)))])


async def stat(s: State, r: packets.Stat) -> Reply:
    """STAT and LSTAT."""
    path = s.path(r.path)
    async with s.order.look(path):
        found = await s.session.stat(path)
    return packets.attrs(r.id, attributes.encode(found))


async def setstat(s: State, r: packets.Setstat) -> Reply:
    """SETSTAT."""
    path = s.path(r.path)
    if not r.wanted.empty:
        async with s.order.change(path):
            await _set_by_path(s, path, r.wanted)
    return packets.ok(r.id)


async def _set_by_path(s: State, path: Path, wanted: Wanted) -> None:
    _check_size(wanted)
    await s.session.set_attributes(path, mtime=wanted.mtime, mode=wanted.mode, size=wanted.size)


def _check_size(wanted: Wanted) -> None:
    if wanted.size is not None and wanted.size > _LAST:
        raise FileTooLargeError("size beyond 2^63")


async def remove(s: State, r: packets.Remove) -> Reply:
    """REMOVE."""
    path = s.path(r.path)
    async with s.order.change(path):
        await s.session.remove(path)
    return packets.ok(r.id)


async def mkdir(s: State, r: packets.Mkdir) -> Reply:
    """MKDIR."""
    path = s.path(r.path, creating=True)
    async with s.order.change(path):
        await s.session.mkdir(path)
    return packets.ok(r.id)


async def rmdir(s: State, r: packets.Rmdir) -> Reply:
    """RMDIR."""
    path = s.path(r.path)
    async with s.order.change(path):
        await s.session.rmdir(path)
    return packets.ok(r.id)


async def rename(s: State, r: packets.Rename) -> Reply:
    """RENAME and posix-rename."""
    source, target = s.path(r.source), s.path(r.target, creating=True)
    async with s.order.change(source, target):
        await s.session.rename(source, target, replace=r.replace)
    return packets.ok(r.id)


async def unsupported(s: State, r: packets.Unsupported) -> Reply:
    """Whatever is not served."""
    raise Refused(OP_UNSUPPORTED, "operation not supported")


async def malformed(s: State, r: packets.Malformed) -> Reply:
    """Whatever cannot be read."""
    raise Refused(BAD_MESSAGE, "the request cannot be read")


# files


async def open_file(s: State, r: packets.Open) -> Reply:
    """OPEN."""
    opening = decide(r.flags)
    path = s.path(r.path, creating=opening.create)
    with s.handles.room_for_file():
        claim = s.order.change(path) if opening.buffered else s.order.look(path)
        async with claim:
            file = await _opened(s, path, opening, r.wanted)
        if s.lost:
            file.let_go()
            raise OperationCancelledError("the connection is gone")
        return packets.handle(r.id, s.handles.add(file))


async def _opened(s: State, path: Path, opening: Opening, wanted: Wanted) -> OpenFile:
    began = s.seconds()
    if not opening.buffered:
        reader = await s.session.open_read(path)
        return OpenFile(path, opening, reader, None, began, Turns(s.starter))
    handle = await s.session.open_write(
        path,
        truncate=opening.truncate,
        create=opening.create,
        exclusive=opening.exclusive,
        append=opening.append,
    )
    if wanted.mtime is not None:
        handle.set_mtime(wanted.mtime)
    if handle.created and wanted.mode is not None and not wanted.mode & 0o200:
        handle.set_mode(wanted.mode)
    return OpenFile(path, opening, handle, handle, began, Turns(s.starter))


async def read(s: State, r: packets.Read) -> Reply:
    """READ: short at the end of the file alone."""
    file = s.handles.file(r.handle)
    if not file.opening.reads:
        raise Refused(PERMISSION_DENIED, "not opened for reading")
    async with file.turns.together():
        length = min(r.length, MAX_READ)
        if not length:
            return packets.data(r.id, b"")
        if r.offset > _LAST:
            return packets.end_of_file(r.id)
        try:
            piece = await file.reading.read(r.offset, length)
        except BaseException:
            file.failed = True
            raise
        if not piece:
            return packets.end_of_file(r.id)
        if file.writing is None:
            file.moved += len(piece)
        return packets.data(r.id, piece)


def _written(file: OpenFile) -> WriteHandle:
    if file.writing is None or not file.opening.writes:
        raise Refused(PERMISSION_DENIED, "not opened for writing")
    return file.writing


async def write(s: State, r: packets.Write) -> Reply:
    """WRITE: answered once the data is taken in its place."""
    file = s.handles.file(r.handle)
    target = _written(file)
    async with file.turns.alone():
        await target.write(r.offset, r.data)
    file.moved += len(r.data)
    return packets.ok(r.id)


async def fstat(s: State, r: packets.Fstat) -> Reply:
    """FSTAT: a file as its handle sees it."""
    item = s.handles.item(r.handle)
    async with item.turns.together():
        if isinstance(item, OpenFile):
            found = item.reading.attributes
        else:
            found = await s.session.stat(item.path)
    return packets.attrs(r.id, attributes.encode(found))


async def fsetstat(s: State, r: packets.Fsetstat) -> Reply:
    """FSETSTAT: what is written keeps times and mode for its commit."""
    item = s.handles.item(r.handle)
    async with item.turns.alone():
        handle = item.writing if isinstance(item, OpenFile) else None
        if handle is not None and isinstance(item, OpenFile):
            await _set_on_handle(item, handle, r.wanted)
        elif r.wanted.size is not None:
            raise Refused(PERMISSION_DENIED, "not opened for writing")
        elif not r.wanted.empty:
            await _set_by_path(s, item.path, r.wanted)
    return packets.ok(r.id)


async def _set_on_handle(file: OpenFile, handle: WriteHandle, wanted: Wanted) -> None:
    if wanted.size is not None:
        _check_size(wanted)
        await _written(file).truncate(wanted.size)
    if wanted.mode is not None:
        handle.set_mode(wanted.mode)
    if wanted.mtime is not None:
        handle.set_mtime(wanted.mtime)


async def close(s: State, r: packets.Close) -> Reply:
    """CLOSE: waits for what was sent before it; what was written is now stored and linked."""
    item = s.handles.remove(r.handle)
    s.closing.add(item)
    ending: Ending = "failed"
    try:
        async with item.turns.alone():
            if isinstance(item, OpenFile) and item.writing is not None:
                await item.writing.commit()
            else:
                item.let_go()
        ending = "ok" if not (isinstance(item, OpenFile) and item.failed) else "failed"
    finally:
        s.closing.discard(item)
        s.report(item, "aborted" if s.lost and ending == "failed" else ending)
    return packets.ok(r.id)


# directories


async def opendir(s: State, r: packets.Opendir) -> Reply:
    """OPENDIR: what READDIR tells is the directory as it is now."""
    path = s.path(r.path)
    with s.handles.room_for_directory():
        async with s.order.look(path):
            batches = await s.session.list(path)
        if s.lost:
            raise OperationCancelledError("the connection is gone")
        handle = s.handles.add(OpenDirectory(path, batches, s.seconds(), Turns(s.starter)))
    return packets.handle(r.id, handle)


async def readdir(s: State, r: packets.Readdir) -> Reply:
    """READDIR."""
    directory = s.handles.directory(r.handle)
    async with directory.turns.alone():
        if not directory.rest:
            await _next_batch(s, directory)
        entries: list[bytes] = []
        size = 0
        while directory.rest and len(entries) < MAX_ENTRIES:
            size += len(directory.rest[-1])
            if size > MAX_NAMES:
                break
            entries.append(directory.rest.pop())
    if not entries:
        return packets.end_of_file(r.id)
    directory.moved += size
    return packets.names(r.id, entries)


async def _next_batch(s: State, directory: OpenDirectory) -> None:
    """Take children until there are some; names too long for any reply are left out."""
    account, now = s.session.account, s.session.now()
    async for batch in directory.batches:
        entries = [attributes.entry(name, found, account, now) for name, found in batch]
        directory.rest = [entry for entry in reversed(entries) if len(entry) <= MAX_NAMES]
        if directory.rest:
            return


SERVERS: dict[type[packets.Request], Server] = {
    packets.Open: open_file,
    packets.Close: close,
    packets.Read: read,
    packets.Write: write,
    packets.Stat: stat,
    packets.Fstat: fstat,
    packets.Setstat: setstat,
    packets.Fsetstat: fsetstat,
    packets.Opendir: opendir,
    packets.Readdir: readdir,
    packets.Remove: remove,
    packets.Mkdir: mkdir,
    packets.Rmdir: rmdir,
    packets.Realpath: realpath,
    packets.Rename: rename,
    packets.Unsupported: unsupported,
    packets.Malformed: malformed,
}
