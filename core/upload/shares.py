"""The shares of one file that servers have agreed to take, from allocation to the last byte.

Knows share writers, a clock, and the selection that says whether what is left is still enough.
A server that fails in any call is dropped with all its shares.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from truckee.core.errors import NoSpaceError, TruckeeError
from truckee.core.storage.api import Buffer, ShareWriter
from truckee.core.storage.deadline import CALL_TIMEOUT, QUERY_TIMEOUT
from truckee.core.tasks import Tasks
from truckee.core.upload.ask import ask_all
from truckee.core.upload.place import Selection

_log = Logger()

_Place = tuple[bytes, int]  # server id, share number


def note(error: Exception) -> None:
    """Log an error that no server should answer with."""
    if not isinstance(error, TruckeeError):
        _log.error("a storage server failed unexpectedly: {kind}", kind=type(error).__name__)


async def discard(clock: IReactorTime, writers: Sequence[ShareWriter]) -> None:
    """Abort shares; what cannot be aborted is left to the server's own time limit."""
    calls = ((i, writer.abort()) for i, writer in enumerate(writers))
    for answer in (await ask_all(clock, QUERY_TIMEOUT, calls)).values():
        if isinstance(answer, Exception):
            note(answer)


class OpenShares:
    """Shares being written. After a failure or cancellation the caller must call `abort`."""

    def __init__(
        self,
        clock: IReactorTime,
        background: Tasks,
        selection: Selection,
        failed: Callable[[bytes, Exception], None] | None = None,
    ) -> None:
        """Take the selection whose layout must stay good enough, and a scope for aborting.

        `failed` is told which server broke down, and how.
        """
        self._clock = clock
        self._background = background
        self._selection = selection
        self._failed = failed
        self._writers: dict[_Place, ShareWriter] = {}

    def add(self, server_id: bytes, writers: Mapping[int, ShareWriter]) -> None:
        """Take what one server gave."""
        for shnum, writer in writers.items():
            self._writers[server_id, shnum] = writer

    def drop(self, server_id: bytes, shnums: set[int] | None = None) -> None:
        """Abort a server's shares, all or those numbered, without waiting."""
        places = [
            place
            for place in self._writers
            if place[0] == server_id and (shnums is None or place[1] in shnums)
        ]
        if places:
            writers = [self._writers.pop(place) for place in places]
            _ = self._background.start(discard(self._clock, writers))

    def numbers(self) -> list[int]:
        """Return the numbers of the shares that are open somewhere."""
        return sorted({shnum for _, shnum in self._writers})

    async def write(self, offset: int, data: Sequence[Buffer] | Mapping[int, Buffer]) -> None:
        """Write to every open share with a number in `data` the bytes that stand there.

        Raises UploadUnhappinessError when so many servers fail that the rest is not enough.
        """
        some = data if isinstance(data, Mapping) else range(len(data))
        calls = {
            place: w.write(offset, data[place[1]])
            for place, w in self._writers.items()
            if place[1] in some
        }
        await self._each(calls)

    async def write_whole(self, data: Mapping[int, Buffer]) -> None:
        """Write every share at once and close it; raises as `write`."""

        async def whole(shnum: int, writer: ShareWriter) -> None:
            await writer.write(0, data[shnum])
            await writer.close()

        await self._each({place: whole(place[1], w) for place, w in self._writers.items()})
        self._writers.clear()

    async def close(self) -> None:
        """Return when all shares are durable; raises as `write`."""
        await self._each({place: w.close() for place, w in self._writers.items()})
        self._writers.clear()

    async def abort(self) -> None:
        """Abort what is open; takes at most the time of a query."""
        writers = list(self._writers.values())
        self._writers.clear()
        await discard(self._clock, writers)

    async def _each(self, calls: Mapping[_Place, Awaitable[None]]) -> None:
        answers = await ask_all(self._clock, CALL_TIMEOUT, calls.items())
        failed: dict[bytes, bool] = {}  # and whether for want of room
        for (server_id, _), answer in answers.items():
            if isinstance(answer, Exception):
                failed[server_id] = isinstance(answer, NoSpaceError)
                if self._failed is not None:
                    self._failed(server_id, answer)
        for server_id, full in failed.items():
            self._selection.failed(server_id, full=full)
            self.drop(server_id)
        if failed and not self._selection.is_enough():
            raise self._selection.error()
