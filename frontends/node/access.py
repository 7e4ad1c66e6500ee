"""Who may come into a node, and what they find: accounts, passwords, bans, limits, one filestore.

Knows the rooms of auth and the vfs, to put them together once for all doors; touches the account
file, the spool folder and the threads for bcrypt. Revoking an account reaches every door.
"""

import os
import resource
import time
from pathlib import Path
from typing import Any

from twisted.conch.interfaces import IConchUser
from twisted.cred.portal import Portal
from twisted.logger import Logger
from twisted.protocols.ftp import IFTPShell
from zope.interface.interface import InterfaceClass

from truckee.auth.account_file import AccountFile
from truckee.auth.checkers import (
    AccountFileChecker,
    AnonymousChecker,
    Checker,
    CompositeChecker,
)
from truckee.auth.passwords import PasswordPool
from truckee.auth.realm import Dispatcher, Factory
from truckee.auth.ssh_logins import PublicKeyChecker
from truckee.auth.throttle import Throttle
from truckee.auth.url_checker import AccountURLChecker
from truckee.core import files
from truckee.core.config import AccessConfig
from truckee.core.cpu import PoolCpu
from truckee.core.errors import ConfigError
from truckee.frontends.ftp.shell import handler_factory
from truckee.frontends.gate.hooks import Hook, Hooks, Journals
from truckee.frontends.gate.journal import Door, Journal
from truckee.frontends.gate.registry import Ledger, Limits, Registry
from truckee.frontends.node.storage import Storage
from truckee.frontends.sftp.shell import user_factory
from truckee.frontends.vfs.process import Vfs

BCRYPT_THREADS = 2
_LONGEST_CA_FILE = 1 << 20
KEPT_DESCRIPTORS = 128  # for stores, spool, log and listeners

_log = Logger()


def bearable_sessions(wanted: int, descriptors: int) -> int:
    """Return how many sessions of two connections each this many open files can bear."""
    if descriptors == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(8, (descriptors - KEPT_DESCRIPTORS) // 2))


def limits_for(config: AccessConfig) -> Limits:
    """Return the limits on sessions, lower where few files may be open."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    sessions = bearable_sessions(config.max_sessions, descriptors)
    if sessions < config.max_sessions:
        text = "max_sessions is {n}: only {limit} file descriptors are allowed"
        _log.warn(text, n=sessions, limit=descriptors)
    return Limits(
        max_sessions=sessions,
        max_sessions_per_user=config.max_sessions_per_user,
        max_sessions_per_ip=config.max_sessions_per_ip,
        max_unauthenticated=min(config.max_unauthenticated, max(4, sessions // 2)),
        exempt=config.throttle_exempt,
    )


def _hooks(config: AccessConfig, reactor: Any) -> Hooks:  # noqa: ANN401
    login = None if config.post_login is None else Hook(reactor, config.post_login)
    upload = None if config.post_upload is None else Hook(reactor, config.post_upload)
    return Hooks(login, upload, time.time)


class Access:
    """What all doors of a node share."""

    def __init__(
        self,
        config: AccessConfig,
        storage: Storage,
        reactor: Any,  # noqa: ANN401
        journal: Journal,
    ) -> None:
        """Put the rooms together; touches the spool folder."""
        self.config = config
        self.hooks = _hooks(config, reactor)
        self.journal = Journals(journal, self.hooks)
        self._storage = storage
        self._reactor = reactor
        self._bcrypt = PoolCpu(reactor, BCRYPT_THREADS, "bcrypt")
        self._limits = limits_for(config)
        self._ledger = Ledger()
        self.registries: dict[Door, Registry] = {}
        self.throttle = Throttle(config.throttle_exempt)
        self.accounts = AccountFile(
            config.accounts_file,
            reactor,
            storage.disk,
            plaintext=config.accounts_plaintext,
            permissions=config.accounts_permissions,
            anonymous=config.anonymous_rootcap is not None,
            may_be_empty=config.accounts_url is not None,
        )
        self.accounts.on_revoked(self._close)
        self._elsewhere = self._account_url()
        self.passwords = PasswordPool(self._bcrypt, reactor, patience=config.login_grace)
        self.vfs = Vfs(
            storage.disk,
            storage.cpu,
            reactor,
            config.spool_dir or Path(os.devnull),
            config.spool_max,
            uri_paths=config.uri_paths,
            rmdir_nonempty="unlink" if config.rmdir_nonempty else "refuse",
            commit_mode=config.commit_mode,
            wall=time.time,
        )
        self.portal = Portal(self._realm(), [CompositeChecker(*self._checkers())])

    def _realm(self) -> Dispatcher:
        client_for = self._storage.client.for_account
        factories: dict[InterfaceClass, Factory] = {
            IFTPShell: handler_factory(self.vfs, client_for),
            IConchUser: user_factory(self.vfs, client_for),
        }
        return Dispatcher(client_for, factories)

    def _checkers(self) -> list[Checker]:
        """Return a checker for each kind of credential: a portal asks one per kind."""
        accounts, throttle, clock = self.accounts, self.throttle, self._reactor
        found: list[Checker] = [
            AccountFileChecker(
                accounts, self.passwords, throttle, clock, elsewhere=self._elsewhere
            ),
            PublicKeyChecker(accounts, self._storage.cpu, throttle, clock),
        ]
        if self.config.anonymous_rootcap is not None:
            found.append(AnonymousChecker(self.config.anonymous_rootcap, throttle))
        return found

    def _account_url(self) -> AccountURLChecker | None:
        """Return who is asked about names that the file does not know; ConfigError. Blocking."""
        config = self.config
        if config.accounts_url is None:
            return None
        ca = None
        if config.accounts_url_ca_file is not None:
            try:
                ca = files.read(config.accounts_url_ca_file, _LONGEST_CA_FILE, private=False)
            except OSError as error:
                raise ConfigError(f"accounts.url.ca_file: {error.strerror}") from None
        anonymous = config.anonymous_rootcap is not None
        return AccountURLChecker(self._reactor, config.accounts_url, ca, anonymous=anonymous)

    def registry(self, door: Door) -> Registry:
        """Return the sessions of a door, made when it is asked for the first time."""
        if door not in self.registries:
            self.registries[door] = Registry(
                door,
                self._limits,
                may_connect=lambda host: not self.throttle.is_banned(host),
                on_refusal=self.throttle.limit_hit,
                journal=self.journal,
                ledger=self._ledger,
                seconds=self._reactor.seconds,
            )
        return self.registries[door]

    def _close(self, names: frozenset[str]) -> None:
        for registry in self.registries.values():
            for name in names:
                registry.close_account(name)

    async def start(self) -> None:
        """Read the accounts. AccountError when nobody could log in."""
        await self.accounts.load()
        self.accounts.start()
        self._bcrypt.start()

    def stop_watching(self) -> None:
        """Look at the account file no more; the doors close next."""
        self.accounts.stop()

    async def stop(self) -> None:
        """Give up what is not stored yet; the doors are closed."""
        if self._elsewhere is not None:
            self._elsewhere.stop()
        self.hooks.stop()
        await self.vfs.drain(1.0)
        self._bcrypt.stop()
