"""The account file on disk: read with its permissions checked, read again when it changes.

Knows where the file lies and when to look at it; touches the disk (behind a `Cpu` door) and the
clock it is given. A file that cannot be used leaves the last good table in force, said in the log
every minute. Names whose authority shrank are told to whoever holds sessions.
"""

import hashlib
import os
import stat
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Literal

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from truckee.auth.accounts import (
    MAXIMUM_SIZE,
    Account,
    AccountTable,
    PlaintextPolicy,
    Policy,
    parse,
    today,
)
from truckee.core import files
from truckee.core.cpu import Cpu
from truckee.core.errors import AccountError, ConfigError

LOGIN_INTERVAL = 1.0
TIMER = 5.0
DEBOUNCE = 0.5
MOST_DEBOUNCE = 3.0
COMPLAIN = 60.0
EXPIRY_CHECK = 60.0
_EXPIRED_LIMIT = 1 << 20

_log = Logger()
Signature = tuple[int, ...]
Permissions = Literal["refuse", "warn"]


def read_account_file(path: Path, permissions: Permissions = "refuse") -> tuple[bytes, Signature]:
    """Return the bytes of the file and what tells this state of it from others.

    Raises AccountError when it is missing, a link, too large, or when others could read or replace
    it (only logged with `permissions` = "warn"). Blocking.
    """
    try:
        with files.opened(path) as fd:
            found = os.fstat(fd)
            try:
                _check_directory(path.parent)
                files.check_private_file(found, path.name)
            except ConfigError as error:
                if permissions == "refuse":
                    raise
                _log.warn("account file: {reason}", reason=str(error))
            data = files.read_opened(fd, path.name, MAXIMUM_SIZE, private=False)
            return data, _signature(found)
    except ConfigError as error:
        raise AccountError(str(error)) from None
    except FileNotFoundError:
        raise AccountError(f"{path.name} is missing") from None
    except OSError as error:
        raise AccountError(f"{path.name} cannot be read: {error.strerror}") from None


def _check_directory(directory: Path) -> None:
    mode = directory.stat().st_mode
    if mode & 0o022 and not mode & stat.S_ISVTX:
        raise ConfigError(f"directory {directory.name} can be written by others")


def _signature(found: os.stat_result) -> Signature:
    mode_and_owner = (found.st_mode, found.st_uid)
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, *mode_and_owner)


def _stat(path: Path) -> Signature | None:
    try:
        return _signature(path.lstat())
    except OSError:
        return None


