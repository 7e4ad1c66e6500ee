"""The part of a node below its frontends: worker threads, stores, engines, client.

Knows every room of core once, to put them together; touches what they touch. It is enough to read
and write files and directories, and has no listeners.
"""

import os
from typing import Any

from twisted.logger import Logger

from truckee.core.client import Client
from truckee.core.config import NodeConfig
from truckee.core.cpu import PoolCpu
from truckee.core.download.cache import ReaderCache
from truckee.core.grid import EmbeddedGrid, stores_of
from truckee.core.interfaces import Encoding
from truckee.core.mutable.context import MutableContext
from truckee.core.mutable.keys import KeyPool
from truckee.core.upload.upload import Uploader
from truckee.frontends.node.creation import read_secret

DISK_THREADS = 4

_log = Logger()


class Storage:
    """The stores and what works on them."""

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
