"""One data connection: bytes in or out, with back-pressure, a watch on its pace, and a clear end.

Knows Twisted's transports; touches the clock it is given. What the upload rule rests on is here:
an end is *orderly* only if the peer closed and nothing broke; a reset, a timeout or an abort makes
every wait fail with TransferFailed.

Sizes: a socket is read up to a MiB at a time, pieces of half a MiB and more are handed on, and
beyond 4 MiB not taken the socket is not read.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol as Shape
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IProducer,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from truckee.frontends.ftp.pace import Pace

READ_SIZE = 1 << 20
PIECE = 1 << 19
MOST_HELD = 4 << 20
_TICKS = 12  # looks at the pace per data timeout


class TransferFailed(Exception):
    """The data connection, or the client, ended the transfer: the reply to give."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


class StreamTransport(ITCPTransport, IConsumer, IPushProducer):
    """All that a TCP connection is; for annotations."""


class _Buffered(Shape):
    """What a Twisted transport knows of its own unsent bytes."""

    dataBuffer: bytes
    offset: int
    _tempDataLen: int


def _unsent(transport: object) -> int:
    """Return how many bytes the kernel has not taken yet; 0 where the transport does not tell."""
    if not hasattr(transport, "_tempDataLen"):
        return 0
    t = cast("_Buffered", transport)
    return len(t.dataBuffer) - t.offset + t._tempDataLen


