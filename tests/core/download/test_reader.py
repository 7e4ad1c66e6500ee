import json
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from tests.fakes.chk_shares import encode_chk, place, spread, stream
from tests.fakes.consumers import GatheringConsumer
from tests.fakes.reader_case import ReaderCase
from truckee.core.download import fetch as fetch_module
from truckee.core.download.cache import ReaderCache
from truckee.core.errors import (
    BadCiphertextHashError,
    BadSegmentNumberError,
    CorruptShareError,
    DownloadError,
    DownloadStopped,
    NoSharesError,
    NotEnoughSharesError,
    ShuttingDownError,
)
from truckee.core.formats import caps
from truckee.core.storage.faults import Kind, Rule

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "immutable.json").read_text(encoding="utf-8")
)


class QueuedCpu:
    """Holds every job back until `go` is called."""

    def __init__(self):
        self.jobs = []

    def run(self, f, *args, **kwargs):
        d = Deferred()
        self.jobs.append((d, f, args, kwargs))
        return d

    def go(self):
        jobs, self.jobs = self.jobs, []
        for d, f, args, kwargs in jobs:
            if not d.called:
                d.callback(f(*args, **kwargs))


class ReadingTests(ReaderCase):
    def test_every_file_of_the_vectors_is_read(self):
        for entry in VECTORS["shares"]:
            self.set_servers(entry["n"])
            cap = caps.parse_strict(entry["read_cap"])
            plain = stream(**{k: entry["plaintext"][k] for k in ("seed", "size")})
            file = encode_chk(
                plain,
                entry["k"],
                entry["n"],
                entry["max_segment_size"],
                key=cap.readkey,
                version=entry["layout_version"],
            )
            assert file.cap == cap
            spread(self.stores, file)
            if full := entry.get("full_share"):
                data = bytes.fromhex(full["hex"])
                place(self.stores[full["shnum"]], cap.storage_index, full["shnum"], data)
            self.cache = ReaderCache(lambda: self.servers, self.cpu, self.clock)
            assert self.read(file) == plain

    def test_ranges_are_cut_to_the_file(self):
        file = self.store(5000)
        for offset, size in [
            (0, 1),
            (1, 1023),
            (1023, 2),
            (1024, 1024),
            (4999, 1),
            (0, None),
            (4000, 5000),
            (5000, 1),
            (9000, None),
            (17, 0),
            (2500, 1500),
        ]:
            end = 5000 if size is None else offset + size
            assert self.read(file, offset, size) == file.plaintext[offset:end], (offset, size)

    def test_an_empty_range_causes_no_traffic_and_registers_nothing(self):
        file = self.store()
        consumer, d = self.start(file, 5000, 10)
        assert self.successResultOf(d) is consumer
        assert consumer.registered == 0
        assert self.faults.calls == []

    def test_a_negative_range_is_refused(self):
        file = self.store()
        with pytest.raises(ValueError, match="negative"):
            raise self.failureResultOf(self.start(file, -1, 10)[1]).value

    def test_making_a_reader_causes_no_traffic(self):
        self.cache.get(self.store().cap)
        assert self.faults.calls == []

    def test_one_byte_files_and_one_of_one_are_read(self):
        for size, k, n in [(1, 3, 10), (1, 1, 1), (57, 1, 1), (100, 1, 10), (100, 10, 10)]:
            file = self.store(size, k, n, seed=f"{size}-{k}")
            assert self.read(file) == file.plaintext

    def test_secondary_shares_alone_suffice(self):
        file = self.store(9000)
        for shnum, server in self.holders(file).items():
            server.lost = {shnum} if shnum not in {4, 7, 9} else set()
        assert self.read(file) == file.plaintext

    def test_all_shares_on_one_server_suffice(self):
        file = encode_chk(stream("x", 5000), 3, 10, 1024)
        spread(self.stores[:1], file)
        assert self.read(file) == file.plaintext

    def test_a_read_of_a_verify_cap_gives_the_ciphertext(self):
        file = self.store()
        reader = self.cache.get(file.cap.verify_cap())
        ciphertext = self.successResultOf(Deferred.fromCoroutine(reader.read_range(0, 5000)))
        from truckee.core.crypto.aes import ctr

        assert ctr(file.cap.readkey, ciphertext) == file.plaintext

    def test_a_segment_can_be_asked_for_by_number_and_not_beyond_the_last(self):
        file = self.store(5000)
        reader = self.cache.get(file.cap)
        for segnum in (0, 4):
            got = self.successResultOf(Deferred.fromCoroutine(reader.get_segment(segnum)))
            size = file.segments.segment_size
            assert got == file.plaintext[segnum * size : (segnum + 1) * size]
        self.failureResultOf(Deferred.fromCoroutine(reader.get_segment(5)), BadSegmentNumberError)
        assert self.read(file) == file.plaintext

    def test_more_segments_than_one_slab_are_read(self):
        file = self.store(40_000, 2, 3, 32)
        assert self.read(file) == file.plaintext
        self.cache = ReaderCache(lambda: self.servers, self.cpu, self.clock)
        assert self.read(file, 35_000, 100) == file.plaintext[35_000:35_100]

    def test_a_version_2_share_is_read(self):
        file = self.store(5000, version=2)
        assert self.read(file) == file.plaintext


