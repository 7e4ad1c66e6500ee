"""Disk work in groups: small jobs share a thread hop, and new shares share the wait for the medium.

Knows the disk pool and `Files`; a `Filesystem` serves all stores on one filesystem, so that what
any of them has to make durable at one moment costs one sync. While a group runs the next gathers.

A `Work` is one change. A group carries its works through these steps, in one thread job:

1. prepare: every work writes its new files under names that nobody looks at;
2. sync: their bytes become durable;
3. publish: every work renames its files into place;
4. sync: the new names become durable.

Then it is reported done. A sync that fails fails every work it was for, for good: the kernel
reports an error once and may have dropped the bytes, so trying again would prove nothing.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from truckee.core.cpu import Cpu
from truckee.core.storage.files import FOLDER, Files
from truckee.core.storage.handles import Handles

T = TypeVar("T")
J = TypeVar("J")

FEW = 2
"""Up to so many works are synced file by file: that does not wait for other people's bytes."""

FEW_WRITTEN = 32
"""The same for works whose bytes were written long before."""

_MOST_JOBS = 64
_MOST_WORKS = 512
_WIDTH = 2  # batches of one kind in flight
_SLICE = 0.005  # seconds of results in one reactor turn

Turn = set[Any]
"""What was looked up already by this batch, so that its other members need not look again."""

Job = Callable[[Turn], T]


class Work(Protocol):
    """One change to a store; all methods run in a worker thread."""

    @property
    def root(self) -> str:
        """A folder on the filesystem in question."""
        ...

    @property
    def is_written(self) -> bool:
        """Whether its bytes were written before, and most of them are on the medium already."""
        ...

    def prepare(self, turn: Turn, sync: Callable[[int], None]) -> bool:
        """Write new files, calling `sync` before closing each; tell whether there is more to do."""
        ...

    def confirm(self) -> None:
        """Make sure of bytes that were written long before this group began."""
        ...

    def publish(self, folders: set[str]) -> None:
        """Put new files into place and name the folders whose entries changed."""
        ...

    def undo(self) -> None:
        """After a failure: remove what was written; must not raise."""
        ...


class _Batches(Generic[J]):
    """Gathers jobs while earlier ones run, and runs those that gathered in one thread job."""

    def __init__(
        self, disk: Cpu, perform: Callable[[Sequence[J]], Sequence[object]], most: int
    ) -> None:
        self._disk = disk
        self._perform = perform
        self._most = most
        self._waiting: deque[tuple[J, Deferred[Any]]] = deque()
        self._running = 0

    def submit(self, job: J) -> Deferred[Any]:
        """Return what the job gives, or its failure."""
        d: Deferred[Any] = Deferred()
        self._waiting.append((job, d))
        if self._running < _WIDTH:
            self._start()
        return d

    def _start(self) -> None:
        batch: list[tuple[J, Deferred[Any]]] = []
        while self._waiting and len(batch) < self._most:
            each = self._waiting.popleft()
            if not each[1].called:  # else cancelled while it waited
                batch.append(each)
        if not batch:
            return
        self._running += 1
        run = cast(
            "Deferred[Sequence[object]]", self._disk.run(self._perform, [job for job, _ in batch])
        )
        _ = run.addBoth(self._ended, deque(d for _, d in batch))

    def _ended(self, outcomes: Sequence[object] | Failure, waiting: deque[Deferred[Any]]) -> None:
        self._running -= 1
        if self._waiting:
            self._start()
        if isinstance(outcomes, Failure):
            outcomes = [outcomes] * len(waiting)
        self._deliver(None, deque(outcomes), waiting)

    def _deliver(self, _: object, outcomes: deque[object], waiting: deque[Deferred[Any]]) -> None:
        """Hand out results; after a slice of time give the reactor a turn."""
        end = time.monotonic() + _SLICE
        while waiting:
            d = waiting.popleft()
            outcome = outcomes.popleft()
            if not d.called:
                d.callback(outcome)  # a Failure starts the errback chain
            if time.monotonic() > end and waiting:
                hop = cast("Deferred[None]", self._disk.run(_nothing))
                _ = hop.addBoth(self._deliver, outcomes, waiting)
                return


def _nothing() -> None:
    pass


def _perform_jobs(jobs: Sequence[Job[Any]]) -> Sequence[object]:
    turn: Turn = set()
    outcomes: list[object] = []
    for job in jobs:
        try:
            outcomes.append(job(turn))
        except BaseException:  # noqa: BLE001 - handed to the awaiting coroutine
            outcomes.append(Failure())
    return outcomes


