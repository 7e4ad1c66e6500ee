"""Which requests wait for which. Clients send many without waiting for answers.

Knows two orders, touches nothing. On one handle, reads go beside each other and whatever changes
something goes alone, all in the order in which they came. Of requests about paths, those wait that
would see or undo what an earlier one has not finished: ``mkdir a``, ``mkdir a/b`` sent in one go
work as if each had been answered first. Everything else overlaps.

A place in a queue is taken when `Turn` or `Claim` is made, and waited for by ``async with``. Who
waited begins only when the answer before it is sent (`Starter`): a scp that sees the answers to
its WRITEs in another order takes the file for incomplete and cuts it.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from truckee.core.errors import OperationCancelledError
from truckee.frontends.vfs.paths import Path
from truckee.frontends.vfs.pending import Gate

TURN = 0.008
"""So many seconds of one turn of the reactor a channel may take, here and for taking up more."""


class Starter:
    """What may begin as soon as the answer to the request that ended is on its way."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._ready: deque[Callable[[], object]] = deque()
        self._running = False
        self._postponed = False

    def add(self, begin: Callable[[], object]) -> None:
        """Let this begin at the next `run`."""
        self._ready.append(begin)

    def run(self) -> None:
        """Begin all, one after the other, also those that become ready meanwhile.

        What takes too long goes on in another turn of the reactor.
        """
        if self._running or self._postponed:
            return
        self._running = True
        began = self._clock.seconds()
        try:
            while self._ready and not self._postponed:
                self._ready.popleft()()
                if self._ready and self._clock.seconds() - began > TURN:
                    self._postponed = True
                    self._clock.callLater(0, self._go_on)
        finally:
            self._running = False

    def _go_on(self) -> None:
        self._postponed = False
        self.run()


class Turns:
    """The queue of one handle."""

    def __init__(self, starter: Starter) -> None:
        self._starter = starter
        self._waiting: deque[Turn] = deque()
        self._together = 0
        self._alone = False
        self.closed = False

    def together(self) -> "Turn":
        """Take the place of a request that others of its kind may overlap."""
        return self._take(Turn(self, alone=False))

    def alone(self) -> "Turn":
        """Take the place of a request that waits for all before, and all behind wait for."""
        return self._take(Turn(self, alone=True))

    def _take(self, turn: "Turn") -> "Turn":
        if self.closed:
            raise OperationCancelledError("the connection is gone")
        if not self._waiting and self._is_free(turn):
            self._begin(turn)
        else:
            turn.begun = Deferred()
            self._waiting.append(turn)
        return turn

    def _is_free(self, turn: "Turn") -> bool:
        return not self._alone and not (turn.alone and self._together)

    def _begin(self, turn: "Turn") -> None:
        if turn.alone:
            self._alone = True
        else:
            self._together += 1

    def end(self, turn: "Turn") -> None:
        """Let the next ones begin."""
        if turn.alone:
            self._alone = False
        else:
            self._together -= 1
        while self._waiting and self._is_free(self._waiting[0]):
            following = self._waiting.popleft()
            self._begin(following)
            if following.begun is not None:
                self._starter.add(partial(following.begun.callback, None))

    def close(self) -> None:
        """Let nobody begin any more: who waits gets OperationCancelledError."""
        self.closed = True
        waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            if turn.begun is not None:
                turn.begun.errback(OperationCancelledError("the connection is gone"))


class Turn:
    """One request's place in the queue of a handle."""

    __slots__ = ("_turns", "alone", "begun")

    def __init__(self, turns: Turns, *, alone: bool) -> None:
        self._turns = turns
        self.alone = alone
        self.begun: Deferred[None] | None = None

    async def __aenter__(self) -> None:
        """Wait until it is this one's turn."""
        if self.begun is not None:
            await self.begun
            if self._turns.closed:
                self._turns.end(self)
                raise OperationCancelledError("the connection is gone")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        self._turns.end(self)


class PathOrder:
    """The requests about paths that have begun or wait, of one channel."""

    def __init__(self, starter: Starter) -> None:
        self._starter = starter
        self._claims: list[Claim] = []
        self._closed = False

    def look(self, path: Path) -> "Claim":
        """Take the place of a request that only looks at what stands at `path`."""
        return self._take((path,), changes=False)

    def change(self, *paths: Path) -> "Claim":
        """Take the place of a request that may change what stands at these paths."""
        return self._take(paths, changes=True)

    def _take(self, paths: tuple[Path, ...], *, changes: bool) -> "Claim":
        self.check()
        before = [c for c in self._claims if _must_wait(paths, changes, c)]
        claim = Claim(self, paths, before, changes=changes)
        self._claims.append(claim)
        return claim

    def check(self) -> None:
        """Raise OperationCancelledError once closed."""
        if self._closed:
            raise OperationCancelledError("the connection is gone")

    def end(self, claim: "Claim") -> None:
        """Forget a claim and let those pass who wait for it."""
        self._claims.remove(claim)
        self._starter.add(claim.done.open)

    def close(self) -> None:
        """Let nobody begin any more."""
        self._closed = True


class Claim:
    """One request's place among those about paths."""

    __slots__ = ("_before", "_order", "changes", "done", "paths")

    def __init__(
        self, order: PathOrder, paths: tuple[Path, ...], before: "list[Claim]", *, changes: bool
    ) -> None:
        self.paths = paths
        self.changes = changes
        self.done = Gate()
        self._order = order
        self._before = before

    async def __aenter__(self) -> None:
        """Wait for the earlier ones that matter."""
        before, self._before = self._before, []
        try:
            for claim in before:
                await claim.done.passed()
                self._order.check()
        except BaseException:
            self._order.end(self)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        self._order.end(self)


def _must_wait(paths: tuple[Path, ...], changes: bool, earlier: Claim) -> bool:
    """Return whether a new request must wait for an earlier one.

    A change matters to whatever stands at or below its path, and a look to later changes of its
    path or of a directory above; two changes also if the later is above (rmdir after remove).
    """
    if not (changes or earlier.changes):
        return False
    for new in paths:
        for old in earlier.paths:
            if earlier.changes and new[: len(old)] == old:
                return True
            if changes and old[: len(new)] == new:
                return True
    return False
