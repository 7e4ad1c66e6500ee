"""A node: from its configuration to open doors, and back to silence.

Knows the order. Up: storage, then who may come in, then the doors, then the control socket. Down:
the control socket, the doors all at once (listeners first, commits in flight are waited for), what
they shared, and storage last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from truckee.core.config import NodeConfig
from truckee.core.errors import ConfigError
from truckee.core.grid import Room
from truckee.frontends.node.access import Access
from truckee.frontends.node.control import Control
from truckee.frontends.node.doors import Frontend, FtpFrontend, Place, SftpFrontend
from truckee.frontends.node.operations import Operations
from truckee.frontends.node.storage import Storage

_MOST_BANS = 1000

_log = Logger()


@dataclass(frozen=True, slots=True)
class Wishes:
    """Endpoints that take the place of the configured ones for this run; None where nothing."""

    ftp: Sequence[str] | None = None
    sftp: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Where the doors of a running node are."""

    ftp: Place | None = None
    sftp: Place | None = None
    metrics: Place | None = None


class Node:
    """A whole node."""

    def __init__(self, config: NodeConfig, reactor: Any) -> None:  # noqa: ANN401
        """Put it together; ConfigError for what is not right."""
        self.config = config
        self._reactor = reactor
        self.storage = Storage(config, reactor)
        self.operations = Operations(config, self.storage, reactor)
        self.journal = self.operations.record
        self._access: Access | None = None
        self._doors: list[Frontend] = []
        handlers = {
            "new-directory": self._new_directory,
            **self.operations.handlers(),
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

    async def start_frontends(self, wishes: Wishes) -> Places:
        """Open the doors; return where they are. An endpoint that is wished for opens its door.

        Without any it is a ConfigError; AccountError, or PortTakenError when an endpoint that
        somebody asked for is taken.
        """
        config = self.config
        with_ftp = config.ftp.enabled or wishes.ftp is not None
        with_sftp = config.sftp.enabled or wishes.sftp is not None
        if not with_ftp and not with_sftp:
            raise ConfigError("no frontend is enabled: set [sftpd] enabled = yes")
        self._access = access = Access(config.access, self.storage, self._reactor, self.journal)
        ftp = FtpFrontend(config, access, self._reactor) if with_ftp else None
        sftp = SftpFrontend(config, access, self._reactor, self._room) if with_sftp else None
        self._doors = [door for door in (ftp, sftp) if door is not None]
        await access.start()
        ftp_place = None if ftp is None else await ftp.start(wishes.ftp)
        sftp_place = None if sftp is None else await sftp.start(wishes.sftp)
        metrics = await self.operations.start(access, {"ftp": ftp_place, "sftp": sftp_place})
        self._control.start()
        self.storage.warm_up()
        _log.info("node is up")
        return Places(ftp_place, sftp_place, metrics)

    def _room(self) -> Room | None:
        return self.storage.grid.room

    async def _new_directory(self, _: Mapping[str, Any]) -> Mapping[str, object]:
        return {"cap": await self.storage.create_directory()}

    async def _bans(self, _: Mapping[str, Any]) -> Mapping[str, object]:
        bans = self._access.throttle.bans() if self._access is not None else []
        return {"bans": [[source, round(left)] for source, left in bans[:_MOST_BANS]]}

    async def _unban(self, question: Mapping[str, Any]) -> Mapping[str, object]:
        access = self._access
        return {"done": access is not None and access.throttle.clear(str(question["source"]))}

    async def _accounts_changed(self, _: Mapping[str, Any]) -> Mapping[str, object]:
        if self._access is not None:
            await self._access.accounts.refresh(at_once=True)
        return {"done": True}

    async def stop(self) -> None:
        """Stop in order; commits in flight are given 30 seconds."""
        _log.info("node is stopping")
        await self._control.stop()
        await self.operations.close_port()
        if self._access is not None:
            self._access.stop_watching()
        doors = [Deferred.fromCoroutine(door.stop()) for door in self._doors]
        for good, result in await DeferredList(doors, consumeErrors=True):
            if not good:
                _log.failure("a door did not close cleanly", failure=result)
        await self.operations.stop()
        if self._access is not None:
            await self._access.stop()
        await self.storage.stop()
        _log.info("node has stopped")
