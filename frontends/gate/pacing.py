"""How many lines of one kind may be written: a few a second for each source, then a count.

Knows sources (an IPv4 address, an IPv6 /64) and a clock that it is given; touches nothing. Memory
is bounded: sources beyond the thousandth within ten seconds count as one.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

PER_SOURCE = 10
IN_ALL = 50
CAPACITY = 1000
OTHERS = "others"
_MOST_SUMMARIES = 20
_FORGOTTEN_AFTER = 10.0


@dataclass(slots=True)
class _Second:
    """What was written in the second that began then, and what was not."""

    began: float
    written: int = 0
    swallowed: int = 0

    def has_room(self, now: float, most: int) -> bool:
        if now - self.began >= 1.0:
            self.began, self.written = now, 0
        return self.written < most


@dataclass(frozen=True, slots=True)
class Swallowed:
    """So many lines of one kind from one source were not written."""

    kind: str
    source: str
    count: int


class Pacer:
    """Decides for each line whether it is written."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """Take a monotonic clock."""
        self._seconds = seconds
        self._of_source: dict[tuple[str, str], _Second] = {}
        self._of_kind: dict[str, _Second] = {}
        self.dropped = 0
        """How many lines were not written, ever."""

    def admit(self, kind: str, source: str) -> int | None:
        """Return how many lines like it were left out since the last; None: leave it out, too.

        `kind` is one of a few constants.
        """
        now = self._seconds()
        own = self._own(kind, source, now)
        whole = self._of_kind.setdefault(kind, _Second(now))
        if not own.has_room(now, PER_SOURCE) or not whole.has_room(now, IN_ALL):
            own.swallowed += 1
            self.dropped += 1
            return None
        own.written += 1
        whole.written += 1
        before, own.swallowed = own.swallowed, 0
        return before

    def settle(self) -> list[Swallowed]:
        """Return what was left out and not told of yet, and forget sources that are silent.

        To be called every few seconds; at most twenty sources of all are named, the largest.
        """
        now = self._seconds()
        found = [
            Swallowed(kind, source, second.swallowed)
            for (kind, source), second in self._of_source.items()
            if second.swallowed
        ]
        for second in self._of_source.values():
            second.swallowed = 0
        self._of_source = {
            key: second
            for key, second in self._of_source.items()
            if now - second.began < _FORGOTTEN_AFTER
        }
        found.sort(key=lambda s: -s.count)
        rest: dict[str, int] = {}
        for more in found[_MOST_SUMMARIES:]:
            rest[more.kind] = rest.get(more.kind, 0) + more.count
        return found[:_MOST_SUMMARIES] + [Swallowed(k, OTHERS, n) for k, n in rest.items()]

    def _own(self, kind: str, source: str, now: float) -> _Second:
        key = (kind, network(source))
        found = self._of_source.get(key)
        if found is None:
            if len(self._of_source) >= CAPACITY:
                key = (kind, OTHERS)
            found = self._of_source.setdefault(key, _Second(now))
        return found


def network(source: str) -> str:
    """Return what an address counts as: itself, or its IPv6 /64."""
    if ":" not in source:
        return source
    try:
        address = ipaddress.IPv6Address(source.partition("%")[0])
    except ValueError:
        return source
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))
