"""Who may come in: passwords against the account file, and nobody at all.

Knows twisted.cred, the account table, the throttle and the queue in front of bcrypt; touches the
worker threads that bcrypt runs in. A name that is unknown, locked, expired, without a password, or
not allowed by this protocol or from this address costs exactly one bcrypt check and gets the same
answer as a wrong password. What goes wrong unexpectedly is a TemporaryLoginError, never a login.
Another program may know further names: it is asked only about those that the file does not mention.
"""

import hmac
from collections.abc import Callable, Sequence
from datetime import date
from typing import Protocol

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IAnonymous, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import Interface, implementer, providedBy

from truckee.auth.accounts import (
    Account,
    AccountTable,
    BcryptHash,
    PlaintextDigest,
    plaintext_digest,
    today,
)
from truckee.auth.accounts import Options as AccountOptions
from truckee.auth.credentials import PasswordLogin, normalised
from truckee.auth.passwords import DEFAULT_COST, MAXIMUM_PASSWORD, PasswordPool, dummy_hash
from truckee.auth.realm import FTPAvatarID
from truckee.auth.throttle import Throttle
from truckee.core.errors import TemporaryLoginError
from truckee.core.formats.caps import DirectoryCap

REFUSED = "login failed"

_log = Logger()


class Accounts(Protocol):
    """What the checker needs of the account file (`truckee.auth.account_file`)."""

    @property
    def table(self) -> AccountTable:
        """The table in force."""
        ...

    @property
    def key(self) -> bytes:
        """The key under which plaintext passwords are kept as digests."""
        ...

    async def refresh(self) -> None:
        """Read the file again if it has changed."""
        ...

    def generation(self, name: str) -> int:
        """Return a number that changes when the authority of a name does."""
        ...

    def is_expired(self, account: Account, today: date) -> bool:
        """Return whether the account has come to its end, or had once."""
        ...


class Elsewhere(Protocol):
    """Somebody else who knows accounts (`truckee.auth.url_checker`)."""

    async def ask(self, login: PasswordLogin) -> FTPAvatarID | None:
        """Return what the login gives, None if it is wrong; TemporaryLoginError if unknown."""
        ...


class Attempt(Protocol):
    """Somebody who wants to come in, by whatever means."""

    @property
    def source(self) -> str:
        """The address it comes from, as text."""
        ...

    @property
    def protocol(self) -> str:
        """The frontend that asks."""
        ...


def may_enter(accounts: Accounts, account: Account, attempt: Attempt, day: date) -> bool:
    """Return whether an account may be used at all, this way, from there, on that day."""
    return (
        not account.locked
        and not accounts.is_expired(account, day)
        and account.options.allows_protocol(attempt.protocol)
        and account.options.allows_source(attempt.source)
    )


def granted(accounts: Accounts, account: Account) -> FTPAvatarID:
    """Return what a login with the right credential gives."""
    return FTPAvatarID(
        username=account.name,
        rootcap=account.rootcap,
        readonly=account.options.readonly or account.rootcap.is_readonly,
        options=account.options,
        generation=accounts.generation(account.name),
    )


