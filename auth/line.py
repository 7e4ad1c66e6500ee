"""A line of logins in front of something that serves only a few at a time.

Knows whose turn it is (`truckee.auth.turns`); touches the clock it is given.
"""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from truckee.auth.turns import Ticket, Turns
from truckee.core.errors import TemporaryLoginError
from truckee.core.tasks import Tasks

T = TypeVar("T")
Work = Callable[[], Awaitable[T]]


class Line(Generic[T]):
    """Does one piece of work for each login, `running` of them beside each other, in turns.

    Work that has begun goes on when nobody waits for it any more, and keeps its place meanwhile.
    """

    def __init__(self, clock: IReactorTime, running: int, patience: float) -> None:
        """Take how many run at a time, and after how many seconds a login is sent away."""
        self._clock = clock
        self._patience = patience
        self._turns = Turns(running)
        self._running = Tasks()
        self._waiting: dict[Ticket, Deferred[T]] = {}
        self._jobs: dict[Ticket, Work[T]] = {}
        self.refused = 0

    def __len__(self) -> int:
        """Return how many wait for their turn."""
        return len(self._turns)

    async def turn(self, source: str, name: str, work: Work[T]) -> T:
        """Return what the work gives; TemporaryLoginError when too many wait, or for too long."""
        ticket = Ticket(source, name)
        if not self._turns.ask(ticket):
            self.refused += 1
            raise TemporaryLoginError("too many logins are waiting")
        answer: Deferred[T] = Deferred(lambda _: self._leave(ticket))
        self._waiting[ticket] = answer
        self._jobs[ticket] = work
        timer = self._clock.callLater(self._patience, self._give_up, ticket)
        self._start()
        try:
            return await answer
        finally:
            if timer.active():
                timer.cancel()

    def stop(self) -> None:
        """Send away who waits, break off what runs; nobody may ask afterwards."""
        for ticket in list(self._jobs):
            self._give_up(ticket)
        self._running.cancel()

    def _start(self) -> None:
        while (ticket := self._turns.start()) is not None:
            _ = self._running.start(self._run(ticket, self._jobs.pop(ticket)))

    async def _run(self, ticket: Ticket, work: Work[T]) -> None:
        result: T | Failure
        try:
            result = await work()
        except Exception:  # noqa: BLE001 - becomes the login's own error
            result = Failure()
        self._turns.done(ticket)
        answer = self._waiting.pop(ticket, None)
        if answer is not None and not answer.called:
            answer.callback(result)  # a Failure starts the errback chain
        self._start()

    def _leave(self, ticket: Ticket) -> None:
        self._turns.withdraw(ticket)
        self._waiting.pop(ticket, None)
        self._jobs.pop(ticket, None)

    def _give_up(self, ticket: Ticket) -> None:
        answer = self._waiting[ticket]
        self._leave(ticket)
        self.refused += 1
        answer.errback(TemporaryLoginError("the login waited too long for its turn"))
