"""One SFTP connection from the first byte to the last: who it is, and how long it may take.

Knows the registry of sessions and the portal; touches nothing but what its transport touches. A
connection logs in (`UserAuth`), then has channels (`Connection`); it ends when the client goes,
when it takes too long, or when the node wants it to.
"""

from collections.abc import Callable

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from truckee.frontends.gate.journal import Journal
from truckee.frontends.gate.registry import Registry
from truckee.frontends.sftp.connection import Connection
from truckee.frontends.sftp.host_keys import HostKeys
from truckee.frontends.sftp.messages import Message, ProtocolError, Reason, string
from truckee.frontends.sftp.seam import Subsystem
from truckee.frontends.sftp.settings import SFTPSettings
from truckee.frontends.sftp.shell import SFTPUser
from truckee.frontends.sftp.stages import Stage
from truckee.frontends.sftp.transport import SSHTransport
from truckee.frontends.sftp.userauth import UserAuth

USERAUTH = b"ssh-userauth"
PATIENCE = 0.25
"""How often, in seconds, a session that is to end is looked at while it works."""

_log = Logger()

MakeSubsystem = Callable[[SFTPUser, str], Subsystem]


class SSHSession(SSHTransport):
    """One connection; what the registry counts."""

    def __init__(
        self,
        clock: IReactorTime,
        portal: Portal,
        settings: SFTPSettings,
        registry: Registry,
        host_keys: HostKeys,
        journal: Journal,
        make_subsystem: MakeSubsystem,
        host: str,
    ) -> None:
        """Take what the server has, and the client's address."""
        super().__init__(clock, host_keys, settings)
        self.account: str | None = None
        self.leaving = False
        self._portal = portal
        self._registry = registry
        self._journal = journal
        self._make_subsystem = make_subsystem
        self._host = host
        self._refusal = ""
        self._logout: Callable[[], object] | None = None
        self._login: UserAuth | None = None
        self._connection: Connection | None = None
        self._last_work = 0.0

    # coming and going

    def connectionMade(self) -> None:
        """Enter the registry, and greet."""
        self._refusal = self._registry.enter(self, self._host)
        self.leaving = bool(self._refusal)
        self.timer("login", self.settings.login_grace, self._too_late)
        super().connectionMade()

    def _too_late(self) -> None:
        self.disconnect(Reason.BY_APPLICATION, "no login in time")

    def version_received(self) -> None:
        """Turn the client away, if it must be, now that it listens."""
        if self._refusal:
            self.disconnect(Reason.TOO_MANY_CONNECTIONS, self._refusal)

    def disconnect(self, reason: Reason, text: str) -> None:
        """Say why, and end the connection."""
        self.leaving = True
        super().disconnect(reason, text)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Let go of everything open, then log out, then leave the registry."""
        self.leaving = True
        super().connectionLost(reason)
        self._login = self._connection = None  # which know this session: no circle stays behind
        logout, self._logout = self._logout, None
        result = logout() if logout is not None else None
        if isinstance(result, Deferred):
            _ = result.addBoth(lambda _: self._registry.left(self))
        else:
            self._registry.left(self)

    @property
    def busy(self) -> bool:
        """Whether a login is checked, or requests are served."""
        login = self._login is not None and self._login.busy
        return login or (self._connection is not None and self._connection.busy)

    def shut_down(self, text: str, *, now: bool = False) -> None:
        """End the connection: at once, or when nothing is being done any more."""
        self.leaving = True
        if now or not self.busy:
            self.disconnect(Reason.BY_APPLICATION, text)
        elif not self.ended:
            self.timer("leaving", PATIENCE, lambda: self.shut_down(text))

    # login

    def service_requested(self, name: bytes) -> None:
        """Start the login; there is nothing else to start."""
        if name != USERAUTH or self.sessionID is None:
            raise ProtocolError("no such service", Reason.SERVICE_NOT_AVAILABLE)
        self.stage = Stage.LOGGING_IN
        self.upper = self._login = UserAuth(
            self, self.sessionID, self._host, self._portal, self.settings, self._journal
        )
        self.sendPacket(Message.SERVICE_ACCEPT, string(name))

    def admit(self, account: str, limit: int | None) -> bool:
        """Return whether that account may have one more session."""
        return self._registry.admit(self, account, limit)

    def logged_in(self, user: SFTPUser, logout: Callable[[], object]) -> None:
        """Take the user: from now on there are channels."""
        if self.ended:
            logout()
            return
        self.stop_timer("login")
        self.account = user.session.account
        self._logout = logout
        self._login = None
        self.upper = self._connection = Connection(
            self, lambda: self._make_subsystem(user, self._host), self.settings.max_channels
        )
        self.stage = Stage.WORKING
        self.large_packets()
        self._watch(0)
        if self.settings.idle_timeout:
            self._last_work = self.clock.seconds()
            self._watch_idleness()

    # silence

    def worked(self) -> None:
        """Take note that something was asked for or answered."""
        self._last_work = self.clock.seconds()

    def _watch_idleness(self) -> None:
        """End a session on which nothing is asked for; asking for a sign of life does not count."""
        if self.busy:
            self.worked()
        left = self._last_work + self.settings.idle_timeout - self.clock.seconds()
        if left <= 0:
            self.disconnect(Reason.BY_APPLICATION, "nothing was asked for too long")
        else:
            self.timer("idleness", left, self._watch_idleness)

    def _watch(self, asked: int) -> None:
        """Ask a silent client for a sign of life; give up after some questions."""
        settings = self.settings
        now = self.clock.seconds()
        if not self.is_waiting:
            self.last_taken = now
        if self.heard:
            asked = 0
        left = self.last_received + settings.keepalive - now
        if now - self.last_taken >= settings.unread_timeout:
            self._drop("reads nothing")
            return
        if left <= 0 or asked:
            if asked >= settings.keepalive_count:
                self._drop("is silent")
                return
            asked += 1
            self.heard = False
            self.sendPacket(Message.GLOBAL_REQUEST, string(b"keepalive@openssh.com") + b"\1")
            left = settings.keepalive
        self.timer("silence", left, lambda: self._watch(asked))

    def _drop(self, why: str) -> None:
        _log.info("sftp: {peer} {why}, connection dropped", peer=self._host, why=why)
        self.transport.abortConnection()
