from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from truckee.core.upload.budget import Budget


class BudgetTests(SynchronousTestCase):
    def take(self, budget, size):
        return Deferred.fromCoroutine(budget.take(size))

    def test_requests_are_served_in_order_as_far_as_they_fit(self):
        budget = Budget(10)
        self.successResultOf(self.take(budget, 6))
        large, small = self.take(budget, 6), self.take(budget, 1)
        self.assertNoResult(large)
        self.assertNoResult(small)  # it does not overtake
        assert not budget.try_take(1)
        budget.give(6)
        self.successResultOf(large)
        self.successResultOf(small)
        assert budget.used == 7

    def test_what_exceeds_the_budget_is_served_alone(self):
        budget = Budget(10)
        assert budget.try_take(1)
        huge, next_ = self.take(budget, 100), self.take(budget, 1)
        budget.give(1)
        self.successResultOf(huge)
        self.assertNoResult(next_)
        budget.give(100)
        self.successResultOf(next_)

    def test_one_who_gives_up_waiting_lets_others_pass(self):
        budget = Budget(10)
        assert budget.try_take(5)
        large, small = self.take(budget, 6), self.take(budget, 5)
        large.cancel()
        self.failureResultOf(large, CancelledError)
        self.successResultOf(small)
        assert budget.used == 10
