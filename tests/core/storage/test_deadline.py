import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from truckee.core.errors import NoSpaceError, ServerTimeoutError
from truckee.core.storage.deadline import within


class WithinTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()

    def start(self, awaitable):
        return Deferred.fromCoroutine(within(self.clock, 15, awaitable))

    def test_an_answer_in_time_is_passed_on(self):
        question = Deferred()
        d = self.start(question)
        self.clock.advance(14)
        question.callback("answer")
        assert self.successResultOf(d) == "answer"
        assert not self.clock.getDelayedCalls()

    def test_an_answer_at_once_needs_no_timer(self):
        assert self.successResultOf(self.start(succeed(5))) == 5

        async def at_once():
            return 6

        assert self.successResultOf(self.start(at_once())) == 6

    def test_an_error_is_passed_on(self):
        question = Deferred()
        d = self.start(question)
        question.errback(NoSpaceError())
        self.failureResultOf(d, NoSpaceError)
        assert not self.clock.getDelayedCalls()

    @pytest.mark.threat("S4")
    def test_silence_ends_in_a_timeout_and_a_cancelled_question(self):
        cancelled = []
        d = self.start(Deferred(cancelled.append))
        self.clock.advance(15)
        self.failureResultOf(d, ServerTimeoutError)
        assert len(cancelled) == 1

    def test_a_coroutine_that_ignores_cancellation_delays_nobody(self):
        late = Deferred()
        seen = []

        async def stubborn():
            try:
                await Deferred()
            except CancelledError:
                await late
                seen.append("late")

        d = self.start(stubborn())
        self.clock.advance(15)
        self.failureResultOf(d, ServerTimeoutError)
        late.callback(None)
        assert seen == ["late"]

    def test_cancelling_the_caller_cancels_the_question(self):
        cancelled = []
        d = self.start(Deferred(cancelled.append))
        d.cancel()
        self.failureResultOf(d, CancelledError)
        assert len(cancelled) == 1
        assert not self.clock.getDelayedCalls()
