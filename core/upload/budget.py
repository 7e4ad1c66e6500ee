"""A number of bytes that all uploads of a node share, so that many at once cost no more memory.

Knows Deferreds; touches nothing.
"""

from collections import deque

from twisted.internet.defer import Deferred


class Budget:
    """Bytes to be taken and given back; who comes first is served first.

    A request larger than the whole budget is granted when nothing else is taken.
    """

    def __init__(self, limit: int) -> None:
        """Take the number of bytes."""
        self._limit = limit
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()
        self.used = 0

    def try_take(self, size: int) -> bool:
        """Take `size` bytes if that is possible at once."""
        if self._waiting or not self._fits(size):
            return False
        self.used += size
        return True

    async def take(self, size: int) -> None:
        """Return once `size` bytes are taken."""
        if self.try_take(size):
            return
        turn: Deferred[None] = Deferred()
        self._waiting.append((size, turn))
        try:
            await turn
        except BaseException:
            self._waiting.remove((size, turn))
            self._serve()
            raise

    def give(self, size: int) -> None:
        """Give bytes back."""
        self.used -= size
        self._serve()

    def _fits(self, size: int) -> bool:
        return not self.used or self.used + size <= self._limit

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            self.used += size
            turn.callback(None)