class Filesystem:
    """All that stores on one filesystem share."""

    def __init__(self, disk: Cpu, files: Files, fsync: bool) -> None:
        self._disk = disk
        self._files = files
        self._fsync = fsync
        self._jobs: _Batches[Job[Any]] = _Batches(disk, _perform_jobs, _MOST_JOBS)
        self._works: _Batches[Work] = _Batches(disk, self._perform_works, _MOST_WORKS)

    def small(self, job: Job[T]) -> Deferred[T]:
        """Run a job of a few system calls, together with others of its kind."""
        return self._jobs.submit(job)

    def large(self, job: Job[T]) -> Deferred[T]:
        """Run a job that is worth a thread hop of its own."""
        return cast("Deferred[T]", self._disk.run(job, set()))

    def commit(self, work: Work) -> Deferred[None]:
        """Carry out a change; what it made is durable and in place when this fires."""
        return self._works.submit(work)

    def _perform_works(self, works: Sequence[Work]) -> Sequence[object]:
        group = _Group(self._files, works, self._fsync)
        try:
            group.run()
        finally:
            group.close()
        return group.outcomes


class _Group:
    """Works on their way through the four steps, in one worker thread."""

    def __init__(self, files: Files, works: Sequence[Work], fsync: bool) -> None:
        self._files = files
        self._works = works
        self._fsync = fsync
        # large shares are nearly durable already; other people's bytes need not be waited for
        few = len(works) <= FEW or all(work.is_written for work in works[: FEW_WRITTEN + 1])
        few = few and len(works) <= FEW_WRITTEN
        self._each = fsync and (few or not files.can_syncfs)
        self._all = fsync and not self._each
        self._root: int | None = None
        self._turn: Turn = set()
        self._sync = files.fsync if self._each else _no_sync
        self._folders: dict[int, set[str]] = {}
        self._synced: set[str] = set()
        self.outcomes: list[object] = [None] * len(works)

    def run(self) -> None:
        """Take the steps; `outcomes` then has None or a Failure for each work."""
        if self._all:
            self._open_root()  # first: a sync reports the errors since its descriptor was opened
        left = self._step(range(len(self._works)), self._prepare)
        left = [i for i in left if i in self._folders]
        left = self._sync_all(left)
        if self._fsync:
            left = self._step(left, lambda i: self._works[i].confirm())
        left = self._step(left, lambda i: self._works[i].publish(self._folders[i]))
        left = self._sync_all(left)
        if self._each:
            self._step(left, self._sync_folders)

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._root is not None:
            self._files.close(self._root)

    def _open_root(self) -> None:
        for root in {work.root for work in self._works}:
            with suppress(OSError):
                self._root = self._files.open(root, FOLDER)
                return

    def _step(self, numbers: Iterable[int], step: Callable[[int], None]) -> list[int]:
        """Take one step with each work; return those that did not fail."""
        left = []
        for i in numbers:
            try:
                step(i)
                left.append(i)
            except BaseException:  # noqa: BLE001 - handed to the awaiting coroutine
                self._fail(i)
        return left

    def _fail(self, i: int) -> None:
        self.outcomes[i] = Failure()
        self._works[i].undo()

    def _prepare(self, i: int) -> None:
        if self._works[i].prepare(self._turn, self._sync):
            self._folders[i] = set()

    def _sync_all(self, left: list[int]) -> list[int]:
        if not self._all or not left:
            return left
        try:
            if self._root is None:
                raise FileNotFoundError("the store's folder is gone")
            self._files.syncfs(self._root)
        except OSError:
            for i in left:
                self._fail(i)
            return []
        return left

    def _sync_folders(self, i: int) -> None:
        for folder in self._folders[i] - self._synced:
            sync_folder(self._files, folder)
            self._synced.add(folder)


def _no_sync(fd: int) -> None:
    pass


def sync_folder(files: Files, folder: str) -> None:
    """Make the names in a folder durable; one that has been removed needs nothing."""
    try:
        fd = files.open(folder, FOLDER)
    except FileNotFoundError:
        return
    try:
        files.fsync(fd)
    finally:
        files.close(fd)


class Shared:
    """What all stores that use one disk pool share: filesystems, and open descriptors."""

    def __init__(self, disk: Cpu) -> None:
        self._disk = disk
        self._filesystems: dict[tuple[int, int, bool], Filesystem] = {}
        self.handles = Handles()

    def filesystem(self, device: int, files: Files, fsync: bool) -> Filesystem:
        """Return the one for a device number."""
        key = (device, id(files), fsync)
        if key not in self._filesystems:
            self._filesystems[key] = Filesystem(self._disk, files, fsync)
        return self._filesystems[key]


_shared: "WeakKeyDictionary[Cpu, Shared]" = WeakKeyDictionary()


def shared_by(disk: Cpu) -> Shared:
    """Return what the stores on this disk pool share."""
    found = _shared.get(disk)
    if found is None:
        found = _shared[disk] = Shared(disk)
    return found
