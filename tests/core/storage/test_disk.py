import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.core.storage.contract import (
    ALL,
    ENABLER,
    OTHER_SECRETS,
    OTHER_SI,
    SECRETS,
    SI,
    ServerContract,
    puts,
    shnums,
)
from tests.core.storage.store_contract import EXPIRY, StoreContract
from tests.core.storage.test_slots import TEST_AND_SET, perform
from truckee.core.cpu import InlineCpu
from truckee.core.errors import BadWriteEnablerError, NoSuchShareError, ServerGoneError
from truckee.core.formats import base32, container
from truckee.core.storage.api import LeaseSecrets, ReadVector, ShareKind
from truckee.core.storage.disk import DiskStore
from truckee.core.storage.server import LocalServer

NODEID = bytes(range(20))


def new_folder(case):
    place = tempfile.TemporaryDirectory()
    case.addCleanup(place.cleanup)
    return Path(place.name) / "store"


async def new_store(case, **options):
    store = DiskStore(new_folder(case), InlineCpu(), nodeid=NODEID, **options)
    await store.open()
    case.addCleanup(store.close)
    return store


class DiskServerTests(ServerContract, TestCase):
    async def make_server(self):
        server = LocalServer(await new_store(self), Clock())
        self.addCleanup(server.stop)
        return server


class DiskStoreTests(StoreContract, TestCase):
    async def make_store(self):
        return await new_store(self)


class UnsyncedStoreTests(StoreContract, TestCase):
    async def make_store(self):
        return await new_store(self, fsync=False)