@implementer(ICredentialsChecker)
class AccountFileChecker:
    """Checks a name and password against the account file."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(
        self,
        accounts: Accounts,
        pool: PasswordPool,
        throttle: Throttle,
        clock: IReactorTime,
        today: Callable[[], date] = today,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Take the accounts, bcrypt's queue, the throttle, the clock of its delays, the date.

        `elsewhere` is asked about names that the file does not mention, and about no others.
        """
        self._accounts = accounts
        self._pool = pool
        self._throttle = throttle
        self._clock = clock
        self._today = today
        self._elsewhere = elsewhere
        self._dummy: tuple[AccountTable, bytes] | None = None

    def requestAvatarId(self, credentials: object) -> Deferred[FTPAvatarID]:  # type: ignore[override]
        """Return the avatar id; fail with UnauthorizedLogin or TemporaryLoginError."""
        return Deferred.fromCoroutine(self._answer(normalised(credentials)))

    async def _answer(self, login: PasswordLogin) -> FTPAvatarID:
        try:
            return await self._login(login)
        except (UnauthorizedLogin, TemporaryLoginError, CancelledError):
            raise
        except Exception:  # noqa: BLE001 - an unexpected error must never become a login
            _log.failure("a login could not be checked")
            raise TemporaryLoginError("the login could not be checked") from None

    async def _login(self, login: PasswordLogin) -> FTPAvatarID:
        if self._throttle.is_banned(login.source):
            raise UnauthorizedLogin(REFUSED)
        await self._accounts.refresh()
        table = self._accounts.table
        known = table.mentions(login.username)
        if self._elsewhere is not None and not known:
            found_elsewhere = await self._elsewhere.ask(login)
            table = self._accounts.table
            if found_elsewhere is not None and not table.mentions(login.username):
                return found_elsewhere
            known = True  # or not: whom it knows it does not tell
        account = table.get(login.username)
        if await self._verify(login, account, table) and account is not None:
            # once more: the file may have changed while bcrypt worked
            found = self._accounts.table.get(login.username)
            if found is account or (found is not None and self._still(login, account, found)):
                return granted(self._accounts, found)
        delay = self._throttle.failed(login.source, login.username, known=known)
        await deferLater(self._clock, delay)
        raise UnauthorizedLogin(REFUSED)

    async def _verify(
        self, login: PasswordLogin, account: Account | None, table: AccountTable
    ) -> bool:
        """Run exactly one bcrypt check; return whether the login is good."""
        usable = account is not None and may_enter(self._accounts, account, login, self._today())
        stored = account.password if account is not None and usable else None
        password = login.password
        if len(password) > MAXIMUM_PASSWORD:
            stored, password = None, password[:MAXIMUM_PASSWORD]
        hashed = stored.text if isinstance(stored, BcryptHash) else self._dummy_for(table)
        matches = await self._pool.matches(login.source, login.username, password, hashed)
        match stored:
            case BcryptHash():
                return matches
            case PlaintextDigest(digest):
                given = plaintext_digest(self._accounts.key, password)
                return hmac.compare_digest(digest, given)
        return False

    def _still(self, login: PasswordLogin, before: Account, found: Account) -> bool:
        unchanged = found.password == before.password
        return unchanged and may_enter(self._accounts, found, login, self._today())

    def _dummy_for(self, table: AccountTable) -> bytes:
        """Return the hash for names without one; as dear as the dearest of the table."""
        if self._dummy is None or self._dummy[0] is not table:
            self._dummy = (table, dummy_hash(table.highest_cost(DEFAULT_COST)))
        return self._dummy[1]


@implementer(ICredentialsChecker)
class AnonymousChecker:
    """Lets anybody into one directory, to read."""

    credentialInterfaces = (IAnonymous,)

    def __init__(self, rootcap: DirectoryCap, throttle: Throttle) -> None:
        """Take the directory; its right to write, if any, is dropped here."""
        self._rootcap = DirectoryCap.read_cap(rootcap)
        self._throttle = throttle

    def requestAvatarId(self, credentials: object) -> Deferred[FTPAvatarID]:  # type: ignore[override]
        """Return the avatar id of anonymous sessions."""
        d: Deferred[FTPAvatarID] = Deferred()
        if self._throttle.is_banned(getattr(credentials, "source", "")):
            d.errback(UnauthorizedLogin(REFUSED))
        else:
            options = AccountOptions(readonly=True, protocols=frozenset({"ftp"}))
            d.callback(FTPAvatarID("anonymous", self._rootcap, True, options, anonymous=True))
        return d


class Checker(Protocol):
    """One of the checkers above."""

    @property
    def credentialInterfaces(self) -> Sequence[type[Interface]]:
        """The kinds of credentials it takes."""
        ...

    def requestAvatarId(self, credentials: object) -> Deferred[FTPAvatarID]:
        """Return the avatar id or fail."""
        ...


@implementer(ICredentialsChecker)
class CompositeChecker:
    """All checkers as one: a portal keeps only one checker per kind of credential."""

    def __init__(self, *checkers: Checker) -> None:
        """Take the checkers in the order in which they are asked."""
        self._checkers = checkers
        kinds = [kind for checker in checkers for kind in checker.credentialInterfaces]
        self.credentialInterfaces = tuple(dict.fromkeys(kinds))

    def requestAvatarId(self, credentials: object) -> Deferred[FTPAvatarID]:  # type: ignore[override]
        """Ask the first checker that takes this kind of credential."""
        offered = providedBy(credentials)
        for checker in self._checkers:
            if any(offered.isOrExtends(kind) for kind in checker.credentialInterfaces):
                return checker.requestAvatarId(credentials)
        d: Deferred[FTPAvatarID] = Deferred()
        d.errback(UnauthorizedLogin(REFUSED))
        return d