class TrafficTests(ReaderCase):
    def test_a_large_file_takes_few_requests(self):
        file = self.store(20_000_000, max_segment_size=1 << 20)
        assert self.read(file) == file.plaintext
        assert self.calls("get_buckets") == 10
        assert self.calls("read") <= 3 * (2 + 3 + 5) + 6

    def test_a_range_fetches_only_its_segment_and_a_repeated_one_nothing(self):
        file = self.store(20_000_000, max_segment_size=1 << 20)
        self.read(file, 0, 10)  # by whichever shares are found first
        self.read(file, 2_000_000, 10)  # by the best ones
        self.faults.calls.clear()
        assert self.read(file, 7_000_000, 65536) == file.plaintext[7_000_000:7_065_536]
        assert self.calls("read") == 3
        assert self.calls("get_buckets") == 0
        self.faults.calls.clear()
        assert self.read(file, 7_000_100, 65000) == file.plaintext[7_000_100:7_065_100]
        assert self.faults.calls == []

    def test_later_segments_prefer_primary_shares(self):
        file = self.store(5_000_000, max_segment_size=1 << 20)
        self.read(file, 0, 10)
        self.faults.calls.clear()
        self.read(file, 3_000_000, 10)
        holders = self.holders(file)
        asked = {server for server, call in self.faults.calls if call == "read"}
        assert asked == {holders[0], holders[1], holders[2]}

    def test_two_readers_of_one_cap_are_one(self):
        file = self.store()
        assert self.cache.get(file.cap) is self.cache.get(caps.parse_strict(file.cap.text))