class LayoutTests(SynchronousTestCase):
    def setUp(self):
        self.store = self.do(new_store(self))
        self.root = Path(self.store.path)
        self.slot = self.root / "shares" / "aa" / "aaaqeayeaudaocajbifqydiob4"

    def do(self, coroutine):
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def fails(self, coroutine, error=ServerGoneError):
        self.failureResultOf(Deferred.fromCoroutine(coroutine), error)

    def put(self, data, shnum=0, storage_index=SI, store=None):
        async def run():
            share = await (store or self.store).create_immutable(
                storage_index, shnum, len(data), SECRETS, EXPIRY
            )
            if data:
                await share.write(0, data)
            await share.commit()

        return run()

    def change(self, changes, storage_index=SI):
        return self.store.change_mutable(storage_index, ENABLER, SECRETS, EXPIRY, changes, ())

    def files(self):
        return sorted(
            str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()
        )

    def reopened(self, **options):
        store = DiskStore(self.root, InlineCpu(), **options)
        self.do(store.open(create=False))
        self.addCleanup(store.close)
        return store

    @pytest.mark.threat("O1")
    def test_files_and_folders_are_ours_alone(self):
        self.do(self.put(b"small"))
        self.do(self.put(bytes(200_000), 1))
        self.do(self.change({3: puts(b"x")}, OTHER_SI))
        self.do(self.store.advise_corrupt(ShareKind.IMMUTABLE, SI, 0, "bad"))
        for path in [self.root, *self.root.rglob("*")]:
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path

    def test_shares_lie_where_a_storage_node_looks_for_them(self):
        self.do(self.put(b"small", 3))
        self.do(self.put(bytes(200_000), 12))
        assert self.files() == [
            "nodeid",
            "shares/aa/aaaqeayeaudaocajbifqydiob4/12",
            "shares/aa/aaaqeayeaudaocajbifqydiob4/3",
        ]
        assert os.listdir(self.root / "shares" / "incoming") == []
        assert (self.root / "nodeid").read_text().strip() == base32.b2a(NODEID)

    def test_immutable_files_are_byte_equal(self):
        for data in (b"0123456789", bytes(range(256)) * 1000):
            self.do(self.put(data, len(data) % 99))
            lease = container.new_lease(2, 0, SECRETS.renew, SECRETS.cancel, EXPIRY)
            expected = (
                container.ImmutableHeader(2, len(data), 1).encode()
                + data
                + container.encode_immutable_lease(lease)
            )
            assert (self.slot / str(len(data) % 99)).read_bytes() == expected

    def test_mutable_files_are_byte_equal_after_each_recorded_step(self):
        index = bytes.fromhex(TEST_AND_SET["storage_index"])
        name = base32.b2a(index)
        slot = self.root / "shares" / name[:2] / name
        for step in TEST_AND_SET["steps"]:
            d = Deferred.fromCoroutine(perform(self.store, step))
            if "error" in step:
                self.failureResultOf(d, BadWriteEnablerError)
            else:
                got = self.successResultOf(d)
                assert got.success == step["success"], step["desc"]
                data = {str(n): [each.hex() for each in pieces] for n, pieces in got.data.items()}
                assert data == step["data"], step["desc"]
            held = {}
            if slot.exists():
                held = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in slot.iterdir()}
            assert held == step["files_after"], step["desc"]

    def test_large_and_small_mutable_containers_are_built_alike(self):
        from truckee.core.storage import works

        steps = [
            {0: puts(b"a" * 3000)},
            {0: puts(b"b" * 100, new_length=500)},
            {0: puts(b"c" * 100, 900)},
            {0: puts(b"d" * 100, 9000)},
            {0: puts(b"", new_length=40)},
            {0: puts(b"e" * 50, 20000)},
        ]
        for step in steps:
            self.do(self.change(step))
        self.patch(works, "_IN_MEMORY", 0)
        for step in steps:
            self.do(self.change(step, OTHER_SI))
        found = {path.read_bytes() for path in self.root.rglob("0")}
        assert len(found) == 1

    def test_leases_are_byte_equal_and_version_one_stays(self):
        import json

        vectors = Path(__file__).parents[2] / "vectors"
        recorded = json.loads((vectors / "immutable.json").read_text())["container"]
        one = {v["version"]: v for v in recorded if len(v["leases"]) == 1}
        two = {v["version"]: v for v in recorded if len(v["leases"]) == 2}
        self.slot.mkdir(parents=True)
        for version in (1, 2):
            path = self.slot / "0"
            path.write_bytes(bytes.fromhex(one[version]["file_hex"]))
            for lease in two[version]["leases"]:
                secrets = LeaseSecrets(
                    bytes.fromhex(lease["renew_secret_hex"]),
                    bytes.fromhex(lease["cancel_secret_hex"]),
                )
                add = self.store.add_or_renew_lease(SI, ALL, secrets, lease["expires"])
                self.do(add)
                again = self.store.add_or_renew_lease(SI, ALL, secrets, 5)
                self.do(again)
            assert path.read_bytes().hex() == two[version]["file_hex"]
            stored = self.do(self.store.open_immutable(SI, 0))
            assert self.do(stored.read(0, 100)).hex() == two[version]["share_data_hex"]

    def test_a_version_one_mutable_share_is_read_changed_and_stays(self):
        import json

        vectors = Path(__file__).parents[2] / "vectors"
        recorded = json.loads((vectors / "mutable.json").read_text())["container_v1"]["hex"]
        self.slot.mkdir(parents=True)
        (self.slot / "0").write_bytes(bytes.fromhex(recorded))
        vectors = [ReadVector(0, 100)]
        assert self.do(self.store.read_mutable(SI, ALL, vectors)) == {0: [b"0123456789"]}
        work = self.store.change_mutable(
            SI, b"W" * 32, LeaseSecrets(b"R" * 32, b"C" * 32), 1_702_678_400, {0: puts(b"0")}, ()
        )
        assert self.do(work).success
        assert (self.slot / "0").read_bytes().hex() == recorded

    def test_a_renewal_across_two_sectors_replaces_the_file(self):
        size = 512 - 12 - 70  # the expiry's four bytes then begin at 510 - 68 + 68
        for extra in range(6):
            self.do(self.put(bytes(size + extra), extra))
        before = {n: (self.slot / str(n)).stat().st_ino for n in range(6)}
        self.do(self.store.add_or_renew_lease(SI, ALL, SECRETS, EXPIRY + 0x01020304))
        after = {n: (self.slot / str(n)).stat().st_ino for n in range(6)}
        assert 1 <= sum(before[n] != after[n] for n in range(6)) <= 3
        for n in range(6):
            raw = (self.slot / str(n)).read_bytes()
            assert len(raw) == size + n + 84
            assert raw[-4:] == (EXPIRY + 0x01020304).to_bytes(4, "big")

    def test_remains_of_uploads_are_removed_at_the_start_and_nothing_else_is(self):
        self.do(self.put(b"kept"))
        share = self.do(self.store.create_immutable(SI, 1, 200_000, SECRETS, EXPIRY))
        self.do(share.write(0, bytes(100_000)))
        incoming = self.root / "shares" / "incoming"
        assert len(os.listdir(incoming)) == 1
        (incoming / "aa" / "x").mkdir(parents=True)
        (incoming / "aa" / "x" / "3").write_text("left behind by another program")
        outside = self.root / "outside"
        outside.mkdir()
        (outside / "precious").write_text("!")
        (incoming / "link").symlink_to(outside)
        store = self.reopened()
        assert os.listdir(incoming) == []
        assert (outside / "precious").exists()
        assert store.nodeid == NODEID
        assert self.do(store.list(SI)) == {0: ShareKind.IMMUTABLE}
        self.do(share.abort())

    def test_opening_again_disturbs_no_upload_that_is_under_way(self):
        share = self.do(self.store.create_immutable(SI, 1, 200_000, SECRETS, EXPIRY))
        self.do(share.write(0, bytes(200_000)))
        self.do(self.store.open(create=False))
        self.do(share.commit())
        assert self.do(self.store.list(SI)) == {1: ShareKind.IMMUTABLE}

    def test_an_aborted_upload_leaves_no_file(self):
        share = self.do(self.store.create_immutable(SI, 1, 200_000, SECRETS, EXPIRY))
        self.do(share.write(0, bytes(100_000)))
        self.do(share.abort())
        assert self.files() == ["nodeid"]
        self.fails(share.write(0, b"x"), NoSuchShareError)
        self.fails(share.commit(), NoSuchShareError)

    @pytest.mark.threat("O7")
    def test_foreign_and_damaged_files_are_passed_over(self):
        self.do(self.put(b"good", 5))
        self.do(self.change({6: puts(b"good too")}))
        secret = self.root / "secret"
        secret.write_bytes((self.slot / "5").read_bytes())
        for name in ("x", "-1", "+1", "1_0", "01", "256", "999999999999", "\u0661", "5.tmp"):
            (self.slot / name).write_bytes((self.slot / "5").read_bytes())
        (self.slot / "10").symlink_to(secret)
        (self.slot / "11").mkdir()
        os.mkfifo(self.slot / "12")
        (self.slot / "13").write_bytes(b"")
        (self.slot / "14").write_bytes(b"\0\0\0\2\0\0\0\1\xff\xff\xff\xff" + bytes(100))
        (self.slot / "15").write_bytes((self.slot / "6").read_bytes()[:400])
        (self.slot / "16").write_bytes(b"Tahoe mutable container v3\n" + bytes(1000))
        (self.slot / "17").symlink_to("17")
        assert self.do(self.store.list(SI)) == {5: ShareKind.IMMUTABLE, 6: ShareKind.MUTABLE}
        assert self.do(self.store.open_all_immutable(SI)).keys() == {5}
        self.do(self.store.add_or_renew_lease(SI, ALL, OTHER_SECRETS, EXPIRY))
        got = self.do(self.store.read_mutable(SI, ALL, [ReadVector(0, 100)]))
        assert got == {6: [b"good too"]}
        assert self.store.damaged == 8

        async def walk():
            return [each[1] async for each in self.store.iterate()]

        assert self.do(walk()) == [5, 6]
        events = self.flushLoggedErrors()
        assert events == []

    def test_a_damaged_immutable_file_is_replaced_by_a_new_upload(self):
        self.slot.mkdir(parents=True)
        for junk in (b"", b"garbage"):
            (self.slot / "0").write_bytes(junk)
            server = LocalServer(self.store, Clock())
            got = self.do(server.allocate_buckets(SI, SECRETS, shnums(0), 4))
            assert got.already == shnums()
            self.do(got.writers[0].write(0, b"data"))
            self.do(got.writers[0].close())
            share = self.do(self.store.open_immutable(SI, 0))
            assert self.do(share.read(0, 10)) == b"data"

    def test_odd_folders_are_no_storage_indexes(self):
        self.do(self.put(b"good", 5))
        for name in (
            "aa/short",
            "aa/AAAQEAYEAUDAOCAJBIFQYDIOB4",
            "zz/" + "a" * 26,
            "x/y",
            "bb/file",
        ):
            (self.root / "shares" / name).mkdir(parents=True)
        (self.root / "shares" / "cc").write_text("a file")

        async def walk():
            return [each async for each in self.store.iterate()]

        assert [(si, n) for si, n, _, _ in self.do(walk())] == [(SI, 5)]

    def test_a_vanished_folder_is_a_failed_server_until_it_is_back(self):
        self.do(self.put(b"data"))
        reader = self.do(self.store.open_immutable(SI, 0))
        assert self.do(reader.read(0, 9)) == b"data"
        away = self.root.with_name("away")
        for _ in range(2):
            self.root.rename(away)
            self.fails(reader.read(0, 9))
            self.fails(self.store.list(SI))
            self.fails(self.store.list(OTHER_SI))
            self.fails(self.store.open_all_immutable(SI))
            self.fails(self.store.read_mutable(SI, ALL, [ReadVector(0, 1)]))
            self.fails(self.change({1: puts(b"x")}))
            self.fails(self.put(b"x", 1))
            self.fails(self.put(bytes(200_000), 1))
            self.fails(self.store.add_or_renew_lease(SI, ALL, SECRETS, EXPIRY))
            self.fails(self.store.advise_corrupt(ShareKind.MUTABLE, SI, 0, "?"))
            self.fails(self.store.delete(SI, 0))
            assert not self.root.exists()
            away.rename(self.root)
            assert self.do(reader.read(0, 9)) == b"data"
            assert self.do(self.store.list(SI)) == {0: ShareKind.IMMUTABLE}
        self.do(self.put(b"more", 1))

    def test_another_stores_folder_in_its_place_is_refused(self):
        self.do(self.put(b"data"))
        (self.root / "nodeid").unlink()
        (self.root / "nodeid").write_text(base32.b2a(b"x" * 20))
        self.fails(self.store.list(SI))
        (self.root / "nodeid").unlink()
        (self.root / "nodeid").write_text("junk")
        self.fails(self.store.list(SI))

    def test_a_copy_put_back_is_read_and_the_old_files_no_more(self):
        import shutil

        self.do(self.put(b"data"))
        self.do(self.put(b"more", 1))
        readers = self.do(self.store.open_all_immutable(SI))
        shutil.copytree(self.root, self.root.with_name("copy"))
        self.root.rename(self.root.with_name("away"))
        self.root.with_name("copy").rename(self.root)
        (self.slot / "1").unlink()
        assert self.do(readers[0].read(0, 9)) == b"data"
        self.fails(readers[1].read(0, 9), NoSuchShareError)

    def test_a_share_removed_by_hand_is_gone_for_its_readers_too(self):
        self.do(self.put(b"data"))
        reader = self.do(self.store.open_immutable(SI, 0))
        (self.slot / "0").unlink()
        self.fails(reader.read(0, 9), NoSuchShareError)
        assert self.do(self.store.list(SI)) == {}
        self.do(self.put(b"data"))
        assert self.do(reader.read(0, 9)) == b"data"

    def test_shares_removed_by_hand_with_their_folders_leave_a_working_store(self):
        import shutil

        self.do(self.put(b"data"))
        shutil.rmtree(self.root / "shares")
        assert self.do(self.store.list(SI)) == {}
        self.do(self.put(b"data", 1))
        self.do(self.change({1: puts(b"x")}, OTHER_SI))
        assert self.do(self.store.list(SI)) == {1: ShareKind.IMMUTABLE}

    def test_a_store_that_is_not_there_yet_is_used_when_it_comes(self):
        late = DiskStore(self.root.with_name("late"), InlineCpu(), nodeid=NODEID)
        self.fails(late.open(create=False))
        assert late.nodeid == NODEID
        self.fails(late.list(SI))
        self.root.rename(self.root.with_name("late"))
        assert self.do(late.list(SI)) == {}
        unknown = DiskStore(self.root, InlineCpu())
        self.fails(unknown.open(create=False))
        with pytest.raises(ServerGoneError):
            unknown.nodeid  # noqa: B018

    @pytest.mark.threat("D2")
    def test_descriptors_are_few_and_all_are_closed(self):
        before = set(os.listdir("/proc/self/fd"))
        self.store = self.reopened(fsync=False)
        for n in range(4):
            for k in range(100):
                self.do(self.put(b"data", k, bytes([n]) * 16))
        readers = [self.do(self.store.open_all_immutable(bytes([n]) * 16)) for n in range(4)]
        assert len(set(os.listdir("/proc/self/fd")) - before) <= 260
        for found in readers:
            for reader in found.values():
                assert self.do(reader.read(1, 2)) == b"at"
        assert len(set(os.listdir("/proc/self/fd")) - before) <= 260
        self.store.close()
        assert set(os.listdir("/proc/self/fd")) <= before

    @pytest.mark.threat("G7")
    def test_reports_have_the_recorded_form_and_a_bounded_number(self):
        from truckee.core.storage import advisories

        self.patch(advisories, "MAX_REPORTS", 3)
        moments = iter([1_763_627_663.284653 + n for n in range(6)])
        self.store._wall = lambda: next(moments)
        for _ in range(5):
            report = "expected hash abcd, got hash efgh\n"
            self.do(self.store.advise_corrupt(ShareKind.IMMUTABLE, b"B" * 16, 1, report))
        folder = self.root / "corruption-advisories"
        names = sorted(os.listdir(folder))
        assert len(names) == 3
        assert names[0] == "2025-11-20T083425.284653--ijbeeqscijbeeqscijbeeqscii-1"
        assert (folder / names[0]).read_text() == (
            "report: Share Corruption\ntype: immutable\n"
            "storage_index: ijbeeqscijbeeqscijbeeqscii\nshare_number: 1\n\n"
            "expected hash abcd, got hash efgh\n\n\n"
        )
        with_everything = "x" * 100_000
        self.do(self.store.advise_corrupt(ShareKind.IMMUTABLE, SI, 1, with_everything))
        assert max(path.stat().st_size for path in folder.iterdir()) <= 33_000

    def test_the_share_paths_are_the_recorded_ones(self):
        import json

        vectors = Path(__file__).parents[2] / "vectors"
        for each in json.loads((vectors / "grid.json").read_text())["share_paths"]:
            index = bytes.fromhex(each["storage_index_hex"])
            slot = self.store._folder.slot_path(index)
            assert f"storage{slot.removeprefix(str(self.root))}/3" == each["path"]
