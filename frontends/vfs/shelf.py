"""Spool files that have ended, kept open for a while for the next upload.

A new file of the size of an upload costs the kernel new pages and new blocks; writing over an old
one costs neither. What lies in a kept file is ciphertext whose key is gone. Knows descriptors,
sizes and a clock; closing is the caller's. Every method but `take` belongs to the reactor's thread.
"""

from collections import deque
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

KEPT = 256 * 1024 * 1024
"""Most bytes of all kept files together."""

MOST = 8
"""Most kept files: each holds a descriptor, and small ones are cheap to make anew."""

IDLE = 20.0
"""Seconds without another kept file after which all are given up."""


class Shelf:
    """Open descriptors of nameless files; the one kept last is taken first."""

    def __init__(
        self, clock: IReactorTime, limit: int, close: Callable[[Sequence[int]], None]
    ) -> None:
        """Keep at most `limit` bytes; `close` gets the descriptors that are not wanted any more."""
        self.limit = min(limit, KEPT)
        self._clock = clock
        self._close = close
        self._kept: deque[tuple[int, int]] = deque()
        self._timer: IDelayedCall | None = None

    @property
    def size(self) -> int:
        """Return the bytes of all kept files."""
        return sum(size for _, size in tuple(self._kept))

    def keep(self, fd: int, size: int) -> None:
        """Take a descriptor of a file of `size` bytes; what is too much is closed."""
        if size > self.limit:
            self._close([fd])
            return
        self._kept.append((fd, size))
        unwanted = []
        while len(self._kept) > MOST or self.size > self.limit:
            try:
                unwanted.append(self._kept.popleft()[0])
            except IndexError:  # a worker took it meanwhile
                break
        if unwanted:
            self._close(unwanted)
        if self._timer is not None and self._timer.active():
            self._timer.reset(IDLE)
        else:
            self._timer = self._clock.callLater(IDLE, self.clear)

    def take(self) -> int | None:
        """Return the descriptor kept last, from any thread; None if there is none."""
        try:
            return self._kept.pop()[0]
        except IndexError:
            return None

    def clear(self) -> None:
        """Give all up."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        unwanted = []
        while (fd := self.take()) is not None:
            unwanted.append(fd)
        if unwanted:
            self._close(unwanted)