class SharedReadTests(ReaderCase):
    cpu = None

    def setUp(self):
        self.cpu = QueuedCpu()
        super().setUp()

    def test_two_reads_of_one_segment_cause_one_fetch(self):
        file = self.store(200_000, max_segment_size=200_000)
        (one, d1), (two, d2) = self.start(file), self.start(file, 100, 1000)
        self.cpu.go()
        self.successResultOf(d1)
        self.successResultOf(d2)
        assert one.data == file.plaintext
        assert two.data == file.plaintext[100:1100]
        assert self.calls("read") == 3

    def test_cancelling_one_of_two_reads_leaves_the_other_alone(self):
        file = self.store(200_000, max_segment_size=200_000)
        (one, d1), (two, d2) = self.start(file), self.start(file)
        one.producer.stopProducing()
        self.failureResultOf(d1, DownloadStopped)
        assert one.unregistered == 1
        self.cpu.go()
        self.successResultOf(d2)
        assert two.data == file.plaintext

    def test_when_all_cancel_the_decoding_that_ends_late_disturbs_nobody(self):
        file = self.store(200_000, max_segment_size=200_000)
        one, d1 = self.start(file)
        jobs = self.cpu.jobs
        one.producer.stopProducing()
        one.producer.stopProducing()
        self.failureResultOf(d1, DownloadStopped)
        assert all(d.called for d, *_ in jobs)
        self.cpu.jobs = []
        two, d2 = self.start(file)
        self.cpu.go()
        self.successResultOf(d2)
        assert two.data == file.plaintext

    def test_cancelling_the_deferred_ends_the_read(self):
        file = self.store(200_000, max_segment_size=200_000)
        consumer, d = self.start(file)
        d.cancel()
        self.failureResultOf(d)
        assert consumer.unregistered == 1
        assert self.cache.get(file.cap).idle
        self.cpu.jobs = []
        again, d = self.start(file)
        self.cpu.go()
        self.successResultOf(d)
        assert again.data == file.plaintext

    def test_read_ahead_is_bounded(self):
        file = self.store(30_000_000, k=1, n=1, max_segment_size=1 << 20)
        _, d = self.start(file)
        self.cpu.go()
        asked = sum(sum(work.length for work in args[2]) for _, _, args, _ in self.cpu.jobs)
        assert 0 < asked <= 9 << 20
        d.addErrback(lambda _: None)
        d.cancel()

    def test_a_decoder_that_breaks_fails_the_read_and_not_the_reader(self):
        file = self.store(200_000, max_segment_size=200_000)
        _, d = self.start(file)
        ((job, *_),) = self.cpu.jobs
        self.cpu.jobs = []
        job.errback(MemoryError())
        assert self.failureResultOf(d, DownloadError)
        assert len(self.flushLoggedErrors(MemoryError)) == 1
        consumer, d = self.start(file)
        self.cpu.go()
        self.successResultOf(d)
        assert consumer.data == file.plaintext


class FlowTests(ReaderCase):
    def test_a_paused_consumer_gets_nothing_and_nothing_new_is_asked_for(self):
        file = self.store(30_000_000, k=1, n=1, max_segment_size=1 << 20)
        consumer = GatheringConsumer(lambda c: c.producer.pauseProducing())
        _, d = self.start(file, consumer=consumer)
        assert len(consumer.pieces) == 1
        asked = self.calls("read")
        self.clock.advance(1000)
        assert len(consumer.pieces) == 1
        assert self.calls("read") == asked
        while not d.called:
            before = len(consumer.pieces)
            consumer.producer.resumeProducing()
            assert len(consumer.pieces) <= before + 1
        self.successResultOf(d)
        assert consumer.data == file.plaintext

    def test_stopping_in_the_middle_ends_the_read(self):
        file = self.store(5000)

        def stop(consumer):
            if len(consumer.pieces) == 2:
                consumer.producer.stopProducing()

        consumer = GatheringConsumer(stop)
        _, d = self.start(file, consumer=consumer)
        self.failureResultOf(d, DownloadStopped)
        assert len(consumer.pieces) == 2
        assert consumer.unregistered == 1
        assert self.read(file) == file.plaintext

    def test_stopping_while_paused_ends_the_read(self):
        file = self.store(5000)
        consumer = GatheringConsumer(lambda c: c.producer.pauseProducing())
        _, d = self.start(file, consumer=consumer)
        self.assertNoResult(d)
        consumer.producer.stopProducing()
        self.failureResultOf(d, DownloadStopped)

    def test_a_consumer_that_stops_at_once_gets_nothing(self):
        file = self.store(5000)

        class Closed(GatheringConsumer):
            def registerProducer(self, producer, streaming):
                super().registerProducer(producer, streaming)
                producer.stopProducing()

        consumer, d = self.start(file, consumer=Closed())
        self.failureResultOf(d, DownloadStopped)
        assert consumer.data == b""

    def test_an_error_of_the_consumer_ends_the_read(self):
        file = self.store(5000)

        def fail(consumer):
            raise ZeroDivisionError

        consumer = GatheringConsumer(fail)
        _, d = self.start(file, consumer=consumer)
        self.failureResultOf(d, ZeroDivisionError)
        assert consumer.unregistered == 1
        assert self.read(file) == file.plaintext


