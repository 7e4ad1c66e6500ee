"""Whose password is checked next, when checking one costs a third of a second.

Knows who waits and who runs; touches nothing. Two checks run at a time (more of those that another
machine does). Sources take turns, and within a source its names. A source has at most two logins in
the queue of 32; its further ones stand outside and move up, so that a client that opens ten
connections at once is served, and a stranger cannot fill the queue.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

RUNNING = 2
QUEUED = 32
PER_SOURCE = 2
OUTSIDE = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """One login that wants its password checked."""

    source: str
    name: str


@dataclass(slots=True)
class _Source:
    running: int = 0
    waiting: int = 0
    names: OrderedDict[str, deque[Ticket]] = field(default_factory=OrderedDict)

    @property
    def queued(self) -> int:
        """How many of the waiting count against the queue."""
        return min(self.waiting, max(0, PER_SOURCE - self.running))


class Turns:
    """The queue; see the head of the module."""

    def __init__(self, running: int = RUNNING) -> None:
        """Start empty; `running` may run at a time."""
        self._limit = running
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._running = 0
        self._waiting = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return self._waiting

    def ask(self, ticket: Ticket) -> bool:
        """Line up; return False when there is no room."""
        source = self._sources.get(ticket.source) or _Source()
        if self._waiting >= OUTSIDE:
            return False
        if source.running + source.waiting < PER_SOURCE:
            free = self._running < self._limit and not self._waiting
            if not free and sum(s.queued for s in self._sources.values()) >= QUEUED:
                return False
        self._sources[ticket.source] = source
        source.names.setdefault(ticket.name, deque()).append(ticket)
        source.waiting += 1
        self._waiting += 1
        return True

    def start(self) -> Ticket | None:
        """Return whose turn it is now, counted as running; None when nobody may start."""
        if self._running >= self._limit:
            return None
        key = next((k for k, source in self._sources.items() if source.waiting), None)
        if key is None:
            return None
        source = self._sources[key]
        self._sources.move_to_end(key)
        name, tickets = next(iter(source.names.items()))
        ticket = tickets.popleft()
        source.names.move_to_end(name)
        self._forget_empty(source, name)
        source.waiting -= 1
        self._waiting -= 1
        source.running += 1
        self._running += 1
        return ticket

    def done(self, ticket: Ticket) -> None:
        """Take note that a started one has ended."""
        source = self._sources[ticket.source]
        source.running -= 1
        self._running -= 1
        self._drop_idle(ticket.source)

    def withdraw(self, ticket: Ticket) -> bool:
        """Leave the queue; return False when the check has begun already."""
        source = self._sources.get(ticket.source)
        if source is None or ticket not in source.names.get(ticket.name, ()):
            return False
        source.names[ticket.name].remove(ticket)
        self._forget_empty(source, ticket.name)
        source.waiting -= 1
        self._waiting -= 1
        self._drop_idle(ticket.source)
        return True

    @staticmethod
    def _forget_empty(source: _Source, name: str) -> None:
        if not source.names[name]:
            del source.names[name]

    def _drop_idle(self, key: str) -> None:
        source = self._sources[key]
        if not source.running and not source.waiting:
            del self._sources[key]
