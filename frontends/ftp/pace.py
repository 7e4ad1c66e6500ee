"""When a data connection is too slow to be kept. Pure: numbers in, a verdict out.

Only time in which the client holds things up counts: while the grid or the disk is the slow side,
the client is not to blame. Two rules: no byte at all for `idle` seconds of such time; and, against
a client that drips, fewer than FLOOR bytes a second over WINDOW seconds of it.
"""

from collections import deque
from dataclasses import dataclass, field

FLOOR = 256
WINDOW = 300.0


@dataclass(slots=True)
class Pace:
    """Watches one data connection."""

    idle: float
    now: float
    _moved: int = 0
    _stalled: float = 0.0
    _samples: deque[tuple[float, int]] = field(default_factory=deque)
    _waited: float = 0.0
    _bytes: int = 0

    def tick(self, now: float, moved: int, waiting_for_client: bool) -> str | None:
        """Take the bytes `moved` so far; return why to give up, or None to go on."""
        passed, new = now - self.now, moved - self._moved
        self.now, self._moved = now, moved
        if new:
            self._stalled = 0.0
        elif waiting_for_client:
            self._stalled += passed
        if not waiting_for_client:
            passed = 0.0  # the bytes still count for the client
        self._remember(passed, new)
        if self._stalled >= self.idle:
            return "no data for too long"
        if self._waited >= WINDOW and self._bytes < FLOOR * self._waited:
            return "data comes or goes too slowly"
        return None

    def _remember(self, passed: float, new: int) -> None:
        self._samples.append((passed, new))
        self._waited += passed
        self._bytes += new
        while self._waited - self._samples[0][0] >= WINDOW:
            old_passed, old_new = self._samples.popleft()
            self._waited -= old_passed
            self._bytes -= old_new
        if len(self._samples) > 4096:  # ticks in which nothing was the client's fault
            old_passed, old_new = self._samples.popleft()
            second_passed, second_new = self._samples.popleft()
            self._samples.appendleft((old_passed + second_passed, old_new + second_new))
