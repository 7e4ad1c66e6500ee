"""What one logged-in client may do: the calls that FTP and SFTP are thin over."""

import os
from collections.abc import AsyncIterator, Callable
from typing import Literal, Protocol

from twisted.internet.interfaces import IReactorTime

from truckee.core.cpu import Cpu
from truckee.core.interfaces import Client, DirectoryNode
from truckee.frontends.vfs.attributes import Attributes
from truckee.frontends.vfs.handles import ReadHandle, WriteHandle
from truckee.frontends.vfs.paths import Path

__all__ = ["AvatarID", "Batch", "ReadHandle", "VFSSession", "Vfs", "WriteHandle"]

Batch = list[tuple[str, Attributes]]


class AvatarID(Protocol):
    """What a session needs of the account that logged in (auth.accounts.FTPAvatarID has it)."""

    @property
    def username(self) -> str:
        """The account's name."""
        ...

    @property
    def readonly(self) -> bool:
        """Whether the account may change nothing."""
        ...


class Vfs:
    """What all sessions of the process share: spool, pending files, limits, options."""

    def __init__(
        self,
        disk: Cpu,
        cpu: Cpu,
        clock: IReactorTime,
        spool_dir: str,
        spool_max: int | None = None,
        *,
        uri_paths: bool = False,
        rmdir_nonempty: Literal["refuse", "unlink"] = "refuse",
        commit_mode: Literal["wait", "background"] = "wait",
        size_ttl: float = 3.0,
        max_file_bytes: int = 2**40,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None: ...

    async def drain(self, seconds: float = 30.0) -> None:
        """Wait for the commits under way, at most so long; then give up the rest."""
        raise NotImplementedError


class VFSSession:
    """One logged-in client. Errors are those of core/errors.py alone.

    Paths are those of `paths.parse`. Calls that change something refuse a read-only session with
    NotWriteableError before the grid is asked anything.
    """

    readonly: bool
    account: str

    def __init__(
        self,
        vfs: Vfs,
        client: Client,
        root_node: DirectoryNode,
        avatar_id: AvatarID,
        peer: str = "",
        protocol: Literal["ftp", "sftp", "web"] = "ftp",
        *,
        uri_paths: bool | None = None,
    ) -> None: ...

    async def stat(self, path: Path) -> Attributes:
        """Return the attributes; files being written by this account included. NoSuchChildError."""
        raise NotImplementedError

    async def list(self, path: Path) -> AsyncIterator[Batch]:
        """Read the directory, then return its children in batches of at most 200.

        NoSuchChildError and ChildOfWrongTypeError (a file) come before the first batch.
        """
        raise NotImplementedError

    async def open_read(self, path: Path) -> ReadHandle:
        """Open a file. NoSuchChildError, ChildOfWrongTypeError (a directory)."""
        raise NotImplementedError

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
        raise NotImplementedError

    async def mkdir(self, path: Path) -> None:
        """Make a directory; its parent must exist. ExistingChildError."""
        raise NotImplementedError

    async def rmdir(self, path: Path) -> None:
        """Unlink a directory. DirectoryNotEmptyError unless the node unlinks whole trees."""
        raise NotImplementedError

    async def remove(self, path: Path) -> None:
        """Unlink a file, or forget one being written. ChildOfWrongTypeError for a directory."""
        raise NotImplementedError

    async def rename(self, source: Path, target: Path, *, replace: bool) -> None:
        """Move a file or directory; `replace` lets a file take the place of a file."""
        raise NotImplementedError

    async def set_attributes(
        self,
        path: Path,
        *,
        mtime: int | None = None,
        mode: int | None = None,
        size: int | None = None,
    ) -> None:
        """Set what is given; modes and times never fail on a file that can be written."""
        raise NotImplementedError

    async def logout(self) -> None:
        """Abandon what is not committed, stop reads; may be called again."""
        raise NotImplementedError
