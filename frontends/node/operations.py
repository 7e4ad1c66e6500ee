"""What watches a node while it runs, and tells of it: journal, figures, watchdog, their port.

Knows where each figure comes from; touches the reactor and ``private/logins``. The journal is there
before the doors, since they report to it; the figures come when everything they are asked of does.
"""

import os
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from truckee.core.config import NodeConfig
from truckee.core.errors import ConfigError
from truckee.frontends.gate.history import LoginHistory
from truckee.frontends.gate.journal import Door
from truckee.frontends.gate.record import Record
from truckee.frontends.gate.registry import Limits
from truckee.frontends.node import endpoints, figures, logs
from truckee.frontends.node.access import Access
from truckee.frontends.node.control import Answer, Handler
from truckee.frontends.node.doors import Place, listen_at, listen_near
from truckee.frontends.node.figures import Accounts, Sources
from truckee.frontends.node.metrics_port import MetricsPort
from truckee.frontends.node.openmetrics import render
from truckee.frontends.node.storage import Storage
from truckee.frontends.node.watchdog import Watchdog

METRICS_PORTS = (8023, *range(8024, 8100), 0)


class Operations:
    """The part of a node that people who run it look at."""

    def __init__(self, config: NodeConfig, storage: Storage, reactor: Any) -> None:  # noqa: ANN401
        """Take the node's configuration and what the figures of storage come from."""
        self._config = config
        self._storage = storage
        self._reactor = reactor
        self._access: Access | None = None
        self._sources: Sources | None = None
        self._place: Place | None = None
        self._doors: Mapping[Door, Place | None] = {}
        self._history = LoginHistory(
            config.private, reactor, storage.disk, time.time, self._is_account
        )
        exempt = Limits(exempt=config.access.throttle_exempt)
        self.record = Record(
            reactor,
            self._history,
            log_paths=config.access.log_paths,
            is_exempt=exempt.is_exempt,
        )
        self._watchdog = Watchdog(reactor)
        endpoint = config.metrics_port or ""
        self._is_public = bool(endpoint) and bool(endpoints.public([endpoint]))
        self._port = MetricsPort(reactor, self._text, only_local=not self._is_public)

    def _is_account(self, name: str) -> bool:
        return self._access is not None and self._access.accounts.table.get(name) is not None

    async def start(self, access: Access, doors: Mapping[Door, Place | None]) -> Place | None:
        """Begin to watch, and open the port of the figures; return where it is, if there is one.

        The doors are open; where they are is told to whoever asks.

        ConfigError for a public one that is not meant, PortTakenError.
        """
        self._access = access
        self._doors = doors
        self._sources = self._gather(access)
        access.throttle.on_ban = self.record.banned
        self.record.start()
        self._watchdog.start()
        self._place = await self._open()
        return self._place

    async def _open(self) -> Place | None:
        config, reactor = self._config, self._reactor
        if config.metrics_port is None:
            return None
        if not config.metrics_port_given:
            return await listen_near(self._port.listen, METRICS_PORTS, reactor)
        if self._is_public and not config.metrics_public:
            raise ConfigError("[node] metrics.port is public: that needs metrics.public = yes")
        return await listen_at(self._port.listen, [config.metrics_port], reactor)

    def _gather(self, access: Access) -> Sources:
        def accounts() -> Accounts:
            table = access.accounts.table
            return Accounts(len(table.accounts), len(table.bad_lines))

        grid = self._storage.grid
        return Sources(
            record=self.record,
            registries=access.registries,
            gauges=access.vfs.gauges,
            bans=lambda: len(access.throttle.bans()),
            accounts=accounts,
            passwords=access.passwords,
            stores=len(self._config.stores),
            absent=lambda: grid.absent,
            watchdog=self._watchdog,
            seconds=self._reactor.seconds,
            started=self._reactor.seconds(),
            lines_dropped=logs.lines_dropped,
            logins_lost=lambda: self._history.lost,
        )

    def _text(self) -> str:
        return "" if self._sources is None else render(figures.families(self._sources))

    def handlers(self) -> dict[str, Handler]:
        """Return what the command line may ask about."""
        return {"status": self._status, "flush-logins": self._flush}

    async def _status(self, _: Mapping[str, Any]) -> Answer:
        access, sources = self._access, self._sources
        metrics = [{"host": host, "port": port} for host, port in _addresses(self._place)]
        return {
            "pid": os.getpid(),
            "version": version("truckee"),
            "doors": {door: _addresses(place) for door, place in self._doors.items() if place},
            "metrics": metrics[0] if metrics else None,
            "account_file": access.accounts.failure or "ok" if access is not None else "off",
            "shared_exempt_sources": self.record.shared_exempt_sources(),
            "figures": {} if sources is None else figures.as_fields(figures.families(sources)),
        }

    async def _flush(self, _: Mapping[str, Any]) -> Answer:
        await self._history.flush()
        return {"done": True}

    async def close_port(self) -> None:
        """Tell no figures any more; the doors close next."""
        await self._port.stop()

    async def stop(self) -> None:
        """Write down the last logins, and stop watching. The doors are closed, the disks not."""
        await self.close_port()
        self._watchdog.stop()
        self.record.stop()
        await self._history.stop()


def _addresses(place: Place | None) -> list[tuple[str, int]]:
    """Return host and port of every address of a door."""
    found: tuple[Any, ...] = () if place is None else place.addresses
    return [(address.host, address.port) for address in found]
