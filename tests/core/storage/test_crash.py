"""Power cuts, kills and failing system calls at every step of every change of a disk store."""

import contextlib
import errno
from dataclasses import dataclass, field

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.core.storage.contract import ENABLER, OTHER_SECRETS, OTHER_SI, SECRETS, SI, puts, shnums
from tests.fakes.simdisk import SimDisk
from truckee.core.cpu import InlineCpu
from truckee.core.errors import StorageError
from truckee.core.formats import container
from truckee.core.storage import diskshares, sync, works
from truckee.core.storage.api import ReadVector, ShareKind, TestWriteVectors
from truckee.core.storage.disk import DiskStore
from truckee.core.storage.server import LocalServer

NODEID = bytes(range(20))
ROOT = "/store"
LARGE = 3000
SMALL = 700
EVERYTHING = 1 << 20
LATER = 100 * 24 * 3600


def done(awaitable):
    """Return what a coroutine that never waits gives."""
    outcome = []
    Deferred.fromCoroutine(awaitable).addBoth(outcome.append)
    assert outcome, "it waits"
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]


def contents(store, index):
    """Return {number: (kind, data)} of a storage index; every lease must be readable."""
    found = {}
    for n, share in done(store.open_all_immutable(index)).items():
        found[n] = (ShareKind.IMMUTABLE, bytes(done(share.read(0, EVERYTHING))))
    got = done(store.read_mutable(index, frozenset(), [ReadVector(0, EVERYTHING)]))
    for n, pieces in got.items():
        found[n] = (ShareKind.MUTABLE, pieces[0])
    return found


@dataclass
class Case:
    """A disk with a store; what each share may be, oldest first, and how many are acknowledged."""

    disk: SimDisk = field(default_factory=SimDisk)
    versions: dict = field(default_factory=dict)  # (index, n) -> values, None for absent
    reached: dict = field(default_factory=dict)  # (index, n) -> position of the acknowledged one
    states: int = 0

    def __post_init__(self):
        self.store = DiskStore(ROOT, InlineCpu(), files=self.disk, nodeid=NODEID)
        done(self.store.open())
        self.server = LocalServer(self.store, Clock(), wall=lambda: 1.7e9)

    def may_become(self, index, n, kind, data):
        value = None if data is None else (kind, data)
        self.versions.setdefault((index, n), [None]).append(value)
        self.reached.setdefault((index, n), 0)

    def acknowledge(self):
        for key, values in self.versions.items():
            self.reached[key] = len(values) - 1

    @contextlib.contextmanager
    def prepared(self):
        """Inside, the disk neither loses its power nor fails."""
        observe, fail = self.disk.observe, self.disk.fail
        self.disk.observe = lambda: None
        self.disk.fail = lambda name: None
        yield
        self.disk.observe, self.disk.fail = observe, fail

    def cut(self):
        """Look at everything that may be left if the power fails now."""
        with self.prepared():
            for left in self.disk.remainders(self.states):
                self.states += 1
                self.check(left)

    def check(self, disk, exactly=False):
        store = DiskStore(ROOT, InlineCpu(), files=disk, nodeid=NODEID)
        done(store.open(create=False))
        found = {index: contents(store, index) for index in {i for i, _ in self.versions}}
        for (index, n), values in self.versions.items():
            allowed = values[self.reached[index, n] :]
            assert found[index].get(n) in allowed, (n, self.disk.calls[-3:])
        for index, held in found.items():
            assert {(index, n) for n in held} <= self.versions.keys()
        assert disk.listdir(f"{ROOT}/shares/incoming") == []
        assert not store.damaged
        store.close()
        assert disk.open_count == 0


# the changes


