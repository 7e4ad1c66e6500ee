"""Which share of which version lies on which server, and whom to ask next. Pure.

Knows versions, the permuted order and the modes of a survey; touches nothing. Events go in (an
answer, a failure, time), servers to ask come out. The shell is `survey`.

A survey walks the permuted order. READ stops once 2k servers have spoken and a version can be
recovered; WRITE goes on to a boundary, k servers in a row beyond the last holder that have nothing;
CHECK asks everybody.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from truckee.core.formats.mutable_share import Sections
from truckee.core.mutable.encoding import Header

_IN_FLIGHT = 5


class Mode(Enum):
    """What a survey is for."""

    READ = "read"
    WRITE = "write"
    CHECK = "check"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Copy:
    """One share on one server, its signature good; `head` is the beginning of its bytes."""

    server_id: bytes
    shnum: int
    header: Header
    sections: Sections
    head: bytes


def _rank(header: Header) -> tuple[int, bytes, int, bytes]:
    # the last two only make the order total: one key signed two versions under one root hash
    return header.seqnum, header.root_hash, header.version, header.prefix


@dataclass(slots=True, repr=False)
class Servermap:
    """What a survey found. `bad` keeps the first bytes of shares that failed a check."""

    copies: dict[tuple[bytes, int], Copy] = field(default_factory=dict)
    bad: dict[tuple[bytes, int], bytes] = field(default_factory=dict)
    answered: set[bytes] = field(default_factory=set)
    failed: set[bytes] = field(default_factory=set)

    def holders(self) -> set[bytes]:
        """Return the servers that hold a good share of any version."""
        return {server_id for server_id, _ in self.copies}

    def versions(self) -> dict[Header, set[int]]:
        """Return the distinct share numbers of each version."""
        found: dict[Header, set[int]] = {}
        for copy in self.copies.values():
            found.setdefault(copy.header, set()).add(copy.shnum)
        return found

    def copies_of(self, header: Header) -> list[Copy]:
        """Return all copies of one version, in the order in which they were found."""
        return [copy for copy in self.copies.values() if copy.header == header]

    def best(self, above: int = -1, without: Collection[Header] = ()) -> Header | None:
        """Return the highest version of which k distinct shares were found.

        Only sequence numbers over `above` count, and no version in `without`.
        """
        good = [
            header
            for header, shnums in self.versions().items()
            if len(shnums) >= header.geometry.needed_shares
            and header.seqnum > above
            and header not in without
        ]
        return max(good, key=_rank, default=None)

    def unrecoverable_newer(self) -> bool:
        """Return whether some version above the best one has too few shares."""
        best = self.best()
        floor = -1 if best is None else best.seqnum
        return any(header.seqnum > floor for header in self.versions())

    def highest_seqnum(self) -> int:
        """Return the highest sequence number seen, of any version; 0 when there is none."""
        return max((copy.header.seqnum for copy in self.copies.values()), default=0)

    def mark_bad(self, copy: Copy) -> None:
        """Count a copy no longer: its bytes failed a check."""
        self.copies.pop((copy.server_id, copy.shnum), None)
        self.bad[copy.server_id, copy.shnum] = copy.head[:75]


@dataclass(frozen=True, slots=True)
class Answered:
    """A server said what it holds: good copies, and bad shares with their first bytes."""

    server_id: bytes
    copies: Sequence[Copy] = ()
    bad: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """A server did not answer, or not usefully."""

    server_id: bytes


@dataclass(frozen=True, slots=True)
class Waited:
    """A while has passed: who is still silent no longer keeps others from being asked."""


@dataclass(frozen=True, slots=True)
class Expired:
    """The time for the whole survey is up."""


Event = Answered | Failed | Waited | Expired


@dataclass(slots=True)
class Survey:
    """Decides whom to ask. `k` and `n` are the client's own, since those of the file are unknown.

    `begin` and `handle` return the servers to ask now; then `done` says whether that was it.
    """

    order: Sequence[bytes]
    mode: Mode
    k: int
    n: int
    map: Servermap = field(default_factory=Servermap)
    _asked: set[bytes] = field(default_factory=set)
    _slow: set[bytes] = field(default_factory=set)
    _over: bool = False

    def begin(self) -> list[bytes]:
        """Return the servers to ask first."""
        first = {
            Mode.READ: 2 * self.k,
            Mode.WRITE: self.n + self.k,
            Mode.CHECK: len(self.order),
        }[self.mode]
        return self._ask(first)

    def handle(self, event: Event) -> list[bytes]:
        """Take one event; return the servers to ask because of it."""
        match event:
            case Answered(server_id, copies, bad):
                self.map.answered.add(server_id)
                self.map.copies.update({(server_id, copy.shnum): copy for copy in copies})
                self.map.bad.update({(server_id, shnum): raw for shnum, raw in bad.items()})
            case Failed(server_id):
                self.map.failed.add(server_id)
            case Waited():
                self._slow |= self._pending()
            case Expired():
                self._over = True
                self.map.failed |= self._pending()
        return [] if self.done else self._ask(self._room())

    @property
    def done(self) -> bool:
        """Return whether the map is good enough, or nobody is left to ask."""
        spoken = self._spoken()
        if self._over or len(spoken) == len(self.order):
            return True
        if self.mode is Mode.CHECK or self.map.best() is None:
            return False
        if self.mode is Mode.WRITE:
            return self._boundary_found()
        return len(spoken) >= 2 * self.k and not self.map.unrecoverable_newer()

    def _spoken(self) -> Collection[bytes]:
        return self.map.answered | self.map.failed

    def _pending(self) -> set[bytes]:
        return self._asked - self.map.answered - self.map.failed

    def _room(self) -> int:
        """Return how many more servers may be asked now."""
        fresh = len(self._pending() - self._slow)
        missing = 2 * self.k - len(self.map.answered)
        if self.mode is Mode.READ and missing > 0:
            return missing - fresh
        return _IN_FLIGHT - fresh

    def _ask(self, count: int) -> list[bytes]:
        unasked = [server_id for server_id in self.order if server_id not in self._asked]
        chosen = unasked[: max(count, 0)]
        self._asked.update(chosen)
        return chosen

    def _boundary_found(self) -> bool:
        """Return whether k servers beyond the last holder have nothing, all before having spoken.

        Those that failed count neither way.
        """
        holders = self.map.holders() | {server_id for server_id, _ in self.map.bad}
        found, empty = False, 0
        for server_id in self.order:
            if server_id in holders:
                found, empty = True, 0
            elif server_id in self.map.answered:
                empty += 1
                if found and empty >= self.k:
                    return True
            elif server_id not in self.map.failed:
                return False
        return True
