"""Walking a tree of directories: every object once, under the first path that leads to it.

Knows nodes and directories; touches nothing but through them and the clock. One directory is
fetched at a time. Objects are told apart by their verify caps, so cycles end and a tree in which
many paths lead to few objects is walked in their number; paths end at a bound. Work is cut into
slices, so that a large directory does not hold up the reactor.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isqrt
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from truckee.core.directory import DirectoryNode
from truckee.core.errors import AbsurdGeometryError, OperationCancelledError, TruckeeError
from truckee.core.formats import base32
from truckee.core.interfaces import FilesystemNode, Metadata
from truckee.core.nodes import ImmutableFile, LiteralFile

Path = tuple[str, ...]
Children = Mapping[str, tuple[FilesystemNode, Metadata]]

MAX_DEPTH = 256  # names in a path
SLICE = 200  # nodes in one reactor turn


class Visitor(Protocol):
    """Who wants to know what a walk meets."""

    def add_node(self, node: FilesystemNode, path: Path) -> None:
        """Take the next object."""
        ...

    def enter_directory(self, node: DirectoryNode, children: Children) -> None:
        """Take what a directory holds, after `add_node` for the directory itself."""
        ...


@dataclass(slots=True)
class Problem:
    """A directory that could not be walked."""

    path: Path
    error: TruckeeError


class Monitor:
    """An operation under way: how far it is, how it ended, and the way to stop it."""

    def __init__(self) -> None:
        """Start with nothing done."""
        self.status: Any = None
        self.problems: list[Problem] = []
        self._cancelled = False
        self._ended: Failure | None = None
        self._finished = False
        self._waiting: list[Deferred[Any]] = []
        self.running: Deferred[None] | None = None  # held, so that it is not left alone

    def is_finished(self) -> bool:
        """Tell whether the operation has ended, well or not."""
        return self._finished

    def is_cancelled(self) -> bool:
        """Tell whether somebody asked it to stop."""
        return self._cancelled

    def cancel(self) -> None:
        """Ask the operation to stop at the next directory or slice."""
        self._cancelled = True

    def raise_if_cancelled(self) -> None:
        """Raise OperationCancelledError after `cancel`."""
        if self._cancelled:
            raise OperationCancelledError("the operation was cancelled")

    def when_done(self) -> Deferred[Any]:
        """Return a Deferred that fires with the final status, or with what went wrong."""
        if self._finished:
            return succeed(self.status) if self._ended is None else fail(self._ended)
        d: Deferred[Any] = Deferred(self._waiting.remove)
        self._waiting.append(d)
        return d

    def finish(self, result: Any) -> None:  # noqa: ANN401 - whatever the operation gives
        """End with a status, or with a Failure."""
        self._finished = True
        if isinstance(result, Failure):
            self._ended = result
        else:
            self.status = result
        waiting, self._waiting = self._waiting, []
        for d in waiting:
            d.callback(result)


@dataclass(slots=True)
class _Walk:
    """A walk from one root; `stack` holds what is still to visit on each level."""

    visitor: Visitor
    clock: IReactorTime
    monitor: Monitor
    collect_errors: bool
    seen: set[object] = field(default_factory=set)
    stack: list[Iterator[tuple[Path, DirectoryNode]]] = field(default_factory=list)
    done: int = 0

    async def run(self, root: DirectoryNode) -> None:
        self._is_new(root)
        self.stack.append(iter([((), root)]))
        while self.stack:
            step = next(self.stack[-1], None)
            if step is None:
                self.stack.pop()
                continue
            self.monitor.raise_if_cancelled()
            path, node = step
            await self._count()
            self.visitor.add_node(node, path)
            try:
                below = await self._enter(node, path)
            except TruckeeError as error:
                if not self.collect_errors or isinstance(error, OperationCancelledError):
                    raise
                self.monitor.problems.append(Problem(path, error))
            else:
                self.stack.append(iter(below))

    async def _enter(self, node: DirectoryNode, path: Path) -> list[tuple[Path, DirectoryNode]]:
        """Tell the visitor of a directory and its files; return its directories."""
        if len(path) >= MAX_DEPTH:
            raise AbsurdGeometryError("directories are nested too deep")
        children = await node.list()
        self.visitor.enter_directory(node, children)
        files: list[tuple[Path, FilesystemNode]] = []
        directories: list[tuple[Path, DirectoryNode]] = []
        for name in sorted(children):
            child = children[name][0]
            await self._count()
            if child.is_unknown():
                self.visitor.add_node(child, (*path, name))
            elif self._is_new(child):
                if isinstance(child, DirectoryNode):
                    directories.append(((*path, name), child))
                else:
                    files.append(((*path, name), child))
        for place, file in files:
            await self._count()
            self.visitor.add_node(file, place)
        return directories

    def _is_new(self, node: FilesystemNode) -> bool:
        """Remember a node; what has no verify cap is contained in its parent, so always new."""
        verify = node.get_verify_cap()
        if verify is None:
            return True
        if verify in self.seen:
            return False
        self.seen.add(verify)
        return True

    async def _count(self) -> None:
        self.done += 1
        if self.done % SLICE == 0:
            await deferLater(self.clock, 0)
            self.monitor.raise_if_cancelled()


async def walk(
    root: DirectoryNode,
    visitor: Visitor,
    clock: IReactorTime,
    monitor: Monitor | None = None,
    *,
    collect_errors: bool = False,
) -> None:
    """Show a tree to `visitor`, depth first: unknown children, then files, then directories.

    A directory that cannot be read ends the walk with its error, or with `collect_errors` is noted
    in the monitor's `problems`. Raises OperationCancelledError after the monitor's `cancel`.
    """
    await _Walk(visitor, clock, monitor or Monitor(), collect_errors).run(root)


class DeepStats:
    """Counts and sizes of a tree; sizes of mutable files are not known without reading them."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self._stats = dict.fromkeys(_COUNTED, 0)
        self._histogram: dict[tuple[int, int], int] = {}

    def add_node(self, node: FilesystemNode, path: Path) -> None:
        """Count one object."""
        stats = self._stats
        if node.is_unknown():
            stats["count-unknown"] += 1
        elif isinstance(node, DirectoryNode):
            stats["count-directories"] += 1
        else:
            stats["count-files"] += 1
            if isinstance(node, LiteralFile):
                stats["count-literal-files"] += 1
                stats["size-literal-files"] += node.get_size()
                self._add_size(node.get_size())
            elif isinstance(node, ImmutableFile):
                size = node.get_size()
                stats["count-immutable-files"] += 1
                stats["size-immutable-files"] += size
                stats["largest-immutable-file"] = max(size, stats["largest-immutable-file"])
                self._add_size(size)
            else:
                stats["count-mutable-files"] += 1

    def enter_directory(self, node: DirectoryNode, children: Children) -> None:
        """Count one directory's size."""
        size = node.get_size() or 0
        stats = self._stats
        stats["size-directories"] += size
        stats["largest-directory"] = max(size, stats["largest-directory"])
        count = len(children)
        stats["largest-directory-children"] = max(count, stats["largest-directory-children"])

    def results(self) -> dict[str, Any]:
        """Return everything under the names of the web API."""
        histogram = [(low, high, n) for (low, high), n in sorted(self._histogram.items())]
        return {"api-version": 1, **self._stats, "size-files-histogram": histogram}

    def _add_size(self, size: int) -> None:
        bucket = bucket_of(size)
        self._histogram[bucket] = self._histogram.get(bucket, 0) + 1


