"""What all sessions of one process share: spool, pending files, commits, limits, options."""

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from truckee.core.cpu import Cpu
from truckee.core.interfaces import FileNode, FilesystemNode
from truckee.frontends.vfs.commits import CommitMode, Commits
from truckee.frontends.vfs.pending import PendingTable
from truckee.frontends.vfs.read_stream import Budget
from truckee.frontends.vfs.spool import Spool

_READ_AHEAD = 256 * 1024 * 1024
_SIZES = 4096


@dataclass(frozen=True, slots=True)
class Gauges:
    """Figures for the status page."""

    pending_files: int
    commits_running: int
    commits_failed: int
    spool_bytes: int
    spool_limit: int


class Vfs:
    """One per process. Its constructor touches the disk: it makes or checks the spool directory."""

    def __init__(
        self,
        disk: Cpu,
        cpu: Cpu,
        clock: IReactorTime,
        spool_dir: str | os.PathLike[str],
        spool_max: int | None = None,
        *,
        uri_paths: bool = False,
        rmdir_nonempty: Literal["refuse", "unlink"] = "refuse",
        commit_mode: CommitMode = "wait",
        size_ttl: float = 3.0,
        max_file_bytes: int = 2**40,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Take doors, clock and options; ConfigError if the spool directory cannot be used.

        `spool_max` None is 80 % of what is free there now. `max_file_bytes` bounds what one commit
        may store (sparse files are cheap to make and dear to store).
        """
        self.cpu = cpu
        self.clock = clock
        self.uri_paths = uri_paths
        self.unlinks_trees = rmdir_nonempty == "unlink"
        self.spool = Spool(disk, os.fspath(spool_dir), spool_max, random)
        self.pending = PendingTable()
        self.commits = Commits(clock, self.pending, commit_mode, max_file_bytes)
        self.read_ahead = Budget(_READ_AHEAD)
        self.unique_key = random(32)
        self._size_ttl = size_ttl
        self._sizes: OrderedDict[bytes, tuple[float, int]] = OrderedDict()

    def gauges(self) -> Gauges:
        """Return the figures as they are now."""
        return Gauges(
            pending_files=len(self.pending),
            commits_running=self.commits.running,
            commits_failed=self.commits.failed,
            spool_bytes=self.spool.used,
            spool_limit=self.spool.limit,
        )

    async def drain(self, seconds: float = 30.0) -> None:
        """Take no new commits, wait for those under way at most so long, give up the rest."""
        await self.commits.drain(seconds)

    async def breathe(self) -> None:
        """Let the reactor do other things."""
        await deferLater(self.clock, 0)

    # sizes of mutable files

    def known_size(self, node: FilesystemNode) -> int | None:
        """Return the size of a mutable file if it was asked lately."""
        index = node.get_storage_index()
        if index is None or index not in self._sizes:
            return None
        when, size = self._sizes[index]
        return size if self.clock.seconds() - when < self._size_ttl else None

    async def size_of(self, node: FileNode) -> int:
        """Return the size of a file; that of a mutable one costs a query."""
        if not node.is_mutable():
            return node.get_size() or 0
        size = self.known_size(node)
        if size is None:
            size = await node.get_size_of_best_version()
            self.learn_size(node, size)
        return size

    def learn_size(self, node: FileNode, size: int) -> None:
        """Remember the size of a mutable file's best version."""
        index = node.get_storage_index()
        if index is not None:
            self._sizes[index] = (self.clock.seconds(), size)
            self._sizes.move_to_end(index)
            while len(self._sizes) > _SIZES:
                self._sizes.popitem(last=False)
