"""Servers that hang, answer late, or vanish in the middle: on a virtual clock."""

import random

import pytest
from twisted.internet.task import Clock

from tests.fakes.chk_shares import encode_chk, place, spread, stream
from tests.fakes.consumers import GatheringConsumer
from tests.fakes.reader_case import ReaderCase
from truckee.core.download.cache import ReaderCache
from truckee.core.errors import DownloadError, DownloadStopped, NoSharesError, NotEnoughSharesError
from truckee.core.placement import permuted
from truckee.core.storage.faults import Faults, Kind, Rule

QUERY = frozenset({"get_buckets"})
READ = frozenset({"read"})


class HungQueryTests(ReaderCase):
    def hang(self, servers, calls, kind=Kind.HANG, seconds=5.0):
        for server in servers:
            self.faults.add(Rule(kind, calls=calls, server=server, forever=True, seconds=seconds))

    def in_order(self, file):
        return permuted(self.servers, file.cap.storage_index)

    @pytest.mark.threat("S4")
    def test_seven_hung_servers_of_ten_delay_nothing(self):
        file = self.store()
        self.hang(self.in_order(file)[:7], QUERY)
        assert self.read(file) == file.plaintext

    @pytest.mark.threat("S4")
    def test_twelve_hung_servers_cost_ten_seconds(self):
        self.set_servers(20)
        file = encode_chk(stream("x", 5000), 3, 10, 1024)
        for shnum, server in enumerate(self.in_order(file)[10:]):
            store = self.stores[self.servers.index(server)]
            place(store, file.cap.storage_index, shnum, file.shares[shnum])
        self.hang(self.in_order(file)[:10], QUERY)
        consumer, d = self.start(file)
        self.clock.advance(9.9)
        self.assertNoResult(d)
        self.clock.advance(0.2)
        self.successResultOf(d)
        assert consumer.data == file.plaintext

    def test_a_late_answer_is_still_used(self):
        file = self.store(5000, 3, 3)
        self.hang([self.servers[1]], QUERY, Kind.LATE, 12.0)
        consumer, d = self.start(file)
        self.clock.pump([1.0] * 11)
        self.assertNoResult(d)
        self.clock.advance(1.1)
        self.successResultOf(d)
        assert consumer.data == file.plaintext

    def test_a_read_that_waits_only_for_hung_queries_fails_after_fifteen_seconds(self):
        file = self.store(5000, 3, 3)
        self.hang([self.servers[1]], QUERY)
        _, d = self.start(file)
        self.clock.advance(14.9)
        self.assertNoResult(d)
        self.clock.advance(0.2)
        self.failureResultOf(d, NotEnoughSharesError)
        assert self.clock.getDelayedCalls() == []

    def test_all_hung_is_no_shares(self):
        file = self.store()
        self.hang(self.servers, QUERY)
        _, d = self.start(file)
        self.clock.pump([5.0] * 4)
        self.failureResultOf(d, NoSharesError)

    def test_more_shares_never_follow_the_last_word(self):
        file = self.store(5000, 3, 3)
        for server in self.servers[:3]:
            self.hang([server], QUERY, Kind.LATE, 14.0)
        consumer, d = self.start(file)
        self.clock.pump([1.0] * 13)
        self.assertNoResult(d)
        self.clock.advance(1.0)
        self.successResultOf(d)
        assert consumer.data == file.plaintext


