"""The FTP server: its listeners, its limits, and every session that lives.

Knows endpoints and the protocol; touches the reactor it is given. The node makes one, calls
`listen`, and stops it with the service tree: listeners close first, idle sessions at once, running
transfers after `transfer_grace`, and commits are waited for up to `drain_timeout`.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence

from twisted.application.service import Service
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from truckee.frontends.ftp.addresses import is_loopback, plain
from truckee.frontends.ftp.channels import ChannelReactor
from truckee.frontends.ftp.protocol import FTPProtocol, Registry
from truckee.frontends.ftp.settings import FTPSettings

ANONYMOUS = "anonymous"
"""The account that strangers get where they are let in; no other has this name there."""

ANONYMOUS_PER_ADDRESS = 5

_log = Logger()


class FTPServer(Service, Registry):
    """One FTP server over any number of endpoints."""

    def __init__(
        self,
        reactor: ChannelReactor,
        portal: Portal,
        settings: FTPSettings | None = None,
        *,
        may_connect: Callable[[str], bool] = lambda host: True,
        on_refusal: Callable[[str], object] = lambda host: None,
        random: Callable[[int], bytes] = os.urandom,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Take what it needs; `may_connect` says whether an address is free of bans.

        `on_refusal` is told the address of a connection that hits a limit of its own address.
        """
        self._reactor = reactor
        self._portal = portal
        self._settings = settings or FTPSettings()
        self._may_connect = may_connect
        self._on_refusal = on_refusal
        self._random = random
        self._wall_clock = wall_clock
        self._ports: list[IListeningPort] = []
        self._sessions: dict[FTPProtocol, str] = {}
        self._stopping = False
        self._emptied: Deferred[None] | None = None

    # listening

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

    # sessions

    @property
    def sessions(self) -> int:
        """How many control connections there are, or whose commands still run."""
        return len(self._sessions)

    def accounts(self) -> set[str]:
        """Return the accounts that are logged in."""
        return {p.account for p in self._sessions if p.account is not None}

    def close_account(self, account: str, text: str = "the account was changed") -> int:
        """End every session of `account`, commits under way excepted; return how many."""
        found = [p for p in self._sessions if p.account == account]
        for protocol in found:
            protocol.shut_down(text, now=True)
        return len(found)

    def build(self, host: str) -> FTPProtocol | None:
        """Return the protocol for a client at `host`; None to hang up on it without a word.

        That is for those who are banned, and for a flood faster than refusals can be sent.
        """
        if not self._may_connect(host) or len(self._sessions) >= 2 * self._settings.max_sessions:
            return None
        protocol = FTPProtocol(
            self._reactor, self._portal, self._settings, self, self._random, self._wall_clock
        )
        protocol.refusal = self._refusal(host)
        self._sessions[protocol] = host
        _log.info("ftp connection from {peer}", peer=host)
        return protocol

    def _refusal(self, host: str) -> str:
        """Return why one more connection is too many, or ""."""
        s = self._settings
        if self._stopping:
            return "the node is shutting down"
        staying = [p for p in self._sessions if not p.leaving]
        if len(staying) >= s.max_sessions:
            return "too many sessions"
        strangers = [p for p in staying if p.account is None]
        if len(strangers) >= s.max_unauthenticated and not self._evict(strangers):
            return "too many sessions without a login"
        same = sum(h == host for h in self._sessions.values())
        if same >= s.max_sessions_per_ip and not self._is_exempt(host):
            self._on_refusal(host)
            return "too many sessions from your address"
        return ""

    def _is_exempt(self, host: str) -> bool:
        return self._settings.throttle_exempt_loopback and is_loopback(host)

    def _evict(self, strangers: list[FTPProtocol]) -> bool:
        """Make room for somebody new; return whether that worked.

        Who connects and says nothing would otherwise hold every place for `login_grace`. The oldest
        goes that is not in the middle of a command, from the address with the most of them.
        """
        idle = [p for p in strangers if not p.busy]
        if not idle:
            return False
        ((crowd, _),) = Counter(self._sessions[p] for p in idle).most_common(1)
        victim = next(p for p in idle if self._sessions[p] == crowd)
        victim.shut_down("others wait for a place, log in faster")
        return True

    def admit(self, protocol: FTPProtocol, account: str, limit: int | None) -> bool:
        """Return whether `account` stays within its number of sessions with this one."""
        if self._settings.anonymous and account == ANONYMOUS:
            host = self._sessions[protocol]
            same = sum(p.account == account and h == host for p, h in self._sessions.items())
            if same > ANONYMOUS_PER_ADDRESS and not self._is_exempt(host):
                return False
        count = sum(p.account == account for p in self._sessions)
        most = self._settings.max_sessions_per_user
        if limit is not None:
            most = min(most, limit)
        return not self._stopping and count <= most

    def ended(self, protocol: FTPProtocol) -> None:
        """Forget a session."""
        self._sessions.pop(protocol, None)
        if not self._sessions and self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    # the end

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
        for protocol in list(self._sessions):
            protocol.shut_down("the node is shutting down")
        if not self._sessions:
            return
        emptied = self._emptied = Deferred()
        over: Deferred[None] = Deferred()
        timers: list[IDelayedCall] = [
            self._reactor.callLater(self._settings.transfer_grace, self._end_transfers),
            self._reactor.callLater(self._settings.drain_timeout, over.callback, None),
        ]
        await DeferredList([emptied, over], fireOnOneCallback=True)
        for timer in timers:
            if timer.active():
                timer.cancel()
        if self._sessions:
            _log.warn("ftp: {count} sessions did not end in time", count=len(self._sessions))

    def _end_transfers(self) -> None:
        for protocol in list(self._sessions):
            protocol.shut_down("the node is shutting down", now=True)


class _Factory(ServerFactory):
    noisy = False

    def __init__(self, server: FTPServer) -> None:
        self._server = server

    def buildProtocol(self, addr: IAddress | None) -> FTPProtocol | None:
        return self._server.build(plain(str(getattr(addr, "host", ""))))
