"""A real client over memory servers, and sessions of the vfs on top of it.

Everything runs in the calling thread; `run` advances the virtual clock while it must.
"""

from dataclasses import dataclass
from pathlib import Path as DiskPath

from twisted.internet.defer import Deferred

from tests.fakes.mutable_grid import Grid, Sink
from truckee.core.client import Client
from truckee.core.cpu import InlineCpu
from truckee.core.download.cache import ReaderCache
from truckee.core.interfaces import Encoding
from truckee.core.upload.upload import Uploader
from truckee.frontends.vfs.paths import parse
from truckee.frontends.vfs.session import Vfs, VFSSession

__all__ = ["Avatar", "Sink", "Tree"]


@dataclass(frozen=True)
class Avatar:
    username: str = "alice"
    readonly: bool = False


class HeldClient(Client):
    """A client whose uploads can be counted, held up and broken."""

    uploads = 0
    held: list[Deferred[None]] | None = None
    error: Exception | None = None

    async def upload(self, uploadable, convergence="default", encoding=None):
        self.uploads += 1
        if self.held is not None:
            d: Deferred[None] = Deferred()
            self.held.append(d)
            await d
        if self.error is not None:
            await uploadable.close()
            raise self.error
        return await super().upload(uploadable, convergence, encoding)

    def hold(self) -> None:
        self.held = []

    def release(self) -> None:
        held, self.held = self.held or [], None
        for d in held:
            d.callback(None)


class Tree:
    """One node: a grid of one server, one client, one root, one vfs."""

    def __init__(self, tmp_path: DiskPath, max_segment_size: int = 2**20, **options) -> None:
        self.grid = Grid(1)
        self.clock = self.grid.clock
        context = self.grid.process(1, 1, 1)
        self.encoding = Encoding(1, 1, 1, max_segment_size)
        cpu = InlineCpu()
        servers = lambda: self.grid.servers  # noqa: E731
        uploader = Uploader(servers, cpu, self.clock, b"L" * 32)
        readers = ReaderCache(servers, cpu, self.clock)
        self.client = HeldClient(
            uploader,
            readers,
            context,
            self.encoding,
            b"C" * 32,
            self.clock,
            wall=self.clock.seconds,
        )
        self.clock.advance(1_700_000_000)
        self.root = self.run(self.client.create_new_mutable_directory())
        options.setdefault("spool_max", 2**30)
        self.vfs = Vfs(cpu, cpu, self.clock, tmp_path / "spool", **options)

    @property
    def calls(self) -> int:
        """Return how many calls the servers have got."""
        return len(self.grid.faults.calls)

    def session(self, account="alice", *, readonly=False, root=None, **more) -> VFSSession:
        return VFSSession(
            self.vfs, self.client, root or self.root, Avatar(account, readonly), **more
        )

    def run(self, coroutine, seconds=200.0, step=0.5):
        return self.grid.run(coroutine, seconds, step)

    def start(self, coroutine) -> Deferred:
        """Start it and return its Deferred, whose failure is nobody's business."""
        d = Deferred.fromCoroutine(coroutine)
        d.addErrback(lambda f: f)
        return d

    # whole operations

    def put(self, session, path, data, **how) -> None:
        async def go():
            how.setdefault("truncate", True)
            how.setdefault("create", True)
            handle = await session.open_write(parse(path), **how)
            for at in range(0, len(data), 65536):
                await handle.write(at, data[at : at + 65536])
            await handle.commit()

        self.run(go())

    def get(self, session, path) -> bytes:
        async def go():
            handle = await session.open_read(parse(path))
            try:
                parts = []
                at = 0
                while part := await handle.read(at, 100_000):
                    parts.append(part)
                    at += len(part)
                return b"".join(parts)
            finally:
                handle.close()

        return self.run(go())

    def stat(self, session, path):
        return self.run(session.stat(parse(path)))

    def open(self, session, path, **how):
        how.setdefault("truncate", False)
        how.setdefault("create", True)
        return self.run(session.open_write(parse(path), **how))

    def names(self, session, path="/") -> dict:
        async def go():
            found = {}
            async for batch in await session.list(parse(path)):
                assert len(batch) <= 200
                found |= dict(batch)
            return found

        return self.run(go())

    def failure(self, coroutine):
        """Return the class of the error that the coroutine ends with; None for success."""
        try:
            self.run(coroutine)
        except Exception as error:
            return type(error)
        return None
