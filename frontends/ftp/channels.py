"""How data connections come about: a listening port, or a connection to the client.

Knows Twisted's TCP; touches the reactor it is given. A port is bound to the address that the
control connection reached, takes one connection, from the control connection's peer and from nobody
else, and is closed at once after that; strangers who knock are hung up on. Active connections go
only to targets that `addresses.check_target` let pass.
"""

import os
from collections.abc import Callable, Iterator
from typing import Protocol as Shape

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IDelayedCall,
    IListeningPort,
    IReactorCore,
    IReactorTCP,
    IReactorTime,
)
from twisted.internet.protocol import ClientFactory, ServerFactory
from twisted.python.failure import Failure

from truckee.frontends.ftp.addresses import Target, normalise
from truckee.frontends.ftp.data import DataConnection, TransferFailed
from truckee.frontends.ftp.settings import FTPSettings


def no_connection() -> TransferFailed:
    """Return a new failure: one that is raised twice would keep the frames of the first time."""
    return TransferFailed(425, "no data connection")


class NoPortError(Exception):
    """No port is free for a data connection."""


class ChannelReactor(IReactorTCP, IReactorTime, IReactorCore):
    """All at once; for annotations."""


class Channel(Shape):
    """A data connection to be, used once."""

    async def connect(self) -> DataConnection:
        """Return the connection, or raise TransferFailed (425 after the time set for it)."""
        ...

    def close(self, failure: TransferFailed | None = None) -> None:
        """Give up, and reset the connection if it was made; a wait fails with `failure`."""
        ...


class _Channel:
    """What both kinds share: one connection, one who waits for it."""

    def __init__(self, reactor: ChannelReactor, settings: FTPSettings) -> None:
        self._reactor = reactor
        self._settings = settings
        self._connection: DataConnection | None = None
        self._failure: TransferFailed | None = None
        self._waiter: Deferred[None] | None = None

    def new_connection(self) -> DataConnection:
        return DataConnection(self._reactor, self._settings.data_timeout, self._made)

    def _made(self, connection: DataConnection) -> None:
        self._connection = connection
        if self._failure is not None:
            connection.abort(self._failure)
        self._wake()

    def close(self, failure: TransferFailed | None = None) -> None:
        if self._failure is None:
            self._failure = failure or no_connection()
        if self._connection is not None:
            self._connection.abort(self._failure)
        self._wake()

    async def connect(self) -> DataConnection:
        timer = self._reactor.callLater(self._settings.connect_timeout, self.close)
        try:
            while self._connection is None and self._failure is None:
                self._waiter = Deferred()
                await self._waiter
        finally:
            if timer.active():
                timer.cancel()
        if self._failure is not None or self._connection is None:
            raise self._failure or no_connection()
        return self._connection

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)


class PassiveChannel(_Channel):
    """A listening port. Closed after `data_timeout` if nobody came for it."""

    def __init__(self, reactor: ChannelReactor, settings: FTPSettings, peer: str) -> None:
        super().__init__(reactor, settings)
        self._peer = peer
        self._listening: IListeningPort | None = None
        self._unused: IDelayedCall | None = None

    def listen(self, host: str, random: Callable[[int], bytes] = os.urandom) -> int:
        """Listen at `host`; return the port. NoPortError when no port is free."""
        factory = _OneConnection(self)
        for port in _candidates(self._settings.passive_ports, random):
            try:
                self._listening = self._reactor.listenTCP(port, factory, 50, host)
            except CannotListenError:
                continue
            self._unused = self._reactor.callLater(self._settings.data_timeout, self.close)
            return _port_of(self._listening)
        raise NoPortError

    def admit(self, address: IAddress | None) -> DataConnection | None:
        """Return the connection for somebody who knocks, or None to hang up."""
        if self._listening is None or not _same(str(getattr(address, "host", "")), self._peer):
            return None
        self._stop_listening()
        return self.new_connection()

    def close(self, failure: TransferFailed | None = None) -> None:
        """Close the port, too."""
        self._stop_listening()
        super().close(failure)

    def _stop_listening(self) -> None:
        if self._unused is not None and self._unused.active():
            self._unused.cancel()
        port, self._listening = self._listening, None
        if port is not None:
            port.stopListening()


def _same(one: str, other: str) -> bool:
    """Return whether two texts from sockets are one machine; scoped addresses match as text."""
    known = normalise(one)
    return known == normalise(other) if known is not None else bool(one) and one == other


def _port_of(listening: IListeningPort) -> int:
    address = listening.getHost()
    if not isinstance(address, IPv4Address | IPv6Address):
        raise NoPortError
    return address.port


def _candidates(ports: range | None, random: Callable[[int], bytes]) -> Iterator[int]:
    """Give each port of the range once, from a place that cannot be guessed on."""
    if not ports:
        yield 0
        return
    first = int.from_bytes(random(8), "big") % len(ports)
    for i in range(len(ports)):
        yield ports[(first + i) % len(ports)]


class _OneConnection(ServerFactory):
    noisy = False

    def __init__(self, channel: PassiveChannel) -> None:
        self._channel = channel

    def buildProtocol(self, addr: IAddress | None) -> DataConnection | None:
        return self._channel.admit(addr)


class ActiveChannel(_Channel):
    """A connection that we make, once a transfer asks for it."""

    def __init__(
        self, reactor: ChannelReactor, settings: FTPSettings, target: Target, local: str
    ) -> None:
        super().__init__(reactor, settings)
        self._target = target
        self._local = local
        self._connector: IConnector | None = None

    async def connect(self) -> DataConnection:
        """Connect to the client."""
        if self._failure is None:
            self._connector = self._reactor.connectTCP(
                str(self._target.host),
                self._target.port,
                _Outgoing(self),
                timeout=self._settings.connect_timeout,
                bindAddress=(self._local, 0),
            )
        return await super().connect()

    def close(self, failure: TransferFailed | None = None) -> None:
        """Stop connecting, too."""
        super().close(failure)
        connector, self._connector = self._connector, None
        if connector is not None and self._connection is None:
            connector.stopConnecting()

    def failed(self) -> None:
        """Take the news that nobody answers there."""
        self._connector = None
        self.close()


class _Outgoing(ClientFactory):
    noisy = False

    def __init__(self, channel: ActiveChannel) -> None:
        self._channel = channel

    def buildProtocol(self, addr: IAddress | None) -> DataConnection | None:
        return self._channel.new_connection()

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._channel.failed()
