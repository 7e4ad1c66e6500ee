"""What every share store must do. Mix into a trial TestCase that provides `make_store`."""

import pytest

from tests.core.storage.contract import ALL, ENABLER, OTHER_SECRETS, OTHER_SI, SECRETS, SI, puts
from truckee.core.errors import BadWriteEnablerError, NoSuchShareError, ShareConflictError
from truckee.core.storage.api import LeaseSecrets, ReadVector, ShareKind, ShareStore

EXPIRY = 1_702_678_400


class StoreContract:
    async def make_store(self) -> ShareStore:
        raise self.failureException("say how to make a store")

    async def put(self, store, data, shnum=0, storage_index=SI):
        share = await store.create_immutable(storage_index, shnum, len(data), SECRETS, EXPIRY)
        await share.write(0, data)
        await share.commit()

    async def change(self, store, changes, vectors=(), enabler=ENABLER, storage_index=SI):
        return await store.change_mutable(storage_index, enabler, SECRETS, EXPIRY, changes, vectors)

    async def test_a_store_has_a_nodeid_and_space(self):
        store = await self.make_store()
        assert len(store.nodeid) == 20
        space = await store.space()
        assert space is None or space > 0

    async def test_a_share_is_seen_only_after_its_commit(self):
        store = await self.make_store()
        share = await store.create_immutable(SI, 4, 6, SECRETS, EXPIRY)
        await share.write(3, b"def")
        await share.write(0, b"abc")
        assert await share.read(1, 4) == b"bcde"
        assert await store.list(SI) == {}
        await share.commit()
        assert await store.list(SI) == {4: ShareKind.IMMUTABLE}
        stored = await store.open_immutable(SI, 4)
        assert stored.length == 6
        assert await stored.read(2, 100) == b"cdef"
        assert list(await store.open_all_immutable(SI)) == [4]

    async def test_a_share_of_any_size_can_be_read_while_it_is_written(self):
        store = await self.make_store()
        for size in (1, 1000, 131072, 131073, 400_000):
            data = bytes(i * 7 % 251 for i in range(size))
            share = await store.create_immutable(SI, size % 251, size, SECRETS, EXPIRY)
            half = size // 2
            await share.write(half, data[half:])
            await share.write(0, data[:half])
            assert await share.read(0, size) == data
            await share.commit()
            stored = await store.open_immutable(SI, size % 251)
            assert stored.length == size
            assert await stored.read(0, size) == data

    async def test_a_discarded_share_leaves_nothing(self):
        store = await self.make_store()
        share = await store.create_immutable(SI, 4, 300_000, SECRETS, EXPIRY)
        await share.write(0, bytes(200_000))
        await share.abort()
        await share.abort()
        assert await store.list(SI) == {}
        assert [each async for each in store.iterate()] == []

    async def test_what_is_not_there_cannot_be_opened(self):
        store = await self.make_store()
        await self.change(store, {1: puts(b"mutable")})
        for shnum in (0, 1):
            with pytest.raises(NoSuchShareError):
                await store.open_immutable(SI, shnum)

    async def test_delete_removes_one_share_and_is_harmless_twice(self):
        store = await self.make_store()
        await self.put(store, b"zero", 0)
        await self.put(store, b"one", 1)
        await store.delete(SI, 0)
        await store.delete(SI, 0)
        await store.delete(OTHER_SI, 0)
        assert await store.list(SI) == {1: ShareKind.IMMUTABLE}
        await store.delete(SI, 1)
        assert await store.list(SI) == {}

    async def test_iterate_names_every_share(self):
        store = await self.make_store()
        await self.put(store, b"zero", 0)
        await self.put(store, b"one", 255)
        await self.change(store, {3: puts(b"mutable")}, storage_index=OTHER_SI)
        seen = {(si, n, kind) async for si, n, size, kind in store.iterate() if size > 0}
        assert seen == {
            (SI, 0, ShareKind.IMMUTABLE),
            (SI, 255, ShareKind.IMMUTABLE),
            (OTHER_SI, 3, ShareKind.MUTABLE),
        }

    async def test_leases_are_added_to_named_shares_or_to_all(self):
        store = await self.make_store()
        await self.put(store, b"zero", 0)
        await self.put(store, b"one", 1)
        await self.change(store, {3: puts(b"mutable")}, storage_index=OTHER_SI)
        for index in (SI, OTHER_SI, b"?" * 16):
            await store.add_or_renew_lease(index, ALL, OTHER_SECRETS, EXPIRY)
            await store.add_or_renew_lease(index, frozenset({0}), SECRETS, EXPIRY + 100)
            for i in range(8):
                secrets = LeaseSecrets(bytes([i]) * 32, bytes(32))
                await store.add_or_renew_lease(index, ALL, secrets, EXPIRY)
        for n, data in {0: b"zero", 1: b"one"}.items():
            stored = await store.open_immutable(SI, n)
            assert stored.length == len(data)
            assert await stored.read(0, 100) == data
        got = await store.read_mutable(OTHER_SI, ALL, [ReadVector(0, 100)])
        assert {n: list(map(bytes, each)) for n, each in got.items()} == {3: [b"mutable"]}
        await self.change(store, {3: puts(b"longer than before")}, storage_index=OTHER_SI)
        got = await store.read_mutable(OTHER_SI, ALL, [ReadVector(0, 100)])
        assert bytes(got[3][0]) == b"longer than before"

    @pytest.mark.threat("G5")
    async def test_the_write_enabler_guards_the_slot(self):
        store = await self.make_store()
        await self.change(store, {3: puts(b"mutable")})
        with pytest.raises(BadWriteEnablerError):
            await self.change(store, {4: puts(b"x")}, enabler=b"?" * 32)

    @pytest.mark.threat("G5")
    async def test_an_immutable_share_is_never_overwritten(self):
        store = await self.make_store()
        await self.put(store, b"first")
        with pytest.raises(ShareConflictError):
            await self.change(store, {0: puts(b"x")})
        second = await store.create_immutable(SI, 0, 6, SECRETS, EXPIRY)
        await second.write(0, b"second")
        await second.commit()
        stored = await store.open_immutable(SI, 0)
        assert await stored.read(0, 10) == b"first"

    async def test_reports_are_kept(self):
        store = await self.make_store()
        await store.advise_corrupt(ShareKind.MUTABLE, SI, 5, "bad\n\x1bhash \ud800")
