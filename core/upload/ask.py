"""The same question to many servers at once, under one time limit.

Knows Deferreds and a clock. One timer serves the whole round, and none is set when all answer at
once: with many small files on their way, a timer per call would cost more than the call.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from truckee.core.errors import ServerGoneError, ServerTimeoutError
from truckee.core.storage.deadline import CALL_TIMEOUT

K = TypeVar("K")
T = TypeVar("T")

Call = Awaitable[T] | Coroutine[Deferred[Any], Any, T]


def deferred(call: "Call[T]") -> Deferred[T]:
    """Return `call` as a Deferred; a coroutine is started."""
    if isinstance(call, Deferred):
        return call
    if isinstance(call, Coroutine):
        return Deferred.fromCoroutine(call)
    return Deferred.fromCoroutine(_wait(call))


async def _wait(call: Awaitable[T]) -> T:
    return await call


class _Round(Generic[K, T]):
    """One question on its way to many."""

    def __init__(self, clock: IReactorTime, late: Callable[[T], None] | None) -> None:
        self.answers: dict[K, T | Exception] = {}
        self._clock = clock
        self._late = late
        self._open: dict[K, Deferred[T]] = {}
        self._finished: Deferred[None] = Deferred()
        self._over = False
        self._timer: IDelayedCall | None = None

    def start(self, calls: Iterable[tuple[K, "Call[T]"]]) -> None:
        for key, call in calls:
            d = deferred(call)
            self._open[key] = d
            _ = d.addBoth(self._answered, key)

    def _answered(self, result: T | Failure, key: K) -> None:
        self._open.pop(key, None)
        if not self._over:
            self.answers[key] = _value(result)
        elif self._late is not None and not isinstance(result, Failure):
            self._late(result)
        if self._open:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
            if not self._over:
                self._finished.callback(None)

    async def wait(self, seconds: float) -> None:
        if self._open:
            self._timer = self._clock.callLater(seconds, self._finished.callback, None)
            try:
                await self._finished
            except BaseException:
                if self._late is not None:
                    for answer in self.answers.values():
                        if not isinstance(answer, Exception):
                            self._late(answer)
                raise
            finally:
                self._over = True
                if self._timer.active():
                    self._timer.cancel()
                for key in self._open:
                    self.answers[key] = ServerTimeoutError(f"no answer within {seconds:g} seconds")
                self._give_up()

    def _give_up(self) -> None:
        """Cancel what is unanswered; or wait for it a little longer, to undo what it does."""
        if self._open and self._late is not None:
            self._timer = self._clock.callLater(CALL_TIMEOUT, self._cancel)
        else:
            self._cancel()

    def _cancel(self) -> None:
        for d in list(self._open.values()):
            d.cancel()


def _value(result: T | Failure) -> T | Exception:
    if not isinstance(result, Failure):
        return result
    error = result.value
    return error if isinstance(error, Exception) else ServerGoneError("the call was broken off")


async def ask_all(
    clock: IReactorTime,
    seconds: float,
    calls: Iterable[tuple[K, "Call[T]"]],
    late: Callable[[T], None] | None = None,
) -> dict[K, T | Exception]:
    """Return, by key, what each call gave or raised; ServerTimeoutError after `seconds`.

    What is unanswered at the end, or when the caller is cancelled, is cancelled. With `late` it is
    instead given another minute, and each answer that still comes goes to `late`; so do, when the
    caller is cancelled, the answers that came before.
    """
    round_: _Round[K, T] = _Round(clock, late)
    round_.start(calls)
    await round_.wait(seconds)
    return round_.answers
