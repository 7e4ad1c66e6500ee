"""Reading from disk stores through real thread pools."""

import shutil
from pathlib import Path

import pytest
from twisted.internet import reactor  # noqa: TID251
from twisted.trial.unittest import TestCase

from tests.fakes.chk_shares import encode_chk, stream
from tests.fakes.consumers import GatheringConsumer
from truckee.core.checker import check
from truckee.core.cpu import PoolCpu
from truckee.core.download.cache import ReaderCache
from truckee.core.errors import NotEnoughSharesError
from truckee.core.interfaces import Encoding
from truckee.core.storage.api import LeaseSecrets
from truckee.core.storage.disk import DiskStore
from truckee.core.storage.server import LocalServer
from truckee.core.upload.sources import BytesSource
from truckee.core.upload.upload import Uploader


class DiskTests(TestCase):
    async def make(self, count):
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.cpu = PoolCpu(reactor, 2, "cpu")
        self.disk = PoolCpu(reactor, 2, "disk")
        for pool in (self.cpu, self.disk):
            pool.start()
            self.addCleanup(pool.stop)
        self.stores = [
            DiskStore(self.folder / f"s{i}", self.disk, fsync=False) for i in range(count)
        ]
        for store in self.stores:
            await store.open()
            self.addCleanup(store.close)
        self.servers = [LocalServer(store, reactor) for store in self.stores]
        self.cache = ReaderCache(lambda: self.servers, self.cpu, reactor)
        self.addCleanup(self.cache.stop)

    async def store(self, file):
        secrets = LeaseSecrets(b"r" * 32, b"c" * 32)
        for shnum, data in file.shares.items():
            server = self.servers[shnum % len(self.servers)]
            got = await server.allocate_buckets(
                file.cap.storage_index, secrets, frozenset({shnum}), len(data)
            )
            await got.writers[shnum].write(0, data)
            await got.writers[shnum].close()

    async def test_a_file_on_disks_is_read_and_verified(self):
        await self.make(5)
        file = encode_chk(stream("disk", 6_000_000), 2, 5)
        await self.store(file)
        consumer = GatheringConsumer()
        await self.cache.get(file.cap).read(consumer)
        assert consumer.data == file.plaintext
        piece = await self.cache.get(file.cap).read_range(3_000_000, 1000)
        assert piece == file.plaintext[3_000_000:3_001_000]
        found = await check(file.cap, self.servers, verify=True, cpu=self.cpu, clock=reactor)
        assert found.healthy

    async def test_what_the_uploader_stores_is_read_and_verified(self):
        await self.make(10)
        uploader = Uploader(lambda: self.servers, self.cpu, reactor, b"s" * 32)
        for size, encoding in [(100, Encoding()), (2_500_000, Encoding(4, 5, 7, 300_000))]:
            plain = stream("up", size)
            cap = await uploader.upload(BytesSource(plain), encoding, b"secret")
            assert await self.cache.get(cap).read_range(0, size) == plain
            found = await check(cap, self.servers, verify=True, cpu=self.cpu, clock=reactor)
            assert found.healthy

    async def test_folders_that_vanish_and_return_are_used_again(self):
        await self.make(4)
        file = encode_chk(stream("gone", 3_000_000), 2, 4)
        await self.store(file)
        reader = self.cache.get(file.cap)
        assert await reader.read_range(0, 10) == file.plaintext[:10]
        saved = self.folder / "saved"
        for i in range(4):
            shutil.copytree(self.folder / f"s{i}", saved / f"s{i}")
        for i in range(3):
            shutil.rmtree(self.folder / f"s{i}")
        reader.forget()
        for store in self.stores:
            store.close()
        with pytest.raises(NotEnoughSharesError):
            await reader.read_range(2_000_000, 10)
        for i in range(3):
            shutil.rmtree(self.folder / f"s{i}", ignore_errors=True)
            shutil.copytree(saved / f"s{i}", self.folder / f"s{i}")
        assert await reader.read_range(2_000_000, 10) == file.plaintext[2_000_000:2_000_010]
