"""One data connection: bytes in or out, with back-pressure, a watch on its pace, and a clear end.

Knows Twisted's transports and our TLS engine; touches the clock it is given. What the upload rule
rests on is here: an end is *orderly* only if the peer closed and nothing broke; a reset, a timeout
or an abort makes every wait fail with TransferFailed. A peer that has shut down its own sending
side may still receive. Under TLS the peer says that it ends; one that closes without a word is
*cut off*, and the upload decides what that means.

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
    IHalfCloseableProtocol,
    IProducer,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from truckee.frontends.ftp.pace import Pace
from truckee.frontends.ftp.tls import Engine, TLSFailed

READ_SIZE = 1 << 20
_HANDSHAKE_READ_SIZE = 1 << 16
PIECE = 1 << 19
MOST_HELD = 4 << 20
_MOST_WITHHELD = 1 << 16
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


@implementer(IConsumer, IPushProducer, IHalfCloseableProtocol)
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
        self._engine: Engine | None = None
        self._securing = False
        self._withheld: list[bytes] = []
        self._ended = False
        self.cut_off = False
        """Whether a protected stream ended without the peer saying so."""
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
        return max(0, self.received + self.written - _unsent(self.transport))

    def abort(self, failure: TransferFailed) -> None:
        """Reset the connection; every wait fails with `failure`. Again: nothing.

        After the orderly end of an upload it is not reset: the client waits for our own end.
        """
        if self._failure is not None:
            return
        self._failure = failure
        self._pieces.clear()
        self._held = 0
        self._stop_ticking()
        producer, self._producer = self._producer, None
        if not self._gone and not (self._ended and self._receiver):
            self.transport.unregisterProducer()
            self.transport.abortConnection()
        if producer is not None and producer is not self:
            producer.stopProducing()
        self._wake()

    def refuse(self, failure: TransferFailed) -> None:
        """Close in order, as the peer may not have this connection; every wait fails."""
        if self._failure is None:
            self._close()
            self._failure = failure
            self._wake()

    # TLS

    async def secure(self, engine: Engine, seconds: float) -> None:
        """Shake hands as the server, whoever made the connection; TransferFailed (425) if not."""
        self._engine, self._securing = engine, True
        late = TransferFailed(425, "no TLS handshake in time")
        timer = self._clock.callLater(seconds, self.abort, late)
        self._set_sizes(_HANDSHAKE_READ_SIZE)
        self._read(True)
        try:
            while not engine.established and not self._gone and self._failure is None:
                await self._wait()
        finally:
            if timer.active():
                timer.cancel()
        self._securing = False
        if self._failure is not None:
            raise self._failure
        self._set_sizes(READ_SIZE)

    def _shake_hands(self, engine: Engine, data: bytes) -> None:
        engine.feed(data)
        if not engine.established:
            self.transport.write(engine.outgoing())
            return
        if engine.sends_unasked:
            self._withheld.append(engine.outgoing())
        else:
            self.transport.write(engine.outgoing())
        self._read(False)  # what has come already waits in the engine
        self._wake()

    def _decrypt(self, engine: Engine, data: bytes) -> bytes:
        engine.feed(data)
        plain = engine.receive()
        if answers := engine.outgoing():
            self._withheld.append(answers)
            if sum(map(len, self._withheld)) > _MOST_WITHHELD:
                raise TLSFailed("more to be answered than data")
        return plain

    def _take_in(self, data: bytes) -> None:
        """Take bytes of a protected connection."""
        engine = self._engine
        if engine is None:
            return
        try:
            if engine.established:
                self._keep(self._decrypt(engine, data))
            else:
                self._shake_hands(engine, data)
        except TLSFailed:
            self.transport.write(engine.outgoing())
            self._fail_tls()
            return
        if engine.ended:
            self._peer_ended()

    def _fail_tls(self) -> None:
        """Give up; during the handshake the client is told why, so it gets an orderly end."""
        if not self._securing:
            self.abort(TransferFailed(426, "TLS broke, transfer aborted"))
        elif self._failure is None:
            self._failure = TransferFailed(425, "TLS handshake failed")
            self.transport.loseConnection()
            self._wake()

    # receiving

    async def receive(self) -> bytes:
        """Return the next piece, or b"" at an orderly end. Raises TransferFailed."""
        if not self._receiver:
            self._receiver = True
            self._start_ticking()
            self._take_in(b"")
        while self._held < PIECE and not self._over:
            self._read(True)
            await self._wait()
        if self._failure is not None:
            raise self._failure
        return self._take()

    @property
    def _over(self) -> bool:
        return self._ended or self._gone or self._failure is not None

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
        if on == self._reading or self._over:
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
            self._close()
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
            if self._engine is None:
                self.transport.write(data if type(data) is bytes else bytes(data))
            else:
                self._write_protected(self._engine, data)

    def _write_protected(self, engine: Engine, data: bytes) -> None:
        try:
            self._flush_withheld()
            self.transport.write(engine.encrypt(data))
        except TLSFailed:
            self._fail_tls()

    def _flush_withheld(self) -> None:
        withheld, self._withheld = self._withheld, []
        if withheld:
            self.transport.write(b"".join(withheld))

    def _close(self) -> None:
        if self._engine is not None:
            self._flush_withheld()
            self.transport.write(self._engine.close())
        self.transport.loseConnection()

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
        self._set_sizes(READ_SIZE)
        self._made(self)

    def _set_sizes(self, size: int) -> None:
        transport = cast("_Tunable", self.transport)
        if hasattr(transport, "bufferSize"):
            transport.bufferSize = size
            transport.SEND_LIMIT = READ_SIZE

    def dataReceived(self, data: bytes) -> None:
        """Take what came."""
        if self._over:
            return
        if self._engine is None:
            self._keep(data)
        else:
            self._take_in(data)

    def _keep(self, data: bytes) -> None:
        """Keep what came; what a client sends into a download is dropped."""
        if not self._receiver or not data:
            return
        self.received += len(data)
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= MOST_HELD:
            self._read(False)
        if self._held >= PIECE:
            self._wake()

    def readConnectionLost(self) -> None:
        """Note that the peer has shut down its sending side; it may still receive."""
        if self._engine is not None and self._receiver and not self._over:
            self.cut_off = True
        if self._securing:
            self.transport.loseConnection()
        else:
            self._peer_ended()

    def writeConnectionLost(self) -> None:
        """Do nothing: we never shut down our sending side alone."""

    def _peer_ended(self) -> None:
        """Take the end of what the peer sends; for an upload it is the end of all."""
        if self._over:
            return
        self._ended = True
        self._reading = False
        if self._receiver:
            self._close()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell an orderly end from another."""
        self._stop_ticking()
        unsent = _unsent(self.transport)
        self._gone = True
        orderly = isinstance(reason.value, ConnectionDone)
        if self._failure is None and not self._complete(orderly, unsent):
            if self._securing:
                self._failure = TransferFailed(425, "TLS handshake failed")
            else:
                self._failure = TransferFailed(426, "data connection lost, transfer aborted")
        producer, self._producer = self._producer, None
        if producer is not None and producer is not self:
            producer.stopProducing()
        self._wake()

    def _complete(self, orderly: bool, unsent: int) -> bool:
        if self._receiver:
            if self._engine is not None and not self._ended:
                self.cut_off = True
            return orderly or self._ended
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
