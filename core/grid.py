"""The embedded grid: storage servers in this process, one per folder or disk, called directly.

Knows which folders belong to the grid and under which identity (the file ``known-stores`` of the
node directory); touches the disk through the stores. A store whose folder is gone is a server that
fails every call. It is never made anew, and serves again when the folder with its identity is back.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from truckee.core import files
from truckee.core.cpu import Cpu
from truckee.core.errors import ConfigError, FormatError, StorageError
from truckee.core.formats import base32
from truckee.core.storage.api import StorageServer
from truckee.core.storage.disk import DiskStore
from truckee.core.storage.server import LocalServer

KNOWN = "known-stores"
NODEID_LENGTH = 20
RETRY = 2.0
_LIMIT = 1 << 20

_log = Logger()


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """One store of the grid: its folder and its identity."""

    path: Path
    nodeid: bytes

    @property
    def name(self) -> str:
        """A short name for logs and messages."""
        return base32.b2a(self.nodeid)[:8]


def read_known(directory: Path) -> dict[Path, bytes]:
    """Return the identities of the stores that this node has ever had; empty when none is known."""
    try:
        raw = files.read(directory / KNOWN, _LIMIT)
    except FileNotFoundError:
        return {}
    return parse_known(raw, directory)


def parse_known(raw: bytes, directory: Path) -> dict[Path, bytes]:
    """Return the stores that a list names, with their identities; ConfigError for a damaged one."""
    known = {}
    try:
        lines = raw.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{KNOWN} is damaged") from None
    for line in filter(None, lines):
        nodeid, _, path = line.partition(" ")
        if not path or "\0" in path:
            raise ConfigError(f"{KNOWN} is damaged")
        known[directory / path] = _nodeid(nodeid)
    return known


def _nodeid(text: str) -> bytes:
    try:
        nodeid = base32.a2b(text)
    except FormatError:
        nodeid = b""
    if len(nodeid) != NODEID_LENGTH:
        raise ConfigError("an identity of a store is damaged")
    return nodeid


def _write_known(directory: Path, known: Mapping[Path, bytes]) -> None:
    lines = [f"{base32.b2a(nodeid)} {_shown(path, directory)}" for path, nodeid in known.items()]
    files.replace(directory / KNOWN, ("\n".join(lines) + "\n").encode("utf-8"))


def _shown(path: Path, directory: Path) -> Path:
    return path.relative_to(directory) if path.is_relative_to(directory) else path


def make_stores(
    directory: Path, paths: Iterable[Path], random: Callable[[int], bytes] = os.urandom
) -> None:
    """Make the stores of a node that is being created; blocking, repeatable after a crash.

    Identities are written down before any folder is made, so a second run makes the same stores.
    Raises ConfigError when a folder holds the store of another node, or its disk is not there.
    """
    known = read_known(directory)
    for path in paths:
        _check_place(directory, path, known.get(path))
        known.setdefault(path, random(NODEID_LENGTH))
    _write_known(directory, known)
    for path in paths:
        _make_store(path, known[path])


def _check_place(directory: Path, path: Path, nodeid: bytes | None) -> None:
    """Raise ConfigError when a folder holds another store than this one, or its disk is absent.

    To be called before the store counts as known: one that is known is never made anew.
    """
    if not path.is_relative_to(directory) and not path.parent.is_dir():
        raise ConfigError(f"the folder {path.parent} is not there")
    found = _identity(path)
    if found is not None and found != nodeid:
        raise ConfigError(f"the folder {path} holds the store of another node")


def _identity(path: Path) -> bytes | None:
    """Return the identity that stands in a store's folder, None when there is no store."""
    try:
        raw = files.read(path / "nodeid", 100, private=False)
    except FileNotFoundError:
        return None
    return _nodeid(raw.decode("ascii", "replace").strip())


def _make_store(path: Path, nodeid: bytes) -> None:
    files.make_private_directory(path)
    text = f"{base32.b2a(nodeid)}\n".encode("ascii")
    found = files.create_or_read(path / "nodeid", text, 100)
    if found.strip() != text.strip():
        raise ConfigError(f"the folder {path} holds the store of another node")


