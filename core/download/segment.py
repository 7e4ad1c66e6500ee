"""Decides which shares to ask for the blocks of a stretch of segments, and when to give up.

Knows shares by server and number, and events; touches nothing: no clock, no network. The shell
around it is `truckee.core.download.fetch`.

Theory: progress is counted in distinct share numbers, never in servers. Shares are asked until
those held and those on their way carry k distinct numbers. A share that is overdue no longer
counts as on its way, so another is asked, but what it brings late is still taken. One server gives
one share at a time as long as there is a choice. The stretch fails only when no share is to come
and held, active and overdue together cannot reach k.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from truckee.core.errors import NoSharesError, NotEnoughSharesError

ShareKey = tuple[bytes, int]
"""The server's identity and the share number."""


@dataclass(frozen=True, slots=True)
class Found:
    """There is such a share; servers of a lower grade are faster."""

    key: ShareKey
    grade: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """The share's blocks and the hashes that vouch for them are here; blocks not yet checked."""

    key: ShareKey


@dataclass(frozen=True, slots=True)
class Overdue:
    """The share has made no progress for a long time."""

    key: ShareKey


@dataclass(frozen=True, slots=True)
class Lost:
    """The share will not give these blocks: it is dead, or a block failed its hash."""

    key: ShareKey
    reason: str


@dataclass(frozen=True, slots=True)
class Exhausted:
    """No further share will be found."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask this share."""

    key: ShareKey


@dataclass(frozen=True, slots=True)
class WantShares:
    """Look for more shares; `urgent`: without one, nothing goes on."""

    urgent: bool


@dataclass(frozen=True, slots=True)
class Decode:
    """k distinct numbers are held: check and decode their blocks."""

    keys: tuple[ShareKey, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The stretch cannot be had."""

    error: NotEnoughSharesError


Event = Found | Arrived | Overdue | Lost | Exhausted
Action = Fetch | WantShares | Decode | GiveUp


class State(Enum):
    """What has become of a share within one stretch."""

    UNUSED = "unused"
    ACTIVE = "active"
    OVERDUE = "overdue"
    HELD = "held"
    LOST = "lost"


@dataclass(slots=True)
class StretchFetch:
    """The choice of shares for one stretch of segments."""

    k: int
    _grades: dict[ShareKey, int] = field(default_factory=dict)
    _states: dict[ShareKey, State] = field(default_factory=dict)
    _per_server: int = 1
    _exhausted: bool = False
    _decoding: bool = False
    _finished: bool = False
    _last_failure: str = "none"

    def handle(self, *events: Event) -> list[Action]:
        """Take events that happened together; return what to do next."""
        for event in events:
            self._take(event)
        return [] if self._finished else self._next()

    def _take(self, event: Event) -> None:
        match event:
            case Found(key, grade):
                self._grades[key] = grade
                if self._states.get(key, State.LOST) is State.LOST:  # a new search may revive it
                    self._states[key] = State.UNUSED
            case Arrived(key):
                if self._states.get(key) in {State.ACTIVE, State.OVERDUE}:
                    self._states[key] = State.HELD
            case Overdue(key):
                if self._states.get(key) is State.ACTIVE:
                    self._states[key] = State.OVERDUE
            case Lost(key, reason):
                if self._states.get(key) is State.HELD:
                    self._decoding = False
                self._states[key] = State.LOST
                self._last_failure = reason
            case Exhausted():
                self._exhausted = True

    def _shnums(self, *states: State) -> set[int]:
        return {key[1] for key, state in self._states.items() if state in states}

    def _next(self) -> list[Action]:
        if self._decoding:
            return []
        held = self._shnums(State.HELD)
        if len(held) >= self.k:
            self._decoding = True
            return [Decode(self._best_held())]
        actions: list[Action] = []
        busy = held | self._shnums(State.ACTIVE)
        load = self._load()
        while len(busy) < self.k:
            unused = self._unused(busy)
            self._start(unused, busy, load, actions)
            if len(busy) >= self.k:
                break
            if not self._unused(busy):
                self._run_dry(actions, busy)
                break
            self._per_server += 1  # only their busy servers hold the others back
            self._want(actions, urgent=False)
        return actions

    def _unused(self, busy: set[int]) -> list[ShareKey]:
        """Return the shares that could be asked and bring a new number, the best ones first."""
        usable = [
            key
            for key, state in self._states.items()
            if state is State.UNUSED and key[1] not in busy
        ]
        return sorted(usable, key=lambda key: (self._grades[key], key[1], key[0]))

    def _start(
        self,
        unused: list[ShareKey],
        busy: set[int],
        load: Counter[bytes],
        actions: list[Action],
    ) -> None:
        """Ask shares in this order until k numbers are busy, sparing servers at their limit."""
        for key in unused:
            if len(busy) >= self.k:
                return
            if key[1] not in busy and load[key[0]] < self._per_server:
                self._states[key] = State.ACTIVE
                busy.add(key[1])
                load[key[0]] += 1
                actions.append(Fetch(key))

    def _load(self) -> Counter[bytes]:
        """Return how many shares are outstanding at each server."""
        return Counter(
            server
            for (server, _), state in self._states.items()
            if state in {State.ACTIVE, State.OVERDUE}
        )

    def _best_held(self) -> tuple[ShareKey, ...]:
        """Return k held shares of distinct numbers, the primary ones first."""
        by_shnum = {key[1]: key for key, state in self._states.items() if state is State.HELD}
        return tuple(by_shnum[shnum] for shnum in sorted(by_shnum)[: self.k])

    def _want(self, actions: list[Action], *, urgent: bool) -> None:
        if not self._exhausted and WantShares(urgent) not in actions:
            actions.append(WantShares(urgent))

    def _run_dry(self, actions: list[Action], busy: set[int]) -> None:
        """No share is left to ask: look for more, wait for late ones, or give up."""
        if not self._exhausted:
            self._want(actions, urgent=True)
        elif len(busy | self._shnums(State.OVERDUE)) < self.k:
            self._finished = True
            actions.append(GiveUp(self._error()))

    def _error(self) -> NotEnoughSharesError:
        if not self._states:
            return NoSharesError(f"no shares found (need {self.k})")

        def text(state: State) -> str:
            return ",".join(map(str, sorted(self._shnums(state)))) or "none"

        return NotEnoughSharesError(
            f"ran out of shares: held {text(State.HELD)}; active {text(State.ACTIVE)}; "
            f"overdue {text(State.OVERDUE)}; unused {text(State.UNUSED)}; need {self.k}. "
            f"Last failure: {self._last_failure}"
        )
