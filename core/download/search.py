"""Asks servers which shares they hold: the shell around `truckee.core.download.finder`.

Knows the storage seam and a clock; touches servers through the seam only. A search belongs to a
reader, not to a read: answers still in flight when a read ends serve the next one.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from truckee.core.download.finder import (
    Answered,
    Event,
    Finder,
    HandOver,
    Hungry,
    Late,
    NoMore,
    Query,
)
from truckee.core.download.status import ReaderStatus
from truckee.core.errors import StorageError
from truckee.core.storage.api import ShareReader, StorageServer
from truckee.core.storage.deadline import OVERDUE, QUERY_TIMEOUT, within
from truckee.core.tasks import Tasks

_log = Logger()

Found = Callable[[StorageServer, Mapping[int, ShareReader], float], None]
"""Called with a server, its shares below N, and the seconds it took to answer."""


def usable_shares(
    answer: Mapping[int, ShareReader], total_shares: int
) -> Mapping[int, ShareReader]:
    """Return the shares whose numbers can belong to the file, in order; a server may lie."""
    return {n: answer[n] for n in sorted(n for n in answer if _is_shnum(n, total_shares))}


def _is_shnum(number: object, total_shares: int) -> bool:
    return isinstance(number, int) and 0 <= number < total_shares


class Search:
    """One walk over the servers there are when it begins."""

    def __init__(
        self,
        servers: Sequence[StorageServer],
        storage_index: bytes,
        total_shares: int,
        clock: IReactorTime,
        tasks: Tasks,
        status: ReaderStatus,
        found: Found,
        exhausted: Callable[["Search"], None],
        birth: int,
    ) -> None:
        """Take servers in the order to ask them, and whom to tell; `birth` is the reader's."""
        self._servers = servers
        self._storage_index = storage_index
        self._total_shares = total_shares
        self._clock = clock
        self._tasks = tasks
        self._status = status
        self._found = found
        self._exhausted = exhausted
        self._finder = Finder(len(servers))
        self._events: deque[Event] = deque()
        self._answers: dict[int, tuple[Mapping[int, ShareReader], float]] = {}
        self._busy = False
        self.birth = birth

    @property
    def finished(self) -> bool:
        """Whether nothing can come from it any more."""
        return self._finder.finished

    def hungry(self) -> None:
        """Look for more shares; `found` or `exhausted` will be called."""
        self._post(Hungry())

    def _post(self, event: Event) -> None:
        """Handle events one after the other, never one inside another."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                for action in self._finder.handle(self._events.popleft()):
                    match action:
                        case Query(place):
                            _ = self._tasks.start(self._query(place))
                        case HandOver(place):
                            shares, elapsed = self._answers.pop(place)
                            self._found(self._servers[place], shares, elapsed)
                        case NoMore():
                            self._exhausted(self)
        finally:
            self._busy = False

    async def _query(self, place: int) -> None:
        server, started = self._servers[place], self._clock.seconds()
        shares: Mapping[int, ShareReader] = {}
        timer = None
        try:
            call = Deferred.fromCoroutine(server.get_buckets(self._storage_index))
            if not call.called:
                timer = self._clock.callLater(OVERDUE, self._post, Late(place))
            answer = await within(self._clock, QUERY_TIMEOUT, call)
            shares = usable_shares(answer, self._total_shares)
        except CancelledError:
            raise
        except StorageError as error:
            self._status.note(self._clock.seconds(), "query failed", type(error).__name__)
        except Exception:  # noqa: BLE001 - whatever a server does, it only means: no shares there
            _log.failure("a share query failed in an unexpected way")
        finally:
            if timer is not None and timer.active():
                timer.cancel()
        elapsed = self._clock.seconds() - started
        self._status.note(self._clock.seconds(), "query", f"{len(shares)} shares")
        if shares:
            self._answers[place] = (shares, elapsed)
        self._post(Answered(place, len(shares)))
