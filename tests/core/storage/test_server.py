import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.core.storage.contract import ENABLER, OTHER_SECRETS, SECRETS, SI, puts, shnums
from truckee.core.errors import NoSpaceError, NoSuchShareError, ServerGoneError, StorageError
from truckee.core.storage.api import TestWriteVectors
from truckee.core.storage.memory import MemoryIncoming, MemoryStore
from truckee.core.storage.server import LocalServer
from truckee.core.storage.uploads import IDLE

DAY = 24 * 3600


class LocalServerTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.now = 1_700_000_000.0
        self.store = MemoryStore(b"n" * 20, quota=1000)
        self.server = LocalServer(self.store, self.clock, "local", wall=lambda: self.now)

    def do(self, coroutine):
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def allocate(self, *numbers, size=10, secrets=SECRETS, server=None):
        server = server or self.server
        return self.do(server.allocate_buckets(SI, secrets, shnums(*numbers), size))

    def change(self, changes, server=None):
        server = server or self.server
        call = server.slot_testv_and_readv_and_writev(SI, ENABLER, SECRETS, changes, ())
        return self.do(call)

    @pytest.mark.threat("G2")
    def test_space_is_reserved_share_by_share_until_the_uploads_end(self):
        got = self.allocate(*range(5), size=300)
        assert got.writers.keys() == {0, 1, 2}
        assert self.server.reserved == 900
        assert self.do(self.server.get_version()).available_space == 100
        self.do(got.writers[1].abort())
        assert self.server.reserved == 600
        self.do(self.server.stop())
        assert self.server.reserved == 0
        assert not self.clock.getDelayedCalls()

    @pytest.mark.threat("G2")
    def test_reserved_space_is_left_free(self):
        server = LocalServer(self.store, self.clock, reserved_space=950)
        assert self.do(server.get_version()).available_space == 50
        assert self.allocate(1, size=51, server=server).writers == {}
        assert self.allocate(1, size=50, server=server).writers.keys() == {1}
        self.do(server.stop())

    @pytest.mark.threat("G2")
    def test_a_silent_upload_is_aborted_after_half_an_hour(self):
        writer = self.allocate(1).writers[1]
        self.clock.advance(IDLE - 1)
        self.do(writer.write(0, b"12345"))
        self.clock.advance(IDLE - 1)
        self.do(writer.write(5, b"1234"))
        self.clock.advance(IDLE)
        assert self.server.reserved == 0
        assert not self.clock.getDelayedCalls()
        self.failureResultOf(Deferred.fromCoroutine(writer.write(9, b"0")), NoSuchShareError)
        assert self.allocate(1).writers.keys() == {1}
        self.do(self.server.stop())

    def test_one_timer_serves_uploads_of_any_age(self):
        first = self.allocate(1).writers[1]
        self.clock.advance(100)
        second = self.allocate(2).writers[2]
        assert len(self.clock.getDelayedCalls()) == 1
        self.clock.advance(IDLE - 100)
        self.failureResultOf(Deferred.fromCoroutine(first.close()), NoSuchShareError)
        self.do(second.write(0, b"1234567890"))
        self.do(second.close())
        assert not self.clock.getDelayedCalls()

    def test_what_is_there_already_gets_a_lease(self):
        writer = self.allocate(1).writers[1]
        self.do(writer.write(0, bytes(10)))
        self.do(writer.close())
        leases = self.store.shares[SI][1].leases
        assert list(leases.values()) == [1_700_000_000 + 31 * DAY]
        self.now += DAY
        self.allocate(1)
        self.allocate(2, secrets=OTHER_SECRETS)
        assert list(leases.values()) == [1_700_000_000 + 32 * DAY] * 2
        self.now -= 10 * DAY
        self.do(self.server.add_lease(SI, SECRETS))
        assert list(leases.values()) == [1_700_000_000 + 32 * DAY] * 2
        self.do(self.server.stop())

    def test_a_read_only_server_changes_what_it_has_and_takes_nothing_new(self):
        self.change({0: puts(b"old")})
        self.server.readonly = True
        assert self.do(self.server.get_version()).available_space == 0
        assert self.allocate(5).writers == {}
        assert self.change({0: puts(b"new")}).success
        assert self.change({0: TestWriteVectors((), (), 0)}).success
        call = self.server.slot_testv_and_readv_and_writev(
            SI, ENABLER, SECRETS, {0: puts(b"x")}, ()
        )
        self.failureResultOf(Deferred.fromCoroutine(call), NoSpaceError)

    @pytest.mark.threat("G3")
    def test_wrong_addresses_are_refused(self):
        for call in (
            self.server.allocate_buckets(b"short", SECRETS, shnums(1), 1),
            self.server.allocate_buckets(SI, SECRETS, shnums(256), 1),
            self.server.allocate_buckets(SI, SECRETS, shnums(-1), 1),
            self.server.allocate_buckets(SI, SECRETS, shnums(1), -1),
            self.server.slot_testv_and_readv_and_writev(
                SI, ENABLER, SECRETS, {256: puts(b"x")}, ()
            ),
        ):
            self.failureResultOf(Deferred.fromCoroutine(call), StorageError)

    @pytest.mark.threat("G9")
    def test_an_upload_whose_write_fails_is_over(self):
        async def fail(offset, data):
            raise ServerGoneError

        writer = self.allocate(1).writers[1]
        self.patch(MemoryIncoming, "write", lambda *a: fail(*a[1:]))
        self.failureResultOf(Deferred.fromCoroutine(writer.write(0, b"x")), ServerGoneError)
        assert self.server.reserved == 0

    def test_an_upload_whose_commit_fails_is_over(self):
        async def fail(incoming):
            raise ServerGoneError

        writer = self.allocate(1).writers[1]
        self.do(writer.write(0, bytes(10)))
        self.patch(MemoryIncoming, "commit", fail)
        self.failureResultOf(Deferred.fromCoroutine(writer.close()), ServerGoneError)
        assert self.server.reserved == 0

    @pytest.mark.threat("G9")
    def test_an_allocation_that_fails_half_way_reserves_nothing(self):
        create = self.store.create_immutable
        made = []

        async def fail_at_third(*args):
            made.append(args)
            if len(made) == 3:
                raise ServerGoneError
            return await create(*args)

        self.patch(self.store, "create_immutable", fail_at_third)
        call = self.server.allocate_buckets(SI, SECRETS, shnums(1, 2, 3), 10)
        self.failureResultOf(Deferred.fromCoroutine(call), ServerGoneError)
        assert self.server.reserved == 0

    def test_changes_of_one_slot_wait_for_each_other_and_a_cancelled_one_steps_aside(self):
        gate = Deferred()
        change = self.store.change_mutable
        order = []

        async def slow(*args):
            order.append(args[4])
            if len(order) == 1:
                await gate
            return await change(*args)

        self.patch(self.store, "change_mutable", slow)

        def start(data):
            return Deferred.fromCoroutine(
                self.server.slot_testv_and_readv_and_writev(
                    SI, ENABLER, SECRETS, {0: puts(data)}, ()
                )
            )

        first, second, third = start(b"1"), start(b"2"), start(b"3")
        assert len(order) == 1
        second.cancel()
        self.failureResultOf(second)
        gate.callback(None)
        assert self.successResultOf(first).success
        assert self.successResultOf(third).success
        assert len(order) == 2
        assert bytes(self.store.shares[SI][0].data) == b"3"
        assert not self.server._locks._queues

    def test_writes_in_flight_are_awaited_by_close(self):
        gate = Deferred()
        write = MemoryIncoming.write

        async def slow(incoming, offset, data):
            await gate
            await write(incoming, offset, data)

        self.patch(MemoryIncoming, "write", slow)
        writer = self.allocate(1).writers[1]
        one = Deferred.fromCoroutine(writer.write(0, b"12345"))
        two = Deferred.fromCoroutine(writer.write(5, b"67890"))
        same = Deferred.fromCoroutine(writer.write(3, b"456"))
        closed = Deferred.fromCoroutine(writer.close())
        self.assertNoResult(closed)
        gate.callback(None)
        for d in (one, two, same, closed):
            self.successResultOf(d)
        assert bytes(self.store.shares[SI][1].data) == b"1234567890"
