"""What one logged-in client may do: the calls that FTP and SFTP are thin over.

Knows the rules by which files being written and files that are linked appear as one tree
(docs/vfs.rst has them as a table). Touches the client, its nodes, and the process's pending files.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol, TypeVar

from twisted.internet.defer import Deferred

from truckee.core.errors import (
    ChildOfWrongTypeError,
    DirectoryNotEmptyError,
    ExistingChildError,
    NoSuchChildError,
    NotWriteableError,
    OperationCancelledError,
)
from truckee.core.interfaces import Client, FileNode, FilesystemNode, Readable
from truckee.frontends.vfs.attributes import Attributes
from truckee.frontends.vfs.commits import edit_edge
from truckee.frontends.vfs.handles import (
    LinkedReadHandle,
    PendingHandle,
    PendingReadHandle,
    ReadHandle,
    WriteHandle,
)
from truckee.frontends.vfs.listing import Batch, Listing
from truckee.frontends.vfs.nodes import (
    Describer,
    Edge,
    as_directory,
    as_file,
    as_immutable,
    as_mutable,
    check_writable_child,
    find_child,
    kind_of,
)
from truckee.frontends.vfs.paths import Path, is_below
from truckee.frontends.vfs.pending import Index, PendingFile
from truckee.frontends.vfs.process import Vfs
from truckee.frontends.vfs.read_stream import Budget
from truckee.frontends.vfs.rename import Rename, held, writable_parent
from truckee.frontends.vfs.walk import Spot, Walker
from truckee.frontends.vfs.write_buffer import WriteBuffer

__all__ = ["AvatarID", "Batch", "ReadHandle", "VFSSession", "Vfs", "WriteHandle"]

_READ_AHEAD = 32 * 1024 * 1024
_LARGE = 2**62
_EMPTY_FILE = b"URI:LIT:"

_H = TypeVar("_H", bound=PendingHandle)


class AvatarID(Protocol):
    """What a session needs of the account that logged in (auth.realm.FTPAvatarID has it)."""

    @property
    def username(self) -> str:
        """The account's name."""
        ...

    @property
    def readonly(self) -> bool:
        """Whether the account may change nothing."""
        ...


