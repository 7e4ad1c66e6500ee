"""The write buffer against a plain bytearray, and what it must never do."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from truckee.core.cpu import InlineCpu, PoolCpu
from truckee.core.crypto.hashes import convergence_tag, tagged_hash
from truckee.core.errors import ConfigError, FileTooLargeError, SpoolFullError
from truckee.frontends.vfs import spool as spool_module
from truckee.frontends.vfs import write_buffer
from truckee.frontends.vfs.buffer_source import BufferSource
from truckee.frontends.vfs.spool import Spool
from truckee.frontends.vfs.write_buffer import WriteBuffer


class Base:
    """A stored version that counts what is read of it."""

    def __init__(self, data=b"", size=None):
        self.data, self.size, self.sent = data, len(data) if size is None else size, 0

    def get_size(self):
        return self.size

    async def read(self, consumer, offset=0, size=None):
        data = self.data[offset:] if size is None else self.data[offset : offset + size]
        self.sent += len(data)
        half = len(data) // 2
        consumer.write(data[:half])
        consumer.write(data[half:])
        return consumer


def now(coroutine):
    results = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    [result] = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


def make(tmp_path, limit=2**30, tag=b"tag", disk=None):
    spool = Spool(disk or InlineCpu(), Clock(), tmp_path / "spool", limit)
    return spool, WriteBuffer(spool, "alice", lambda: tag)


async def contents(buffer, piece=70001):
    await buffer.freeze()
    source = BufferSource(buffer)
    chunks = []
    while data := await source.read(piece):
        chunks += data
    await source.close()
    buffer.thaw()
    return b"".join(chunks)


def zeros_extended(model, size):
    return bytearray(model[:size] + bytes(max(0, size - len(model))))


offset = st.integers(0, 3000)
piece = st.binary(max_size=400)
step = st.one_of(
    st.tuples(st.just("write"), offset, piece),
    st.tuples(st.just("append"), st.just(0), piece),
    st.tuples(st.just("truncate"), offset, st.none()),
    st.tuples(st.just("read"), offset, st.integers(0, 3000)),
    st.tuples(st.just("digest"), st.just(0), st.none()),
    st.tuples(st.just("flush"), st.just(0), st.none()),
)


@given(st.one_of(st.none(), st.binary(max_size=2500)), st.lists(step, max_size=30))
@settings(max_examples=100)
@pytest.mark.parametrize(("small", "crowded"), [(0, 10**9), (700, 10**9), (10**6, 10**9),
                                                (700, 500), (700, -1)])  # fmt: skip
def test_a_buffer_behaves_as_a_bytearray(tmp_path_factory, small, crowded, base, steps):
    # tiny limits, so that every border is crossed
    saved = write_buffer.SMALL, write_buffer.JOB, write_buffer.FETCH, spool_module.CROWDED
    write_buffer.SMALL, write_buffer.JOB, write_buffer.FETCH = small, 300, 256
    spool_module.CROWDED = crowded
    try:
        spool, buffer = make(tmp_path_factory.getbasetemp() / "model")
        model = bytearray(base or b"")
        if base is not None:
            buffer.open_over(Base(base))
        for kind, at, what in steps:
            if kind == "write":
                now(buffer.write(at, what))
                if what:
                    model = zeros_extended(model, max(len(model), at + len(what)))
                    model[at : at + len(what)] = what
            elif kind == "append":
                now(buffer.append(what))
                model += what
            elif kind == "truncate":
                now(buffer.truncate(at))
                model = zeros_extended(model, at)
            elif kind == "read":
                assert now(buffer.read(at, what)) == model[at : at + what]
            elif kind == "flush":
                now(buffer.flush())
            else:
                now(buffer.freeze())
                assert now(buffer.digest_frozen(b"tag")) == tagged_hash(b"tag", model)
                buffer.thaw()
            assert buffer.size == len(model)
        assert now(contents(buffer, 333)) == bytes(model)
        buffer.close()
        assert (spool.used, spool.fragments, spool.in_memory) == (0, 0, 0)
    finally:
        write_buffer.SMALL, write_buffer.JOB, write_buffer.FETCH, spool_module.CROWDED = saved


def test_an_overwrite_in_full_reads_nothing_of_the_old_file(tmp_path):
    _, buffer = make(tmp_path)
    base = Base(os.urandom(300_000))
    buffer.open_over(base)
    new = os.urandom(300_000)
    for at in range(0, len(new), 32768):
        now(buffer.write(at, new[at : at + 32768]))
    now(buffer.truncate(300_000))
    assert now(contents(buffer)) == new
    assert base.sent == 0


def test_a_shorter_overwrite_followed_by_its_size_reads_nothing_of_the_old_file(tmp_path):
    _, buffer = make(tmp_path)
    base = Base(os.urandom(300_000))
    buffer.open_over(base)
    now(buffer.write(0, b"short"))
    now(buffer.truncate(5))
    assert now(contents(buffer)) == b"short"
    assert base.sent == 0


def test_appending_to_a_huge_file_touches_nothing_before_the_commit(tmp_path):
    spool, buffer = make(tmp_path)
    base = Base(size=2**40)
    buffer.open_over(base)
    now(buffer.append(b"x"))
    assert buffer.size == 2**40 + 1
    assert base.sent == 0
    assert spool.used == 1


def test_opening_without_change_is_the_base_itself(tmp_path):
    _, buffer = make(tmp_path)
    base = Base(b"abc")
    buffer.open_over(base)
    now(buffer.truncate(3))
    assert not buffer.changed
    assert buffer.pure_base is base
    now(buffer.write(0, b"a"))
    assert buffer.changed
    assert buffer.pure_base is None


def test_small_files_never_touch_the_disk(tmp_path):
    class NoDisk:
        def run(self, f, *args, **kwargs):
            raise AssertionError("the disk was used")

    spool, buffer = make(tmp_path, disk=NoDisk())
    data = os.urandom(128 * 1024)
    for at in range(0, len(data), 10_000):
        now(buffer.write(at, data[at : at + 10_000]))
    assert now(contents(buffer)) == data
    assert spool.used == len(data)


def test_many_small_writes_become_few_large_jobs(tmp_path):
    class Counting(InlineCpu):
        jobs = 0

        def run(self, f, *args, **kwargs):
            self.jobs += 1
            return super().run(f, *args, **kwargs)

    disk = Counting()
    _, buffer = make(tmp_path, disk=disk)
    for at in range(0, 4 * 2**20, 4096):
        now(buffer.write(at, bytes(4096)))
    now(buffer.flush())
    assert disk.jobs <= 2 * 8 + 1  # one to write and one to hash, each time


def test_data_that_came_in_sequence_is_not_read_again_for_its_digest(tmp_path):
    class Recording(InlineCpu):
        def __init__(self):
            self.names = []

        def run(self, f, *args, **kwargs):
            self.names.append(f.__name__)
            return super().run(f, *args, **kwargs)

    disk = Recording()
    tag = convergence_tag(b"s" * 32, 3, 10, 1048578)
    _, buffer = make(tmp_path, disk=disk, tag=tag)
    data = hashlib.shake_128(b"x").digest(3_000_001)
    for at in range(0, len(data), 65536):
        now(buffer.write(at, data[at : at + 65536]))
    now(buffer.freeze())
    disk.names.clear()
    assert now(BufferSource(buffer).content_digest(tag)) == tagged_hash(tag, data)
    assert disk.names == []
    # under another tag everything is read once more
    assert now(BufferSource(buffer).content_digest(b"other")) == tagged_hash(b"other", data)
    assert disk.names == ["_hash_now"]


@pytest.mark.threat("F3")
def test_zeros_that_nobody_sent_are_hashed_away_from_the_reactor(tmp_path):
    class Counting(InlineCpu):
        jobs = 0

        def run(self, f, *args, **kwargs):
            self.jobs += 1
            return super().run(f, *args, **kwargs)

    disk = Counting()
    _, buffer = make(tmp_path, disk=disk)
    now(buffer.write(0, b"head"))
    now(buffer.truncate(9 * 2**20))
    now(buffer.freeze())
    expected = tagged_hash(b"tag", b"head" + bytes(9 * 2**20 - 4))
    assert now(buffer.digest_frozen(b"tag")) == expected
    assert disk.jobs == 3


def test_a_full_spool_poisons_the_buffer_and_frees_its_room(tmp_path):
    spool, buffer = make(tmp_path, limit=400_000)
    now(buffer.write(0, bytes(200_000)))
    with pytest.raises(SpoolFullError):
        now(buffer.write(200_000, bytes(200_000)))
    assert spool.used == 0
    with pytest.raises(SpoolFullError):
        now(buffer.write(0, b"x"))
    with pytest.raises(SpoolFullError):
        now(buffer.freeze())


@pytest.mark.threat("F4")
def test_one_account_cannot_take_the_last_quarter(tmp_path):
    spool, buffer = make(tmp_path, limit=400_000)
    now(buffer.write(0, bytes(300_000)))
    with pytest.raises(SpoolFullError):
        now(buffer.write(300_000, b"x"))
    now(buffer.truncate(0)) if not buffer.poisoned else None
    other = WriteBuffer(spool, "bob")
    now(other.write(0, bytes(100_000)))


def test_a_disk_error_poisons_the_buffer(tmp_path):
    class Full(InlineCpu):
        def run(self, f, *args, **kwargs):
            def fail():
                raise OSError(28, "no space")

            return super().run(fail)

    spool, buffer = make(tmp_path, disk=Full())
    with pytest.raises(SpoolFullError):
        now(buffer.write(0, bytes(700_000)))
    assert spool.used == 0


@pytest.mark.threat("F3")
def test_offsets_beyond_two_to_the_63_are_refused(tmp_path):
    _, buffer = make(tmp_path)
    with pytest.raises(FileTooLargeError):
        now(buffer.write(2**63 - 1, b"x"))
    with pytest.raises(FileTooLargeError):
        now(buffer.truncate(2**63))
    now(buffer.write(2**63 - 2, b"x"))
    assert buffer.size == 2**63 - 1


@pytest.mark.threat("F3")
def test_a_buffer_in_too_many_fragments_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(write_buffer, "MAX_FRAGMENTS", 100)
    _, buffer = make(tmp_path)
    with pytest.raises(SpoolFullError):
        for i in range(200):
            now(buffer.write(i * 2, b"x"))


@pytest.mark.threat("O5")
@pytest.mark.threat("L6")
def test_the_spool_holds_no_plaintext_and_no_name(tmp_path):
    _, buffer = make(tmp_path)
    mark = b"MARKED PLAINTEXT "
    now(buffer.write(0, mark * 50_000))
    now(buffer.flush())
    assert os.listdir(tmp_path / "spool") == []
    fd = buffer._file._fd
    raw = os.pread(fd, 10**6, 0)
    assert len(raw) == len(mark) * 50_000
    assert b"MARKED" not in raw
    assert os.stat(tmp_path / "spool").st_mode & 0o777 == 0o700


@pytest.mark.threat("O1")
def test_a_spool_directory_that_others_may_enter_is_refused(tmp_path):
    (tmp_path / "spool").mkdir(mode=0o755)
    (tmp_path / "spool").chmod(0o755)
    with pytest.raises(ConfigError):
        make(tmp_path)
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o755


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "spool").mkdir(mode=0o700)
    (tmp_path / "spool/.spool-0123").write_bytes(b"x")
    (tmp_path / "spool/other").write_bytes(b"x")
    make(tmp_path)
    assert os.listdir(tmp_path / "spool") == ["other"]


def test_a_spool_works_where_nameless_files_do_not(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE")
    _, buffer = make(tmp_path)
    data = os.urandom(700_000)
    now(buffer.write(0, data))
    assert now(contents(buffer)) == data
    assert os.listdir(tmp_path / "spool") == []
    buffer.close()


def test_the_limit_is_taken_from_what_is_free(tmp_path):
    assert Spool(InlineCpu(), Clock(), tmp_path / "spool").limit > 0


def test_a_source_can_be_read_twice_and_left_in_the_middle(tmp_path):
    _, buffer = make(tmp_path)
    data = os.urandom(3_000_000)
    now(buffer.write(0, data))
    now(buffer.freeze())
    source = BufferSource(buffer)
    assert source.is_private
    assert now(source.get_size()) == 3_000_000
    assert b"".join(now(source.read(1_500_000))) == data[:1_500_000]
    now(source.rewind())
    assert b"".join(now(source.read(5_000_000))) == data
    now(source.rewind())
    assert b"".join(now(source.read(1000))) == data[:1000]
    now(source.close())
    assert now(source.read(1000)) == []


@pytest.mark.threat("F3")
def test_many_small_files_together_leave_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "CROWDED", 1_000_000)
    spool = Spool(InlineCpu(), Clock(), tmp_path / "spool", 2**30)
    buffers = [WriteBuffer(spool, "alice") for _ in range(50)]
    data = os.urandom(100_000)
    for buffer in buffers:
        now(buffer.write(0, data))
    assert spool.in_memory <= 1_100_000
    for buffer in buffers:
        now(buffer.write(100_000, b"tail"))
        assert now(buffer.read(0, 200_000)) == data + b"tail"
        buffer.close()
    assert (spool.in_memory, spool.used) == (0, 0)


def test_closing_gives_the_descriptor_and_the_room_back(tmp_path):
    spool, buffer = make(tmp_path)
    now(buffer.write(0, bytes(700_000)))
    now(buffer.flush())
    fd = buffer._file._fd
    buffer.close()
    assert spool.shelf.size == 700_000
    spool.shelf.clear()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert spool.used == 0
    buffer.close()


def test_an_ended_file_is_written_over_by_the_next_and_nothing_of_it_shows(tmp_path):
    spool, first = make(tmp_path)
    now(first.write(0, b"a" * 900_000))
    now(first.flush())
    fd = first._file._fd
    first.close()
    second = WriteBuffer(spool, "alice")
    now(second.write(200_000, b"b" * 200_000))
    now(second.flush())
    assert second._file._fd == fd
    now(second.truncate(900_000))
    assert now(contents(second)) == bytes(200_000) + b"b" * 200_000 + bytes(500_000)
    second.close()


def test_kept_files_are_few_and_not_for_long(tmp_path):
    clock = Clock()
    spool = Spool(InlineCpu(), clock, tmp_path / "spool", 16_000_000)
    buffers = [WriteBuffer(spool, "alice") for _ in range(4)]
    for buffer in buffers:
        now(buffer.write(0, bytes(700_000)))
        now(buffer.flush())
    for buffer in buffers:
        buffer.close()
    assert spool.shelf.size == 1_400_000
    clock.advance(15)
    large = WriteBuffer(spool, "alice")
    now(large.write(0, bytes(2_100_000)))
    now(large.flush())
    large.close()
    assert spool.shelf.size == 700_000
    clock.advance(15)
    assert spool.shelf.size == 0


@pytest.mark.threat("D2")
def test_many_small_uploads_keep_few_descriptors(tmp_path):
    spool = Spool(InlineCpu(), Clock(), tmp_path / "spool", 2**30)
    before = len(os.listdir("/proc/self/fd"))
    buffers = [WriteBuffer(spool, "alice") for _ in range(50)]
    for buffer in buffers:
        now(buffer.write(0, bytes(200_000)))
        now(buffer.flush())
    for buffer in buffers:
        buffer.close()
    assert spool.shelf.size == 8 * 200_000
    assert len(os.listdir("/proc/self/fd")) == before + 8
    spool.shelf.clear()
    assert len(os.listdir("/proc/self/fd")) == before


def test_kept_files_give_way_to_what_is_written(tmp_path):
    spool, buffer = make(tmp_path, limit=8_000_000)
    now(buffer.write(0, bytes(900_000)))
    now(buffer.flush())
    buffer.close()
    assert spool.shelf.size == 900_000
    spool.reserve("bob", 5_000_000)
    assert spool.shelf.size == 900_000
    spool.reserve("alice", 2_500_000)
    assert spool.shelf.size == 0


class ThreadTests(TestCase):
    """The same with real threads."""

    def setUp(self):
        from twisted.internet import reactor  # noqa: TID251

        self.disk = PoolCpu(reactor, 4, "disk")
        self.disk.start()
        self.addCleanup(self.disk.stop)
        self.spool = Spool(self.disk, Clock(), Path(self.mktemp()), 2**30)
        self.addCleanup(self.spool.shelf.clear)

    async def test_overlapping_writes_and_reads_come_out_in_order(self):
        buffer = WriteBuffer(self.spool, "alice", lambda: b"tag")
        model = bytearray()
        running = []
        for i in range(300):
            at = (i * 7919 * 4096) % 2_500_000
            data = bytes([i % 251]) * 50_000
            running.append(Deferred.fromCoroutine(buffer.write(at, data)))
            model = zeros_extended(model, max(len(model), at + len(data)))
            model[at : at + len(data)] = data
            if i % 50 == 49:
                assert await buffer.read(at - 1000, 3000) == model[max(0, at - 1000) : at + 2000]
        for d in running:
            await d
        assert await contents(buffer, 1048578) == bytes(model)
        await buffer.freeze()
        assert await buffer.digest_frozen(b"tag") == tagged_hash(b"tag", model)
        buffer.thaw()
        buffer.close()

    async def test_a_write_during_a_commit_waits_for_its_end(self):
        buffer = WriteBuffer(self.spool, "alice")
        await buffer.write(0, b"old")
        await buffer.freeze()
        d = Deferred.fromCoroutine(buffer.write(0, b"new"))
        cut = Deferred.fromCoroutine(buffer.truncate(1))
        assert await buffer.load_frozen(0, 3) == b"old"
        assert not d.called
        buffer.thaw()
        await d
        await cut
        assert await buffer.read(0, 3) == b"n"
        buffer.close()

    async def test_a_writer_waits_when_the_disk_does_not_follow(self):
        buffer = WriteBuffer(self.spool, "alice")
        started = [Deferred.fromCoroutine(buffer.write(i * 2**19, bytes(2**19))) for i in range(20)]
        assert sum(d.called for d in started) <= 5
        for d in started:
            await d
        buffer.close()
