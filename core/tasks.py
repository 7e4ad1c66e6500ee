"""A scope that owns Deferreds, so that none is left behind. Knows Twisted's Deferred and log."""

from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()


class Tasks:
    """Runs coroutines beside each other; leaving the ``async with`` cancels what still runs.

    A failure that nobody awaited goes to the log, except cancellation.
    """

    def __init__(self) -> None:
        self._running: set[Deferred[Any]] = set()

    def start(self, coroutine: Coroutine[Deferred[Any], Any, Any]) -> Deferred[Any]:
        """Start `coroutine`; the returned Deferred fires with None when it has ended."""
        d = Deferred.fromCoroutine(coroutine)
        self._running.add(d)

        def ended(result: object) -> None:
            self._running.discard(d)
            if isinstance(result, Failure) and not result.check(CancelledError):
                _log.failure("a background task failed", failure=result)

        return d.addBoth(ended)

    def cancel(self) -> None:
        """Cancel everything that still runs."""
        for d in list(self._running):
            d.cancel()

    def __len__(self) -> int:
        """Return how many coroutines still run."""
        return len(self._running)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()