class FailureTests(ReaderCase):
    def test_without_shares_the_error_says_so(self):
        file = encode_chk(stream("x", 5000))
        self.fail_to_read(file, NoSharesError)
        self.set_servers(0)
        self.fail_to_read(file, NoSharesError)

    def test_with_too_few_shares_the_error_says_so(self):
        file = self.store()
        for shnum, server in self.holders(file).items():
            server.lost = {shnum} if shnum > 1 else set()
        error = self.fail_to_read(file, NotEnoughSharesError)
        assert type(error) is NotEnoughSharesError

    @pytest.mark.threat("S3")
    @pytest.mark.threat("S3")
    def test_shares_of_one_number_everywhere_are_one_share(self):
        file = encode_chk(stream("x", 5000), 3, 10, 1024)
        for store in self.stores:
            place(store, file.cap.storage_index, 0, file.shares[0])
        self.fail_to_read(file, NotEnoughSharesError)
        for shnum in (1, 9):
            place(self.stores[shnum], file.cap.storage_index, shnum, file.shares[shnum])
        assert self.read(file) == file.plaintext

    @pytest.mark.threat("S3")
    def test_share_numbers_of_n_and_more_are_ignored(self):
        file = self.store(5000, 3, 5)
        for store in self.stores:
            place(store, file.cap.storage_index, 5, file.shares[0])
            place(store, file.cap.storage_index, 255, file.shares[1])
        assert self.read(file) == file.plaintext

    def test_shares_that_come_back_are_found_by_a_later_read(self):
        file = self.store()
        assert self.read(file, 0, 10) == file.plaintext[:10]
        kept = [dict(store.shares) for store in self.stores]
        holders = self.holders(file)
        for shnum, server in holders.items():
            server.lost = {shnum}
        self.faults.add(Rule(Kind.ERROR, calls=frozenset({"read"}), forever=True))
        self.fail_to_read(file, NotEnoughSharesError, 3000, 100)
        self.fail_to_read(file, NoSharesError, 3000, 100)
        self.faults.rules.clear()
        for server in holders.values():
            server.lost = set()
        assert kept == [store.shares for store in self.stores]
        assert self.read(file) == file.plaintext

    def test_a_read_that_begins_the_moment_another_failed_searches_anew(self):
        for seconds in (0.0, 1.0):
            file = self.store(5000, 3, 4, seed=f"file{seconds}")
            si = file.cap.storage_index
            reader = self.cache.get(file.cap)
            self.faults.rules.clear()
            if seconds:
                late = Rule(
                    Kind.LATE, calls=frozenset({"get_buckets"}), seconds=seconds, forever=True
                )
                self.faults.add(late)
            saved = [store.shares.pop(si) for store in self.stores[1:3]]

            async def twice(file=file, si=si, reader=reader, saved=saved):
                with pytest.raises(NotEnoughSharesError):
                    await reader.read_range(0, 5000)
                for store, shares in zip(self.stores[1:3], saved, strict=True):
                    store.shares[si] = shares
                return await reader.read_range(0, 5000)

            d = Deferred.fromCoroutine(twice())
            self.clock.pump([0.5] * 10)
            assert self.successResultOf(d) == file.plaintext

    def test_a_read_that_joins_an_old_search_gets_one_of_its_own_when_that_fails(self):
        file = self.store(3_000_000, 3, 4, 1 << 20)
        si = file.cap.storage_index
        saved = [store.shares.pop(si) for store in self.stores[1:3]]
        late = Rule(Kind.LATE, calls=frozenset({"get_buckets"}), seconds=2.0, forever=True)
        self.faults.add(late)
        _, first = self.start(file, 0, 10)
        self.clock.advance(1.0)
        second_consumer, second = self.start(file, 2_500_000, 100)
        for store, shares in zip(self.stores[1:3], saved, strict=True):
            store.shares[si] = shares
        self.clock.advance(1.0)
        self.assertNoResult(second)
        self.clock.advance(2.0)
        self.successResultOf(first)  # it may as well profit
        self.successResultOf(second)
        assert second_consumer.data == file.plaintext[2_500_000:2_500_100]

    def test_shares_that_moved_between_two_reads_are_found_within_the_second(self):
        file = self.store()
        self.read(file, 0, 10)
        shares = [store.shares.pop(file.cap.storage_index) for store in self.stores]
        rule = self.faults.add(Rule(Kind.ERROR, calls=frozenset({"read"}), forever=True))
        old = self.servers
        self.set_servers(10)
        for store, each in zip(self.stores, reversed(shares), strict=True):
            store.shares[file.cap.storage_index] = each
        self.faults.rules.remove(rule)
        for server in old:
            self.faults.add(
                Rule(Kind.ERROR, calls=frozenset({"read"}), server=server, forever=True)
            )
        assert self.read(file, 2000, 3000) == file.plaintext[2000:]

    def test_a_query_or_read_that_breaks_does_not_fail_the_read(self):
        n = 0
        while True:
            n += 1
            file = self.store(seed=f"file{n}")
            self.faults.rules.clear()
            rule = self.faults.add(Rule(Kind.ERROR, nth=n))
            assert self.read(file) == file.plaintext
            if not rule.reached:
                break
        assert n > 15

    def test_an_unexpected_exception_of_a_server_is_logged_and_costs_one_share(self):
        file = self.store()
        for call in ("get_buckets", "read"):
            self.faults.rules.clear()
            self.faults.add(Rule(Kind.ERROR, calls=frozenset({call}), error=ZeroDivisionError))
            assert self.read(file) == file.plaintext
            assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1
            self.cache = ReaderCache(lambda: self.servers, self.cpu, self.clock)

    def test_a_wrong_leaf_of_the_ciphertext_tree_fails_that_segment_only(self):
        entry = VECTORS["hostile_uploader"]
        cap = caps.parse_strict(entry["read_cap"])
        for shnum, data in enumerate(entry["shares_hex"]):
            place(self.stores[shnum], cap.storage_index, shnum, bytes.fromhex(data))
        plain = stream(entry["plaintext"]["seed"], entry["plaintext"]["size"])
        reader = self.cache.get(cap)

        def read(offset, length):
            return Deferred.fromCoroutine(reader.read_range(offset, length))

        for _ in range(2):
            self.failureResultOf(read(0, 300), BadCiphertextHashError)
            self.failureResultOf(read(100, 100), BadCiphertextHashError)
            assert self.successResultOf(read(128, 172)) == plain[128:]
            assert self.successResultOf(read(256, 10)) == plain[256:266]

    @pytest.mark.threat("U1")
    @pytest.mark.threat("U1")
    def test_subsets_that_would_decode_to_different_files_give_the_same_or_an_error(self):
        def lie(segnum, shnum, block):
            return bytes(len(block)) if shnum == 9 else block

        file = self.store(5000, 3, 10, 1024, check_blocks=lie)
        assert self.read(file) == file.plaintext
        for shnum, server in self.holders(file).items():
            server.lost = {shnum} if shnum not in {1, 4, 9} else set()
        self.cache = ReaderCache(lambda: self.servers, self.cpu, self.clock)
        self.fail_to_read(file, BadCiphertextHashError)

    def test_a_malformed_description_of_the_file_fails_every_read_at_once(self):
        file = self.store(5000, change_ueb=lambda ueb: ueb.replace(b"crs", b"xxx"))
        self.fail_to_read(file, CorruptShareError)
        self.faults.calls.clear()
        self.fail_to_read(file, CorruptShareError)
        assert self.faults.calls == []
        assert all(store.advisories == [] for store in self.stores)

    def test_parallel_reads_fail_and_succeed_each_on_its_own(self):
        file = self.store(5000, wrong_leaves=frozenset({0}))
        (_, bad), (good, fine) = self.start(file), self.start(file, 1500, 1000)
        self.failureResultOf(bad, BadCiphertextHashError)
        self.successResultOf(fine)
        assert good.data == file.plaintext[1500:2500]

    def test_after_stop_nothing_is_read_and_nothing_is_left(self):
        file = self.store()
        self.faults.add(Rule(Kind.HANG, calls=frozenset({"read"}), forever=True))
        consumer, d = self.start(file)
        self.assertNoResult(d)
        reader = self.cache.get(file.cap)
        self.cache.stop()
        self.failureResultOf(d)
        assert consumer.unregistered == 1
        assert self.clock.getDelayedCalls() == []
        with pytest.raises(ShuttingDownError):
            self.cache.get(file.cap)
        self.failureResultOf(Deferred.fromCoroutine(reader.read_range(0, 1)), ShuttingDownError)

    def test_a_read_that_was_paused_at_the_stop_asks_for_nothing_more(self):
        file = self.store(30_000_000, k=1, n=1, max_segment_size=1 << 20)
        consumer = GatheringConsumer(lambda c: c.producer.pauseProducing())
        _, d = self.start(file, consumer=consumer)
        self.cache.stop()
        asked = self.calls("read")
        while not d.called:
            consumer.producer.resumeProducing()
        self.failureResultOf(d, ShuttingDownError)
        assert self.calls("read") == asked


