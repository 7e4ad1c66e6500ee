"""Time limits on calls that may never answer. Knows Deferreds and a clock; touches nothing else."""

from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from truckee.core.errors import ServerTimeoutError

T = TypeVar("T")

QUERY_TIMEOUT = 15.0
"""Seconds a server has to say what it holds or will take, while peers are selected."""

OVERDUE = 10.0
"""Seconds after which another server is asked as well; the first may still answer."""

CALL_TIMEOUT = 60.0
"""Seconds any other call may take."""


async def within(clock: IReactorTime, seconds: float, awaitable: Awaitable[T]) -> T:
    """Return what `awaitable` gives, or raise ServerTimeoutError after `seconds`.

    What ran out of time is cancelled, and so is what is waited for when the caller is cancelled;
    a coroutine that ignores its cancellation delays nobody. Its later outcome is dropped.
    """
    asked = _deferred(awaitable)
    if asked.called and not asked.paused:
        return await asked
    answer: Deferred[T] = Deferred(lambda _: asked.cancel())

    def answered(result: T | Failure) -> None:
        if not answer.called:
            answer.callback(cast("T", result))  # a Failure starts the errback chain

    def expire() -> None:
        answer.errback(ServerTimeoutError(f"no answer within {seconds:g} seconds"))
        asked.cancel()

    timer = clock.callLater(seconds, expire)
    _ = asked.addBoth(answered)
    try:
        return await answer
    finally:
        if timer.active():
            timer.cancel()


def _deferred(awaitable: Awaitable[T]) -> Deferred[T]:
    if isinstance(awaitable, Deferred):
        return awaitable
    if isinstance(awaitable, Coroutine):
        return Deferred.fromCoroutine(awaitable)
    return Deferred.fromCoroutine(_wait(awaitable))


async def _wait(awaitable: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever the caller awaits
    return await awaitable
