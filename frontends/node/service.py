"""The service tree of a node: from its configuration to running listeners, and back to silence.

Knows every room once, to put them together; touches what they touch. Order: worker pools, stores,
engines, client, then the filestore's view, accounts and listeners. It stops in the other order:
listeners first, commits in flight are waited for, then everything below is closed.
"""

import os
import resource
import socket
import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.cred.portal import Portal
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.protocols.ftp import IFTPShell

from truckee.auth.account_file import AccountFile
from truckee.auth.checkers import AccountFileChecker, AnonymousChecker, CompositeChecker
from truckee.auth.passwords import PasswordPool
from truckee.auth.realm import Dispatcher
from truckee.auth.throttle import Throttle
from truckee.core.client import Client
from truckee.core.config import AccessConfig, NodeConfig
from truckee.core.cpu import PoolCpu
from truckee.core.download.cache import ReaderCache
from truckee.core.errors import ConfigError
from truckee.core.grid import EmbeddedGrid, stores_of
from truckee.core.interfaces import Encoding
from truckee.core.mutable.context import MutableContext
from truckee.core.mutable.keys import KeyPool
from truckee.core.upload.upload import Uploader
from truckee.frontends.ftp.service import FTPServer
from truckee.frontends.ftp.settings import FTPSettings
from truckee.frontends.ftp.shell import handler_factory
from truckee.frontends.gate.registry import Limits, Registry
from truckee.frontends.node import endpoints
from truckee.frontends.node.control import Control
from truckee.frontends.node.creation import read_secret
from truckee.frontends.vfs.process import Vfs

DISK_THREADS = 4
BCRYPT_THREADS = 2
DRAIN = 30.0
KEPT_DESCRIPTORS = 128  # for stores, spool, log and listeners
_MOST_BANS = 1000
DEFAULT_PORTS = (8021, *range(8023, 8100), 0)  # 8022 is SFTP's

_log = Logger()


