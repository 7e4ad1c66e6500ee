"""How many wrong logins a source may make, and how slowly it is answered.

Knows scores, delays and bans; touches nothing, the time is given. A source (an IPv4 address, an
IPv6 /64) that goes on guessing is banned for a while; a name is never banned, only answered more
slowly, so that nobody can lock somebody else out. Exempt sources (by default this machine) are
slowed but never banned. Memory is bounded: the entry unused for longest leaves first, banned ones
last.
"""

import ipaddress
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

WINDOW = 1800.0
BAN = 1800.0
LONGEST_BAN = 86400.0
BAN_SCORE = 15
SLOW_SCORE = 5
SLOWEST = 16.0
WIDE_FACTOR = 4  # an IPv6 /48 holds many /64s: it is banned later
CAPACITY = 10_000

WRONG_PASSWORD = 1
UNKNOWN_NAME = 2
LIMIT_HIT = 3

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LOOPBACK: tuple[Network, ...] = (
    ipaddress.ip_network("127.0.0.0/8"),
    ipaddress.ip_network("::1/128"),
)


@dataclass(slots=True)
class _Entry:
    events: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=128))
    banned_until: float = 0.0
    bans: int = 0

    def score(self, now: float) -> int:
        while self.events and self.events[0][0] <= now - WINDOW:
            self.events.popleft()
        return sum(points for _, points in self.events)


class Throttle:
    """Scores of sources and names; see the head of the module."""

    def __init__(
        self,
        exempt: Sequence[Network] = LOOPBACK,
        seconds: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        capacity: int = CAPACITY,
    ) -> None:
        """Take the networks never banned, a monotonic clock and a number 0..1 for the jitter."""
        self._exempt = exempt
        self._seconds = seconds
        self._jitter = jitter
        self._capacity = capacity
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._banned: OrderedDict[str, _Entry] = OrderedDict()  # apart, so that others leave first
        self.on_ban: Callable[[str, float], object] = lambda source, seconds: None
        """Told of each ban: the address or network, and for how many seconds."""

    def __len__(self) -> int:
        """Return how many sources and names are remembered."""
        return len(self._entries) + len(self._banned)

    def is_banned(self, source: str) -> bool:
        """Return whether connections from this address are closed at once."""
        now = self._seconds()
        return any(
            entry.banned_until > now
            for key, _ in self._keys(source)
            if (entry := self._banned.get(key)) is not None
        )

    def failed(self, source: str, name: str, *, known: bool) -> float:
        """Count a wrong login; return after how many seconds it should be answered."""
        self._count(source, WRONG_PASSWORD if known else UNKNOWN_NAME)
        self._add(f"name {name}", WRONG_PASSWORD if known else UNKNOWN_NAME)
        return self.delay(source, name)

    def limit_hit(self, source: str) -> None:
        """Count a source that asked for more sessions than it may have."""
        self._count(source, LIMIT_HIT)

    def delay(self, source: str, name: str) -> float:
        """Return the seconds before a failed login of this name from here is answered."""
        now = self._seconds()
        keys = [key for key, factor in self._keys(source) if factor == 1]
        found = [self._get(key) for key in [*keys, f"name {name}"]]
        score = max((entry.score(now) for entry in found if entry is not None), default=0)
        slow = min(SLOWEST, 2.0 ** (score - SLOW_SCORE)) if score >= SLOW_SCORE else 0.0
        return max(1.0, slow) + 0.5 * self._jitter()

    def bans(self) -> list[tuple[str, float]]:
        """Return the banned networks and the seconds each has left."""
        now = self._seconds()
        return [
            (key, entry.banned_until - now)
            for key, entry in self._banned.items()
            if entry.banned_until > now
        ]

    def clear(self, source: str) -> bool:
        """Forget everything about an address, or a network as `bans` names it.

        Of a network that is its first address, and what that one is counted under. Returns whether
        there was something to forget.
        """
        known = False
        with suppress(ValueError):
            source = str(ipaddress.ip_network(source, strict=False).network_address)
        for key, _ in self._keys(source):
            entry, ban = self._entries.pop(key, None), self._banned.pop(key, None)
            known = known or entry is not None or ban is not None
        return known

    def _count(self, source: str, points: int) -> None:
        for key, factor in self._keys(source):
            entry = self._add(key, points)
            now = self._seconds()
            if entry.score(now) >= BAN_SCORE * factor and not self._is_exempt(source):
                seconds = min(LONGEST_BAN, BAN * (1 + 0.5 * entry.bans))
                entry.banned_until = now + seconds
                entry.bans += 1
                entry.events.clear()
                self._entries.pop(key, None)
                self._banned[key] = entry
                self._banned.move_to_end(key)
                self.on_ban(key, seconds)

    def _get(self, key: str) -> _Entry | None:
        return self._entries.get(key) or self._banned.get(key)

    def _add(self, key: str, points: int) -> _Entry:
        now = self._seconds()
        entry = self._banned.get(key)
        if entry is None or entry.banned_until <= now:
            entry = self._banned.pop(key, None) or self._entries.get(key)
            if entry is None:
                self._make_room()
                entry = _Entry()
            self._entries[key] = entry
            self._entries.move_to_end(key)
        entry.events.append((now, points))
        return entry

    def _make_room(self) -> None:
        if len(self) >= self._capacity:
            (self._entries or self._banned).popitem(last=False)

    def _keys(self, source: str) -> Iterable[tuple[str, int]]:
        """Return the networks an address is counted under, with the factor of their threshold."""
        try:
            address = ipaddress.ip_address(source)
        except ValueError:
            return [(f"source {source}", 1)] if source else []
        if isinstance(address, ipaddress.IPv6Address):
            if address.ipv4_mapped is not None:
                return [(str(address.ipv4_mapped), 1)]
            return [
                (str(ipaddress.ip_network((int(address), 64), strict=False)), 1),
                (str(ipaddress.ip_network((int(address), 48), strict=False)), WIDE_FACTOR),
            ]
        return [(str(address), 1)]

    def _is_exempt(self, source: str) -> bool:
        try:
            address = ipaddress.ip_address(source)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._exempt)
