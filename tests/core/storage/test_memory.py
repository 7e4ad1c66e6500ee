from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.core.storage.contract import SECRETS, SI, ServerContract, shnums
from tests.core.storage.store_contract import StoreContract
from truckee.core.storage.memory import MemoryStore
from truckee.core.storage.server import LocalServer


class MemoryServerTests(ServerContract, TestCase):
    async def make_server(self):
        return LocalServer(MemoryStore(b"n" * 20), Clock())


class MemoryStoreTests(StoreContract, TestCase):
    async def make_store(self):
        return MemoryStore(b"n" * 20)


class QuotaTests(SynchronousTestCase):
    def test_a_full_store_refuses_bytes_and_takes_them_after_a_deletion(self):
        from twisted.internet.defer import Deferred

        async def run():
            store = MemoryStore(b"n" * 20, quota=10)
            server = LocalServer(store, Clock())
            got = await server.allocate_buckets(SI, SECRETS, shnums(0, 1, 2), 4)
            assert got.writers.keys() == {0, 1}
            for writer in got.writers.values():
                await writer.write(0, b"1234")
                await writer.close()
            assert (await server.get_version()).available_space == 2
            await store.delete(SI, 0)
            assert (await server.get_version()).available_space == 6

        self.successResultOf(Deferred.fromCoroutine(run()))
