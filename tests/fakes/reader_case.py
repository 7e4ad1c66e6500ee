"""The case that reader tests share: a grid of memory servers under rules, a cache of readers."""

import hashlib

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes.chk_shares import encode_chk, make_servers, spread, stream
from tests.fakes.consumers import GatheringConsumer
from truckee.core.cpu import InlineCpu
from truckee.core.download.cache import ReaderCache
from truckee.core.storage.faults import Faults


class ReaderCase(SynchronousTestCase):
    """A grid of memory servers under rules that break them, and a cache of readers."""

    cpu = InlineCpu()

    def setUp(self):
        self.clock = Clock()
        self.faults = Faults(self.clock)
        self.set_servers(10)
        self.cache = ReaderCache(lambda: self.servers, self.cpu, self.clock)

    def set_servers(self, count):
        self.stores, plain = make_servers(count, self.clock)
        self.servers = [self.faults.wrap(server) for server in plain]

    def store(self, size=5000, k=3, n=10, max_segment_size=1024, seed="file", **options):
        key = hashlib.sha256(seed.encode()).digest()[:16]
        file = encode_chk(stream(seed, size), k, n, max_segment_size, key=key, **options)
        spread(self.stores, file)
        return file

    def start(self, file, offset=0, size=None, consumer=None):
        consumer = consumer or GatheringConsumer()
        reader = self.cache.get(file.cap)
        return consumer, Deferred.fromCoroutine(reader.read(consumer, offset, size))

    def read(self, file, offset=0, size=None):
        consumer, d = self.start(file, offset, size)
        self.successResultOf(d)
        assert consumer.registered == consumer.unregistered
        return consumer.data

    def fail_to_read(self, file, error, offset=0, size=None):
        consumer, d = self.start(file, offset, size)
        failure = self.failureResultOf(d, error)
        assert consumer.registered == consumer.unregistered == 1
        assert file.plaintext[offset:].startswith(consumer.data)
        return failure.value

    def holders(self, file):
        """Return the servers by the share number they hold."""
        si = file.cap.storage_index
        return {
            n: s
            for s, st in zip(self.servers, self.stores, strict=True)
            for n in st.shares.get(si, {})
        }

    def calls(self, name):
        return sum(1 for _, call in self.faults.calls if call == name)
