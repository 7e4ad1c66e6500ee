"""The SFTP server: its listeners, and every session that lives.

Knows endpoints and sessions; touches the reactor it is given. The node makes one, calls `listen`,
and stops it with the service tree: listeners close first, sessions without work at once, those at
work after `transfer_grace`.
"""

from collections.abc import Callable, Sequence

from twisted.application.service import Service
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import ServerFactory

from truckee.frontends.gate import addresses
from truckee.frontends.gate.journal import Journal, SilentJournal
from truckee.frontends.gate.registry import SHUTTING_DOWN, Registry
from truckee.frontends.sftp.extensions import Space
from truckee.frontends.sftp.host_keys import HostKeys
from truckee.frontends.sftp.seam import Subsystem
from truckee.frontends.sftp.session import MakeSubsystem, SSHSession
from truckee.frontends.sftp.settings import SFTPSettings
from truckee.frontends.sftp.shell import SFTPUser
from truckee.frontends.sftp.subsystem import SFTPSubsystem


class SFTPServer(Service):
    """One SFTP server over any number of endpoints."""

    def __init__(
        self,
        reactor: IReactorTime,
        portal: Portal,
        settings: SFTPSettings | None,
        registry: Registry,
        host_keys: HostKeys,
        journal: Journal | None = None,
        *,
        space: Callable[[], Space | None] = lambda: None,
        make_subsystem: MakeSubsystem | None = None,
    ) -> None:
        """Take what it needs; `space` is for statvfs, `make_subsystem` for what is not SFTP."""
        self._reactor = reactor
        self._portal = portal
        self._settings = settings or SFTPSettings()
        self._registry = registry
        self.host_keys = host_keys
        self._journal = journal or SilentJournal()
        self._space = space
        self._make_subsystem = make_subsystem or self._sftp
        self._ports: list[IListeningPort] = []
        self._stopping = False

    async def listen(self, endpoints: Sequence[IStreamServerEndpoint]) -> list[IAddress]:
        """Listen at every endpoint; return the addresses. CannotListenError closes them all."""
        factory = _Factory(self)
        try:
            for endpoint in endpoints:
                self._ports.append(await endpoint.listen(factory))
        except BaseException:
            await self._stop_listening()
            raise
        return [port.getHost() for port in self._ports]

    async def _stop_listening(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            stopped = port.stopListening()
            if stopped is not None:
                await stopped

    def build(self, host: str) -> SSHSession | None:
        """Return the protocol for a client at `host`; None to hang up on it without a word."""
        if self._registry.hang_up(host):
            return None
        return SSHSession(
            self._reactor,
            self._portal,
            self._settings,
            self._registry,
            self.host_keys,
            self._journal,
            self._make_subsystem,
            host,
        )

    def _sftp(self, user: SFTPUser, host: str) -> Subsystem:
        return SFTPSubsystem(
            user.session, self._reactor, self._journal, host, room=user.room, space=self._space
        )

    @property
    def sessions(self) -> int:
        """How many connections there are, or whose commits still run."""
        return self._registry.sessions

    def accounts(self) -> set[str]:
        """Return the accounts that are logged in."""
        return self._registry.accounts()

    def close_account(self, account: str, text: str = "the account was changed") -> int:
        """End every session of `account`, commits under way excepted; return how many."""
        return self._registry.close_account(account, text)

    def stopService(self) -> Deferred[None]:
        """Close everything; fires when no session runs any more, or the time is over.

        A second call fires at once: a node stops its frontends before the tree they hang in.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._stopping:
            return succeed(None)
        self._stopping = True
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        await self._stop_listening()
        settings = self._settings
        grace, timeout = settings.transfer_grace, settings.drain_timeout
        await self._registry.drain(self._reactor, SHUTTING_DOWN, grace, timeout)


class _Factory(ServerFactory):
    noisy = False

    def __init__(self, server: SFTPServer) -> None:
        self._server = server

    def buildProtocol(self, addr: IAddress | None) -> SSHSession | None:
        host = str(getattr(addr, "host", ""))
        return self._server.build(str(addresses.parse(host) or host))
