"""A grid of local servers over memory, each behind the same set of faults, on a virtual clock."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from truckee.core.cpu import InlineCpu
from truckee.core.interfaces import Encoding
from truckee.core.storage.faults import Faults
from truckee.core.storage.memory import MemoryStore
from truckee.core.storage.server import LocalServer
from truckee.core.upload.sources import BytesSource
from truckee.core.upload.upload import Uploader


class UploadGrid:
    """`servers` are what the uploader sees; `local` and `stores` stand behind them."""

    def __init__(self, count, cpu=None):
        self.clock = Clock()
        self.faults = Faults(self.clock)
        self.stores = [MemoryStore(bytes([i]) * 20) for i in range(count)]
        self.local = [LocalServer(store, self.clock, wall=lambda: 0) for store in self.stores]
        self.servers = [self.faults.wrap(server) for server in self.local]
        self.cpu = cpu or InlineCpu()
        self.uploader = self.uploader_for(self.servers)

    def uploader_for(self, servers):
        return Uploader(lambda: servers, self.cpu, self.clock, b"l" * 32, random=lambda n: b"r" * n)

    def start(self, data, encoding=None, convergence=b"", uploader=None, source=None):
        """Start an upload and return its Deferred."""
        return Deferred.fromCoroutine(
            (uploader or self.uploader).upload(
                source or BytesSource(data), encoding or Encoding(), convergence
            )
        )

    def wait(self, d, seconds=300):
        """Let time pass until `d` has fired, and return for how long."""
        for passed in range(seconds):
            if d.called:
                return passed
            self.clock.advance(1)
        return seconds

    def shares(self, storage_index):
        """Return the stored shares: number -> list of (index of the server, bytes)."""
        found = {}
        for i, store in enumerate(self.stores):
            for shnum, share in store.shares.get(storage_index, {}).items():
                found.setdefault(shnum, []).append((i, bytes(share.data)))
        return found

    def reserved(self):
        return sum(server.reserved for server in self.local)
