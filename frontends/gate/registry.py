"""Who is in the house: every session of every door, and the limits on them.

Knows addresses, accounts and counts; touches nothing by itself. Each door (FTP, SFTP) has a
`Registry`; those of one node share a `Ledger`, so that a limit holds for what comes in by all doors
together. One address means an IPv4 address or an IPv6 /64, which is what one customer has. Loopback
and other exempt networks are free of the limit per address alone.
"""

import ipaddress
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from truckee.frontends.gate.addresses import Network, within
from truckee.frontends.gate.journal import Door, Journal, SilentJournal
from truckee.frontends.gate.pacing import network

LOOPBACK: tuple[Network, ...] = (
    ipaddress.ip_network("127.0.0.0/8"),
    ipaddress.ip_network("::1/128"),
)
SHUTTING_DOWN = "the node is shutting down"

_log = Logger()


class Session(Protocol):
    """What a door shows of one connection."""

    @property
    def account(self) -> str | None:
        """The account that is logged in, or None."""
        ...

    @property
    def busy(self) -> bool:
        """Whether something is being done for it that should not be cut off."""
        ...

    @property
    def leaving(self) -> bool:
        """Whether it has been told goodbye: it counts for its address alone."""
        ...

    def shut_down(self, text: str, *, now: bool = False) -> None:
        """End it once what runs has ended; `now` ends transfers at once, commits never."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How many sessions there may be, by all doors together."""

    max_sessions: int = 200
    max_sessions_per_user: int = 60
    max_sessions_per_ip: int = 60
    max_unauthenticated: int = 100
    exempt: tuple[Network, ...] = LOOPBACK
    """Networks without `max_sessions_per_ip`."""

    def is_exempt(self, host: str) -> bool:
        """Return whether an address has no limit of its own."""
        return within(host, self.exempt)


@dataclass(slots=True)
class _Entry:
    door: Door
    host: str
    source: str
    since: float
    turned_away: bool = False
    name: str | None = None


