"""The PROXY protocol: a load balancer says first for whom it connects (versions 1 and 2).

Knows both headers (https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt) and Twisted's
transports; touches nothing by itself. Only networks that the configuration names are listened to,
and from them the header is demanded: without one in time the connection is dropped. From anybody
else the same bytes are what any other bytes are, so that nobody can make up an address.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from truckee.core.errors import FormatError
from truckee.frontends.gate.addresses import Network, within

PATIENCE = 5.0
MOST_WAITING = 200
LONGEST_V1 = 107
LONGEST_V2 = 4096
_V1 = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) ([0-9]{1,5}) ([0-9]{1,5})"
)
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [ -~]*)?")
_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21

_log = Logger()


@dataclass(frozen=True, slots=True)
class Header:
    """What a proxy says of a connection."""

    size: int
    """How many bytes the header has; data follow."""
    source: str | None = None
    """The client's address; None when the proxy speaks for itself."""
    port: int = 0


def parse(data: bytes) -> Header | None:
    """Return the header that `data` begins with, None while it is not all there; FormatError."""
    if data[: len(_V2_SIGNATURE)] == _V2_SIGNATURE:
        return _parse_v2(data)
    if _V2_SIGNATURE.startswith(data):
        return None
    return _parse_v1(data)


def _parse_v1(data: bytes) -> Header | None:
    if not data.startswith(b"PROXY "[: len(data)]):
        raise FormatError("no PROXY header")
    line, end, _ = data[:LONGEST_V1].partition(b"\r\n")
    if not end:
        if len(data) >= LONGEST_V1:
            raise FormatError("a PROXY header without an end")
        return None
    size = len(line) + 2
    if _V1_UNKNOWN.fullmatch(line):
        return Header(size)
    found = _V1.fullmatch(line)
    if found is None:
        raise FormatError("a malformed PROXY header")
    kind, *addresses = [part.decode("ascii") for part in found.groups()[:3]]
    version = 4 if kind == "TCP4" else 6
    try:
        source, target = map(ipaddress.ip_address, addresses)
    except ValueError:
        raise FormatError("a malformed address in a PROXY header") from None
    port = int(found[4])
    if source.version != version or target.version != version or port > 65535:
        raise FormatError("a malformed address in a PROXY header")
    return Header(size, str(source), port)


def _parse_v2(data: bytes) -> Header | None:
    if len(data) < 16:
        return None
    command, family = data[12], data[13]
    length = int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY) or 16 + length > LONGEST_V2:
        raise FormatError("a PROXY header that is not understood")
    if len(data) < 16 + length:
        return None
    size, body = 16 + length, data[16 : 16 + length]
    if command == _LOCAL:
        return Header(size)
    if family == _TCP4 and length >= 12:
        return Header(size, str(ipaddress.IPv4Address(body[:4])), int.from_bytes(body[8:10], "big"))
    if family == _TCP6 and length >= 36:
        source = str(ipaddress.IPv6Address(body[:16]))
        return Header(size, source, int.from_bytes(body[32:34], "big"))
    raise FormatError("a PROXY header without addresses of TCP")


@implementer(IStreamServerEndpoint)
class ProxyEndpoint:
    """An endpoint whose listener hears the proxies of the configuration."""

    def __init__(
        self, inner: IStreamServerEndpoint, proxies: Sequence[Network], clock: IReactorTime
    ) -> None:
        """Take the real endpoint, who is believed, and a clock."""
        self._inner = inner
        self._proxies = proxies
        self._clock = clock

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen with a factory that gets the clients' own addresses."""
        factory = ProxyFactory(protocolFactory, self._proxies, self._clock)
        listening: Deferred[IListeningPort] = self._inner.listen(factory)
        return listening


class ProxyFactory(ServerFactory):
    """Asks the real factory for a protocol as soon as it is known who comes."""

    noisy = False

    def __init__(
        self, inner: IProtocolFactory, proxies: Sequence[Network], clock: IReactorTime
    ) -> None:
        """Take the real factory, who is believed, and a clock."""
        self.inner = inner
        self.clock = clock
        self.waiting: set[Introduction] = set()
        self._proxies = proxies

    def doStart(self) -> None:
        """Begin, with the real factory."""
        self.inner.doStart()
        super().doStart()  # type: ignore[no-untyped-call]

    def doStop(self) -> None:
        """End, with the real factory."""
        super().doStop()  # type: ignore[no-untyped-call]
        self.inner.doStop()

    def buildProtocol(self, addr: Any) -> IProtocol | None:  # type: ignore[override]  # noqa: ANN401
        """Return the protocol of a client, or one that waits for the header of a proxy."""
        if not within(str(getattr(addr, "host", "")), self._proxies):
            return self.inner.buildProtocol(addr)
        if len(self.waiting) >= MOST_WAITING:
            _log.warn("too many connections of proxies wait for a header")
            return None
        return Introduction(self)


class Introduction(Protocol):
    """A connection of a proxy: its header first, then everything is the real protocol's."""

    def __init__(self, factory: ProxyFactory) -> None:
        """Take whom to ask for the real protocol."""
        self._owner = factory
        self._head = b""
        self._protocol: IProtocol | None = None
        self._timer: IDelayedCall | None = None
        self._over = False

    def connectionMade(self) -> None:
        """Begin to wait."""
        self._owner.waiting.add(self)
        self._timer = self._owner.clock.callLater(PATIENCE, self._refuse, "no PROXY header in time")

    def dataReceived(self, data: bytes) -> None:
        """Take what came."""
        if self._protocol is not None:
            self._protocol.dataReceived(data)
            return
        if self._over:
            return
        self._head += data
        try:
            header = parse(self._head)
        except FormatError as error:
            self._refuse(str(error))
            return
        if header is not None:
            self._introduce(header)

    def _introduce(self, header: Header) -> None:
        self._stop_waiting()
        transport: Any = self.transport
        rest, self._head = self._head[header.size :], b""
        peer = transport.getPeer()
        if header.source is not None:
            kind = IPv6Address if ":" in header.source else IPv4Address
            peer = kind("TCP", header.source, header.port)
        protocol = self._owner.inner.buildProtocol(peer)
        if protocol is None:
            self._over = True
            transport.abortConnection()
            return
        self._protocol = protocol
        seen: Any = _Seen(transport, peer)
        protocol.makeConnection(seen)
        if rest:
            protocol.dataReceived(rest)

    def _refuse(self, why: str) -> None:
        self._over = True
        self._stop_waiting()
        self._head = b""
        transport: Any = self.transport
        _log.warn("a proxy at {peer}: {why}", peer=transport.getPeer().host, why=why)
        transport.abortConnection()

    def _stop_waiting(self) -> None:
        self._owner.waiting.discard(self)
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass it on."""
        self._over = True
        self._stop_waiting()
        if self._protocol is not None:
            self._protocol.connectionLost(reason)


class _Seen:
    """A transport whose peer is somebody else."""

    def __init__(self, transport: Any, peer: IAddress) -> None:  # noqa: ANN401
        self._transport = transport
        self._peer = peer
        directlyProvides(self, providedBy(transport))

    def getPeer(self) -> IAddress:
        return self._peer

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._transport, name)