class HungReadTests(HungQueryTests):
    def test_a_hung_share_is_replaced_after_ten_seconds(self):
        file = self.store()
        reader = self.cache.get(file.cap)
        self.read(file, 0, 10)
        self.read(file, 1500, 10)  # now the primaries are in use
        self.hang([self.holders(file)[1]], READ)
        consumer, d = self.start(file)
        self.clock.advance(9.9)
        self.assertNoResult(d)
        self.clock.advance(0.2)
        self.successResultOf(d)
        assert consumer.data == file.plaintext
        assert reader.status.counts["overdue"] >= 1
        assert self.clock.getDelayedCalls() == []

    def readers_of(self, file, offset):
        """Return the numbers of the shares that a read of one segment asks."""
        self.faults.calls.clear()
        assert self.read(file, offset, 10) == file.plaintext[offset : offset + 10]
        asked = {server for server, call in self.faults.calls if call == "read"}
        return {n for n, server in self.holders(file).items() if server in asked}

    def test_a_server_that_was_slow_or_failed_is_spared_for_a_minute(self):
        for kind in (Kind.HANG, Kind.ERROR):
            file = self.store(9000, seed=kind.name)
            self.read(file, 0, 10)
            assert self.readers_of(file, 1500) == {0, 1, 2}
            self.faults.add(Rule(kind, calls=READ, server=self.holders(file)[1]))
            _, d = self.start(file, 2500, 10)
            self.clock.advance(11)
            self.successResultOf(d)
            assert self.readers_of(file, 3500) == {0, 2, 3}
            self.clock.advance(61)
            assert self.readers_of(file, 4500) == {0, 1, 2}
            self.faults.rules.clear()

    def test_a_block_that_comes_late_is_used_when_nothing_else_is_there(self):
        file = self.store(5000, 3, 3)
        self.hang([self.servers[2]], READ, Kind.LATE, 30.0)
        consumer, d = self.start(file, 0, 100)
        self.clock.pump([5.0] * 5)
        self.assertNoResult(d)
        self.clock.pump([5.0] * 10)
        self.successResultOf(d)
        assert consumer.data == file.plaintext[:100]

    def test_a_request_ends_after_sixty_seconds(self):
        file = self.store(5000, 3, 3)
        self.hang([self.servers[2]], READ)
        _, d = self.start(file)
        self.clock.pump([5.0] * 11)
        self.assertNoResult(d)
        self.clock.pump([5.0] * 2)
        error = self.failureResultOf(d, NotEnoughSharesError).value
        assert "overdue" in str(error)
        assert self.clock.getDelayedCalls() == []

    @pytest.mark.threat("S4")
    def test_seven_hung_of_ten_still_give_the_file(self):
        file = self.store()
        self.hang(self.servers[:7], READ)
        consumer, d = self.start(file)
        for _ in range(20):
            self.clock.advance(2.0)
        self.successResultOf(d)
        assert consumer.data == file.plaintext

    def test_cancelling_while_a_request_hangs_leaves_no_timer(self):
        file = self.store(5000, 3, 3)
        self.hang([self.servers[2]], READ)
        consumer, d = self.start(file)
        consumer.producer.stopProducing()
        self.failureResultOf(d, DownloadStopped)
        assert self.clock.getDelayedCalls() == []

    def test_hung_requests_do_not_hold_places_for_ever(self):
        self.set_servers(256)
        file = encode_chk(stream("x", 5000), 64, 256, 5000)
        spread(self.stores, file)
        self.cache = ReaderCache(lambda: self.servers, self.cpu, self.clock)
        self.hang(self.servers[:100], READ)
        consumer, d = self.start(file)
        for _ in range(30):
            self.clock.advance(2.0)
        self.successResultOf(d)
        assert consumer.data == file.plaintext


