from twisted.internet import reactor  # noqa: TID251 - worker threads need a real one
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.fakes.mutable_grid import key
from truckee.core.cpu import InlineCpu, PoolCpu
from truckee.core.mutable.keys import KeyPool, PairCache, SeenSignatures


class SlowCpu:
    """Runs a job when told to."""

    def __init__(self):
        self.jobs = []

    def run(self, f, *args):
        d = Deferred()
        self.jobs.append((d, f, args))
        return d

    def finish_one(self):
        d, f, args = self.jobs.pop(0)
        if not d.called:
            d.callback(f(*args))


class KeyPoolTests(SynchronousTestCase):
    def setUp(self):
        self.made = 0
        self.cpu = SlowCpu()
        self.pool = KeyPool(self.cpu, self.generate, ready=3)

    def generate(self):
        self.made += 1
        return key(self.made % 3)

    def take(self):
        return Deferred.fromCoroutine(self.pool.take())

    def test_keys_are_made_one_at_a_time_until_enough_are_ready(self):
        self.pool.start()
        for ready in range(3):
            assert len(self.pool) == ready
            assert len(self.cpu.jobs) == 1
            self.cpu.finish_one()
        assert len(self.pool) == 3
        assert self.cpu.jobs == []

    def test_a_taken_key_is_made_up_for(self):
        self.pool.start()
        for _ in range(3):
            self.cpu.finish_one()
        self.successResultOf(self.take())
        assert len(self.cpu.jobs) == 1
        self.successResultOf(self.take())
        assert len(self.cpu.jobs) == 1
        self.cpu.finish_one()
        self.cpu.finish_one()
        assert len(self.pool) == 3

    def test_an_empty_pool_makes_a_key_for_whoever_asks(self):
        first, second = self.take(), self.take()
        assert len(self.cpu.jobs) == 2
        self.cpu.finish_one()
        self.successResultOf(first)
        self.assertNoResult(second)
        assert len(self.pool) == 0
        self.cpu.finish_one()
        self.successResultOf(second)

    def test_a_stopped_pool_keeps_nothing_and_makes_nothing(self):
        self.pool.start()
        self.cpu.finish_one()
        self.pool.stop()
        assert len(self.pool) == 0
        while self.cpu.jobs:
            self.cpu.finish_one()
        assert len(self.pool) == 0

    def test_a_key_that_cannot_be_made_is_tried_again_at_the_next_take(self):
        def broken():
            raise OSError("no randomness")

        pool = KeyPool(InlineCpu(), broken)
        pool.start()
        assert len(self.flushLoggedErrors(OSError)) == 1
        self.failureResultOf(Deferred.fromCoroutine(pool.take()), OSError)


class RealPoolTests(TestCase):
    async def test_the_pool_fills_in_worker_threads(self):
        cpu = PoolCpu(reactor, 2, "keys")
        cpu.start()
        self.addCleanup(cpu.stop)
        pool = KeyPool(cpu, ready=2)
        pool.start()
        while len(pool) < 2:
            await deferLater(reactor, 0.02)
        first, second = await pool.take(), await pool.take()
        assert first.private_der != second.private_der
        pool.stop()


def test_the_pair_cache_forgets_the_one_used_longest_ago():
    cache = PairCache(2)
    for i in range(2):
        cache.put(b"%d" % i, key(i))
    assert cache.get(b"0") is key(0)
    cache.put(b"2", key(2))
    assert cache.get(b"1") is None
    assert cache.get(b"0") is key(0)


def test_seen_signatures_are_bounded():
    seen = SeenSignatures(2)
    for name in (b"a", b"b"):
        seen.add(name)
    assert b"a" in seen
    seen.add(b"c")
    assert b"b" not in seen
    assert b"a" in seen