_COUNTED = (
    "count-immutable-files",
    "count-mutable-files",
    "count-literal-files",
    "count-files",
    "count-directories",
    "count-unknown",
    "size-immutable-files",
    "size-literal-files",
    "size-directories",
    "largest-directory",
    "largest-directory-children",
    "largest-immutable-file",
)


def bucket_of(size: int) -> tuple[int, int]:
    """Return the smallest and largest size of the histogram's bucket: two buckets per decade."""
    if size == 0:
        return 0, 0
    low, power = 1, 1
    while size > (high := isqrt(10**power)):
        low, power = high + 1, power + 1
    return low, high


class Manifest(DeepStats):
    """Every object of a tree with its path and strongest capability."""

    def __init__(self) -> None:
        """Start with nothing met."""
        super().__init__()
        self._entries: list[tuple[Path, bytes]] = []
        self._verify_caps: set[bytes] = set()
        self._storage_indexes: set[str] = set()

    def add_node(self, node: FilesystemNode, path: Path) -> None:
        """Take one object."""
        super().add_node(node, path)
        self._entries.append((path, node.get_uri()))
        verify, storage_index = node.get_verify_cap(), node.get_storage_index()
        if verify is not None:
            self._verify_caps.add(verify.text.encode("ascii"))
        if storage_index is not None:
            self._storage_indexes.add(base32.b2a(storage_index))

    def results(self) -> dict[str, Any]:
        """Return the manifest and the sets that go with it."""
        return {
            "manifest": self._entries,
            "verifycaps": self._verify_caps,
            "storage-index": self._storage_indexes,
            "stats": super().results(),
        }


def start_deep_stats(
    root: DirectoryNode, clock: IReactorTime, *, collect_errors: bool = False
) -> Monitor:
    """Begin to count a tree; the monitor's status is the dict of `DeepStats.results`."""
    return _start(root, DeepStats(), clock, collect_errors)


def build_manifest(
    root: DirectoryNode, clock: IReactorTime, *, collect_errors: bool = False
) -> Monitor:
    """Begin to list a tree; the monitor's status is the dict of `Manifest.results`."""
    return _start(root, Manifest(), clock, collect_errors)


def _start(
    root: DirectoryNode, visitor: DeepStats, clock: IReactorTime, collect_errors: bool
) -> Monitor:
    monitor = Monitor()
    monitor.status = visitor.results()

    async def run() -> None:
        try:
            await walk(root, visitor, clock, monitor, collect_errors=collect_errors)
        except Exception as error:  # noqa: BLE001 - handed to whoever asks the monitor
            monitor.finish(Failure(error))
        else:
            monitor.finish(visitor.results())

    monitor.running = Deferred.fromCoroutine(run())
    return monitor