class VanishingTests(ReaderCase):
    def test_servers_lost_between_two_segments_are_replaced_within_the_read(self):
        file = self.store(9000)

        def lose(consumer):
            if len(consumer.pieces) == 1:
                for shnum in (0, 1, 2):
                    self.faults.add(
                        Rule(Kind.ERROR, calls=READ, server=self.holders(file)[shnum], forever=True)
                    )

        consumer = GatheringConsumer(lose)
        _, d = self.start(file, consumer=consumer)
        self.successResultOf(d)
        assert consumer.data == file.plaintext

    def test_failover_until_all_shares_are_gone(self):
        file = self.store(5000)
        for last in (3, 7):
            for shnum, server in self.holders(file).items():
                if shnum < last:
                    self.faults.add(Rule(Kind.ERROR, calls=READ, server=server, forever=True))
            self.cache.get(file.cap).forget()
            assert self.read(file) == file.plaintext
        for server in self.servers:
            self.faults.add(Rule(Kind.ERROR, calls=READ, server=server, forever=True))
        self.cache.get(file.cap).forget()
        self.fail_to_read(file, NotEnoughSharesError)
        for store in self.stores:
            store.shares.clear()
        self.fail_to_read(file, NoSharesError)

    @pytest.mark.threat("S11")
    def test_every_kind_of_fault_in_every_call_leaves_right_bytes(self):
        for kind in (Kind.ERROR, Kind.ERROR_AFTER, Kind.HANG, Kind.LATE, Kind.NOTHING):
            nth = 0
            reached = True
            while reached:
                nth += 1
                self.faults.rules.clear()
                file = self.store(9000, seed=f"{kind}{nth}")
                rule = self.faults.add(Rule(kind, nth=nth, seconds=70.0))
                consumer, d = self.start(file)
                for _ in range(4):
                    self.clock.advance(5.0)
                self.successResultOf(d)
                assert consumer.data == file.plaintext
                reached = rule.reached
        self.clock.advance(100)
        assert self.clock.getDelayedCalls() == []

    def test_parallel_first_reads_with_a_wrong_guess_all_give_right_bytes(self):
        file = self.store(3_000_000, max_segment_size=100_000)
        self.faults.add(Rule(Kind.LATE, calls=QUERY, seconds=1.0, forever=True))
        self.faults.add(Rule(Kind.LATE, calls=READ, seconds=1.0, forever=True))
        reads = [self.start(file, offset, 200_000) for offset in (0, 1_200_000, 2_950_000, 5, 7)]
        self.clock.pump([0.5] * 40)
        for (consumer, d), offset in zip(reads, (0, 1_200_000, 2_950_000, 5, 7), strict=True):
            self.successResultOf(d)
            assert consumer.data == file.plaintext[offset : offset + 200_000]

    @pytest.mark.threat("S4")
    def test_whatever_servers_and_callers_do_bytes_are_right_or_there_is_an_error(self):
        for seed in range(60):
            self.run_random(random.Random(seed))

    def run_random(self, dice):
        self.clock = Clock()
        self.faults = Faults(self.clock)
        self.set_servers(6)
        self.cache = ReaderCache(lambda: self.servers, self.cpu, self.clock, max_bytes=30_000)
        file = self.store(20_000, 2, 6, dice.choice([500, 3000, 20_000]))
        for _ in range(dice.randrange(12)):
            kind = dice.choice([each for each in Kind if each is not Kind.HANG_AFTER])
            nth, seconds = dice.randrange(1, 40), dice.choice([3.0, 12.0, 70.0])
            self.faults.add(Rule(kind, nth=nth, seconds=seconds, bit=dice.randrange(8)))
        reads = []
        for _ in range(12):
            offset = dice.randrange(20_000)
            wish = dice.random()
            consumer = GatheringConsumer(
                (lambda c: c.producer.stopProducing()) if wish < 0.15 else None
            )
            reads.append((offset, *self.start(file, offset, dice.randrange(9000), consumer)))
            if wish > 0.9:
                reads[-1][2].addErrback(lambda _: None)
                reads[-1][2].cancel()
            self.clock.advance(dice.choice([0.0, 0.0, 1.0, 11.0]))
        self.clock.pump([1.0] * 400)
        for offset, consumer, d in reads:
            d.addErrback(lambda failure: failure.trap(DownloadError))
            self.successResultOf(d)
            assert file.plaintext[offset:].startswith(consumer.data)
            assert consumer.registered == consumer.unregistered
        assert self.cache.get(file.cap).idle
        assert self.clock.getDelayedCalls() == []
        self.faults.rules.clear()
        self.clock.advance(100)
        assert self.read(file) == file.plaintext
