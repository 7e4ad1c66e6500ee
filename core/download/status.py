"""What a reader has done: counters, and the newest events. Touches nothing."""

from collections import Counter, deque
from dataclasses import dataclass, field

KEPT = 1000


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """Something that happened; `when` is the clock's time in seconds, `detail` numbers only."""

    when: float
    what: str
    detail: str


@dataclass(slots=True)
class ReaderStatus:
    """The life of one reader so far."""

    counts: Counter[str] = field(default_factory=Counter)
    events: deque[StatusEvent] = field(default_factory=lambda: deque(maxlen=KEPT))

    def note(self, when: float, what: str, detail: str = "") -> None:
        """Count an event and keep it among the newest."""
        self.counts[what] += 1
        self.events.append(StatusEvent(when, what, detail))
