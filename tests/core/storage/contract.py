"""What every storage server must do. Mix into a trial TestCase that provides `make_server`.

Nothing here knows what kind of server it is: one in this process or one behind HTTPS.
"""

import pytest

from truckee.core.errors import (
    BadWriteEnablerError,
    NoSpaceError,
    ShareConflictError,
    StorageError,
)
from truckee.core.storage.api import (
    LeaseSecrets,
    ReadVector,
    ShareKind,
    StorageServer,
    TestVector,
    TestWriteVectors,
    WriteVector,
)

SI = bytes(range(16))
OTHER_SI = bytes(16)
SECRETS = LeaseSecrets(b"R" * 32, b"C" * 32)
OTHER_SECRETS = LeaseSecrets(b"r" * 32, b"c" * 32)
ENABLER = b"W" * 32
ALL = frozenset[int]()
MUST_NOT_EXIST = TestVector(0, 1, b"")


def shnums(*numbers):
    return frozenset(numbers)


def puts(data, offset=0, tests=(), new_length=None):
    return TestWriteVectors(tests, [WriteVector(offset, data)], new_length)


class ServerContract:
    async def make_server(self) -> StorageServer:
        raise self.failureException("say how to make a server")

    async def put(self, server, data, shnum=0, storage_index=SI, secrets=SECRETS):
        got = await server.allocate_buckets(storage_index, secrets, shnums(shnum), len(data))
        if data:
            await got.writers[shnum].write(0, data)
        await got.writers[shnum].close()

    async def contents(self, server, storage_index=SI):
        readers = await server.get_buckets(storage_index)
        return {n: bytes(await reader.read(0, 1 << 20)) for n, reader in readers.items()}

    async def change(self, server, changes, vectors=(), enabler=ENABLER, storage_index=SI):
        return await server.slot_testv_and_readv_and_writev(
            storage_index, enabler, SECRETS, changes, vectors
        )

    async def slot(self, server, storage_index=SI):
        got = await server.slot_readv(storage_index, ALL, [ReadVector(0, 1 << 20)])
        return {n: bytes(pieces[0]) for n, pieces in got.items()}

    # identity

    async def test_a_server_has_an_identity_and_a_version(self):
        server = await self.make_server()
        assert server.server_id
        assert server.name
        assert server.permutation_seed
        assert len(server.lease_seed) == 20
        version = await server.get_version()
        assert version.available_space > 0
        assert version.maximum_immutable_share_size > 0
        assert version.maximum_mutable_share_size > 1 << 30

    # immutable shares

    async def test_what_was_written_and_closed_is_read_back(self):
        server = await self.make_server()
        data = bytes(range(256)) * 16
        got = await server.allocate_buckets(SI, SECRETS, shnums(3), len(data))
        assert got.already == shnums()
        writer = got.writers[3]
        await writer.write(1000, memoryview(data)[1000:])
        await writer.write(0, bytearray(data[:1000]))
        assert await server.get_buckets(SI) == {}
        await writer.close()
        readers = await server.get_buckets(SI)
        assert list(readers) == [3]
        read = readers[3].read
        assert await read(0, len(data)) == data
        assert await read(5, 7) == data[5:12]
        assert await read(len(data) - 3, 100) == data[-3:]
        assert await read(len(data), 5) == b""
        assert await read(len(data) + 1000, 5) == b""
        assert await read(0, 0) == b""

    async def test_large_shares_are_read_back(self):
        server = await self.make_server()
        piece = bytes(range(256)) * 1024
        got = await server.allocate_buckets(SI, SECRETS, shnums(0, 1), 4 * len(piece))
        for writer in got.writers.values():
            for i in range(4):
                await writer.write(i * len(piece), piece)
        for writer in got.writers.values():
            await writer.close()
        assert await self.contents(server) == {0: 4 * piece, 1: 4 * piece}

    async def test_an_unknown_storage_index_has_no_shares(self):
        server = await self.make_server()
        await self.put(server, b"x")
        assert await server.get_buckets(OTHER_SI) == {}

    async def test_an_empty_share_can_be_stored(self):
        server = await self.make_server()
        await self.put(server, b"")
        assert await self.contents(server) == {0: b""}

    async def test_a_complete_share_is_reported_asked_for_or_not_and_not_taken_again(self):
        server = await self.make_server()
        await self.put(server, b"old", 3)
        got = await server.allocate_buckets(SI, SECRETS, shnums(3, 4), 3)
        assert got.already == shnums(3)
        assert got.writers.keys() == {4}
        got = await server.allocate_buckets(SI, SECRETS, shnums(), 3)
        assert got.already == shnums(3)

    async def test_a_number_in_progress_is_neither_there_nor_given(self):
        server = await self.make_server()
        first = await server.allocate_buckets(SI, SECRETS, shnums(1, 2), 4)
        again = await server.allocate_buckets(SI, OTHER_SECRETS, shnums(1, 5), 4)
        assert again.already == shnums()
        assert again.writers.keys() == {5}
        await first.writers[1].write(0, b"1234")
        await first.writers[1].close()
        assert await self.contents(server) == {1: b"1234"}
        third = await server.allocate_buckets(SI, SECRETS, shnums(1, 2, 5), 4)
        assert third.already == shnums(1)
        assert third.writers == {}

    async def test_an_aborted_share_leaves_nothing_and_its_number_free(self):
        server = await self.make_server()
        got = await server.allocate_buckets(SI, SECRETS, shnums(1), 4)
        await got.writers[1].write(0, b"12")
        await got.writers[1].abort()
        await got.writers[1].abort()
        assert await server.get_buckets(SI) == {}
        again = await server.allocate_buckets(SI, SECRETS, shnums(1), 2)
        await again.writers[1].write(0, b"ok")
        await again.writers[1].close()
        await again.writers[1].abort()
        assert await self.contents(server) == {1: b"ok"}

    @pytest.mark.threat("G2")
    async def test_space_of_an_abandoned_upload_comes_back(self):
        server = await self.make_server()
        before = (await server.get_version()).available_space
        got = await server.allocate_buckets(SI, SECRETS, shnums(1), 1 << 30)
        await got.writers[1].abort()
        after = (await server.get_version()).available_space
        assert after > before - (1 << 29)

    @pytest.mark.threat("G3")
    async def test_a_share_too_large_for_the_server_is_silently_refused(self):
        server = await self.make_server()
        got = await server.allocate_buckets(SI, SECRETS, shnums(0, 1), (1 << 63))
        assert got.already == shnums()
        assert got.writers == {}

    async def test_writing_the_same_bytes_twice_is_harmless_and_other_bytes_are_refused(self):
        server = await self.make_server()
        got = await server.allocate_buckets(SI, SECRETS, shnums(0), 8)
        writer = got.writers[0]
        await writer.write(0, b"abcd")
        await writer.write(2, b"cdef")
        with pytest.raises(ShareConflictError):
            await writer.write(3, b"Xef")
        await writer.write(6, b"gh")
        await writer.close()
        assert await self.contents(server) == {0: b"abcdefgh"}

    @pytest.mark.threat("G3")
    async def test_a_write_beyond_the_allocated_size_is_refused(self):
        server = await self.make_server()
        got = await server.allocate_buckets(SI, SECRETS, shnums(0), 8)
        with pytest.raises(StorageError):
            await got.writers[0].write(5, b"four")
        await got.writers[0].abort()

    async def test_a_share_with_holes_cannot_be_closed(self):
        server = await self.make_server()
        got = await server.allocate_buckets(SI, SECRETS, shnums(0), 8)
        await got.writers[0].write(0, b"abcd")
        with pytest.raises(StorageError):
            await got.writers[0].close()
        assert await server.get_buckets(SI) == {}

    async def test_shares_of_one_storage_index_are_independent(self):
        server = await self.make_server()
        for n in range(10):
            await self.put(server, b"share %d" % n, n)
        assert await self.contents(server) == {n: b"share %d" % n for n in range(10)}

    async def test_a_corrupt_share_can_be_reported(self):
        server = await self.make_server()
        await self.put(server, b"x")
        readers = await server.get_buckets(SI)
        await readers[0].advise_corrupt_share("bad hash")
        await server.advise_corrupt_share(ShareKind.IMMUTABLE, SI, 0, "bad h\u00e4sh")

    async def test_leases_can_be_added_to_what_is_there_and_to_what_is_not(self):
        server = await self.make_server()
        await self.put(server, b"abc")
        await self.change(server, {7: puts(b"mutable")}, storage_index=OTHER_SI)
        for index in (SI, OTHER_SI, b"?" * 16):
            await server.add_lease(index, SECRETS)
            await server.add_lease(index, OTHER_SECRETS)
        assert await self.contents(server) == {0: b"abc"}
        assert await self.slot(server, OTHER_SI) == {7: b"mutable"}

    # mutable shares

    async def test_a_mutable_share_is_created_and_read(self):
        server = await self.make_server()
        got = await self.change(server, {0: puts(b"0123456789", tests=[MUST_NOT_EXIST])})
        assert got.success
        assert got.data == {}
        vectors = [ReadVector(2, 3), ReadVector(8, 100), ReadVector(10, 1), ReadVector(99, 1)]
        read = await server.slot_readv(SI, shnums(0), vectors)
        assert {n: list(map(bytes, each)) for n, each in read.items()} == {
            0: [b"234", b"89", b"", b""]
        }

    async def test_reading_names_shares_or_takes_all(self):
        server = await self.make_server()
        await self.change(server, {n: puts(b"%d" % n) for n in range(4)})
        assert await self.slot(server) == {0: b"0", 1: b"1", 2: b"2", 3: b"3"}
        got = await server.slot_readv(SI, shnums(1, 3, 9), [ReadVector(0, 1)])
        assert got.keys() == {1, 3}
        assert await server.slot_readv(OTHER_SI, ALL, [ReadVector(0, 1)]) == {}

    async def test_a_failed_test_changes_nothing_anywhere_and_returns_what_was_read(self):
        server = await self.make_server()
        await self.change(server, {0: puts(b"zero"), 1: puts(b"one")})
        got = await self.change(
            server,
            {0: puts(b"ZERO"), 1: puts(b"ONE", tests=[TestVector(0, 3, b"two")]), 2: puts(b"x")},
            [ReadVector(0, 3)],
        )
        assert not got.success
        assert got.data == {0: [b"zer"], 1: [b"one"]}
        assert await self.slot(server) == {0: b"zero", 1: b"one"}

    @pytest.mark.threat("G5")
    async def test_all_shares_are_read_before_any_is_written(self):
        server = await self.make_server()
        await self.change(server, {0: puts(b"old0"), 1: puts(b"old1")})
        got = await self.change(server, {0: puts(b"new0")}, [ReadVector(0, 4), ReadVector(3, 9)])
        assert got.success
        assert got.data == {0: [b"old0", b"0"], 1: [b"old1", b"1"]}
        assert await self.slot(server) == {0: b"new0", 1: b"old1"}

    async def test_tests_compare_what_is_there_cut_at_the_end(self):
        server = await self.make_server()
        await self.change(server, {0: puts(b"abcdef")})
        cases = [
            (TestVector(4, 10, b"ef"), True),
            (TestVector(4, 2, b"ef"), True),
            (TestVector(4, 2, b"e"), False),
            (TestVector(6, 1, b""), True),
            (TestVector(0, 6, b"abcdeF"), False),
            (MUST_NOT_EXIST, False),
        ]
        for test, expected in cases:
            got = await self.change(server, {0: TestWriteVectors([test])})
            assert got.success == expected, test

    async def test_a_missing_share_tests_as_empty_at_any_offset(self):
        server = await self.make_server()
        tests = [TestVector(100, 5, b""), TestVector(0, 0, b"")]
        assert (await self.change(server, {0: TestWriteVectors(tests)})).success
        assert not (
            await self.change(server, {1: puts(b"", tests=[TestVector(0, 1, b"x")])})
        ).success

    async def test_writes_overlap_in_order_and_holes_read_as_zeros(self):
        server = await self.make_server()
        writes = [WriteVector(0, b"aaaa"), WriteVector(2, b"bbbb"), WriteVector(9, b"c")]
        await self.change(server, {0: TestWriteVectors((), writes)})
        assert await self.slot(server) == {0: b"aabbbb\0\0\0c"}

    async def test_new_length_cuts_but_never_extends(self):
        server = await self.make_server()
        await self.change(server, {0: puts(b"0123456789")})
        await self.change(server, {0: puts(b"ab", new_length=6)})
        assert await self.slot(server) == {0: b"ab2345"}
        await self.change(server, {0: TestWriteVectors((), (), 50)})
        assert await self.slot(server) == {0: b"ab2345"}
        await self.change(server, {0: puts(b"zz", 10)})
        assert await self.slot(server) == {0: b"ab2345\0\0\0\0zz"}

    async def test_new_length_zero_deletes(self):
        server = await self.make_server()
        await self.change(server, {0: puts(b"zero"), 1: puts(b"one")})
        got = await self.change(server, {0: TestWriteVectors((), (), 0)}, [ReadVector(0, 9)])
        assert got.data == {0: [b"zero"], 1: [b"one"]}
        assert await self.slot(server) == {1: b"one"}
        await self.change(server, {0: TestWriteVectors((), (), 0), 1: puts(b"x", new_length=0)})
        assert await self.slot(server) == {}
        # the slot is gone with its enabler
        assert (await self.change(server, {1: puts(b"new")}, enabler=b"V" * 32)).success

    @pytest.mark.threat("G5")
    async def test_a_wrong_write_enabler_does_nothing(self):
        server = await self.make_server()
        await self.change(server, {0: puts(b"mine")})
        for enabler in (b"V" * 32, b"", b"W" * 31):
            for changes in ({0: puts(b"x")}, {1: puts(b"x")}, {0: TestWriteVectors((), (), 0)}):
                with pytest.raises(BadWriteEnablerError):
                    await self.change(server, changes, enabler=enabler)
        assert await self.slot(server) == {0: b"mine"}

    async def test_large_mutable_shares_are_edited_in_the_middle(self):
        server = await self.make_server()
        data = bytes(range(256)) * 8192
        await self.change(server, {0: puts(data)})
        await self.change(server, {0: puts(b"HERE", 1_000_000)})
        got = await server.slot_readv(SI, ALL, [ReadVector(999_998, 8), ReadVector(0, 1 << 22)])
        expected = data[:1_000_000] + b"HERE" + data[1_000_004:]
        assert list(map(bytes, got[0])) == [expected[999_998:1_000_006], expected]
        await self.change(server, {0: TestWriteVectors((), (), 5)})
        assert await self.slot(server) == {0: data[:5]}

    @pytest.mark.threat("G3")
    async def test_a_write_far_behind_the_end_is_refused(self):
        server = await self.make_server()
        await self.change(server, {0: puts(b"x")})
        with pytest.raises(NoSpaceError):
            await self.change(server, {0: puts(b"x", 1 << 50)})
        assert await self.slot(server) == {0: b"x"}

    async def test_an_empty_request_on_an_unknown_slot_succeeds(self):
        server = await self.make_server()
        got = await self.change(server, {}, [ReadVector(0, 10)])
        assert got.success
        assert got.data == {}

    async def test_immutable_and_mutable_shares_are_not_taken_for_each_other(self):
        server = await self.make_server()
        await self.put(server, b"immutable", 0)
        assert await self.slot(server) == {}
        with pytest.raises(StorageError):
            await self.change(server, {0: puts(b"overwrite")})
        assert await self.contents(server) == {0: b"immutable"}
        await self.change(server, {0: puts(b"mutable")}, storage_index=OTHER_SI)
        assert await server.get_buckets(OTHER_SI) == {}
        got = await server.allocate_buckets(OTHER_SI, SECRETS, shnums(0), 4)
        assert got.writers == {}
        assert await self.slot(server, OTHER_SI) == {0: b"mutable"}
