"""Decides which servers to ask for shares, and when there is nothing more to hope for.

Knows servers only by their place in the permuted order, and events; touches nothing: no clock, no
network. The shell around it is `truckee.core.download.search`.

Theory: the list is walked front to back while somebody is hungry, with at most `limit` questions
unanswered. A question that is overdue stops counting against the limit, yet its answer is still
awaited: "no more shares" is said only when the list is used up and nothing is pending. Shares that
turn up end the hunger until somebody asks again.
"""

from dataclasses import dataclass, field

MAX_UNANSWERED = 10


@dataclass(frozen=True, slots=True)
class Hungry:
    """Somebody needs more shares."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The server at this place answered (`shares`: how many usable ones), or failed (0)."""

    place: int
    shares: int


@dataclass(frozen=True, slots=True)
class Late:
    """The server at this place has not answered for a long time."""

    place: int


@dataclass(frozen=True, slots=True)
class Query:
    """Ask the server at this place."""

    place: int


@dataclass(frozen=True, slots=True)
class HandOver:
    """Hand over the shares of the server at this place; hunger that this wakes is a new one."""

    place: int


@dataclass(frozen=True, slots=True)
class NoMore:
    """Every server has been asked and nothing is pending."""


Event = Hungry | Answered | Late
Action = Query | HandOver | NoMore


@dataclass(slots=True)
class Finder:
    """One walk over a list of `servers` servers."""

    servers: int
    limit: int = MAX_UNANSWERED
    _hungry: bool = False
    _next: int = 0
    _waiting: set[int] = field(default_factory=set)
    _late: set[int] = field(default_factory=set)

    @property
    def finished(self) -> bool:
        """Whether no share can come from this walk any more."""
        return self._next >= self.servers and not self._waiting and not self._late

    def handle(self, event: Event) -> list[Action]:
        """Take one event; return what to do next, in this order."""
        actions: list[Action] = []
        match event:
            case Hungry():
                self._hungry = True
            case Answered(place, shares):
                self._waiting.discard(place)
                self._late.discard(place)
                if shares:
                    self._hungry = False
                    actions.append(HandOver(place))
            case Late(place):
                if place in self._waiting:
                    self._waiting.discard(place)
                    self._late.add(place)
        self._more(actions)
        return actions

    def _more(self, actions: list[Action]) -> None:
        while self._hungry and self._next < self.servers and len(self._waiting) < self.limit:
            self._waiting.add(self._next)
            actions.append(Query(self._next))
            self._next += 1
        if self.finished:
            actions.append(NoMore())