class AccountFile:
    """The accounts in force; see the head of the module."""

    def __init__(
        self,
        path: Path,
        clock: IReactorTime,
        disk: Cpu,
        *,
        plaintext: PlaintextPolicy = "warn",
        permissions: Permissions = "refuse",
        anonymous: bool = False,
        may_be_empty: bool = False,
        random: Callable[[int], bytes] = os.urandom,
        today: Callable[[], date] = today,
    ) -> None:
        """Take the file's place and the configured policies.

        It may be empty of accounts where somebody else knows some (`truckee.auth.url_checker`).
        """
        self._path = path
        self._clock = clock
        self._disk = disk
        self._permissions: Permissions = permissions
        self._may_be_empty = may_be_empty
        self._policy = Policy(plaintext, anonymous, random(32))
        self._today = today
        self._table = AccountTable()
        self._generations: dict[str, int] = {}
        self._loads = 0
        self._signature: Signature | None = None
        self._looked = float("-inf")
        self._complained = float("-inf")
        self._expired = _SeenExpired(path.parent / "accounts-expired")
        self._ended: set[str] = set()
        self._reloading: list[Deferred[None]] | None = None
        self._timer: LoopingCall | None = None
        self._ticking: Deferred[LoopingCall] | None = None
        self._revoked: list[Callable[[frozenset[str]], object]] = []
        self.failure: str | None = None

    @property
    def table(self) -> AccountTable:
        """The table in force."""
        return self._table

    @property
    def key(self) -> bytes:
        """The key under which plaintext passwords are kept as digests."""
        return self._policy.key

    def generation(self, name: str) -> int:
        """Return a number that changes when the authority of a name does."""
        return self._generations.get(name, 0)

    def is_expired(self, account: Account, today: date) -> bool:
        """Return whether the account has ended, or was seen ended before the clock went back."""
        return account.is_expired(today) or self._expired.holds(account)

    def on_revoked(self, callback: Callable[[frozenset[str]], object]) -> None:
        """Have `callback` told the names whose running sessions must end."""
        self._revoked.append(callback)

    async def load(self) -> None:
        """Read the file for the first time; AccountError when no account is usable."""
        await self._disk.run(self._expired.load)
        await self._read()
        if not self._table.accounts and not self._may_be_empty:
            raise AccountError("no usable account in the account file")

    def start(self) -> None:
        """Look at the file every few seconds from now on."""
        self._timer = LoopingCall(lambda: Deferred.fromCoroutine(self._tick()))
        self._timer.clock = self._clock
        self._ticking = self._timer.start(TIMER, now=False)

    def stop(self) -> None:
        """Stop looking."""
        if self._timer is not None and self._timer.running:
            self._timer.stop()
        self._timer = None

    async def refresh(self, *, at_once: bool = False) -> None:
        """Look at the file unless that was done within the last second; wait for a reload.

        `at_once` looks in any case: somebody knows that the file has changed.
        """
        if self._reloading is not None:
            await self._wait(self._reloading)
            if not at_once:
                return
        if not at_once and self._clock.seconds() - self._looked < LOGIN_INTERVAL:
            return
        self._looked = self._clock.seconds()
        if await self._disk.run(_stat, self._path) != self._signature:
            await self._reload()

    async def _wait(self, waiting: list[Deferred[None]]) -> None:
        done: Deferred[None] = Deferred()
        waiting.append(done)
        await done

    async def _reload(self) -> None:
        """Let an editor finish, then read; keep the old table when that fails."""
        if self._reloading is not None:
            await self._wait(self._reloading)
            return
        waiting: list[Deferred[None]] = []
        self._reloading = waiting
        try:
            before, began = None, self._clock.seconds()
            while self._clock.seconds() - began < MOST_DEBOUNCE:
                now = await self._disk.run(_stat, self._path)
                if now == before and before is not None:
                    break
                before = now
                await deferLater(self._clock, DEBOUNCE)
            await self._read()
        except AccountError as error:
            self._complain(str(error))
        finally:
            self._reloading = None
            for done in waiting:
                done.callback(None)

    def _complain(self, reason: str) -> None:
        self.failure = reason
        if self._clock.seconds() - self._complained >= COMPLAIN:
            self._complained = self._clock.seconds()
            _log.error("account file not usable, the old one stays: {reason}", reason=reason)

    async def _read(self) -> None:
        data, signature = await self._disk.run(read_account_file, self._path, self._permissions)
        table = await self._disk.run(parse, data, self._policy)
        self._signature = signature
        self._complained = float("-inf")
        self.failure = None
        self._swap(table)

    def _swap(self, table: AccountTable) -> None:
        old, self._table = self._table, table
        self._loads += 1
        generations = {}
        for name, account in table.accounts.items():
            before = old.get(name)
            kept = before is not None and before.authority() == account.authority()
            generations[name] = self._generations[name] if kept else self._loads
        revoked = {n for n in old.accounts if generations.get(n) != self._generations[n]}
        if self._may_be_empty:  # whoever came in from elsewhere under a name that is now ours
            revoked |= {*table.accounts, *table.switched_off} - {*old.accounts, *old.switched_off}
        self._generations = generations
        self._ended &= set(table.accounts) - revoked
        _log.info(
            "accounts read: {good} usable, {bad} bad lines",
            good=len(table.accounts),
            bad=len(table.bad_lines),
        )
        for line in table.bad_lines:
            _log.error("{bad}", bad=str(line))
        if table.plaintext_lines and self._policy.plaintext == "warn":
            numbers = ", ".join(map(str, table.plaintext_lines))
            _log.warn("plaintext passwords on account lines {numbers}", numbers=numbers)
        self._tell(revoked)

    def _tell(self, names: set[str]) -> None:
        if names:
            for callback in self._revoked:
                callback(frozenset(names))

    async def _tick(self) -> None:
        try:
            await self.refresh()
            if self.failure is not None:
                self._complain(self.failure)
            await self._end_expired()
        except Exception:  # noqa: BLE001 - the timer must go on
            _log.failure("looking at the account file failed")

    async def _end_expired(self) -> None:
        """Note the accounts that came to their end, and tell who holds their sessions."""
        today = self._today()
        ended = {
            name: account
            for name, account in self._table.accounts.items()
            if name not in self._ended and self.is_expired(account, today)
        }
        if ended:
            self._ended |= set(ended)
            self._tell(set(ended))
            await self._disk.run(self._expired.add, list(ended.values()))


class _SeenExpired:
    """Accounts that were once seen expired: setting the clock back does not revive them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._marks: frozenset[str] = frozenset()

    def load(self) -> None:
        try:
            text = files.read(self._path, _EXPIRED_LIMIT).decode("ascii", "replace")
        except FileNotFoundError:
            return
        except (ConfigError, OSError):
            _log.error("the list of expired accounts cannot be read")
            return
        self._marks = frozenset(text.split())

    def holds(self, account: Account) -> bool:
        return bool(self._marks) and _mark(account) in self._marks

    def add(self, accounts: list[Account]) -> None:
        marks = self._marks | {_mark(account) for account in accounts}
        if marks != self._marks:
            files.replace(self._path, "\n".join(sorted(marks)).encode("ascii") + b"\n")
            self._marks = marks


def _mark(account: Account) -> str:
    """Return a digest of what the lines of a name say about its end."""
    said = f"{account.name}\n{account.options.expires}\n{account.rootcap.text}"
    return hashlib.sha256(said.encode("utf-8")).hexdigest()