def bearable_sessions(wanted: int, descriptors: int) -> int:
    """Return how many sessions of two connections each this many open files can bear."""
    if descriptors == resource.RLIM_INFINITY:
        return wanted
    return max(8, min(wanted, (descriptors - KEPT_DESCRIPTORS) // 2))


class PortTakenError(ConfigError):
    """An endpoint that was asked for cannot be listened at."""


class Storage:
    """The part of a node that has no listeners: enough to read and write files and directories."""

    def __init__(self, config: NodeConfig, reactor: Any) -> None:  # noqa: ANN401
        """Put the rooms together. Blocking: reads secrets. ConfigError for what is not right."""
        lease_secret = read_secret(config.private / "secret")
        convergence = read_secret(config.private / "convergence", may_be_empty=True)
        if not convergence:
            _log.warn("the convergence secret is empty: anybody can find out what is stored here")
        self.cpu = PoolCpu(reactor, len(os.sched_getaffinity(0)), "cpu")
        self.disk = PoolCpu(reactor, DISK_THREADS, "disk")
        self.grid = EmbeddedGrid(
            stores_of(config.directory, config.stores),
            self.disk,
            reactor,
            reserved_space=config.reserved_space,
            fsync=config.fsync,
        )
        self._keys = KeyPool(self.cpu)
        encoding = Encoding(config.needed, config.happy, config.total)
        self._uploader = Uploader(self.grid.servers, self.cpu, reactor, lease_secret)
        self._readers = ReaderCache(self.grid.servers, self.cpu, reactor)
        self._mutable = MutableContext(
            self.grid.servers, self.cpu, reactor, lease_secret, self._keys, encoding
        )
        self.client = Client(
            self._uploader,
            self._readers,
            self._mutable,
            encoding,
            convergence,
            reactor,
            config.access.dir_cache_ttl,
        )
        self._started = False

    async def start(self) -> None:
        """Start the worker threads and open the stores."""
        self._started = True
        self.cpu.start()
        self.disk.start()
        await self.grid.start()

    def warm_up(self) -> None:
        """Begin to make keys ahead, for the directories to come."""
        self._keys.start()

    async def create_directory(self) -> str:
        """Make an empty directory in the grid; return its write capability."""
        node = await self.client.create_new_mutable_directory()
        return node.get_uri().decode("ascii")

    async def stop(self) -> None:
        """Close everything. Nothing runs afterwards, no timer and no thread."""
        if not self._started:
            return
        self._started = False
        self._keys.stop()
        self._readers.stop()
        self._uploader.stop()
        self._mutable.background.cancel()
        await self.grid.stop()
        self.cpu.stop()
        self.disk.stop()


class Ftp:
    """The FTP frontend of a node with its accounts."""

    def __init__(self, node: NodeConfig, storage: Storage, reactor: Any) -> None:  # noqa: ANN401
        """Put the rooms together; touches the spool folder."""
        self._config = node.ftp
        self._access = config = node.access
        self._storage = storage
        self._reactor = reactor
        self._bcrypt = PoolCpu(reactor, BCRYPT_THREADS, "bcrypt")
        self.throttle = Throttle(config.throttle_exempt)
        self.accounts = AccountFile(
            config.accounts_file,
            reactor,
            storage.disk,
            plaintext=config.accounts_plaintext,
            permissions=config.accounts_permissions,
            anonymous=config.anonymous_rootcap is not None,
        )
        self._vfs = Vfs(
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
        registry = Registry(
            "ftp",
            _limits(config),
            may_connect=lambda host: not self.throttle.is_banned(host),
            on_refusal=self.throttle.limit_hit,
        )
        portal = Portal(self._realm(), [self._checker()])
        self.server = FTPServer(reactor, portal, _settings(node), registry)
        self.services = MultiService()
        self.services.addService(self.server)
        self.accounts.on_revoked(self._close)

    def _realm(self) -> Dispatcher:
        client_for = self._storage.client.for_account
        return Dispatcher(client_for, {IFTPShell: handler_factory(self._vfs, client_for)})

    def _checker(self) -> CompositeChecker:
        pool = PasswordPool(self._bcrypt, self._reactor, patience=self._access.login_grace)
        checker = AccountFileChecker(self.accounts, pool, self.throttle, self._reactor)
        root = self._access.anonymous_rootcap
        if root is None:
            return CompositeChecker(checker)
        return CompositeChecker(checker, AnonymousChecker(root, self.throttle))

    def _close(self, names: frozenset[str]) -> None:
        for name in names:
            self.server.close_account(name)

    async def start(self, given: Sequence[str] | None) -> tuple[list[IAddress], bool]:
        """Read the accounts and listen; return the addresses, and whether the port was moved.

        `given` are endpoints that take the place of the configured ones for this run. Raises
        AccountError, or PortTakenError when an endpoint that somebody asked for is taken.
        """
        await self.accounts.load()
        self.accounts.start()
        self._bcrypt.start()
        self.services.startService()
        if given is None and not self._config.ports_given:
            return await self._listen_somewhere()
        wanted = self._config.ports if given is None else given
        public = endpoints.public(wanted)
        if public and self._config.tls == "off" and not self._config.insecure_plaintext:
            raise ConfigError("a public endpoint without TLS needs insecure_plaintext = yes")
        if public:
            _log.warn("a public FTP endpoint without TLS: passwords are refused on it")
        try:
            return await self.server.listen([self._endpoint(text) for text in wanted]), False
        except CannotListenError as error:
            reason = getattr(error.socketError, "strerror", None) or "it cannot be opened"
            raise PortTakenError(f"endpoint {error.interface}:{error.port}: {reason}") from None

    async def _listen_somewhere(self) -> tuple[list[IAddress], bool]:
        """Listen on the default port, or the next that is free."""
        for port in DEFAULT_PORTS:
            endpoint = self._endpoint(f"tcp:{port}:interface=127.0.0.1")
            try:
                return await self.server.listen([endpoint]), port != DEFAULT_PORTS[0]
            except CannotListenError:
                continue
        raise PortTakenError("no port is free")

    def _endpoint(self, text: str) -> IStreamServerEndpoint:
        endpoint: IStreamServerEndpoint = serverFromString(self._reactor, text)
        return endpoint

    async def stop(self) -> None:
        """Stop listening, let commits in flight end (30 s at most), close every session."""
        self.accounts.stop()
        stopped = self.services.stopService()
        if stopped is not None:
            await stopped
        await self._vfs.drain(1.0)
        self._bcrypt.stop()


def _limits(config: AccessConfig) -> Limits:
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


def _address(given: IPv4Address | str | None) -> IPv4Address | None:
    """Return an address, looked up once when it is given as a name; ConfigError."""
    if not isinstance(given, str):
        return given
    try:
        return IPv4Address(socket.gethostbyname(given))
    except (OSError, ValueError):
        raise ConfigError("[ftpd] masquerade_address: the name is not known") from None


def _settings(node: NodeConfig) -> FTPSettings:
    config = node.ftp
    return FTPSettings(
        passive_ports=config.passive_ports,
        masquerade_address=_address(config.masquerade_address),
        active_mode=config.active_mode,
        login_grace=node.access.login_grace,
        idle_timeout=config.idle_timeout,
        data_timeout=config.data_timeout,
        drain_timeout=DRAIN,
        anonymous=node.access.anonymous_rootcap is not None,
        log_paths=node.access.log_paths,
    )


class Node:
    """A whole node."""

    def __init__(self, config: NodeConfig, reactor: Any) -> None:  # noqa: ANN401
        """Put it together; ConfigError for what is not right."""
        self.config = config
        self._reactor = reactor
        self.storage = Storage(config, reactor)
        self._ftp: Ftp | None = None
        handlers = {
            "new-directory": self._new_directory,
            "status": self._status,
            "bans": self._bans,
            "unban": self._unban,
            "accounts-changed": self._accounts_changed,
        }
        self._control = Control(config.private, reactor, handlers)
        for warning in config.warnings:
            _log.warn("{warning}", warning=warning)

    async def start_storage(self) -> None:
        """Start everything below the frontends."""
        await self.storage.start()

    async def start_frontends(
        self, ftp_endpoints: Sequence[str] | None
    ) -> tuple[list[IAddress], bool]:
        """Start the listeners; see `Ftp.start`. Without any frontend it is a ConfigError."""
        if not self.config.ftp.enabled:
            raise ConfigError("no frontend is enabled: set [ftpd] enabled = yes")
        self._ftp = Ftp(self.config, self.storage, self._reactor)
        result = await self._ftp.start(ftp_endpoints)
        self._control.start()
        self.storage.warm_up()
        _log.info("node is up")
        return result

    async def _new_directory(self, _: Mapping[str, Any]) -> Mapping[str, object]:
        return {"cap": await self.storage.create_directory()}

    async def _status(self, _: Mapping[str, Any]) -> Mapping[str, object]:
        ftp = self._ftp
        return {
            "stores": len(self.config.stores),
            "absent": self.storage.grid.absent,
            "sessions": ftp.server.sessions if ftp is not None else 0,
            "accounts": ftp.accounts.failure or "ok" if ftp is not None else "off",
        }

    async def _bans(self, _: Mapping[str, Any]) -> Mapping[str, object]:
        bans = self._ftp.throttle.bans() if self._ftp is not None else []
        return {"bans": [[source, round(left)] for source, left in bans[:_MOST_BANS]]}

    async def _unban(self, question: Mapping[str, Any]) -> Mapping[str, object]:
        if self._ftp is not None:
            self._ftp.throttle.clear(str(question["source"]))
        return {"done": True}

    async def _accounts_changed(self, _: Mapping[str, Any]) -> Mapping[str, object]:
        if self._ftp is not None:
            await self._ftp.accounts.refresh(at_once=True)
        return {"done": True}

    async def stop(self) -> None:
        """Stop in order; commits in flight are given 30 seconds."""
        _log.info("node is stopping")
        await self._control.stop()
        if self._ftp is not None:
            await self._ftp.stop()
        await self.storage.stop()
        _log.info("node has stopped")
