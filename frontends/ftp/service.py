"""The FTP server: its listeners, and a protocol for each connection.

Knows endpoints and the protocol; touches the reactor it is given. Who may come in and how many is
the registry's business. The node makes one, calls `listen`, and stops it with the service tree:
listeners close first, idle sessions at once, running transfers after `transfer_grace`, and commits
are waited for up to `drain_timeout`.
"""

import os
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from twisted.application.service import Service
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import ServerFactory

from truckee.frontends.ftp.addresses import plain
from truckee.frontends.ftp.channels import ChannelReactor
from truckee.frontends.ftp.masquerade import Address, Masquerade, Name
from truckee.frontends.ftp.protocol import FTPProtocol
from truckee.frontends.ftp.session import Listener
from truckee.frontends.ftp.settings import FTPSettings
from truckee.frontends.ftp.tls import Identity, server_context
from truckee.frontends.gate.journal import Journal, SilentJournal
from truckee.frontends.gate.registry import SHUTTING_DOWN, Registry


class FTPServer(Service):
    """One FTP server over any number of endpoints."""

    def __init__(
        self,
        reactor: ChannelReactor,
        portal: Portal,
        settings: FTPSettings | None = None,
        registry: Registry | None = None,
        *,
        journal: Journal | None = None,
        identity: Identity | None = None,
        random: Callable[[int], bytes] = os.urandom,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Take what it needs; without a registry there are the usual limits."""
        self._reactor = reactor
        self._portal = portal
        self._settings = settings or FTPSettings()
        self._journal = journal or SilentJournal()
        self.registry = registry or Registry("ftp", journal=self._journal)
        self._identity = identity if self._settings.tls != "off" else None
        self._masquerade = _masquerade(reactor, self._settings.masquerade_address)
        self._random = random
        self._wall_clock = wall_clock
        self._ports: list[IListeningPort] = []

    # listening

    async def listen(self, endpoints: Sequence[IStreamServerEndpoint]) -> list[IAddress]:
        """Listen at every endpoint; return the addresses. CannotListenError closes them all."""
        if isinstance(self._masquerade, Name):
            self._masquerade.start()
        try:
            for endpoint in endpoints:
                factory = _Factory(self, self.new_listener())
                self._ports.append(await endpoint.listen(factory))
        except BaseException:
            await self._stop_listening()
            raise
        return [port.getHost() for port in self._ports]

    def new_listener(self) -> Listener:
        """Return what one more listener has: TLS sessions of one are nothing to another."""
        if self._identity is None:
            return Listener(None, self._masquerade)
        context = server_context(self._identity, self._settings.tls_max, self._random)
        return Listener(context, self._masquerade)

    async def _stop_listening(self) -> None:
        if isinstance(self._masquerade, Name):
            self._masquerade.stop()
        ports, self._ports = self._ports, []
        for port in ports:
            stopped = port.stopListening()
            if stopped is not None:
                await stopped

    # sessions

    @property
    def sessions(self) -> int:
        """How many control connections there are, or whose commands still run."""
        return self.registry.sessions

    def close_account(self, account: str, text: str = "the account was changed") -> int:
        """End every session of `account`, commits under way excepted; return how many."""
        return self.registry.close_account(account, text)

    def build(self, host: str, listener: Listener | None = None) -> FTPProtocol | None:
        """Return the protocol for a client at `host`; None to hang up on it without a word."""
        if self.registry.hang_up(host):
            return None
        protocol = FTPProtocol(
            self._reactor,
            self._portal,
            self._settings,
            self.registry,
            self._random,
            self._wall_clock,
            self._journal,
            listener or Listener(),
        )
        protocol.refusal = self.registry.enter(protocol, host)
        return protocol

    # the end

    def stopService(self) -> Deferred[None]:
        """Close everything; fires when no session runs any more, or the time is over.

        A second call fires at once: a node stops its frontends before the tree they hang in.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self.registry.closing:
            return succeed(None)
        self.registry.close()
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        await self._stop_listening()
        grace, timeout = self._settings.transfer_grace, self._settings.drain_timeout
        await self.registry.drain(self._reactor, SHUTTING_DOWN, grace, timeout)


def _masquerade(reactor: ChannelReactor, given: IPv4Address | str | None) -> Masquerade:
    return Name(reactor, given) if isinstance(given, str) else Address(given)


class _Factory(ServerFactory):
    noisy = False

    def __init__(self, server: FTPServer, listener: Listener) -> None:
        self._server = server
        self._listener = listener

    def buildProtocol(self, addr: IAddress | None) -> FTPProtocol | None:
        return self._server.build(plain(str(getattr(addr, "host", ""))), self._listener)
