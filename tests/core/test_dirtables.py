"""The parts of the directory cache: shared jobs, the table cache, warnings."""

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from tests.fakes.memory_grid import MemoryGrid
from truckee.core import dirtables
from truckee.core.dirtables import Shared, TableCache
from truckee.core.formats.caps import DirectoryCap, SdmfVerifyCap

run = MemoryGrid.start


def key(i: int = 0) -> DirectoryCap:
    return DirectoryCap(SdmfVerifyCap(i.to_bytes(16, "big"), bytes(32)))


class TestShared:
    def test_all_who_wait_get_the_result_also_late_ones(self) -> None:
        job: Deferred[int] = Deferred()
        shared: Shared[int] = Shared(job)
        got: list[int] = []
        for _ in range(3):
            run(shared.wait()).addCallback(got.append)
        job.callback(5)
        run(shared.wait()).addCallback(got.append)
        assert got == [5, 5, 5, 5]

    def test_all_who_wait_get_the_failure_also_late_ones(self) -> None:
        job: Deferred[int] = Deferred()
        shared: Shared[int] = Shared(job)
        got: list[Any] = []
        run(shared.wait()).addErrback(got.append)
        job.errback(ValueError("x"))
        run(shared.wait()).addErrback(got.append)
        assert [f.check(ValueError) for f in got] == [ValueError, ValueError]
        assert shared.failed

    def test_the_job_ends_when_the_last_who_waits_leaves(self) -> None:
        cancelled: list[Any] = []
        shared: Shared[int] = Shared(Deferred(cancelled.append))
        first, second = run(shared.wait()), run(shared.wait())
        for d in (first, second):
            d.addErrback(lambda f: f.trap(CancelledError))
        first.cancel()
        assert not cancelled
        second.cancel()
        assert len(cancelled) == 1
        assert shared.done


class TestTableCache:
    def test_entries_leave_when_room_is_needed_the_unused_first(self) -> None:
        cache = TableCache(Clock(), 3.0, max_bytes=3 * (1000 + 1000 * 5))
        for i in range(3):
            cache.put(key(i), bytes(1000))
        assert cache.peek(key(0)) is not None
        cache.put(key(3), bytes(1000))
        assert [cache.peek(key(i)) is not None for i in range(4)] == [True, False, True, True]

    def test_one_that_is_too_large_for_the_cache_stays_alone(self) -> None:
        cache = TableCache(Clock(), 3.0, max_bytes=10)
        cache.put(key(0), bytes(1000))
        cache.put(key(1), bytes(1000))
        assert cache.peek(key(0)) is None
        assert cache.peek(key(1)) is not None

    def test_what_is_immutable_is_believed_for_ever(self) -> None:
        clock = Clock()
        cache = TableCache(clock, 3.0)
        cache.put(key(0), b"", mutable=False)
        cache.put(key(1), b"", mutable=True)
        clock.advance(1e9)
        assert cache.peek(key(0)) is not None
        assert cache.peek(key(1)) is None

    @pytest.mark.threat("N15")
    def test_a_clock_that_is_set_back_makes_nothing_live_longer(self) -> None:
        clock = Clock()
        clock.advance(10_000)
        cache = TableCache(clock, 3.0)
        cache.put(key(), b"")
        clock.rightNow -= 5_000
        assert cache.peek(key()) is None

    def test_a_fetch_overtaken_by_a_write_gives_what_was_written(self) -> None:
        cache = TableCache(Clock(), 3.0)
        fetched: Deferred[bytes] = Deferred()
        got: list[Any] = []
        run(cache.get(key(), lambda: fetched, True)).addCallback(got.append)
        cache.put(key(), b"new")
        fetched.callback(b"old")
        assert got[0].data == b"new"

    def test_a_fetch_overtaken_by_a_failed_write_is_not_kept(self) -> None:
        cache = TableCache(Clock(), 3.0)
        fetched: Deferred[bytes] = Deferred()
        got: list[Any] = []
        run(cache.get(key(), lambda: fetched, True)).addCallback(got.append)
        cache.forget(key())
        again: Deferred[bytes] = Deferred()
        run(cache.get(key(), lambda: again, True)).addCallback(got.append)
        fetched.callback(b"old")
        assert cache.peek(key()) is None
        again.callback(b"newer")
        assert [packed.data for packed in got] == [b"old", b"newer"]
        kept = cache.peek(key())
        assert kept is not None
        assert kept.data == b"newer"

    def test_a_failed_fetch_is_tried_again_by_the_next(self) -> None:
        cache = TableCache(Clock(), 3.0)
        first: Deferred[bytes] = Deferred()
        got: list[Any] = []
        run(cache.get(key(), lambda: first, True)).addErrback(got.append)
        first.errback(ValueError("x"))
        second: Deferred[bytes] = Deferred()
        run(cache.get(key(), lambda: second, True)).addCallback(got.append)
        second.callback(b"ok")
        assert got[0].check(ValueError)
        assert got[1].data == b"ok"


def test_each_ten_thousand_children_give_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirtables, "MANY_CHILDREN", 5)
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        grid = MemoryGrid()
        root = grid.run(grid.client().create_new_mutable_directory())
        for i in range(12):
            grid.run(root.set_uri(f"f{i}", b"URI:LIT:me"))
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert [e["entries"] for e in events if "entries" in e] == [5, 10]


def test_queues_of_directories_that_nobody_changes_are_dropped() -> None:
    grid = MemoryGrid()
    root = grid.run(grid.client().create_new_mutable_directory())
    grid.run(root.set_uri("a", b"URI:LIT:me"))
    tables = root._tables
    for i in range(1000):
        tables._queue(root._dir_cap, key(i))
    grid.clock.advance(10)
    grid.run(root.set_uri("b", b"URI:LIT:me"))
    tables._queue(root._dir_cap, key(5000))
    assert len(tables._queues) < 1000