class VFSSession:
    """One logged-in client. Errors are those of core/errors.py alone.

    Paths are those of `paths.parse`. Calls that change something refuse a read-only session with
    NotWriteableError before the grid is asked anything.
    """

    def __init__(
        self,
        vfs: Vfs,
        client: Client,
        root_node: FilesystemNode,
        avatar_id: AvatarID,
        peer: str = "",
        protocol: Literal["ftp", "sftp", "web"] = "ftp",
        *,
        uri_paths: bool | None = None,
    ) -> None:
        """Begin at `root_node`; `uri_paths` False forbids `/uri/CAP` even where the node has it."""
        self.account = avatar_id.username
        self.readonly = avatar_id.readonly
        self.peer = peer
        self.protocol = protocol
        self._vfs = vfs
        self._client = client
        by_cap = vfs.uri_paths and uri_paths is not False
        self._walker = Walker(client, root_node, readonly=self.readonly, uri_paths=by_cap)
        self._describer = Describer(vfs.unique_key, self.account, self.readonly)
        self._budget = Budget(_READ_AHEAD, vfs.read_ahead)
        self._index: Index = {}
        self._handles: set[PendingHandle | LinkedReadHandle] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<VFSSession {self.protocol}, {len(self._handles)} handles>"

    # looking

    async def stat(self, path: Path) -> Attributes:
        """Return the attributes; files being written by this account included. NoSuchChildError."""
        file = await self._mine(path)
        if file is not None:
            return self.describe_pending(file)
        if self._walker.is_uri_root(path):
            return self._describer.describe_empty_directory()
        spot = await self._walker.locate(path)
        if spot.parent is not None:
            file = self._vfs.pending.newest(spot.parent, spot.name, self.account)
            if file is not None:
                return self.describe_pending(file)
        return await self._describe(spot)

    async def _describe(self, spot: Spot) -> Attributes:
        node, metadata = _linked(spot)
        size = None
        if kind_of(node) == "file":
            size = await self._vfs.sizes.of(as_file(node))
        return self._describer.describe(node, metadata, spot.parent, size)

    async def list(self, path: Path) -> AsyncIterator[Batch]:
        """Read the directory, then return its children in batches of at most 200.

        NoSuchChildError and ChildOfWrongTypeError (a file) come before the first batch.
        """
        lines = self.protocol == "ftp"
        if self._walker.is_uri_root(path):
            return Listing(self._vfs, self._describer, None, {}, {}, lines=lines).batches()
        if await self._mine(path) is not None:
            raise ChildOfWrongTypeError("a file")
        node, _ = _linked(await self._walker.locate(path))
        directory = as_directory(node)
        children = await directory.list()
        pending = self._vfs.pending.below(directory, self.account)
        listing = Listing(self._vfs, self._describer, directory, children, pending, lines=lines)
        return listing.batches()

    async def _mine(self, path: Path) -> PendingFile | None:
        """Return what this session writes at `path`, once it is opened."""
        while (file := self._index.get(path)) is not None and file.opening:
            await file.opened.passed()
        return file

    # opening

    async def open_read(self, path: Path) -> ReadHandle:
        """Open a file. NoSuchChildError, ChildOfWrongTypeError (a directory)."""
        self._check_open()
        while (file := await self._mine(path)) is not None:
            if not file.closing:
                return self._given_out(PendingReadHandle(file, self))
            await file.quiet()
        spot = await self._walker.locate(path)
        node, metadata = _linked(spot)
        opened = as_file(node)
        immutable = as_immutable(opened)
        version: Readable = immutable or await opened.get_best_readable_version()
        size = version.get_size()
        if immutable is None:
            self._vfs.sizes.learn(opened, size)
        self._check_open()
        attributes = self._describer.describe(node, metadata, spot.parent, size)
        handle = LinkedReadHandle(
            attributes, version, immutable, self._vfs.clock, self._budget, self._handles.discard
        )
        self._handles.add(handle)
        return handle

    async def open_write(
        self,
        path: Path,
        *,
        truncate: bool,
        create: bool,
        exclusive: bool = False,
        append: bool = False,
    ) -> WriteHandle:
        """Open a file for writing; nothing of the old contents is fetched.

        NoSuchChildError: it is absent and `create` is off, or the parent is absent.
        ExistingChildError: it exists and `exclusive` is on. ChildOfWrongTypeError: a directory.
        """
        self._check_open()
        self._check_mutable(path)
        file = await self._mine(path)
        if file is not None and file.buffer.poisoned:  # only somebody who reads it is left
            self._vfs.pending.abandon(file)
            file = None
        created = False
        if file is None:
            file = await self._open_new(path, truncate, create, exclusive)
            created = file.created
        elif exclusive:
            raise ExistingChildError("the file exists")
        elif file.mode is not None and not file.mode & 0o200:
            raise NotWriteableError("the file is read-only")
        handle = self._given_out(WriteHandle(file, self, append=append, created=created))
        if truncate and handle.size:
            try:
                await handle.truncate(0)
            except BaseException:
                handle.abandon()
                raise
        return handle

    async def _open_new(
        self, path: Path, truncate: bool, create: bool, exclusive: bool
    ) -> PendingFile:
        """Open a name that this session does not write yet."""
        table = self._vfs.pending
        buffer = WriteBuffer(self._vfs.spool, self.account, self._tag)
        file = table.begin(self.account, self._index, path, buffer)
        try:
            spot = await self._locate_new(path, creating=create)
            parent = writable_parent(spot)
            with self._vfs.guard.adding(parent):
                file.created = spot.edge is None
                if exclusive:
                    await self._create_empty(file, spot)
                elif spot.edge is None:
                    if not create:
                        raise NoSuchChildError("no such file")
                    buffer.changed = True
                else:
                    await _open_over(file, spot.edge, truncate)
                self._check_open()
        except BaseException:
            table.fail(file)
            raise
        file.last_write = self.now()
        table.settle(file, parent)
        return file

    async def _locate_new(self, path: Path, *, creating: bool = True) -> Spot:
        """Return a spot in a directory that is not being removed."""
        spot = await self._walker.locate(path, creating=creating)
        while spot.parent is not None and await self._vfs.guard.removed(spot.parent):
            spot = await self._walker.locate(path, creating=creating)
        return spot

    def _tag(self) -> bytes:
        return self._client.convergence_tag(_LARGE)

    async def _create_empty(self, file: PendingFile, spot: Spot) -> None:
        """Link an empty file at once, so that of two creators one fails."""
        parent = writable_parent(spot)
        if spot.edge is not None or self._vfs.pending.of(parent, spot.name, self.account):
            raise ExistingChildError("the file exists")
        await parent.set_uri(spot.name, None, _EMPTY_FILE, overwrite=False)

    def _given_out(self, handle: _H) -> _H:
        self._handles.add(handle)
        return handle

    # what handles ask (handles.Closer)

    def describe_pending(self, file: PendingFile) -> Attributes:
        """Return what stat tells of a file being written."""
        return self._describer.describe_pending(file)

    def now(self) -> float:
        """Return the time."""
        return self._vfs.wall()

    def commit_pending(self, file: PendingFile, *, waits: bool = False) -> Deferred[None]:
        """Begin a commit."""
        return self._vfs.commits.begin(file, self._client, waits=waits)

    def closed_handle(self, handle: PendingHandle) -> None:
        """Forget the handle, and its file when that was the last."""
        self._handles.discard(handle)
        self._vfs.pending.drop(handle.file)

    # changing the tree

    async def mkdir(self, path: Path) -> None:
        """Make a directory; its parent must exist. ExistingChildError."""
        self._check_mutable(path)
        spot = await self._free_spot(path)
        parent = writable_parent(spot)
        with self._vfs.guard.adding(parent):
            await parent.create_subdirectory(spot.name, overwrite=False)

    async def rmdir(self, path: Path) -> None:
        """Unlink a directory. DirectoryNotEmptyError unless the node unlinks whole trees."""
        self._check_mutable(path)
        if await self._mine(path) is not None:
            raise ChildOfWrongTypeError("a file")
        spot = await self._walker.locate(path)
        directory = as_directory(_linked(spot)[0])
        parent = writable_parent(spot)
        if self._vfs.unlinks_trees:
            await parent.delete(spot.name, must_be_directory=True)
            return
        async with self._vfs.guard.removing(directory):
            children = await directory.list()
            if children or self._vfs.pending.is_used(directory):
                raise DirectoryNotEmptyError("the directory is not empty")
            await parent.delete(spot.name, must_be_directory=True)

    async def remove(self, path: Path) -> None:
        """Unlink a file, or forget one being written. ChildOfWrongTypeError for a directory."""
        self._check_mutable(path)
        await self._mine(path)
        spot = await self._walker.locate(path)
        parent = writable_parent(spot)
        files = self._pending_at(spot)
        async with held(files):
            edge = await find_child(parent, spot.name)
            if edge is None and not files:
                raise NoSuchChildError("no such file")
            if edge is not None and kind_of(edge[0]) == "dir":
                raise ChildOfWrongTypeError("a directory")
            for file in files:
                self._vfs.pending.abandon(file)
            if edge is not None:
                await parent.delete(spot.name, must_exist=not files, must_be_file=True)

    async def rename(self, source: Path, target: Path, *, replace: bool) -> None:
        """Move a file or directory; `replace` lets a file take the place of a file."""
        self._check_mutable(source, target)
        await self._mine(source)
        await self._mine(target)
        if is_below(target, source):
            raise ChildOfWrongTypeError("a directory cannot move below itself")
        old = await self._walker.locate(source)
        if old.edge is None or kind_of(old.edge[0]) != "dir" or source[:-1] == target[:-1]:
            await self._rename(old, source, target, replace=replace)
            return
        async with self._vfs.guard.moving:
            old = await self._walker.locate(source)
            await self._rename(old, source, target, replace=replace)

    async def _rename(self, old: Spot, source: Path, target: Path, *, replace: bool) -> None:
        new = await self._locate_new(target)
        rename = Rename(self._vfs, self.account, source, target, old, new)
        with self._vfs.guard.adding(writable_parent(new)):
            await rename.run(replace=replace)

    async def link(self, source: Path, target: Path) -> None:
        """Give a file a second name. ExistingChildError, ChildOfWrongTypeError (a directory)."""
        self._check_mutable(target)
        await self._free_spot(target)  # nothing is committed for a link that cannot be
        node = await self._node_to_link(source)
        new = await self._free_spot(target)
        parent = writable_parent(new)
        with self._vfs.guard.adding(parent):
            await parent.set_node(new.name, node, overwrite=False)

    async def _free_spot(self, path: Path) -> Spot:
        """Return the place of a name that nothing stands under; ExistingChildError."""
        if not path or await self._mine(path) is not None:
            raise ExistingChildError("the name exists")
        spot = await self._locate_new(path)
        if spot.edge is not None or self._pending_at(spot):
            raise ExistingChildError("the name exists")
        return spot

    async def _node_to_link(self, source: Path) -> FileNode:
        """Return the file of that name, with what this session has written to it so far.

        Clients link right behind a close that is not answered yet, and an exclusively created
        name is linked to nothing until then. What another session is in the midst of writing is
        only for that one to commit.
        """
        await self._mine(source)
        spot = await self._walker.locate(source)
        for file in self._pending_at(spot):
            if file.closing:
                await file.quiet()
            elif file.index is self._index:
                await self.commit_pending(file, waits=True)
        if spot.parent is not None:
            spot = await self._walker.locate(source)
        return as_file(_linked(spot)[0])

    async def set_attributes(
        self,
        path: Path,
        *,
        mtime: int | None = None,
        mode: int | None = None,
        size: int | None = None,
    ) -> None:
        """Set what is given; modes and times never fail on a file that can be written."""
        self._check_mutable(path)
        await self._mine(path)
        if not path:
            if size is not None:
                raise ChildOfWrongTypeError("a directory")
            return
        spot = await self._walker.locate(path)
        parent = writable_parent(spot)
        if size is not None:
            await self._resize(path, spot, size)
        files = self._pending_at(spot)
        async with held(files):
            edge = await find_child(parent, spot.name)
            if edge is None and not files:
                raise NoSuchChildError("no such file")
            for file in files:
                file.mtime = file.mtime if mtime is None else mtime
                file.mode = file.mode if mode is None else mode
            if edge is not None:
                await edit_edge(parent, spot.name, edge, mtime, mode)

    async def _resize(self, path: Path, spot: Spot, size: int) -> None:
        files = self._pending_at(spot)
        for file in files:
            await file.buffer.truncate(size)
        if not files:
            handle = await self.open_write(path, truncate=False, create=False)
            try:
                await handle.truncate(size)
            except BaseException:
                handle.abandon()
                raise
            await handle.commit()

    # the end

    async def logout(self) -> None:
        """Abandon what is not committed, stop reads; may be called again."""
        self._closed = True
        for handle in list(self._handles):
            handle.close()

    # small things

    def _check_open(self) -> None:
        if self._closed:
            raise OperationCancelledError("the session has ended")

    def _check_mutable(self, *paths: Path) -> None:
        self._check_open()
        self._walker.check_mutable(*paths)

    def _pending_at(self, spot: Spot) -> Sequence[PendingFile]:
        if spot.parent is None:
            return []
        return self._vfs.pending.of(spot.parent, spot.name, self.account)


def _linked(spot: Spot) -> Edge:
    if spot.edge is None:
        raise NoSuchChildError("no such file or directory")
    return spot.edge


async def _open_over(file: PendingFile, edge: Edge, truncate: bool) -> None:
    """Take what is linked as the file's former contents."""
    node, metadata = edge
    opened = as_file(node)
    check_writable_child(opened, metadata)
    file.had_mtime = "truckee" in metadata
    file.published = as_mutable(opened)
    if truncate:
        file.buffer.changed = True
        return
    immutable = as_immutable(opened)
    file.immutable_base = immutable
    file.buffer.open_over(immutable or await opened.get_best_readable_version())
