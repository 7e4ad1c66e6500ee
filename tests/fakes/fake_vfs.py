"""A filestore session in memory: the shape of truckee.frontends.vfs.session, and nothing behind it.

Uploads appear on commit only. Calls can be held up or made to fail by name.
"""

import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from truckee.core import errors as e
from truckee.frontends.vfs.attributes import Attributes
from truckee.frontends.vfs.paths import Path

BATCH = 200


def unique_of(name: str) -> str:
    return f"{zlib.crc32(name.encode(errors='replace')):08x}"


def attributes_of(content: object, mtime: int = 0, name: str = "") -> Attributes:
    if isinstance(content, dict):
        return Attributes("dir", 0, mtime, 0o777, True, unique_of(name))
    return Attributes("file", len(content), mtime, 0o666, True, unique_of(name))


@dataclass
class Gate:
    """Holds up or breaks the calls of one name."""

    error: Exception | None = None
    held: list[Deferred] | None = None
    calls: int = 0

    async def __call__(self) -> None:
        self.calls += 1
        if self.held is not None:
            d: Deferred[None] = Deferred()
            self.held.append(d)
            await d
        if self.error is not None:
            raise self.error

    def release(self) -> None:
        held, self.held = self.held or [], None
        for d in held:
            d.callback(None)


@dataclass
class FakeSession:
    account: str = "alice"
    readonly: bool = False
    root: dict = field(default_factory=dict)
    times: dict = field(default_factory=dict)
    modes: dict = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)
    logged_out: int = 0
    open_writes: set = field(default_factory=set)
    open_reads: set = field(default_factory=set)
    last_read: object = None

    def gate(self, name: str) -> Gate:
        return self.gates.setdefault(name, Gate())

    def look(self, path: Path) -> object:
        here = self.root
        for i, part in enumerate(path):
            if not isinstance(here, dict):
                raise e.ChildOfWrongTypeError("not a directory")
            if part not in here:
                if i < len(path) - 1:
                    raise e.NoSuchChildError("no parent")
                raise e.NoSuchChildError("absent")
            here = here[part]
        return here

    def parent(self, path: Path) -> dict:
        found = self.look(path[:-1])
        if not isinstance(found, dict):
            raise e.ChildOfWrongTypeError("not a directory")
        if not path:
            raise e.ExistingChildError("the root")
        return found

    def may_write(self) -> None:
        if self.readonly:
            raise e.NotWriteableError("read-only")

    async def stat(self, path: Path) -> Attributes:
        await self.gate("stat")()
        return attributes_of(self.look(path), self.times.get(path, 0), "/".join(path))

    async def list(self, path: Path) -> AsyncIterator:
        await self.gate("list")()
        found = self.look(path)
        if not isinstance(found, dict):
            raise e.ChildOfWrongTypeError("a file")
        items = [(n, attributes_of(c, self.times.get((*path, n), 0), n)) for n, c in found.items()]

        async def batches() -> AsyncIterator:
            for i in range(0, len(items), BATCH):
                await self.gate("batch")()
                yield items[i : i + BATCH]

        return batches()

    async def open_read(self, path: Path) -> "FakeRead":
        await self.gate("open_read")()
        found = self.look(path)
        if isinstance(found, dict):
            raise e.ChildOfWrongTypeError("a directory")
        handle = FakeRead(self, attributes_of(found), found)
        self.open_reads.add(handle)
        self.last_read = handle
        return handle

    async def open_write(
        self, path: Path, *, truncate: bool, create: bool, exclusive=False, append=False
    ) -> "FakeWrite":
        await self.gate("open_write")()
        self.may_write()
        parent = self.parent(path)
        old = parent.get(path[-1])
        if isinstance(old, dict):
            raise e.ChildOfWrongTypeError("a directory")
        if old is None and not create:
            raise e.NoSuchChildError("absent")
        handle = FakeWrite(self, parent, path[-1], b"" if truncate else (old or b""), append)
        self.open_writes.add(handle)
        return handle

    async def mkdir(self, path: Path) -> None:
        await self.gate("mkdir")()
        self.may_write()
        parent = self.parent(path)
        if path[-1] in parent:
            raise e.ExistingChildError("exists")
        parent[path[-1]] = {}

    async def rmdir(self, path: Path) -> None:
        self.may_write()
        found = self.look(path)
        if not isinstance(found, dict):
            raise e.ChildOfWrongTypeError("a file")
        if found:
            raise e.DirectoryNotEmptyError("not empty")
        del self.parent(path)[path[-1]]

    async def remove(self, path: Path) -> None:
        self.may_write()
        if isinstance(self.look(path), dict):
            raise e.ChildOfWrongTypeError("a directory")
        del self.parent(path)[path[-1]]

    async def rename(self, source: Path, target: Path, *, replace: bool) -> None:
        self.may_write()
        found = self.look(source)
        parent = self.parent(target)
        if isinstance(parent.get(target[-1]), dict):
            raise e.ExistingChildError("a directory")
        del self.parent(source)[source[-1]]
        parent[target[-1]] = found

    async def set_attributes(self, path: Path, *, mtime=None, mode=None, size=None) -> None:
        self.may_write()
        self.look(path)
        if mtime is not None:
            self.times[path] = mtime
        if mode is not None:
            self.modes[path] = mode

    async def logout(self) -> None:
        self.logged_out += 1
        for handle in list(self.open_writes):
            handle.abandon()


