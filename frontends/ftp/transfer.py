"""One transfer from its 150 to its final reply: what it moves, and who may still stop it.

Knows data connections and the vfs handles. The rule it keeps: an upload is committed only after an
orderly end of the data, with the control connection alive a moment later, no ABOR and no size short
of ALLO; a commit that has begun runs to its end whatever the client does. Everything else abandons
the handle, and nothing is linked.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from truckee.frontends.ftp.channels import Channel
from truckee.frontends.ftp.data import DataConnection, TransferFailed
from truckee.frontends.ftp.line_ends import FromNetwork, ToNetwork
from truckee.frontends.vfs.paths import Path
from truckee.frontends.vfs.session import ReadHandle, WriteHandle

T = TypeVar("T")


def control_lost() -> TransferFailed:
    """Return a new failure for a client that is gone."""
    return TransferFailed(426, "control connection lost")


class Transfer:
    """One running transfer. Its coroutine and the control connection both hold it."""

    def __init__(
        self,
        channel: Channel,
        clock: IReactorTime,
        secure: Callable[[DataConnection], Coroutine[Deferred[Any], Any, None]] | None = None,
    ) -> None:
        """Take the way to a data connection, and what puts that under TLS."""
        self._channel = channel
        self._secure = secure
        self._clock = clock
        self._failure: TransferFailed | None = None
        self._waiting: Deferred[Any] | None = None
        self._closed = False
        self.connection: DataConnection | None = None
        self.committing = False
        self.path: Path | None = None
        """What is read or written, once that is known."""

    @property
    def moved(self) -> int:
        """Return how many bytes went over the data connection so far."""
        return self.connection.moved if self.connection is not None else 0

    @property
    def failure(self) -> TransferFailed | None:
        """Why the transfer is over, if it was stopped or its connection broke."""
        if self._failure is None and self.connection is not None:
            return self.connection.failure
        return self._failure

    def abort(self, failure: TransferFailed) -> None:
        """Stop the transfer with `failure` as its end; a commit that runs goes on."""
        if self.committing or self._closed or self._failure is not None:
            return
        self._failure = failure
        self._channel.close(failure)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(failure)

    def close(self) -> None:
        """Let go of the data connection; a reset unless it was finished."""
        if not self._closed:
            self._closed = True
            self._channel.close(self._failure or TransferFailed(426, "transfer ended"))

    async def connect(self) -> DataConnection:
        """Return the data connection, or raise TransferFailed."""
        self.check()
        self.connection = await self._channel.connect()
        self.check()
        if self._secure is not None:
            await self._secure(self.connection)
            self.check()
        return self.connection

    def check(self) -> None:
        """Raise TransferFailed if the transfer is over."""
        if self.failure is not None:
            raise self.failure

    async def unless_aborted(
        self, work: Coroutine[Deferred[Any], Any, T], late: Callable[[T], None] | None = None
    ) -> T:
        """Await `work`; when the transfer is aborted first, raise TransferFailed at once.

        The work then goes on by itself, and `late` takes what it returns: a grid that hangs does
        not hold up the reply to ABOR, and a handle that arrives too late is closed.
        """
        shared: Deferred[T] = Deferred()

        def arrived(result: T | Failure) -> None:
            if self._waiting is shared:
                self._waiting = None
                shared.callback(result)
            elif late is not None and not isinstance(result, Failure):
                late(result)

        self.check_aborted(work)
        self._waiting = shared
        _ = Deferred.fromCoroutine(work).addBoth(arrived)
        return await shared

    def check_aborted(self, work: Coroutine[Deferred[Any], Any, Any]) -> None:
        """Raise TransferFailed, and drop `work` unstarted, if the transfer was aborted."""
        if self._failure is not None:
            work.close()
            raise self._failure

    async def still_wanted(self, delay: float) -> None:
        """Look once more, a moment after the data ended, whether anybody still wants the upload.

        A killed client's data connection and control connection end almost together, and the data
        connection's end alone looks like success.
        """
        passed: Deferred[None] = Deferred()
        timer = self._clock.callLater(delay, passed.callback, None)

        async def moment() -> None:
            await passed

        try:
            await self.unless_aborted(moment())
        finally:
            if timer.active():
                timer.cancel()
        self.check()


async def receive_file(
    transfer: Transfer, connection: DataConnection, handle: WriteHandle, offset: int, text: bool
) -> int:
    """Write everything that comes into `handle` from `offset` on; return how much came."""
    ends = FromNetwork() if text else None
    came = 0
    while piece := await connection.receive():
        came += len(piece)
        if ends is not None:
            piece = ends.feed(piece)
        if piece:
            await transfer.unless_aborted(handle.write(offset, piece))
            offset += len(piece)
    if ends is not None and (rest := ends.finish()):
        await transfer.unless_aborted(handle.write(offset, rest))
    return came


async def send_file(
    transfer: Transfer, handle: ReadHandle, offset: int, text: bool, begun: Callable[[], None]
) -> None:
    """Send the file from `offset` on, and close the connection.

    `begun` is called (to say 150) once the first bytes are at hand: a file that cannot be read at
    all is told so at once, not by a data connection that breaks.
    """
    held = _HeldConsumer()
    sending = Deferred.fromCoroutine(handle.send_to(held, offset))
    _ = sending.addBoth(held.ended)
    try:
        await transfer.unless_aborted(held.beginning())
        begun()
        connection = await transfer.connect()
        held.open(_TextConsumer(connection) if text else connection)
        await transfer.unless_aborted(held.end())
        await connection.finish()
    except BaseException:
        held.stop()
        transfer.check()  # what the connection says comes before what the read says of it
        raise


@implementer(IConsumer, IPushProducer)
class _HeldConsumer:
    """Keeps the first bytes until there is a connection for them; its producer waits meanwhile."""

    def __init__(self) -> None:
        self._target: IConsumer | None = None
        self._producer: IPushProducer | None = None
        self._held: list[bytes] = []
        self._began: Deferred[None] | None = Deferred()
        self._ended: Deferred[None] = Deferred()
        self._result: object = None
        self._stopped = False
        self._paused = False

    async def beginning(self) -> None:
        """Return at the first bytes, or at the end of a file without any; raise its error."""
        if self._began is not None:
            await self._began
        if isinstance(self._result, Failure) and not self._held:
            self._result.raiseException()

    async def end(self) -> None:
        """Return when all is written, or raise what went wrong."""
        await self._ended
        if isinstance(self._result, Failure):
            self._result.raiseException()

    def ended(self, result: object) -> None:
        """Take the end of the reading."""
        self._result = result
        self._begin()
        self._ended.callback(None)

    def _begin(self) -> None:
        began, self._began = self._began, None
        if began is not None:
            began.callback(None)

    def open(self, target: IConsumer) -> None:
        """Let the bytes go to `target`."""
        self._target = target
        if self._producer is not None:
            target.registerProducer(cast("IProducer", self), True)
        held, self._held = self._held, []
        paused, self._paused = self._paused, False
        for data in held:
            target.write(data)
        if paused and not self._paused:
            self._paused = True
            self.resumeProducing()

    def stop(self) -> None:
        """Tell the producer, also one that comes later, that nobody wants its bytes."""
        self._stopped = True
        self._held.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self._stopped:
            producer.stopProducing()
            return
        self._producer = cast("IPushProducer", producer)
        if self._target is not None:
            self._target.registerProducer(cast("IProducer", self), streaming)

    def unregisterProducer(self) -> None:
        self._producer = None
        if self._target is not None:
            self._target.unregisterProducer()

    def write(self, data: bytes) -> None:
        if self._target is not None:
            self._target.write(data)
            return
        if self._stopped:
            return
        self._held.append(data)
        self.pauseProducing()
        self._begin()

    def pauseProducing(self) -> None:
        if self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        if self._producer is not None and self._paused:
            self._paused = False
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        self.stop()


@implementer(IConsumer)
class _TextConsumer:
    """Gives every line end its CR on the way to the data connection."""

    def __init__(self, connection: DataConnection) -> None:
        self._connection = connection
        self._ends = ToNetwork()

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._connection.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._connection.unregisterProducer()

    def write(self, data: bytes) -> None:
        self._connection.write(self._ends.feed(bytes(data)))
