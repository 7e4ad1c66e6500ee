"""A consumer's wishes during one read: pause, resume, stop. Knows Deferreds; touches nothing."""

from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from truckee.core.errors import DownloadStopped

T = TypeVar("T")


@implementer(IPushProducer)
class Flow:
    """The push producer of one read."""

    def __init__(self) -> None:
        self.paused = False
        self._stopped = False
        self._resumed: Deferred[None] | None = None
        self._current: Deferred[object] | None = None

    def pauseProducing(self) -> None:
        """Hold back what comes, and ask for nothing new."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Go on."""
        self.paused = False
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        """End the read with DownloadStopped."""
        self._stopped = True
        if self._current is not None:
            self._current.cancel()

    def check(self) -> None:
        """Raise DownloadStopped if the consumer wants no more."""
        if self._stopped:
            raise DownloadStopped("the consumer stopped the download")

    async def wait(self, d: "Deferred[T]") -> T:
        """Return what `d` gives; raise DownloadStopped, and cancel `d`, when told to stop."""
        if self._stopped:
            _ = d.addErrback(lambda _: None)
            d.cancel()
            self.check()
        self._current = d  # type: ignore[assignment]  # it is only ever cancelled
        try:
            return await d
        except CancelledError:
            self.check()
            raise
        finally:
            self._current = None

    async def running(self) -> None:
        """Return once the consumer is not paused; raise DownloadStopped when told to stop."""
        while self.paused and not self._stopped:
            self._resumed = Deferred()
            await self.wait(self._resumed)
        self.check()