def stores_of(directory: Path, paths: Sequence[Path]) -> list[StoreRecord]:
    """Return the stores of a node that is being started; blocking.

    A folder that the configuration names for the first time becomes a new store, or is adopted if
    it is one, also one that stood elsewhere before. One that was known and is gone stays as it is.
    ConfigError when its disk is not there, or the same store is in two folders.
    """
    known = read_known(directory)
    if not known and not all((path / "nodeid").exists() for path in paths):
        raise ConfigError(f"{KNOWN} is missing, and so is at least one store")
    for path in paths:
        if path in known:
            continue
        nodeid = _identity(path)
        if nodeid is None:
            nodeid = os.urandom(NODEID_LENGTH)
        elif nodeid in {known[p] for p in paths if p in known}:
            raise ConfigError("two folders hold the same store")
        _check_place(directory, path, nodeid)
        known = {p: n for p, n in known.items() if n != nodeid}  # it has moved here
        known[path] = nodeid
        _write_known(directory, known)
        _make_store(path, nodeid)
    return [StoreRecord(path, known[path]) for path in paths]


def _missing(records: Sequence[StoreRecord]) -> set[int]:
    """Return the positions of the stores whose folder is not there."""
    return {i for i, record in enumerate(records) if not (record.path / "nodeid").exists()}


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that the disks below the stores have in all, and that may still be taken."""

    total: int
    free: int


def _room(records: Sequence[StoreRecord], reserved: int) -> Room:
    """Return the room of all disks together, each counted once however many stores it has."""
    disks = {}
    for record in records:
        with suppress(OSError):
            disks[os.stat(record.path).st_dev] = os.statvfs(record.path)
    total = sum(disk.f_frsize * disk.f_blocks for disk in disks.values())
    free = sum(max(0, disk.f_frsize * disk.f_bavail - reserved) for disk in disks.values())
    return Room(total, free)


class EmbeddedGrid:
    """The storage servers of this process; see the head of the module."""

    def __init__(
        self,
        records: Sequence[StoreRecord],
        disk: Cpu,
        clock: IReactorTime,
        *,
        reserved_space: int = 0,
        fsync: bool = True,
    ) -> None:
        """Take the stores, the door to the disk, and what is said of all of them."""
        self._clock = clock
        self._stores = [
            DiskStore(record.path, disk, nodeid=record.nodeid, fsync=fsync) for record in records
        ]
        self._servers = [
            LocalServer(store, clock, record.name, reserved_space=reserved_space)
            for store, record in zip(self._stores, records, strict=True)
        ]
        self._disk = disk
        self._reserved = reserved_space
        self.room: Room | None = None
        """What the disks had when they were last looked at; None before `start`."""
        self._records = records
        self._unopened: set[int] = set()
        self._absent: set[int] = set()
        self._timer: LoopingCall | None = None
        self._ticking: Deferred[LoopingCall] | None = None

    def servers(self) -> Sequence[StorageServer]:
        """Return every server, those that fail included."""
        return self._servers

    @property
    def absent(self) -> int:
        """How many stores were not there when they were last looked for."""
        return len(self._absent)

    async def start(self) -> None:
        """Open the stores; those that are not there are looked for from time to time."""
        self._unopened = set(range(len(self._stores)))
        await self._look()
        self._timer = LoopingCall(lambda: Deferred.fromCoroutine(self._tick()))
        self._timer.clock = self._clock
        self._ticking = self._timer.start(RETRY, now=False)

    async def _tick(self) -> None:
        try:
            await self._look()
        except Exception:  # noqa: BLE001 - the timer must go on
            _log.failure("looking for stores failed")

    async def _look(self) -> None:
        """Open what could not be opened before; say in the log what has gone, and what is back."""
        gone = await self._disk.run(_missing, self._records)
        self.room = await self._disk.run(_room, self._records, self._reserved)
        for i in sorted(self._unopened - gone):
            try:
                await self._stores[i].open(create=False)
            except StorageError:
                continue
            self._unopened.discard(i)
        before, self._absent = self._absent, gone | self._unopened
        for i in sorted(self._absent - before):
            _log.error("store {name} is not there", name=self._records[i].name)
        for i in sorted(before - self._absent):
            _log.info("store {name} is back", name=self._records[i].name)

    async def stop(self) -> None:
        """Give up open uploads and close the stores; no server may be called afterwards."""
        if self._timer is not None and self._timer.running:
            self._timer.stop()
        for server in self._servers:
            await server.stop()
        for store in self._stores:
            store.close()
