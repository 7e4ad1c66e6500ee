"""What all sessions of one process share: spool, pending files, commits, limits, options."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from truckee.core.cpu import Cpu
from truckee.frontends.vfs.commits import CommitMode, Commits
from truckee.frontends.vfs.guard import TreeGuard
from truckee.frontends.vfs.pending import PendingTable
from truckee.frontends.vfs.read_stream import Budget
from truckee.frontends.vfs.sizes import MutableSizes
from truckee.frontends.vfs.spool import Spool

_READ_AHEAD = 64 * 1024 * 1024


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
        wall: Callable[[], float] | None = None,
    ) -> None:
        """Take doors, clock and options; ConfigError if the spool directory cannot be used.

        `wall` gives the seconds since 1970 that files being written show; by default the clock's.

        `spool_max` None is 80 % of what is free there now. `max_file_bytes` bounds what one commit
        may store (sparse files are cheap to make and dear to store).
        """
        self.cpu = cpu
        self.clock = clock
        self.wall = wall or clock.seconds
        self.uri_paths = uri_paths
        self.unlinks_trees = rmdir_nonempty == "unlink"
        self.spool = Spool(disk, clock, Path(spool_dir), spool_max, random)
        self.pending = PendingTable()
        self.guard = TreeGuard()
        self.sizes = MutableSizes(clock, size_ttl)
        self.commits = Commits(clock, self.pending, self.sizes, commit_mode, max_file_bytes)
        self.read_ahead = Budget(_READ_AHEAD)
        self.unique_key = random(32)

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
        self.spool.shelf.clear()

    async def breathe(self) -> None:
        """Let the reactor do other things."""
        await deferLater(self.clock, 0)
