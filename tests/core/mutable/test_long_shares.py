"""Shares whose parts do not fit into the first read, and versions that were found earlier."""

import pytest
from twisted.internet import reactor  # noqa: TID251 - worker threads need a real one
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.fakes.mutable_grid import Grid, Sink, key, reopened
from truckee.core.cpu import PoolCpu
from truckee.core.crypto.rsa import PublicKey
from truckee.core.errors import NotEnoughSharesError, UnrecoverableFileError
from truckee.core.formats import mdmf
from truckee.core.formats.mutable_share import Geometry
from truckee.core.interfaces import Encoding
from truckee.core.mutable import proofs, publish
from truckee.core.mutable.file import MutableContext, MutableFile
from truckee.core.mutable.heads import decode_header
from truckee.core.mutable.keys import KeyPool
from truckee.core.mutable.survey import unlock
from truckee.core.storage.faults import Kind, Rule
from truckee.core.storage.memory import MemoryStore
from truckee.core.storage.server import LocalServer


def made(contents, *, is_mdmf):
    grid = Grid()
    return grid, grid.run(
        MutableFile.create(grid.process(), contents, mdmf=is_mdmf, keypair=key(0))
    )


@pytest.fixture
def tiny_segments(monkeypatch):
    monkeypatch.setattr(publish.mdmf, "geometry", lambda size, k, n: Geometry(k, n, 6, size))


@pytest.mark.parametrize("limit", [65536, 100])
def test_of_long_block_hash_trees_only_the_needed_nodes_are_read(tiny_segments, monkeypatch, limit):
    monkeypatch.setattr(proofs, "_WHOLE_TREE", limit)
    contents = bytes(range(250)) * 30  # 1250 segments, a tree of 128 KiB
    grid, file = made(contents, is_mdmf=True)
    read = []
    for server in grid.servers:
        original = server.slot_readv

        async def counted(si, shnums, vectors, original=original):
            got = await original(si, shnums, vectors)
            assert len(vectors) <= 30
            read.append(sum(len(p) for pieces in got.values() for p in pieces))
            return got

        server.slot_readv = counted
    for offset, size in [(0, 1), (7499, 1), (3000, 700), (5, 7000)]:
        sink = Sink()
        read.clear()
        grid.run(reopened(grid.process(), file).read(sink, offset, size))
        assert sink.data == contents[offset : offset + size]
        if size == 1:
            assert sum(read) < 40000
    assert grid.run(reopened(grid.process(), file).download()) == contents
    for raw in sorted(grid.shares(file).items())[:7]:
        tree = decode_header(bytes(raw[1]))[1].block_hashes
        raw[1][tree.start + 40] ^= 1
    assert grid.run(reopened(grid.process(), file).download()) == contents


def with_long_chain(raw):
    """Return the share with so many more chain entries that its key and signature lie far away."""
    share = mdmf.MdmfShare.decode(raw)
    (number, value), *_ = sorted(share.chain.items())
    _, s = mdmf.decode_header(raw)
    more = (number.to_bytes(2, "big") + value) * 300
    grown, at = len(more), s.chain.end
    offsets = [s.encprivkey.start, s.chain.start, s.signature.start + grown]
    offsets += [s.pubkey.start + grown, s.pubkey.end + grown]
    offsets += [s.data.start + grown, s.block_hashes.start + grown, s.end + grown]
    table = b"".join(offset.to_bytes(8, "big") for offset in offsets)
    return raw[: mdmf.PREFIX_SIZE] + table + raw[mdmf.HEADER_SIZE : at] + more + raw[at:]


def test_shares_whose_signature_lies_beyond_the_first_read_are_read():
    grid, file = made(b"contents", is_mdmf=True)
    for data in grid.shares(file).values():
        data[:] = with_long_chain(bytes(data))
    for nth in range(1, 22):
        grid.faults.rules.clear()
        grid.faults.add(Rule(Kind.NOTHING, nth))
        assert grid.run(reopened(grid.process(), file).download(), 60) == b"contents"
    grid.faults.rules.clear()
    grid.run(reopened(grid.process(), file).overwrite(b"next"))
    assert {len(raw) for raw in grid.shares(file).values()} == {2167 + 16 + 2 + 32}


@pytest.mark.threat("U8")
def test_a_version_found_earlier_is_read_as_it_was_or_not_at_all():
    grid, file = made(b"old" * 9000, is_mdmf=False)
    reader = reopened(grid.process(), file)
    version = grid.run(reader.best_version())
    assert grid.run(reader.download(version)) == b"old" * 9000
    grid.run(file.overwrite(b"new"))
    with pytest.raises(NotEnoughSharesError):
        grid.run(reader.download(version))
    assert grid.run(reader.download()) == b"new"
    assert "root" in repr(version)
    assert version == version
    assert len({version, version}) == 1