@dataclass(slots=True)
class Ledger:
    """Every session of a node, in the order in which they came."""

    entries: dict[Session, _Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One door at one moment."""

    sessions: int
    strangers: int
    """Those without a login."""
    accounts: Mapping[str, int]
    """How many sessions each account has."""


class Registry:
    """The sessions of one door."""

    def __init__(
        self,
        door: Door,
        limits: Limits | None = None,
        *,
        may_connect: Callable[[str], bool] = lambda host: True,
        on_refusal: Callable[[str], object] = lambda host: None,
        journal: Journal | None = None,
        ledger: Ledger | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the limits, and the `ledger` shared with the other doors of the node.

        `may_connect` says whether an address is free of bans; `on_refusal` is told the address of
        a connection that hits a limit of its own address.
        """
        self._door = door
        self._limits = limits or Limits()
        self._may_connect = may_connect
        self._on_refusal = on_refusal
        self._journal = journal or SilentJournal()
        self._ledger = ledger or Ledger()
        self._seconds = seconds
        self._emptied: Deferred[None] | None = None
        self.closing = False

    def _own(self) -> Iterator[tuple[Session, _Entry]]:
        return ((s, e) for s, e in self._ledger.entries.items() if e.door == self._door)

    @property
    def sessions(self) -> int:
        """How many connections of this door there are, or whose commands still run."""
        return sum(1 for _ in self._own())

    def members(self) -> list[Session]:
        """Return the sessions of this door, the oldest first."""
        return [session for session, _ in self._own()]

    def accounts(self) -> set[str]:
        """Return the accounts that are logged in by this door."""
        return {s.account for s, _ in self._own() if s.account is not None}

    def snapshot(self) -> Snapshot:
        """Return what this door looks like now."""
        names = [s.account for s, _ in self._own()]
        known = Counter(name for name in names if name is not None)
        return Snapshot(len(names), len(names) - known.total(), known)

    # coming

    def hang_up(self, host: str) -> bool:
        """Return whether to close a new connection without a word.

        That is for those who are banned, and for a flood faster than refusals can be sent.
        """
        if not self._may_connect(host):
            self._journal.refused(self._door, host, "banned")
            return True
        if len(self._ledger.entries) >= 2 * self._limits.max_sessions:
            self._journal.refused(self._door, host, "flood")
            return True
        return False

    def enter(self, session: Session, host: str) -> str:
        """Take in a session; return "", or why it must be told goodbye. `left` ends it anyway."""
        refusal = self._refusal(host)
        self._ledger.entries[session] = _Entry(
            self._door, host, network(host), self._seconds(), bool(refusal)
        )
        if refusal:
            self._journal.refused(self._door, host, refusal)
        else:
            self._journal.connected(self._door, host)
        return refusal

    def _refusal(self, host: str) -> str:
        if self.closing:
            return SHUTTING_DOWN
        limits, entries = self._limits, self._ledger.entries
        staying = [s for s in entries if not s.leaving]
        if len(staying) >= limits.max_sessions:
            return "too many sessions"
        strangers = [s for s in staying if s.account is None]
        if len(strangers) >= limits.max_unauthenticated and not self._evict(strangers):
            return "too many sessions without a login"
        source = network(host)
        same = sum(e.source == source for e in entries.values())
        if same >= limits.max_sessions_per_ip and not limits.is_exempt(host):
            self._on_refusal(host)
            return "too many sessions from your address"
        return ""

    def _evict(self, strangers: list[Session]) -> bool:
        """Make room for somebody new; return whether that worked.

        Who connects and says nothing would otherwise hold every place until the time for a login
        is over. The oldest goes that is not busy, from the address with the most of them.
        """
        entries = self._ledger.entries
        idle = [s for s in strangers if not s.busy]
        if not idle:
            return False
        ((crowd, _),) = Counter(entries[s].source for s in idle).most_common(1)
        victim = next(s for s in idle if entries[s].source == crowd)
        victim.shut_down("others wait for a place, log in faster")
        return True

    # staying

    def admit(self, session: Session, account: str, limit: int | None) -> bool:
        """Return whether `account` stays within its number of sessions with this one.

        `limit` is the account's own, if it has one. Nobody is admitted any more while the door is
        `closing`.
        """
        entry = self._ledger.entries.get(session)
        if self.closing or entry is None:
            return False
        most = self._limits.max_sessions_per_user
        if limit is not None:
            most = min(most, limit)
        others = sum(s.account == account for s in self._ledger.entries if s is not session)
        if others >= most:
            return False
        entry.name = account
        return True

    def from_same_address(self, session: Session, account: str) -> int:
        """Return how many other sessions of the account there are from this one's address.

        Exempt addresses have none.
        """
        entries = self._ledger.entries
        own = entries[session]
        if self._limits.is_exempt(own.host):
            return 0
        return sum(
            s.account == account and e.source == own.source and s is not session
            for s, e in entries.items()
        )

    # going

    def close_account(self, account: str, text: str = "the account was changed") -> int:
        """End every session of `account`, commits under way excepted; return how many."""
        found = [s for s, _ in self._own() if s.account == account]
        for session in found:
            session.shut_down(text, now=True)
        return len(found)

    def left(self, session: Session) -> None:
        """Forget a session: its connection is gone and nothing of it runs. Again: nothing."""
        entry = self._ledger.entries.pop(session, None)
        if entry is None:
            return
        if not entry.turned_away:
            seconds = self._seconds() - entry.since
            self._journal.left(self._door, entry.host, entry.name, seconds)
        if self._emptied is not None and not self.sessions:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def close(self) -> None:
        """Take in nobody any more, and admit nobody."""
        self.closing = True

    async def drain(self, clock: IReactorTime, text: str, grace: float, timeout: float) -> None:
        """End every session; return when none is left, or after `timeout` seconds.

        Idle ones end at once, transfers after `grace` seconds, commits are waited for.
        """
        self.close()
        self._shut_down(text)
        if not self.sessions:
            return
        emptied = self._emptied = Deferred()
        over: Deferred[None] = Deferred()
        timers = [
            clock.callLater(grace, lambda: self._shut_down(text, now=True)),
            clock.callLater(timeout, over.callback, None),
        ]
        await DeferredList([emptied, over], fireOnOneCallback=True)
        for timer in timers:
            if timer.active():
                timer.cancel()
        self._emptied = None
        if left := self.sessions:
            _log.warn("{door}: {count} sessions did not end in time", door=self._door, count=left)

    def _shut_down(self, text: str, *, now: bool = False) -> None:
        for session in self.members():
            session.shut_down(text, now=now)