class CorruptionTests(ReaderCase):
    def damage(self, file, shnums, offset, count=1):
        for shnum in shnums:
            data = bytearray(file.shares[shnum])
            for i in range(offset, min(offset + count, len(data))):
                data[i] ^= 1
            place(self.stores[shnum], file.cap.storage_index, shnum, bytes(data))

    def test_a_bad_block_is_replaced_and_reported_and_the_share_stays_in_use(self):
        file = self.store(9000)
        self.damage(file, [0], file.layout.data + 3 * file.segments.block_size)
        assert self.read(file) == file.plaintext
        (advisory,) = self.stores[0].advisories
        assert advisory[2] == 0
        self.faults.calls.clear()
        self.cache._kept.drop(1)
        assert self.read(file, 0, 10) == file.plaintext[:10]
        assert (self.holders(file)[0], "read") in self.faults.calls

    def test_bad_blocks_here_and_there_leave_the_file_readable(self):
        file = self.store(9000, 3, 5)
        size = file.segments.block_size
        for shnum in range(5):
            self.damage(file, [shnum], file.layout.data + shnum * size)
        assert self.read(file) == file.plaintext

    def test_too_many_bad_blocks_fail_that_segment_and_no_other(self):
        file = self.store(9000, 3, 5)
        self.damage(file, [0, 1, 2], file.layout.data + 4 * file.segments.block_size)
        self.fail_to_read(file, NotEnoughSharesError)
        start = 5 * file.segments.segment_size
        assert self.read(file, start) == file.plaintext[start:]
        assert self.read(file, 0, 4000) == file.plaintext[:4000]

    def test_a_report_that_fails_is_not_the_readers_business(self):
        file = self.store(9000)
        self.damage(file, range(3), file.layout.data)
        calls = frozenset({"advise_corrupt_share"})
        self.faults.add(Rule(Kind.ERROR, calls=calls, forever=True))
        assert self.read(file) == file.plaintext

    def test_a_report_that_hangs_is_not_the_readers_business(self):
        file = self.store(9000)
        self.damage(file, range(3), file.layout.data)
        calls = frozenset({"advise_corrupt_share"})
        self.faults.add(Rule(Kind.HANG, calls=calls, forever=True))
        assert self.read(file) == file.plaintext
        self.clock.advance(61)
        assert self.clock.getDelayedCalls() == []

    def test_shares_cut_short_are_replaced(self):
        file = self.store(9000)
        length = len(file.shares[0])
        for cut in (0, 3, 35, 36, 1000, file.layout.ciphertext_tree, length - 1):
            for shnum in range(7):
                place(self.stores[shnum], file.cap.storage_index, shnum, file.shares[shnum][:cut])
            self.cache = ReaderCache(lambda: self.servers, self.cpu, self.clock)
            assert self.read(file) == file.plaintext, cut

    @pytest.mark.threat("S2")
    @pytest.mark.threat("S2")
    def test_swapped_shares_are_not_used(self):
        file = self.store(9000)
        for shnum in range(7):
            other = file.shares[(shnum + 1) % 7]
            place(self.stores[shnum], file.cap.storage_index, shnum, other)
        assert self.read(file) == file.plaintext

    @pytest.mark.threat("S2", "S11")
    @pytest.mark.threat("S11")
    def test_shares_of_another_file_are_not_used(self):
        file, other = self.store(9000), encode_chk(stream("other", 9000), 3, 10, 1024)
        for shnum in range(7):
            place(self.stores[shnum], file.cap.storage_index, shnum, other.shares[shnum])
        assert self.read(file) == file.plaintext

    @pytest.mark.threat("S4")
    def test_answers_that_are_too_long_or_no_bytes_do_not_matter(self):
        file = self.store(9000)
        for kind in (Kind.TRUNCATE, Kind.FLIP, Kind.OTHER, Kind.NOTHING):
            for nth in range(1, 6):
                self.faults.rules.clear()
                self.faults.add(Rule(kind, nth=nth, calls=frozenset({"read"})))
                self.cache = ReaderCache(lambda: self.servers, self.cpu, self.clock)
                assert self.read(file) == file.plaintext

    def flip(self, step):
        """Flip each byte of share 0 on a share file of two segments; at 1, k-1, k, N servers."""
        file = self.store(300, 2, 4, 200)
        length = len(file.shares[0])
        for damaged in (1, 2, 3, 4):
            for position in range(0, length, step):
                for shnum in range(4):
                    place(self.stores[shnum], file.cap.storage_index, shnum, file.shares[shnum])
                self.damage(file, range(damaged), position)
                cache = ReaderCache(lambda: self.servers, self.cpu, self.clock)
                d = Deferred.fromCoroutine(cache.get(file.cap).read_range(0, 300))
                if damaged <= 2:
                    assert self.successResultOf(d) == file.plaintext, (damaged, position)
                else:
                    d.addErrback(lambda failure: failure.trap(DownloadError))
                    assert self.successResultOf(d) in (file.plaintext, DownloadError)
        assert self.clock.getDelayedCalls() == []

    @pytest.mark.threat("S1")
    @pytest.mark.threat("S1")
    def test_any_flipped_byte_gives_right_bytes_or_an_error(self):
        self.flip(7)

    @pytest.mark.threat("S1")
    @pytest.mark.long
    def test_each_flipped_byte_gives_right_bytes_or_an_error(self):
        self.flip(1)


