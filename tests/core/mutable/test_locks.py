from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from truckee.core.mutable.locks import SlotLocks


class Job:
    """Holds a slot from `start` to `end`."""

    def __init__(self, locks, storage_index, *, alone):
        self.inside = False
        self._gate = Deferred()

        async def work():
            async with locks.hold(storage_index, alone=alone):
                self.inside = True
                try:
                    await self._gate
                finally:
                    self.inside = False

        self.done = Deferred.fromCoroutine(work())

    def end(self):
        self._gate.callback(None)

    def fail(self):
        self._gate.errback(ValueError())


class SlotLockTests(SynchronousTestCase):
    def setUp(self):
        self.locks = SlotLocks()

    def reader(self, si=b"a"):
        return Job(self.locks, si, alone=False)

    def writer(self, si=b"a"):
        return Job(self.locks, si, alone=True)

    def test_readers_are_together_writers_alone(self):
        one, two, writer, later = self.reader(), self.reader(), self.writer(), self.reader()
        assert [j.inside for j in (one, two, writer, later)] == [True, True, False, False]
        one.end()
        assert not writer.inside
        two.end()
        assert [writer.inside, later.inside] == [True, False]
        writer.end()
        assert later.inside
        later.end()
        assert len(self.locks) == 0

    def test_writers_come_in_turn(self):
        jobs = [self.writer() for _ in range(3)]
        for i, job in enumerate(jobs):
            assert [j.inside for j in jobs] == [j == i for j in range(3)]
            job.end()

    def test_slots_do_not_hinder_each_other(self):
        assert self.writer(b"a").inside
        assert self.writer(b"b").inside
        assert len(self.locks) == 2

    def test_an_error_inside_frees_the_slot(self):
        one, two = self.writer(), self.writer()
        one.fail()
        self.failureResultOf(one.done, ValueError)
        assert two.inside
        two.end()
        assert len(self.locks) == 0

    def test_who_is_cancelled_while_waiting_lets_the_next_pass(self):
        reader, writer, second = self.reader(), self.writer(), self.reader()
        assert not second.inside
        writer.done.cancel()
        self.failureResultOf(writer.done, CancelledError)
        assert second.inside
        reader.end()
        second.end()
        assert len(self.locks) == 0

    def test_who_is_cancelled_inside_frees_the_slot(self):
        one, two = self.writer(), self.writer()
        one.done.cancel()
        self.failureResultOf(one.done, CancelledError)
        assert two.inside
