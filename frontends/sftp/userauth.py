"""Logins on one connection: the service ssh-userauth, RFC 4252.

Knows the portal; touches nothing by itself. Keys and, where the settings say so, passwords are
taken; each request is answered before the next is read. A key is confirmed (PK_OK) only when it
would open the account. Failures are delayed by the checkers; after `max_auth_attempts` of them the
connection ends. What goes wrong on our side is never a login and never a failure of the client.
"""

from collections.abc import Callable
from typing import Protocol, cast

from twisted.conch.error import ValidPublicKey
from twisted.conch.interfaces import IConchUser
from twisted.cred.error import LoginFailed
from twisted.cred.portal import Portal
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from truckee.auth.credentials import PasswordLogin, name_of
from truckee.auth.ssh_logins import KeyLogin
from truckee.core.errors import TemporaryLoginError
from truckee.core.tasks import Tasks
from truckee.frontends.gate.journal import Journal, Method, Outcome
from truckee.frontends.sftp.messages import (
    Line,
    Message,
    ProtocolError,
    Reader,
    Reason,
    name_list,
    string,
)
from truckee.frontends.sftp.negotiation import USER_KEY_ALGORITHMS
from truckee.frontends.sftp.settings import SFTPSettings
from truckee.frontends.sftp.shell import Peer, SFTPUser

CONNECTION = b"ssh-connection"

_log = Logger()


class Entrance(Line, Protocol):
    """What a login asks of the session it is for."""

    def hold(self) -> None:
        """Take no more messages until `release`."""
        ...

    def release(self) -> None:
        """Go on after `hold`."""
        ...

    def admit(self, account: str, limit: int | None) -> bool:
        """Return whether that account may have one more session."""
        ...

    def logged_in(self, user: SFTPUser, logout: Callable[[], object]) -> None:
        """Take the user; from now on there are channels. Called once, last."""
        ...


class UserAuth:
    """The login of one connection."""

    def __init__(
        self,
        entrance: Entrance,
        session_id: bytes,
        host: str,
        portal: Portal,
        settings: SFTPSettings,
        journal: Journal,
    ) -> None:
        """Take the session that asks, the number of its keys, and where it comes from."""
        self._entrance = entrance
        self._session_id = session_id
        self._host = host
        self._portal = portal
        self._settings = settings
        self._journal = journal
        self._tasks = Tasks()
        self._failures = 0.0
        self._asked_for_methods = False

    @property
    def busy(self) -> bool:
        """Whether a login is being checked."""
        return len(self._tasks) > 0

    def received(self, number: int, message: Reader) -> bool:
        """Take a message of the client; return whether it is known. ProtocolError ends all."""
        if number != Message.USERAUTH_REQUEST:
            return False
        name, service, method = message.string(), message.string(), message.string()
        if service != CONNECTION:
            raise ProtocolError("no such service", Reason.SERVICE_NOT_AVAILABLE)
        if method == b"publickey":
            self._key(name, service, message)
        elif method == b"password" and self._settings.password_auth:
            self._password(name, message)
        else:
            self._other()
        return True

    @property
    def has_unsent(self) -> bool:
        """Return False: there is no data yet."""
        return False

    def flow(self) -> None:
        """Do nothing: there is no data yet."""

    def lost(self) -> None:
        """Forget the login that is being checked."""
        self._tasks.cancel()

    def _other(self) -> None:
        """Answer a method that there is not; the first question what there is costs nothing."""
        weight = 0.5 if self._asked_for_methods else 0.0
        self._asked_for_methods = True
        self._failed(weight)

    def _password(self, name: bytes, message: Reader) -> None:
        changing, password = message.boolean(), message.string()
        if changing:
            self._failed(1)
            return
        login = PasswordLogin(name, password, self._host, "sftp")
        self._check(login, name, "password", None)

    def _key(self, name: bytes, service: bytes, message: Reader) -> None:
        signed_too, algorithm, blob = message.boolean(), message.string(), message.string()
        signed = signature = None
        if signed_too:
            signature = message.string()
            signed = b"".join(
                (
                    string(self._session_id),
                    bytes((Message.USERAUTH_REQUEST,)),
                    *map(string, (name, service, b"publickey")),
                    b"\1",
                    *map(string, (algorithm, blob)),
                )
            )
        if algorithm not in USER_KEY_ALGORITHMS:
            self._failed(1 if signed_too else 0.5)
            return
        login = KeyLogin(name, algorithm, blob, signed, signature, self._host, "sftp")
        self._check(login, name, "key", None if signed_too else (algorithm, blob))

    def _check(
        self,
        login: PasswordLogin | KeyLogin,
        name: bytes,
        method: Method,
        question: tuple[bytes, bytes] | None,
    ) -> None:
        self._entrance.hold()
        _ = self._tasks.start(self._answer(login, name_of(name), method, question))

    async def _answer(
        self,
        login: PasswordLogin | KeyLogin,
        name: str,
        method: Method,
        question: tuple[bytes, bytes] | None,
    ) -> None:
        try:
            outcome = await self._login(login, question)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - an unexpected error must never become a login
            _log.failure("a login could not be finished")
            self._entrance.disconnect(Reason.BY_APPLICATION, "the login could not be finished")
            outcome = "temporary"
        if question is None:
            self._journal.login("sftp", self._host, name, method, outcome)
        match outcome:
            case "denied":
                self._failed(1 if question is None else 0.5)
            case "temporary":
                reason = Reason.SERVICE_NOT_AVAILABLE
                self._entrance.disconnect(reason, "the login cannot be checked now")
            case "limit":
                reason = Reason.TOO_MANY_CONNECTIONS
                self._entrance.disconnect(reason, "too many sessions of this account")
            case "ok":
                pass
        self._entrance.release()

    async def _login(
        self, login: PasswordLogin | KeyLogin, question: tuple[bytes, bytes] | None
    ) -> Outcome:
        """Ask the portal, and tell the client of a success."""
        mind = Peer(self._host)
        try:
            _, avatar, logout = await self._portal.login(login, mind, IConchUser)
        except ValidPublicKey:
            if question is None:
                return "denied"
            self._entrance.sendPacket(Message.USERAUTH_PK_OK, b"".join(map(string, question)))
            return "ok"
        except LoginFailed:
            return "denied"
        except TemporaryLoginError:
            return "temporary"
        if question is not None:  # no checker may let in somebody who has signed nothing
            logout()
            return "denied"
        user = cast("SFTPUser", avatar)
        if not self._entrance.admit(user.session.account, user.max_sessions):
            logout()
            return "limit"
        self._entrance.sendPacket(Message.USERAUTH_SUCCESS, b"")
        self._entrance.logged_in(user, logout)
        return "ok"

    def _failed(self, weight: float) -> None:
        """Say no; the last time, goodbye."""
        self._failures += weight
        if self._failures >= self._settings.max_auth_attempts:
            self._entrance.disconnect(Reason.NO_MORE_AUTH_METHODS, "too many failed logins")
            return
        methods = [b"publickey", b"password"] if self._settings.password_auth else [b"publickey"]
        self._entrance.sendPacket(Message.USERAUTH_FAILURE, name_list(methods) + b"\0")