class FakeWrite:
    def __init__(self, session: FakeSession, parent: dict, name: str, old: bytes, append) -> None:
        self.session, self.parent, self.name, self.append = session, parent, name, append
        self.data = bytearray(old)
        self.state = "open"

    @property
    def size(self) -> int:
        return len(self.data)

    async def write(self, offset: int | None, data: bytes) -> None:
        await self.session.gate("write")()
        if offset is None or self.append:
            offset = len(self.data)
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data

    async def truncate(self, size: int) -> None:
        del self.data[size:]

    async def commit(self) -> None:
        assert self.state == "open"
        self.state = "committing"
        try:
            await self.session.gate("commit")()
            self.parent[self.name] = bytes(self.data)
        finally:
            self.state = "closed"
            self.session.open_writes.discard(self)

    def abandon(self) -> None:
        if self.state == "open":
            self.state = "closed"
            self.session.open_writes.discard(self)


class FakeRead:
    """Sends in pieces, pausing when told to."""

    piece = 1 << 16

    def __init__(self, session: FakeSession, attributes: Attributes, data: bytes) -> None:
        self.session, self.attributes, self.data = session, attributes, data
        self.paused = self.stopped = False
        self.resumed: Deferred | None = None
        self.closed = False

    @property
    def size(self) -> int:
        return self.attributes.size

    async def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    async def send_to(self, consumer, offset: int = 0, size: int | None = None) -> None:
        await self.session.gate("read")()
        if offset >= len(self.data):
            return
        consumer.registerProducer(self, True)
        try:
            while offset < len(self.data):
                while self.paused and not self.stopped:
                    self.resumed = Deferred()
                    await self.resumed
                if self.stopped:
                    raise e.DownloadStopped("stopped")
                consumer.write(self.data[offset : offset + self.piece])
                offset += self.piece
                await self.session.gate("piece")()
        finally:
            consumer.unregisterProducer()

    def _wake(self) -> None:
        d, self.resumed = self.resumed, None
        if d is not None:
            d.callback(None)

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        self._wake()

    def stopProducing(self) -> None:
        self.stopped = True
        self._wake()

    def close(self) -> None:
        self.closed = True
        self.session.open_reads.discard(self)


class NullWrite(FakeWrite):
    """Takes everything and keeps nothing: for speed."""

    came = 0

    @property
    def size(self) -> int:
        return self.came

    async def write(self, offset: int | None, data: bytes) -> None:
        self.came += len(data)

    async def commit(self) -> None:
        self.state = "closed"


def fake_checker(session: FakeSession) -> Callable:
    """Return a login function for FakePortal: password `secret`."""
    from twisted.cred.error import UnauthorizedLogin

    def check(credentials) -> FakeSession:
        if getattr(credentials, "password", b"") != b"secret":
            raise UnauthorizedLogin("no")
        return session

    return check


class FakePortal:
    """Logs anybody in whom `check` returns a session for."""

    def __init__(self, check: Callable) -> None:
        self.check = check
        self.held: list[Deferred] | None = None
        self.seen: list = []

    def login(self, credentials, mind, interface) -> Deferred:
        from truckee.frontends.ftp.shell import Handler

        self.seen.append((credentials, mind))
        d: Deferred = Deferred()

        def answer(_: object) -> tuple:
            session = self.check(credentials)
            left: list = []

            def logout() -> None:
                if not left:
                    left.append(1)
                    Deferred.fromCoroutine(session.logout())

            return interface, Handler(session), logout

        d.addCallback(answer)
        if self.held is not None:
            self.held.append(d)
        else:
            d.callback(None)
        return d
