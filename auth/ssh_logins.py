"""Logins by SSH key: what SSH hands to the portal, and the checker for it.

Knows the account table, its options and the throttle; the signature itself is checked behind the
`Cpu` door it is given (`truckee.auth.signatures`), so that nobody waits behind bcrypt. A key is
confirmed only to somebody who names an account that it may enter now, by this protocol and from
this address; every refusal has one text, and comes after the same delay for every name.

A question whether a key would do, which has no signature, is not counted by the throttle whatever
the name is: it guesses nothing, an agent may ask for a dozen keys, and a ban that came sooner for
unknown names would tell which ones exist. A no to it comes after half the delay of a failed login,
as it counts for half a login of the connection.
"""

import hmac
from collections.abc import Callable
from datetime import date

from twisted.conch.error import ValidPublicKey
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ISSHPrivateKey
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from truckee.auth import signatures
from truckee.auth.accounts import Account, today
from truckee.auth.checkers import REFUSED, Accounts, granted, may_enter
from truckee.auth.credentials import name_of
from truckee.auth.realm import FTPAvatarID
from truckee.auth.throttle import Throttle
from truckee.core.cpu import Cpu
from truckee.core.errors import TemporaryLoginError

QUESTION = 0.5  # what a key that is not signed with counts, of a login

_log = Logger()


@implementer(ISSHPrivateKey)
class KeyLogin:
    """A name, a key and, unless it is only asked whether the key would do, a signature by it."""

    __slots__ = ("algorithm", "blob", "protocol", "signature", "signed", "source", "username")

    def __init__(
        self,
        username: str | bytes,
        algorithm: bytes,
        blob: bytes,
        signed: bytes | None,
        signature: bytes | None,
        source: str,
        protocol: str = "sftp",
    ) -> None:
        """Take the fields of the request; `signed` is all that the signature must be over."""
        self.username = name_of(username)
        self.algorithm = algorithm
        self.blob = blob
        self.signed = signed
        self.signature = signature
        self.source = source
        self.protocol = protocol

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def _normalised(credentials: object) -> KeyLogin:
    """Return the login; Twisted's own class comes from nowhere."""
    if isinstance(credentials, KeyLogin):
        return credentials
    return KeyLogin(
        getattr(credentials, "username", ""),
        getattr(credentials, "algName", b""),
        getattr(credentials, "blob", b""),
        getattr(credentials, "sigData", None),
        getattr(credentials, "signature", None),
        str(getattr(credentials, "peer", "")),
    )


@implementer(ICredentialsChecker)
class PublicKeyChecker:
    """Checks a name and a key against the account file."""

    credentialInterfaces = (ISSHPrivateKey,)

    def __init__(
        self,
        accounts: Accounts,
        cpu: Cpu,
        throttle: Throttle,
        clock: IReactorTime,
        today: Callable[[], date] = today,
    ) -> None:
        """Take the accounts, a door for signatures, the throttle, the clock of delays, the date."""
        self._accounts = accounts
        self._cpu = cpu
        self._throttle = throttle
        self._clock = clock
        self._today = today

    def requestAvatarId(self, credentials: object) -> Deferred[FTPAvatarID]:  # type: ignore[override]
        """Return the avatar id; fail with UnauthorizedLogin or TemporaryLoginError.

        Without a signature it always fails: with ValidPublicKey when signing is worth while.
        """
        return Deferred.fromCoroutine(self._answer(_normalised(credentials)))

    async def _answer(self, login: KeyLogin) -> FTPAvatarID:
        try:
            return await self._login(login)
        except (UnauthorizedLogin, TemporaryLoginError, CancelledError):
            raise
        except Exception:  # noqa: BLE001 - an unexpected error must never become a login
            _log.failure("a login by key could not be checked")
            raise TemporaryLoginError("the login could not be checked") from None

    async def _login(self, login: KeyLogin) -> FTPAvatarID:
        if self._throttle.is_banned(login.source):
            raise UnauthorizedLogin(REFUSED)
        await self._accounts.refresh()
        if login.signature is None or login.signed is None:
            if self._entitled(login) is not None:
                raise ValidPublicKey
            delay = self._throttle.delay(login.source, login.username) * QUESTION
            await deferLater(self._clock, delay)
            raise UnauthorizedLogin(REFUSED)
        if await self._is_signed(login, login.signed, login.signature):
            # once more: the file may have changed while the signature was looked at
            account = self._entitled(login)
            if account is not None:
                return granted(self._accounts, account)
        known = self._accounts.table.mentions(login.username)
        delay = self._throttle.failed(login.source, login.username, known=known)
        await deferLater(self._clock, delay)
        raise UnauthorizedLogin(REFUSED)

    async def _is_signed(self, login: KeyLogin, signed: bytes, signature: bytes) -> bool:
        account = self._entitled(login)
        if account is None:
            return False
        return await self._cpu.run(
            signatures.verify,
            login.algorithm,
            login.blob,
            signed,
            signature,
            verified=account.options.verify_required,
        )

    def _entitled(self, login: KeyLogin) -> Account | None:
        """Return the account that whoever holds this key may enter now, or None."""
        account = self._accounts.table.get(login.username)
        if account is None or not signatures.fits(login.algorithm, login.blob):
            return None
        if not any(hmac.compare_digest(key.blob, login.blob) for key in account.keys):
            return None
        return account if may_enter(self._accounts, account, login, self._today()) else None