def test_a_version_found_earlier_is_read_from_other_servers_when_its_own_are_gone():
    grid, file = made(b"old" * 9000, is_mdmf=False)
    reader = reopened(grid.process(), file)
    version = grid.run(reader.best_version())
    known = {server_id for server_id, _ in version._found.map.copies}
    assert len(known) < 10
    for server in grid.servers:
        if server.server_id in known:
            grid.faults.add(Rule(Kind.ERROR, server=server, forever=True))
    assert grid.run(reader.download(version)) == b"old" * 9000
    sink = Sink()
    grid.run(reader.read(sink, 3, 5, version))
    assert sink.data == b"oldol"


def test_a_download_looks_everywhere_when_the_shares_it_found_break():
    grid, file = made(b"old" * 9000, is_mdmf=False)
    for server in grid.servers[:7]:
        grid.faults.add(Rule(Kind.ERROR, 2, frozenset({"slot_readv"}), server, forever=True))
    assert grid.run(reopened(grid.process(), file).download(), 30) == b"old" * 9000


def test_a_private_key_is_remembered_and_read_once():
    grid, file = made(b"x" * 9000, is_mdmf=False)
    context = grid.process()
    counts = []
    for word in (b"1", b"2"):
        grid.faults.calls.clear()
        grid.run(reopened(context, file).overwrite(word * 9000))
        counts.append(len(grid.faults.calls))
    assert counts == [21, 20]


def test_a_small_file_is_modified_with_one_query_and_one_write_per_server():
    grid, file = made(b"x" * 1000, is_mdmf=False)
    context = grid.process()
    grid.faults.calls.clear()
    grid.run(reopened(context, file).modify(lambda old, first: old + b"y"))
    assert len(grid.faults.calls) == 20
    grid.faults.calls.clear()
    grid.run(reopened(context, file).download())
    assert len(grid.faults.calls) == 6


def test_a_file_whose_shares_hold_no_right_key_names_itself_unrecoverable_for_writers():
    grid, file = made(b"x" * 9000, is_mdmf=False)
    grid.faults.add(Rule(Kind.ERROR, 11, frozenset({"slot_readv"}), forever=True))
    with pytest.raises(UnrecoverableFileError):
        grid.run(reopened(grid.process(), file).overwrite(b"y"))


@pytest.mark.threat("S10")
def test_unlocking_checks_both_halves_of_the_key():
    grid, file = made(b"x", is_mdmf=False)
    raw = bytes(next(iter(grid.shares(file).values())))
    _, sections = decode_header(raw)
    encrypted = sections.encprivkey.cut(raw)
    pair = unlock(encrypted, file.cap.writekey, key(0).public_der)
    assert PublicKey.load(pair.public_der).verify(pair.sign(b"m"), b"m")


class ThreadedTests(TestCase):
    """The same engine with worker threads and the real reactor."""

    def setUp(self):
        self.cpu = PoolCpu(reactor, 2, "cpu")
        self.cpu.start()
        self.addCleanup(self.cpu.stop)
        stores = [MemoryStore(bytes([i]) * 20) for i in range(10)]
        servers = [LocalServer(store, reactor) for store in stores]
        self.context = MutableContext(
            lambda: servers, self.cpu, reactor, b"L" * 32, KeyPool(self.cpu), Encoding()
        )

    async def test_many_edits_of_one_file_all_count(self):
        file = await MutableFile.create(self.context, b"", mdmf=False, keypair=key(0))
        edits = [
            Deferred.fromCoroutine(file.modify(lambda old, _, i=i: old + b"<%d>" % i))
            for i in range(20)
        ]
        reads = [Deferred.fromCoroutine(file.download()) for _ in range(5)]
        await gatherResults([*edits, *reads])
        contents = await file.download()
        assert contents == b"".join(b"<%d>" % i for i in range(20))

    async def test_long_contents_go_through_threads_and_back(self):
        contents = bytes(range(256)) * 12000
        for is_mdmf in (False, True):
            file = await MutableFile.create(
                self.context, contents, mdmf=is_mdmf, keypair=key(int(is_mdmf))
            )
            await file.modify(lambda old, first: old + b"end")
            sink = Sink()
            await file.read(sink)
            assert sink.data == contents + b"end"
        assert len(self.context.locks) == 0