class CacheTests(ReaderCase):
    def test_readers_are_bounded_in_number(self):
        self.cache = ReaderCache(lambda: self.servers, self.cpu, self.clock, max_readers=3)
        files = [self.store(100, seed=f"{i}") for i in range(6)]
        for file in files:
            assert self.read(file) == file.plaintext
        assert len(self.cache) == 3
        assert self.cache.get(files[5].cap) is self.cache.get(files[5].cap)

    def test_bytes_are_bounded(self):
        self.cache = ReaderCache(lambda: self.servers, self.cpu, self.clock, max_bytes=3 << 20)
        file = self.store(20_000_000, max_segment_size=1 << 20)
        assert self.read(file) == file.plaintext
        assert self.cache.size <= 3 << 20

    def test_a_segment_larger_than_the_cache_is_read_once(self):
        self.cache = ReaderCache(lambda: self.servers, self.cpu, self.clock, max_bytes=1000)
        file = self.store(900_000, max_segment_size=1 << 20)
        assert self.read(file) == file.plaintext
        assert self.calls("read") <= 6

    def test_a_forgotten_reader_still_works(self):
        self.cache = ReaderCache(lambda: self.servers, self.cpu, self.clock, max_readers=1)
        file, other = self.store(), self.store(seed="other")
        reader = self.cache.get(file.cap)
        self.cache.get(other.cap)
        read = Deferred.fromCoroutine(reader.read_range(0, 5000))
        assert self.successResultOf(read) == file.plaintext


def test_the_least_job_is_half_a_megabyte():
    assert fetch_module.JOB_SIZE >= 500_000
