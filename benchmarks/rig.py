"""The product's engines on an embedded grid, new or there: a node below its frontends."""

import shutil
from pathlib import Path

from twisted.internet import reactor

from truckee.core.client import Client
from truckee.core.download.cache import ReaderCache
from truckee.core.grid import make_stores
from truckee.core.interfaces import Encoding
from truckee.core.mutable.file import MutableFile
from truckee.frontends.node.creation import GridOptions, config_path, create, load, plan
from truckee.frontends.node.storage import Storage


class Rig:
    """``async with Rig(folder, servers) as rig: rig.storage.client …``."""

    def __init__(self, folder: Path, servers: int) -> None:
        self.folder = folder
        if config_path(folder) is None:
            create(folder, plan(GridOptions(servers=servers)), None, make_stores)
        config = load(folder)
        self.encoding = Encoding(config.needed, config.happy, config.total)
        self.storage = Storage(config, reactor)

    async def __aenter__(self) -> "Rig":
        await self.storage.start()
        self.storage.warm_up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.storage.stop()

    def fresh_client(self) -> Client:
        """Return a client that has nothing cached."""
        storage = self.storage
        readers = ReaderCache(storage.grid.servers, storage.cpu, reactor)
        return Client(
            storage._uploader, readers, storage._mutable, self.encoding, b"bench", reactor
        )

    async def seqnum(self, directory) -> int:
        """Return how often a directory was published."""
        return (
            await MutableFile(self.storage._mutable, directory.get_cap().inner).best_version()
        ).seqnum

    def forget_shares(self) -> None:
        """Delete all share files, to give the disk back."""
        for store in (self.folder / "servers").iterdir():
            for prefix in (store / "shares").iterdir():
                if prefix.name != "incoming":
                    shutil.rmtree(prefix)
