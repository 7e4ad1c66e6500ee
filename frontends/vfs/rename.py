"""Renaming, where some names are linked, some are being written, and some are both.

Knows the rules of docs/vfs.rst; touches the two parent directories and the pending table.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager

from truckee.core.errors import (
    ChildOfWrongTypeError,
    ExistingChildError,
    NoSuchChildError,
    NotWriteableError,
)
from truckee.core.interfaces import DirectoryNode
from truckee.frontends.vfs.nodes import Edge, find_child, is_same, kind_of
from truckee.frontends.vfs.paths import Path
from truckee.frontends.vfs.pending import PendingFile
from truckee.frontends.vfs.process import Vfs
from truckee.frontends.vfs.walk import Spot


@asynccontextmanager
async def held(files: Sequence[PendingFile]) -> AsyncIterator[None]:
    """Wait for the commits of these files that have begun, and hold up later ones meanwhile."""
    with ExitStack() as stack:
        for file in sorted(files, key=lambda f: f.serial):  # one order, so that nobody is stuck
            await file.lock.acquire()
            stack.callback(file.lock.release)
        yield


def writable_parent(spot: Spot) -> DirectoryNode:
    """Return the directory that holds the name; NotWriteableError if it cannot be changed."""
    parent = spot.parent
    if parent is None or parent.is_readonly() or not parent.is_mutable():
        raise NotWriteableError("the directory is read-only")
    return parent


class Rename:
    """One rename, its two names found."""

    def __init__(
        self, vfs: Vfs, account: str, source: Path, target: Path, old: Spot, new: Spot
    ) -> None:
        self._table = vfs.pending
        self._account = account
        self._source = source
        self._target = target
        self._new = new
        self._old_name, self._new_name = old.name, new.name
        self._old_parent = writable_parent(old)
        self._new_parent = writable_parent(new)

    async def run(self, *, replace: bool) -> None:
        """Do it. NoSuchChildError, ExistingChildError, ChildOfWrongTypeError."""
        movers = self._table.of(self._old_parent, self._old_name, self._account)
        victims = self._table.of(self._new_parent, self._new_name, self._account)
        same_parent = is_same(self._old_parent, self._new_parent)
        if same_parent and self._old_name == self._new_name:
            await self._onto_itself(movers, replace=replace)
            return
        async with held([*movers, *victims]):
            edge = await find_child(self._old_parent, self._old_name)
            if edge is None and not movers:
                raise NoSuchChildError("no such file")
            await self._check_target(edge, victims, replace=replace)
            if edge is not None:
                await self._move_link(movers, replace=replace)
            for file in victims:
                self._table.abandon(file)
            for file in movers:
                self._table.move(file, self._new_parent, self._target)
            if edge is not None and kind_of(edge[0]) == "dir":
                self._table.move_below(self._account, self._source, self._target)

    async def _onto_itself(self, movers: Sequence[PendingFile], *, replace: bool) -> None:
        if not movers and await find_child(self._old_parent, self._old_name) is None:
            raise NoSuchChildError("no such file")
        if not replace:
            raise ExistingChildError("the name exists")

    async def _check_target(
        self, edge: Edge | None, victims: Sequence[PendingFile], *, replace: bool
    ) -> None:
        moved = edge[0] if edge is not None and kind_of(edge[0]) == "dir" else None
        if moved is not None and any(is_same(above, moved) for above in self._new.trail):
            raise ChildOfWrongTypeError("a directory cannot move below itself")
        there = await find_child(self._new_parent, self._new_name)
        if there is None and not victims:
            return
        if not replace or moved is not None:
            raise ExistingChildError("the name exists")
        if there is not None and kind_of(there[0]) == "dir":
            raise ExistingChildError("a directory of that name exists")

    async def _move_link(self, movers: Sequence[PendingFile], *, replace: bool) -> None:
        try:
            await self._old_parent.move_child_to(
                self._old_name,
                self._new_parent,
                self._new_name,
                overwrite="only-files" if replace else False,
            )
        except NoSuchChildError:
            if not movers:  # gone meanwhile; the handles still follow
                raise
