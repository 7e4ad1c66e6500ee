"""The listener for whoever collects figures: ``GET /metrics``, and nothing else.

Knows as much of HTTP as that takes; touches the reactor it is given. One request per connection,
few and short headers, no body, half a minute for everything. Of what a client sends nothing is
looked at but the first line and, on a port of this machine alone, the name that it calls us by: a
page in a browser may reach this port under a name of its own.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IStreamServerEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from truckee.frontends.node.openmetrics import CONTENT_TYPE

HEADERS_WITHIN = 15.0
WHOLE = 30.0
MOST_CONNECTIONS = 16
MOST_HEADERS = 100
MOST_BYTES = 16384
_REQUEST = re.compile(rb"([A-Za-z]{1,20}) (\S{1,4096}) HTTP/1\.[0-9]")
_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    421: b"Misdirected Request",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
}

_log = Logger()

Reply = tuple[int, bytes]


def answer(lines: list[bytes], figures: Callable[[], str], *, only_local: bool) -> Reply:
    """Return status and body for the lines of a request."""
    request = _REQUEST.fullmatch(lines[0])
    headers = [line.partition(b":") for line in lines[1:]]
    if request is None or not all(colon and name.strip() == name for name, colon, _ in headers):
        return 400, b"not understood"
    if request[2].partition(b"?")[0] != b"/metrics":
        return 404, b"there is only /metrics"
    if request[1] != b"GET":
        return 405, b"only GET"
    hosts = [value.strip() for name, _, value in headers if name.lower() == b"host"]
    if only_local and not all(map(_is_ours, hosts)):
        return 421, b"not a name of this port"
    return 200, figures().encode("utf-8")


def _is_ours(host: bytes) -> bool:
    """Return whether the name that a client calls us by is an address, or this machine."""
    text = host.decode("latin-1").lower()
    name = text.rpartition(":")[0] if ":" in text and not text.endswith("]") else text
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


class _Connection(LineOnlyReceiver):
    """One client, one request."""

    delimiter = b"\n"
    MAX_LENGTH = 8192

    def __init__(self, owner: "_Factory") -> None:
        self._owner = owner
        self._lines: list[bytes] = []
        self._bytes = 0
        self._timers: list[IDelayedCall] = []

    def connectionMade(self) -> None:
        connections = self._owner.connections
        connections[self] = None
        later = self._owner.reactor.callLater
        self._timers = [later(HEADERS_WITHIN, self._too_late), later(WHOLE, self.abort)]
        if len(connections) > MOST_CONNECTIONS:
            oldest = next(iter(connections))  # who asks is answered at once: this one is idle
            del connections[oldest]
            oldest.abort()

    def lineReceived(self, line: bytes) -> None:
        line = line.removesuffix(b"\r")
        if self._answered:
            return
        if not line and self._lines:
            self._serve()
            return
        self._lines.append(line)
        self._bytes += len(line)
        if len(self._lines) > MOST_HEADERS + 1 or self._bytes > MOST_BYTES:
            self._send(431, b"too much")

    def lineLengthExceeded(self, line: bytes) -> None:
        if not self._answered:
            self._send(431, b"too long")

    @property
    def _answered(self) -> bool:
        return self.transport is None or bool(getattr(self.transport, "disconnecting", False))

    def _serve(self) -> None:
        owner = self._owner
        try:
            reply = answer(self._lines, owner.figures, only_local=owner.only_local)
        except Exception:  # noqa: BLE001 - the client gets an answer, the log the rest
            _log.failure("the figures could not be made")
            reply = (500, b"internal error")
        self._send(*reply)

    def _send(self, code: int, body: bytes) -> None:
        if self.transport is None:
            return
        kind = CONTENT_TYPE if code == 200 else b"text/plain; charset=utf-8"
        body = body if code == 200 else body + b"\n"
        head = [
            b"HTTP/1.1 %d %s" % (code, _REASONS[code]),
            b"Content-Type: " + kind,
            b"Content-Length: %d" % len(body),
            b"Cache-Control: no-store",
            b"X-Content-Type-Options: nosniff",
            b"Connection: close",
        ]
        if code == 405:
            head.append(b"Allow: GET")
        self.transport.write(b"\r\n".join([*head, b"", body]))
        self.transport.loseConnection()

    def _too_late(self) -> None:
        if not self._answered:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._owner.connections.pop(self, None)
        for timer in self._timers:
            if timer.active():
                timer.cancel()


class _Factory(ServerFactory):
    noisy = False

    def __init__(self, reactor: Any, figures: Callable[[], str], *, only_local: bool) -> None:  # noqa: ANN401
        self.only_local = only_local
        self.reactor = reactor
        self.figures = figures
        self.connections: dict[_Connection, None] = {}  # the oldest first

    def buildProtocol(self, addr: IAddress | None) -> _Connection:
        return _Connection(self)


class MetricsPort:
    """The listening side."""

    def __init__(
        self,
        reactor: Any,  # noqa: ANN401
        figures: Callable[[], str],
        *,
        only_local: bool = True,
    ) -> None:
        """Take what makes the text of an answer, and whether only this machine reaches the port."""
        self._factory = _Factory(reactor, figures, only_local=only_local)
        self._ports: list[IListeningPort] = []

    async def listen(self, endpoints: Sequence[IStreamServerEndpoint]) -> list[IAddress]:
        """Listen at every endpoint; return the addresses. CannotListenError."""
        for endpoint in endpoints:
            self._ports.append(await endpoint.listen(self._factory))
        return [port.getHost() for port in self._ports]

    async def stop(self) -> None:
        """Close the port and every connection."""
        ports, self._ports = self._ports, []
        for port in ports:
            stopped: Deferred[None] | None = port.stopListening()
            if stopped is not None:
                await stopped
        for connection in list(self._factory.connections):
            connection.abort()
