"""Deciding who is asked to hold which shares, round by round. Pure: answers in, questions out.

A round asks servers to take shares; one that fails is out, one that refuses is asked for nothing
more. Rounds go on while there are failures to make good and servers that could make them good.
The matching itself: `truckee.core.placement`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from truckee.core import placement
from truckee.core.errors import ServersFullError, UploadUnhappinessError


class Verdict(Enum):
    """What to do after a round."""

    GO = auto()  # enough shares are promised or present
    AGAIN = auto()  # not enough, but other servers may take what was refused
    FAIL = auto()


@dataclass(slots=True)
class Selection:
    """Who holds what of one file, who has promised what, and who may be asked for more.

    Servers are named by their ids. `writable` and `readonly` stand in permuted order, `held` has
    the complete shares that each server was found to have.
    """

    needed: int
    happy: int
    total: int
    writable: list[bytes]
    readonly: list[bytes]
    held: dict[bytes, set[int]]
    promised: dict[bytes, set[int]] = field(default_factory=dict)
    full: set[bytes] = field(default_factory=set)  # failed for want of room
    _renewed: set[bytes] = field(default_factory=set)
    _losses: bool = False  # in this round

    def plan(self) -> dict[bytes, frozenset[int]]:
        """Return what to ask of whom in the next round.

        Shares that are present already are asked for once, which renews their leases.
        """
        self._losses = False
        have = {server: set(shnums) for server, shnums in self.held.items()}
        for server, shnums in self.promised.items():
            have.setdefault(server, set()).update(shnums)
        wanted: dict[bytes, set[int]] = {}
        placed = placement.assign(self.total, self.writable, self.readonly, have)
        for shnum, server in placed.items():
            known = self.promised.get(server, set())
            if server in self._renewed:
                known = have.get(server, set())
            if shnum not in known:
                wanted.setdefault(server, set()).add(shnum)
        self._renewed.update(wanted)
        return {server: frozenset(shnums) for server, shnums in wanted.items()}

    def answered(
        self, server: bytes, asked: Collection[int], already: Iterable[int], taken: Iterable[int]
    ) -> None:
        """Take a server's answer: what it has complete, and what it will take."""
        # a hostile answer cannot promise what was not asked for, nor hold what cannot exist
        already = {shnum for shnum in already if 0 <= shnum < self.total}
        promised = set(asked).intersection(taken)
        self.held.setdefault(server, set()).update(already)
        self.promised.setdefault(server, set()).update(promised)
        if not already.union(promised).issuperset(asked) and server in self.writable:
            self.writable.remove(server)
            self.readonly.append(server)
            self._losses = True

    def failed(self, server: bytes, *, full: bool = False) -> None:
        """Count out a server, and all that it holds: whoever fails now may not be there later.

        `full` says that it failed because it has no room.
        """
        if full:
            self.full.add(server)
        for servers in (self.writable, self.readonly):
            if server in servers:
                servers.remove(server)
                self._losses = True
        self.held.pop(server, None)
        self.promised.pop(server, None)

    def layout(self) -> dict[int, set[bytes]]:
        """Return, by share number, the servers that have it or will take it."""
        found: dict[int, set[bytes]] = {}
        for shares in (self.held, self.promised):
            for server, shnums in shares.items():
                for shnum in shnums:
                    found.setdefault(shnum, set()).add(server)
        return found

    def is_enough(self) -> bool:
        """Return whether the layout is happy enough, and the file readable from it at all."""
        layout = self.layout()
        return len(layout) >= self.needed and placement.happiness(layout) >= self.happy

    def verdict(self) -> Verdict:
        """Return what to do after the answers of a round."""
        if self.is_enough():
            return Verdict.GO
        if not self._losses or not self.writable:
            return Verdict.FAIL
        layout = self.layout()
        possible = {n: layout.get(n, set()).union(self.writable) for n in range(self.total)}
        return Verdict.AGAIN if placement.happiness(possible) >= self.happy else Verdict.FAIL

    def lacks_room(self) -> bool:
        """Return whether the layout could be enough if servers that refuse had room."""
        layout = self.layout()
        able = {*self.writable, *self.readonly, *self.full}
        possible = {n: layout.get(n, set()) | able for n in range(self.total)}
        return placement.happiness(possible) >= self.happy

    def surplus(self) -> dict[bytes, set[int]]:
        """Return promises that nobody needs, and forget them.

        A later round may have put a share on a second server; one of the two is enough unless both
        count for happiness, which a share can do only once.
        """
        layout = self.layout()
        kept = placement.matching(layout)
        extra: dict[bytes, set[int]] = {}
        for shnum, servers in layout.items():
            keep = kept.get(shnum)
            if keep is None:  # prefer one that is complete
                complete = [s for s in servers if shnum in self.held.get(s, ())]
                keep = (complete or sorted(servers))[0]
            for server in servers - {keep}:
                if shnum in self.promised.get(server, ()):
                    extra.setdefault(server, set()).add(shnum)
        for server, shnums in extra.items():
            self.promised[server] -= shnums
        return extra

    def error(self, what: str = "") -> UploadUnhappinessError:
        """Return what to raise when the layout is not enough; `what` begins its text."""
        kind = ServersFullError if self.lacks_room() else UploadUnhappinessError
        return kind(what + self.failure_text())

    def failure_text(self) -> str:
        """Return why the layout is not enough."""
        layout = self.layout()
        servers: set[bytes] = set()
        servers.update(*layout.values())
        effective = placement.happiness(layout)
        if effective >= self.happy and len(layout) < self.needed:
            return f"only {len(layout)} shares could be placed, {self.needed} are needed"
        return placement.failure_text(len(servers), self.needed, self.happy, effective)


def select(
    needed: int,
    happy: int,
    total: int,
    order: Iterable[bytes],
    readonly: Collection[bytes],
    held: Mapping[bytes, Collection[int]],
) -> Selection:
    """Return the start of a selection among the servers in `order` that said what they hold."""
    heard = [server for server in order if server in held]
    return Selection(
        needed,
        happy,
        total,
        [server for server in heard if server not in readonly],
        [server for server in heard if server in readonly],
        {s: {n for n in held[s] if 0 <= n < total} for s in heard},
    )
