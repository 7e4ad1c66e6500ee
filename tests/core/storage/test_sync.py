import errno
import os
import tempfile

from twisted.internet import reactor  # noqa: TID251 - real threads deliver to it
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.core.storage.contract import ENABLER, SECRETS, ServerContract, puts, shnums
from tests.fakes.simdisk import SimDisk
from truckee.core.cpu import PoolCpu
from truckee.core.errors import ServerGoneError
from truckee.core.storage import sync
from truckee.core.storage.disk import DiskStore
from truckee.core.storage.server import LocalServer


class ThreadsTestCase(TestCase):
    def setUp(self):
        self.disk = PoolCpu(reactor, 4, "disk")
        self.disk.start()
        self.addCleanup(self.disk.stop)
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = place.name

    async def make_store(self, name="store", **options):
        store = DiskStore(os.path.join(self.place, name), self.disk, **options)
        await store.open()
        self.addCleanup(store.close)
        return store


class ServerOnThreadsTests(ServerContract, ThreadsTestCase):
    async def make_server(self):
        server = LocalServer(await self.make_store(), reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        return server


class CrowdTests(ThreadsTestCase):
    async def test_many_stores_and_uploads_at_once(self):
        stores = [await self.make_store(str(n)) for n in range(5)]
        servers = [LocalServer(store, reactor) for store in stores]

        async def one(server, n):
            index = n.to_bytes(16, "big")
            size = [50, 3000, 200_000][n % 3]
            data = bytes([n % 256]) * size
            got = await server.allocate_buckets(index, SECRETS, shnums(0, 1), size)
            await got.writers[0].write(0, data)
            if n % 4:
                await got.writers[1].write(0, data[:10])
                await got.writers[1].abort()
            else:
                await got.writers[1].write(0, data)
                await got.writers[1].close()
            await got.writers[0].close()
            readers = await server.get_buckets(index)
            assert readers.keys() == ({0} if n % 4 else {0, 1})
            for reader in readers.values():
                assert await reader.read(0, size) == data
            mutable = b"m" + index[1:]
            for k in range(2):
                changed = await server.slot_testv_and_readv_and_writev(
                    mutable, ENABLER, SECRETS, {0: puts(b"%d" % k)}, ()
                )
                assert changed.success

        await gatherResults(
            [Deferred.fromCoroutine(one(server, n)) for n in range(40) for server in servers],
            consumeErrors=True,
        )
        for server, store in zip(servers, stores, strict=True):
            assert server.reserved == 0
            assert os.listdir(os.path.join(store.path, "shares", "incoming")) == []
            assert len([each async for each in store.iterate()]) == 40 + 10 + 40

    async def test_a_cancelled_upload_is_over_and_its_number_free(self):
        server = LocalServer(await self.make_store(), reactor)
        for size in (100, 200_000):
            index = size.to_bytes(16, "big")
            got = await server.allocate_buckets(index, SECRETS, shnums(0), size)
            await got.writers[0].write(0, bytes(size))
            closing = Deferred.fromCoroutine(got.writers[0].close())
            closing.cancel()
            closing.addErrback(lambda _: None)
            await closing
            assert server.reserved == 0
            again = await server.allocate_buckets(index, SECRETS, shnums(0), size)
            for writer in again.writers.values():  # none, when the rename was quicker
                await writer.write(0, bytes(size))
                await writer.close()
            found = await server.get_buckets(index)
            assert await found[0].read(0, size) == bytes(size)


class ScriptedCpu:
    """Runs jobs when told to."""

    def __init__(self):
        self.jobs = []

    def run(self, f, *args, **kwargs):
        d = Deferred()
        self.jobs.append((d, f, args))
        return d

    def step(self):
        d, f, args = self.jobs.pop(0)
        d.callback(f(*args))


class Recorded:
    """A work that notes its steps."""

    root = "/"

    def __init__(self, name, steps, more=True):
        self.name = name
        self.steps = steps
        self.more = more

    def prepare(self, turn, sync):
        self.steps.append(("prepare", self.name))
        return self.more

    is_written = False

    def confirm(self):
        self.steps.append(("confirm", self.name))

    def publish(self, folders):
        self.steps.append(("publish", self.name))

    def undo(self):
        self.steps.append(("undo", self.name))


class GroupTests(SynchronousTestCase):
    def setUp(self):
        self.cpu = ScriptedCpu()
        self.files = SimDisk()
        self.steps = []
        self.filesystem = sync.Filesystem(self.cpu, self.files, fsync=True)

    def works(self, count, **options):
        return [self.filesystem.commit(Recorded(n, self.steps, **options)) for n in range(count)]

    def test_what_gathers_while_others_run_shares_two_syncs(self):
        done = self.works(9)
        assert len(self.cpu.jobs) == 2
        self.cpu.step()
        assert len(self.cpu.jobs) == 2
        self.files.calls.clear()
        self.steps.clear()
        self.cpu.jobs.pop(0)
        self.cpu.step()
        names = list(range(2, 9))
        assert self.files.calls.count("syncfs") == 2
        assert self.steps == [
            (step, n) for step in ("prepare", "confirm", "publish") for n in names
        ]
        assert [d.called for d in done] == [True, False] + [True] * 7

    def test_large_shares_are_synced_one_by_one(self):
        class Written(Recorded):
            is_written = True

        for n in range(12):
            self.filesystem.commit(Written(n, self.steps))
        while self.cpu.jobs:
            self.cpu.step()
        assert "syncfs" not in self.files.calls
        assert [n for step, n in self.steps if step == "confirm"] == list(range(12))

    def test_a_failed_sync_fails_all_that_waited_for_it(self):
        done = self.works(9)

        def fail(name):
            if name == "syncfs":
                raise OSError(errno.EIO, "broken")

        self.files.fail = fail
        self.cpu.step()
        self.cpu.step()
        self.cpu.step()
        for d in done[2:]:
            self.failureResultOf(d, OSError)
        assert [step for step in self.steps if step[1] == 5] == [("prepare", 5), ("undo", 5)]

    def test_one_that_fails_does_not_hurt_the_others(self):
        class Bad(Recorded):
            def publish(self, folders):
                raise ServerGoneError

        done = self.works(2)
        bad = self.filesystem.commit(Bad("bad", self.steps))
        good = self.works(5)
        for _ in range(3):
            self.cpu.step()
        self.failureResultOf(bad, ServerGoneError)
        for d in done + good:
            self.successResultOf(d)
        assert ("undo", "bad") in self.steps

    def test_works_with_nothing_to_publish_wait_for_no_sync(self):
        done = self.works(9, more=False)
        while self.cpu.jobs:
            self.cpu.step()
        for d in done:
            self.successResultOf(d)
        assert "syncfs" not in self.files.calls

    def test_a_work_that_is_cancelled_while_it_waits_is_not_begun(self):
        done = self.works(5)
        done[3].cancel()
        self.failureResultOf(done[3])
        while self.cpu.jobs:
            self.cpu.step()
        assert ("prepare", 3) not in self.steps
        for n in (0, 1, 2, 4):
            self.successResultOf(done[n])

    def test_small_jobs_share_a_hop_and_what_they_learn(self):
        turns = []
        done = [self.filesystem.small(lambda turn, n=n: (turns.append(turn), n)) for n in range(9)]
        while self.cpu.jobs:
            self.cpu.step()
        assert [self.successResultOf(d)[1] for d in done] == list(range(9))
        assert len({id(turn) for turn in turns[2:]}) == 1

    def test_results_come_in_slices(self):
        self.patch(sync, "_SLICE", -1)
        done = [self.filesystem.small(lambda turn: 5) for _ in range(6)]
        for _ in range(3):
            self.cpu.step()
        assert sum(d.called for d in done) == 3
        while self.cpu.jobs:
            self.cpu.step()
        assert all(self.successResultOf(d) == 5 for d in done)
