"""Sources, and the uploader over real files, threads and disks."""

import os
import shutil
import tempfile

from twisted.internet import reactor  # noqa: TID251 - real threads
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.fakes.plain_reader import read_shares
from truckee.core.cpu import InlineCpu, PoolCpu
from truckee.core.errors import SourceChangedError
from truckee.core.interfaces import Encoding
from truckee.core.storage.disk import DiskStore
from truckee.core.storage.server import LocalServer
from truckee.core.upload.sources import BytesSource, FileSource, expect_end, read_exactly
from truckee.core.upload.upload import Uploader


class Scratch:
    """Names for files that are removed with the test."""

    def mktemp(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        return os.path.join(folder, "new")


class SourceTests(Scratch, SynchronousTestCase):
    def run_now(self, coroutine):
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def check_source(self, source, data):
        for _ in range(2):
            assert self.run_now(source.get_size()) == len(data)
            got = [b"".join(self.run_now(source.read(7))) for _ in range(len(data) // 7 + 2)]
            assert b"".join(got) == data
            assert all(len(piece) == 7 for piece in got[: len(data) // 7])
            self.run_now(source.rewind())
        self.run_now(source.close())

    def test_bytes_are_read_twice(self):
        self.check_source(BytesSource(b"x" * 100), b"x" * 100)
        self.check_source(BytesSource(b""), b"")

    def test_a_file_is_read_twice_and_closed(self):
        path = self.mktemp()
        with open(path, "wb") as f:
            f.write(b"file" * 50)
        self.check_source(FileSource(path, InlineCpu()), b"file" * 50)
        with open(path, "rb") as f:
            self.check_source(FileSource(f, InlineCpu()), b"file" * 50)
            assert f.closed

    def test_a_file_that_was_never_read_can_be_closed(self):
        self.run_now(FileSource(self.mktemp(), InlineCpu()).close())

    def test_a_missing_file_is_an_error_at_first_use(self):
        d = Deferred.fromCoroutine(FileSource(self.mktemp(), InlineCpu()).get_size())
        self.failureResultOf(d, FileNotFoundError)

    def test_reading_exactly_wants_neither_less_nor_more(self):
        source = BytesSource(b"12345")
        assert b"".join(self.run_now(read_exactly(source, 3))) == b"123"
        d = Deferred.fromCoroutine(expect_end(source))
        self.failureResultOf(d, SourceChangedError)
        d = Deferred.fromCoroutine(read_exactly(source, 5))
        self.failureResultOf(d, SourceChangedError)

    def test_a_source_that_gives_more_than_asked_for_is_refused(self):
        class Generous(BytesSource):
            async def read(self, length):
                return [b"x" * (length + 1)]

        d = Deferred.fromCoroutine(read_exactly(Generous(b""), 5))
        self.failureResultOf(d, SourceChangedError)


class DiskTests(Scratch, TestCase):
    async def test_files_of_all_sizes_reach_the_disk_whole(self):
        cpu, disk = PoolCpu(reactor, 2, "cpu"), PoolCpu(reactor, 4, "disk")
        for pool in (cpu, disk):
            pool.start()
            self.addCleanup(pool.stop)
        servers = []
        for _ in range(10):
            path = self.mktemp()
            os.mkdir(path)
            store = DiskStore(path, disk)
            await store.open()
            servers.append(LocalServer(store, reactor))
        uploader = Uploader(lambda: servers, cpu, reactor, b"l" * 32)
        sizes = (56, 4096, 300_000, 1_048_576, 5_000_001, 9_000_000)
        contents = [os.urandom(size) for size in sizes]
        uploads = []
        for data in contents:
            path = self.mktemp()
            with open(path, "wb") as f:
                f.write(data)
            upload = uploader.upload(FileSource(path, disk), Encoding(), b"secret")
            uploads.append(Deferred.fromCoroutine(upload))
        caps = await gatherResults(uploads)
        for cap, data in zip(caps, contents, strict=True):
            shares = {}
            for server in servers:
                for n, reader in (await server.get_buckets(cap.storage_index)).items():
                    shares[n] = bytes(await reader.read(0, cap.size + 100_000))
            assert sorted(shares) == list(range(10))
            for some in ((0, 1, 2), (1, 5, 9), (7, 8, 9)):
                assert read_shares({n: shares[n] for n in some}, cap) == data
        assert all(server.reserved == 0 for server in servers)
        assert uploader._budget.used == 0
        for server in servers:
            await server.stop()
            server.store.close()