async def upload(case, index, numbers, size, mark):
    data = {n: bytes([mark, n]) * (size // 2) for n in numbers}
    for n in numbers:
        case.may_become(index, n, ShareKind.IMMUTABLE, data[n])
    got = await case.server.allocate_buckets(index, SECRETS, shnums(*numbers), size)
    for n, writer in got.writers.items():
        half = size // 2
        await writer.write(half, data[n][half:])
        await writer.write(0, data[n][:half])
    for n, writer in got.writers.items():
        await writer.close()
        case.reached[index, n] = len(case.versions[index, n]) - 1


async def change(case, index, shares, new_length=None):
    for n, data in shares.items():
        case.may_become(index, n, ShareKind.MUTABLE, data)
    changes = {
        n: TestWriteVectors((), (), 0) if data is None else puts(data, new_length=len(data))
        for n, data in shares.items()
    }
    await case.server.slot_testv_and_readv_and_writev(index, ENABLER, SECRETS, changes, ())
    case.acknowledge()


async def small_upload(case):
    await upload(case, SI, [1, 2], SMALL, 1)


async def large_upload(case):
    await upload(case, SI, [3], LARGE, 2)


async def second_upload_of_the_same_index(case):
    with case.prepared():
        await upload(case, SI, [1], SMALL, 1)
    await upload(case, SI, [2], SMALL, 1)


async def upload_over_a_share_that_appeared(case):
    """A share that was put there by hand meanwhile stays."""
    data = bytes([1, 1]) * 350
    case.may_become(SI, 1, ShareKind.IMMUTABLE, data)
    with case.prepared():
        first = await case.store.create_immutable(SI, 1, len(data), SECRETS, 5)
        second = await case.store.create_immutable(SI, 1, len(data), SECRETS, 5)
        await first.write(0, data)
        await second.write(0, b"?" * len(data))
        await first.commit()
        case.acknowledge()
    await second.commit()


async def mutable_create(case):
    await change(case, SI, {0: b"a" * 900, 4: b"b" * 100})


async def mutable_overwrite(case):
    with case.prepared():
        await change(case, SI, {0: b"a" * 900, 1: b"b" * 900})
    await change(case, SI, {0: b"c" * 1200})
    await change(case, SI, {0: b"d" * 300, 1: b"e" * 300})


async def mutable_delete(case):
    with case.prepared():
        await change(case, SI, {0: b"a" * 900, 1: b"b" * 900})
    await change(case, SI, {0: None})
    await change(case, SI, {1: None})


async def lease_add(case):
    with case.prepared():
        await upload(case, SI, [1], SMALL, 1)
        await change(case, OTHER_SI, {0: b"a" * 900})
    for index in (SI, OTHER_SI):
        await case.server.add_lease(index, OTHER_SECRETS)


async def lease_add_to_version_one(case):
    with case.prepared():
        data = b"old" * 200
        case.may_become(SI, 1, ShareKind.IMMUTABLE, data)
        folder = case.store._folder
        slot = folder.slot_path(SI)
        folder.make_slot(slot)
        fd = folder.create(f"{slot}/1")
        lease = container.new_lease(1, 0, SECRETS.renew, SECRETS.cancel, 77)
        raw = container.ImmutableHeader(1, len(data), 1).encode() + data
        case.disk.pwrite(fd, raw + container.encode_immutable_lease(lease), 0)
        case.disk.close(fd)
        case.disk.harden_all()
        case.acknowledge()
    await case.server.add_lease(SI, OTHER_SECRETS)
    await case.server.add_lease(SI, SECRETS)


async def lease_renewal(case):
    with case.prepared():
        for n in range(6):  # the expiry of some lies across two sectors
            await upload(case, SI, [n], 1024 - 2 * n - 82, 1)
    case.server._wall = lambda: 1.7e9 + LATER
    await case.server.add_lease(SI, SECRETS)


async def removal(case):
    with case.prepared():
        await upload(case, SI, [1, 2], SMALL, 1)
    for n in (1, 2):
        case.may_become(SI, n, ShareKind.IMMUTABLE, None)
        await case.store.delete(SI, n)
        case.reached[SI, n] = len(case.versions[SI, n]) - 1


CHANGES = [
    small_upload,
    large_upload,
    second_upload_of_the_same_index,
    upload_over_a_share_that_appeared,
    mutable_create,
    mutable_overwrite,
    mutable_delete,
    lease_add,
    lease_add_to_version_one,
    lease_renewal,
    removal,
]

_states = {}


@pytest.fixture(params=["syncfs", "fsync", "copied"])
def way(request, monkeypatch):
    """Sync all at once, or file by file; the latter also with containers too large to hold."""
    monkeypatch.setattr(diskshares, "BUFFERED", 1000)
    monkeypatch.setattr(sync, "FEW", 0 if request.param == "syncfs" else 100)
    if request.param == "copied":
        monkeypatch.setattr(works, "_IN_MEMORY", 0)
    return request.param


@pytest.mark.threat("K10")
@pytest.mark.parametrize("action", CHANGES, ids=lambda action: action.__name__)
def test_after_a_power_cut_every_share_is_old_or_new_and_acknowledged_ones_are_there(action, way):
    case = Case()
    case.disk.observe = case.cut
    done(action(case))
    case.cut()
    _states[action.__name__, way] = case.states
    assert case.states > 3
    case.acknowledge()
    case.check(case.disk)


@pytest.mark.threat("K10")
def test_at_least_five_hundred_states_were_looked_at():
    if len(_states) == 3 * len(CHANGES):  # else somebody chose among the tests
        assert sum(_states.values()) >= 500


def test_making_a_store_can_be_cut_and_repeated():
    disk = SimDisk()
    states = []

    def cut():
        disk.observe = lambda: None
        for left in disk.remainders(len(states)):
            states.append(left)
            store = DiskStore(ROOT, InlineCpu(), files=left, nodeid=NODEID)
            done(store.open())
            assert store.nodeid == NODEID
            assert done(store.list(SI)) == {}
        disk.observe = cut

    disk.observe = cut
    done(DiskStore(ROOT, InlineCpu(), files=disk, nodeid=NODEID).open())
    assert len(states) > 10


ERRORS = [errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EACCES, errno.EROFS]


@pytest.mark.threat("G9")
@pytest.mark.parametrize("forever", [False, True], ids=["once", "forever"])
@pytest.mark.parametrize("action", CHANGES, ids=lambda action: action.__name__)
def test_a_failing_call_is_a_storage_error_and_leaves_old_or_new(action, way, forever):
    n, reached = 0, True
    while reached:
        n += 1
        case = Case()
        calls = [0]

        def fail(name, case=case, calls=calls, n=n):
            calls[0] += 1
            if calls[0] == n or (forever and calls[0] > n):
                code = ERRORS[n % len(ERRORS)]
                raise OSError(code, "broken on purpose")

        case.disk.fail = fail
        with contextlib.suppress(StorageError):
            done(action(case))
        reached = calls[0] >= n
        case.disk.fail = lambda name: None
        done(case.server.stop())
        assert case.server.reserved == 0
        case.store.close()
        assert case.disk.open_count == 0, n
        case.check(case.disk)
    assert n > 5


@pytest.mark.threat("G9")
@pytest.mark.parametrize("action", [small_upload, large_upload, mutable_create, mutable_overwrite])
def test_a_failed_sync_fails_the_change_for_good(action, way):
    for n in range(1, 9):
        case = Case()
        syncs = [0]

        def fail(name, syncs=syncs, n=n):
            if name in ("fsync", "syncfs"):
                syncs[0] += 1
                if syncs[0] == n:
                    raise OSError(errno.EIO, "broken on purpose")

        case.disk.fail = fail
        try:
            done(action(case))
        except StorageError:
            assert syncs[0] >= n
        else:
            assert syncs[0] < n
        if "upload" in action.__name__ and syncs[0] >= n:
            names = case.disk.listdir(f"{ROOT}/shares/incoming")
            assert names == []
            unacknowledged = {n for (_, n), at in case.reached.items() if at == 0}
            assert unacknowledged.isdisjoint(done(case.store.list(SI)))


def test_short_writes_are_completed(way):
    case = Case()
    case.disk.short_writes = True
    done(small_upload(case))
    done(large_upload(case))
    done(change(case, OTHER_SI, {0: b"x" * 2000}))
    case.acknowledge()
    case.check(case.disk)


def test_without_fsync_a_kill_loses_nothing_that_was_acknowledged():
    case = Case()
    case.store = DiskStore(ROOT, InlineCpu(), files=case.disk, nodeid=NODEID, fsync=False)
    done(case.store.open())
    case.server = LocalServer(case.store, Clock())
    case.disk.calls.clear()
    done(small_upload(case))
    done(change(case, OTHER_SI, {0: b"x" * 2000}))
    assert not {"fsync", "syncfs"} & set(case.disk.calls)
    case.acknowledge()
    case.check(case.disk)
