"""Sessions with real worker threads and the real reactor."""

import os
from pathlib import Path

import pytest
from twisted.internet import reactor  # noqa: TID251
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import TestCase

from tests.fakes.mutable_grid import key
from tests.fakes.tree import Avatar
from truckee.core.client import Client
from truckee.core.cpu import PoolCpu
from truckee.core.download.cache import ReaderCache
from truckee.core.interfaces import Encoding
from truckee.core.mutable.context import MutableContext
from truckee.core.mutable.keys import KeyPool
from truckee.core.storage.memory import MemoryStore
from truckee.core.storage.server import LocalServer
from truckee.core.upload.upload import Uploader
from truckee.frontends.vfs.session import Vfs, VFSSession

MIB = 2**20


class RealThreadTests(TestCase):
    def setUp(self):
        self.cpu, self.disk = PoolCpu(reactor, 2, "cpu"), PoolCpu(reactor, 4, "disk")
        for pool in (self.cpu, self.disk):
            pool.start()
            self.addCleanup(pool.stop)
        servers = [LocalServer(MemoryStore(bytes([i]) * 20), reactor) for i in range(3)]
        encoding = Encoding(2, 3, 3)
        keys = KeyPool(self.cpu, lambda: key(0))  # enough for one directory
        context = MutableContext(
            servers=lambda: servers,
            cpu=self.cpu,
            clock=reactor,
            lease_secret=b"L" * 32,
            keys=keys,
            encoding=encoding,
        )
        uploader = Uploader(lambda: servers, self.cpu, reactor, b"L" * 32)
        readers = ReaderCache(lambda: servers, self.cpu, reactor)
        self.client = Client(uploader, readers, context, encoding, b"C" * 32, reactor)
        self.vfs = Vfs(self.disk, self.cpu, reactor, Path(self.mktemp()), 2**30)

    def tearDown(self):
        assert self.vfs.spool.used == 0
        assert len(self.vfs.pending) == 0
        self.vfs.spool.shelf.clear()

    async def session(self):
        root = await self.client.create_new_mutable_directory()
        return VFSSession(self.vfs, self.client, root, Avatar())

    async def put(self, session, path, data, piece=65536):
        handle = await session.open_write(path, truncate=True, create=True)
        for at in range(0, len(data), piece):
            await handle.write(at, data[at : at + piece])
        await handle.commit()

    async def test_a_large_file_goes_in_and_out(self):
        session = await self.session()
        data = os.urandom(10 * MIB + 7)
        await self.put(session, ("a",), data)
        handle = await session.open_read(("a",))
        pieces = [
            Deferred.fromCoroutine(handle.read(at, 32768)) for at in range(0, len(data), 32768)
        ]
        assert b"".join(await gatherResults(pieces)) == data
        handle.close()
        await session.logout()

    async def test_many_files_at_once_share_their_publishes(self):
        session = await self.session()
        contents = {f"f{i}": os.urandom(4096) for i in range(100)}
        await gatherResults(
            [
                Deferred.fromCoroutine(self.put(session, (name,), data))
                for name, data in contents.items()
            ]
        )
        found = {}
        async for batch in await session.list(()):
            found |= dict(batch)
        assert {name: a.size for name, a in found.items()} == dict.fromkeys(contents, 4096)
        for name in ("f0", "f50", "f99"):
            handle = await session.open_read((name,))
            assert await handle.read(0, 5000) == contents[name]
            handle.close()

    async def test_a_disconnect_in_the_middle_leaves_nothing_behind(self):
        session = await self.session()
        handles = []
        for i in range(5):
            handle = await session.open_write((f"{i}",), truncate=True, create=True)
            for at in range(0, 3 * MIB, 65536):
                await handle.write(at, bytes(65536))
            handles.append(handle)
        await session.logout()
        root = session._walker.root
        assert len(await root.list()) == 0

    @pytest.mark.threat("D4")
    async def test_the_reactor_has_its_turn_while_a_large_directory_is_listed(self):
        node = self.client.create_node_from_uri(None, b"URI:LIT:mfra")
        names = {f"child {i:05d}": (node, {"tahoe": {"linkmotime": i}}) for i in range(10_000)}
        root = await self.client.create_new_mutable_directory(names)
        session = VFSSession(self.vfs, self.client, root, Avatar())
        turns = 0

        def count():
            nonlocal turns
            turns += 1

        ticking = LoopingCall(count)
        listing = await session.list(())
        _ = ticking.start(0)
        found = 0
        async for batch in listing:
            found += len(batch)
        ticking.stop()
        assert found == 10_000
        assert turns >= 40