@implementer(IConsumer, IPushProducer)
class DataConnection(Protocol):
    """One data connection. Nothing is read from it before the first `receive`."""

    transport: StreamTransport

    def __init__(
        self, clock: IReactorTime, idle: float, made: Callable[["DataConnection"], None]
    ) -> None:
        self._clock = clock
        self._made = made
        self._idle = idle
        self._pace: Pace | None = None
        self._ticking: IDelayedCall | None = None
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._reading = False
        self._receiver = False
        self._failure: TransferFailed | None = None
        self._gone = False
        self._finishing = False
        self._producer: IPushProducer | None = None
        self._full = False
        self._waiter: Deferred[None] | None = None
        self.received = 0
        self.written = 0

    # state

    @property
    def failure(self) -> TransferFailed | None:
        """Why the connection is of no use any more, or None."""
        return self._failure

    @property
    def moved(self) -> int:
        """Return the bytes that came, or that the kernel has taken."""
        return self.received + self.written - _unsent(self.transport)

    def abort(self, failure: TransferFailed) -> None:
        """Reset the connection; every wait fails with `failure`. Again: nothing."""
        if self._failure is not None:
            return
        self._failure = failure
        self._pieces.clear()
        self._held = 0
        self._stop_ticking()
        producer, self._producer = self._producer, None
        if not self._gone:
            self.transport.unregisterProducer()
            self.transport.abortConnection()
        if producer is not None and producer is not self:
            producer.stopProducing()
        self._wake()

    # receiving

    async def receive(self) -> bytes:
        """Return the next piece, or b"" at an orderly end. Raises TransferFailed."""
        self._receiver = True
        self._start_ticking()
        while self._held < PIECE and not self._gone and self._failure is None:
            self._read(True)
            await self._wait()
        if self._failure is not None:
            raise self._failure
        return self._take()

    def _take(self) -> bytes:
        if not self._pieces:
            return b""
        taken = [self._pieces.popleft()]
        size = len(taken[0])
        while self._pieces and size + len(self._pieces[0]) <= READ_SIZE:
            taken.append(self._pieces.popleft())
            size += len(taken[-1])
        self._held -= size
        if self._held < MOST_HELD:
            self._read(True)
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _read(self, on: bool) -> None:
        if on == self._reading or self._gone or self._failure is not None:
            return
        self._reading = on
        if on:
            self.transport.resumeProducing()
        else:
            self.transport.pauseProducing()

    # sending

    async def send(self, data: bytes) -> None:
        """Write `data`; returns when there is room for more. Raises TransferFailed."""
        if self._failure is None and self._producer is None:
            self.registerProducer(self, True)
        self.write(data)
        while self._full and self._failure is None:
            await self._wait()
        if self._failure is not None:
            raise self._failure

    async def finish(self) -> None:
        """Close once everything is sent; returns when it is. Raises TransferFailed."""
        self._start_ticking()
        if self._producer is not None:
            self.unregisterProducer()
        self._finishing = True
        if not self._gone and self._failure is None:
            self.transport.loseConnection()
        while not self._gone and self._failure is None:
            await self._wait()
        if self._failure is not None:
            raise self._failure

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Take a push producer that writes what is to be sent."""
        if self._failure is not None or self._gone:
            if producer is not self:
                producer.stopProducing()
            return
        self._start_ticking()
        self._read(True)  # only to learn that the peer went away
        self._producer = cast("IPushProducer", producer)
        self.transport.registerProducer(self, streaming)

    def unregisterProducer(self) -> None:
        """Let the producer go; the connection stays open."""
        if self._producer is not None:
            self._producer = None
            self._full = False
            self.transport.unregisterProducer()

    def write(self, data: bytes) -> None:
        """Send `data` sometime."""
        if self._failure is None and not self._gone:
            self.written += len(data)
            self.transport.write(data if type(data) is bytes else bytes(data))

    def pauseProducing(self) -> None:
        """Note that the transport is full."""
        self._full = True
        if self._producer is not None and self._producer is not self:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Note that the transport has room again."""
        self._full = False
        if self._producer is not None and self._producer is not self:
            self._producer.resumeProducing()
        self._wake()

    def stopProducing(self) -> None:
        """Do nothing: connectionLost says how the transport ended."""

    # the transport's side

    def connectionMade(self) -> None:
        """Take the transport: nothing is read yet.

        The kernel's buffers stay as they are: a fixed size would end its own tuning of them.
        """
        self.transport.pauseProducing()
        transport = cast("_Tunable", self.transport)
        if hasattr(transport, "bufferSize"):
            transport.bufferSize = READ_SIZE
            transport.SEND_LIMIT = READ_SIZE
        self._made(self)

    def dataReceived(self, data: bytes) -> None:
        """Keep what came; what a client sends into a download is dropped."""
        if not self._receiver or self._failure is not None:
            return
        self.received += len(data)
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= MOST_HELD:
            self._read(False)
        if self._held >= PIECE:
            self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell an orderly end from another."""
        self._stop_ticking()
        unsent = _unsent(self.transport)
        self._gone = True
        orderly = isinstance(reason.value, ConnectionDone)
        if self._failure is None and not self._complete(orderly, unsent):
            self._failure = TransferFailed(426, "data connection lost, transfer aborted")
        producer, self._producer = self._producer, None
        if producer is not None and producer is not self:
            producer.stopProducing()
        self._wake()

    def _complete(self, orderly: bool, unsent: int) -> bool:
        if self._receiver:
            return orderly
        return orderly and self._finishing and not unsent

    # waiting, and the watch

    async def _wait(self) -> None:
        self._waiter = Deferred()
        await self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    def _start_ticking(self) -> None:
        if self._pace is None and not self._gone and self._failure is None:
            self._pace = Pace(self._idle, self._clock.seconds())
            self._ticking = self._clock.callLater(self._idle / _TICKS, self._tick)

    def _tick(self) -> None:
        self._ticking = self._clock.callLater(self._idle / _TICKS, self._tick)
        waiting = self._reading if self._receiver else self._full or _unsent(self.transport) > 0
        if self._pace is not None:
            verdict = self._pace.tick(self._clock.seconds(), self.moved, waiting)
            if verdict is not None:
                self.abort(TransferFailed(426, f"{verdict}, transfer aborted"))

    def _stop_ticking(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None


class _Tunable(Shape):
    """The sizes that Twisted's TCP transports keep as attributes."""

    bufferSize: int
    SEND_LIMIT: int
