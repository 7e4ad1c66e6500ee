import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.core.storage.contract import ALL, ENABLER, SECRETS, SI, ServerContract, puts, shnums
from truckee.core.errors import NoSpaceError, ServerGoneError
from truckee.core.storage.api import ReadVector
from truckee.core.storage.faults import Faults, Kind, Rule
from truckee.core.storage.memory import MemoryStore
from truckee.core.storage.server import LocalServer


class WithoutRulesTests(ServerContract, TestCase):
    async def make_server(self):
        return Faults().wrap(LocalServer(MemoryStore(b"n" * 20), Clock()))


class FaultTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.faults = Faults(self.clock)
        self.local = LocalServer(MemoryStore(b"n" * 20), self.clock)
        self.server = self.faults.wrap(self.local)

    def start(self, coroutine):
        return Deferred.fromCoroutine(coroutine)

    def do(self, coroutine):
        return self.successResultOf(self.start(coroutine))

    def fails(self, coroutine, error=ServerGoneError):
        self.failureResultOf(self.start(coroutine), error)

    def put(self, data, shnum=0, server=None):
        async def run():
            got = await (server or self.server).allocate_buckets(
                SI, SECRETS, shnums(shnum), len(data)
            )
            await got.writers[shnum].write(0, data)
            await got.writers[shnum].close()

        return run()

    async def read(self, shnum=0):
        return bytes(await (await self.server.get_buckets(SI))[shnum].read(0, 100))

    def change(self, changes):
        return self.server.slot_testv_and_readv_and_writev(SI, ENABLER, SECRETS, changes, ())

    def test_each_call_of_an_operation_can_be_broken_until_none_is_left(self):
        n, reached = 0, True
        while reached:
            n += 1
            faults = Faults()
            rule = faults.add(Rule(Kind.ERROR, n))
            server = faults.wrap(LocalServer(MemoryStore(b"n" * 20), Clock()))
            d = self.start(self.put(b"data", server=server))
            reached = rule.reached
            if reached:
                self.failureResultOf(d, ServerGoneError)
            else:
                self.successResultOf(d)
        assert n == 4  # allocate, write, close

    def test_a_lost_answer_leaves_its_effect(self):
        self.faults.add(Rule(Kind.ERROR_AFTER, calls=frozenset({"close"})))
        self.fails(self.put(b"data"))
        assert self.do(self.read()) == b"data"

    def test_a_hanging_call_has_no_effect_or_all_of_it(self):
        self.faults.add(Rule(Kind.HANG, calls=frozenset({"close"})))
        d = self.start(self.put(b"data"))
        self.assertNoResult(d)
        assert self.do(self.server.get_buckets(SI)) == {}
        d.cancel()
        self.failureResultOf(d)
        self.faults.add(Rule(Kind.HANG_AFTER, calls=frozenset({"close"})))
        d = self.start(self.put(b"other", 1))
        self.assertNoResult(d)
        assert self.do(self.read(1)) == b"other"
        self.do(self.local.stop())

    def test_a_late_answer_comes_when_the_clock_says(self):
        self.do(self.put(b"data"))
        self.faults.add(Rule(Kind.LATE, calls=frozenset({"get_buckets"}), seconds=15))
        d = self.start(self.read())
        self.clock.advance(14)
        self.assertNoResult(d)
        self.clock.advance(1)
        assert self.successResultOf(d) == b"data"

    def test_answers_are_damaged(self):
        self.do(self.put(b"data"))
        self.do(self.put(b"more", 1))
        for kind, expected in [
            (Kind.TRUNCATE, b"dat"),
            (Kind.FLIP, b"eata"),
            (Kind.OTHER, b"more"),
            (Kind.NOTHING, b""),
        ]:
            self.faults.rules[:] = [Rule(kind, calls=frozenset({"read"}))]
            assert self.do(self.read()) == expected
            assert self.do(self.read()) == b"data"
        self.faults.rules[:] = [Rule(Kind.NOTHING, calls=frozenset({"get_buckets"}))]
        assert self.do(self.server.get_buckets(SI)) == {}

    def test_answers_about_slots_are_damaged(self):
        self.do(self.change({0: puts(b"data"), 1: puts(b"more")}))
        for kind, expected in [
            (Kind.TRUNCATE, {0: [b"dat"], 1: [b"mor"]}),
            (Kind.FLIP, {0: [b"eata"], 1: [b"lore"]}),
            (Kind.OTHER, {0: [b"more"], 1: [b"data"]}),
            (Kind.NOTHING, {}),
        ]:
            self.faults.rules[:] = [Rule(kind)]
            assert self.do(self.server.slot_readv(SI, ALL, [ReadVector(0, 9)])) == expected

    def test_a_rule_may_last_for_ever_and_for_one_server(self):
        other = self.faults.wrap(self.local)
        self.faults.add(Rule(Kind.ERROR, 2, server=self.server, forever=True))
        self.do(self.server.get_version())
        self.do(other.get_version())
        for _ in range(3):
            self.fails(self.server.get_version())
            self.do(other.get_version())
        assert [name for _, name in self.faults.calls] == ["get_version"] * 8

    def test_the_error_can_be_chosen(self):
        self.faults.add(Rule(Kind.ERROR, error=NoSpaceError))
        self.fails(self.server.get_version(), NoSpaceError)

    def test_full_and_read_only_servers(self):
        self.do(self.put(b"data"))
        self.do(self.change({5: puts(b"slot")}))
        self.server.readonly = True
        assert self.do(self.server.get_version()).available_space == 0
        got = self.do(self.server.allocate_buckets(SI, SECRETS, shnums(0, 1), 4))
        assert (got.already, got.writers) == (shnums(0), {})
        self.do(self.change({5: puts(b"SLOT")}))
        self.fails(self.change({6: puts(b"x")}), NoSpaceError)
        self.server.full = True
        self.fails(self.change({5: puts(b"x")}), NoSpaceError)

    def test_lost_and_corrupt_shares(self):
        self.do(self.put(b"data"))
        self.do(self.put(b"more", 1))
        self.server.corrupt.add(0)
        self.server.lost.add(1)
        assert self.do(self.read()) == b"eata"
        assert self.do(self.server.get_buckets(SI)).keys() == {0}
        with pytest.raises(KeyError):
            self.do(self.server.get_buckets(SI))[1]
