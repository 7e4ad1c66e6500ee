import pytest
from twisted.internet.defer import Deferred

from tests.fakes.mutable_grid import VECTORS, Grid, Sink, key, reopened
from truckee.core.errors import (
    DownloadStopped,
    FileTooLargeError,
    NotEnoughServersError,
    NotWriteableError,
    UncoordinatedWriteError,
    UnrecoverableFileError,
    UploadUnhappinessError,
)
from truckee.core.formats import mdmf, sdmf
from truckee.core.mutable.file import MutableFile
from truckee.core.mutable.heads import decode_header


def data(size, salt=0):
    return bytes((i * 7 + i // 251 + salt) % 256 for i in range(size))


def create(grid, context, contents=b"first", *, is_mdmf=False, keypair=None):
    return grid.run(MutableFile.create(context, contents, mdmf=is_mdmf, keypair=keypair))


@pytest.mark.parametrize("is_mdmf", [False, True], ids=["sdmf", "mdmf"])
@pytest.mark.parametrize(("k", "n"), [(1, 1), (3, 10), (1, 3), (10, 10)])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 3000, 4001, 131072, 131073, 131074])
def test_what_is_created_and_overwritten_comes_back(is_mdmf, k, n, size):
    grid = Grid()
    mine = grid.process(k, min(n, 7), n)
    file = create(grid, mine, data(size), is_mdmf=is_mdmf)
    assert len(grid.shares(file)) == n
    other = reopened(grid.process(), file)
    assert grid.run(other.download()) == data(size)
    grid.run(other.overwrite(data(size + 1, 1)))
    reader = reopened(grid.process(), file, readonly=True)
    assert grid.run(reader.download()) == data(size + 1, 1)
    assert len(grid.shares(file)) == n
    grid.run(other.overwrite(b""))
    version = grid.run(reader.best_version())
    assert (version.seqnum, version.size) == (3, 0)
    assert (version.needed_shares, version.total_shares) == (k, n)


def test_a_long_mdmf_file_is_read_in_ranges_and_shrinks():
    grid = Grid()
    contents = data(1_500_000)
    file = create(grid, grid.process(), contents, is_mdmf=True)
    reader = reopened(grid.process(), file, readonly=True)
    assert grid.run(reader.download()) == contents
    edge = 131073
    for offset, size in [
        (0, 1),
        (edge - 1, 2),
        (edge, edge),
        (5, None),
        (1_499_999, 9),
        (8 * edge - 1, 3),
    ]:
        sink = Sink()
        grid.run(reader.read(sink, offset, size))
        end = None if size is None else offset + size
        assert sink.data == contents[offset:end]
        assert (sink.registered, sink.unregistered) == (1, 1)
    grid.run(file.overwrite(b"short"))
    assert {len(raw) for raw in grid.shares(file).values()} == {2167 + 16 + 2 + 32}
    assert grid.run(reader.download()) == b"short"


def test_an_empty_range_writes_nothing_and_registers_nothing():
    grid = Grid()
    file = create(grid, grid.process())
    sink = Sink()
    assert grid.run(file.read(sink, 5, 10)) is sink
    assert grid.run(file.read(sink, 2, 0)) is sink
    assert (sink.registered, sink.pieces) == (0, [])


@pytest.mark.parametrize("is_mdmf", [False, True])
def test_a_consumer_that_pauses_gets_everything_in_order(is_mdmf):
    grid = Grid()
    contents = data(1_500_000)
    file = create(grid, grid.process(), contents, is_mdmf=is_mdmf)
    sink = Sink(pause_every=1)
    d = Deferred.fromCoroutine(file.read(sink))
    while not d.called:
        held = len(sink.pieces)
        assert sink.paused
        sink.resume()
        assert d.called or len(sink.pieces) == held + 1
    assert sink.data == contents


@pytest.mark.threat("U8")
def test_writers_do_not_wait_for_a_paused_reader_which_then_never_mixes_versions():
    grid = Grid()
    context = grid.process()
    contents = data(4_000_000)
    file = create(grid, context, contents, is_mdmf=True)
    sink = Sink(pause_every=1)
    d = Deferred.fromCoroutine(file.read(sink))
    grid.run(file.overwrite(data(4_000_000, 1)))
    failures = []
    d.addErrback(failures.append)
    while not d.called:
        sink.resume()
    assert len(failures) == 1
    assert type(failures[0].value).__name__ == "NotEnoughSharesError"
    assert contents.startswith(sink.data)
    assert len(context.locks) == 0


def test_a_consumer_that_stops_gets_download_stopped():
    grid = Grid()
    file = create(grid, grid.process(), data(1_500_000), is_mdmf=True)
    sink = Sink(stop_after=2)
    with pytest.raises(DownloadStopped):
        grid.run(file.read(sink))
    assert len(sink.pieces) == 2
    assert sink.unregistered == 1


def test_stopping_a_paused_read_ends_it():
    grid = Grid()
    file = create(grid, grid.process(), data(1_500_000), is_mdmf=True)
    sink = Sink(pause_every=1)
    d = Deferred.fromCoroutine(file.read(sink))
    sink.producer.stopProducing()
    failures = []
    d.addErrback(failures.append)
    assert failures[0].check(DownloadStopped)


def test_contents_may_depend_on_the_write_key():
    grid = Grid()
    file = create(grid, grid.process(), lambda writekey: b"<" + writekey + b">")
    assert grid.run(file.download()) == b"<" + file.cap.writekey + b">"


def test_a_given_key_pair_makes_the_recorded_capability_and_is_used_once():
    grid = Grid()
    file = create(grid, grid.process(), keypair=key(0))
    assert file.cap.text == VECTORS["keys"][0]["caps"]["SSK"]
    with pytest.raises(UncoordinatedWriteError):
        create(grid, grid.process(), b"again", keypair=key(0))


def test_modify_sees_the_old_contents_and_none_or_equal_writes_nothing():
    grid = Grid()
    file = create(grid, grid.process(), b"a")
    grid.run(file.modify(lambda old, first: old + b"b" if first else b"?"))
    before = grid.snapshot(file)
    grid.run(file.modify(lambda old, first: None))
    grid.run(file.modify(lambda old, first: bytes(old)))
    assert grid.snapshot(file) == before
    assert grid.run(file.download()) == b"ab"


def test_an_error_in_the_modifier_reaches_the_caller_and_frees_the_lock():
    grid = Grid()
    context = grid.process()
    file = create(grid, context, b"a")
    with pytest.raises(ZeroDivisionError):
        grid.run(file.modify(lambda old, first: bytes([1 // 0])))
    grid.run(file.modify(lambda old, first: b"z"))
    assert len(context.locks) == 0


def test_a_read_capability_cannot_write():
    grid = Grid()
    file = create(grid, grid.process())
    reader = reopened(grid.process(), file, readonly=True)
    for attempt in (reader.overwrite(b"x"), reader.modify(lambda old, first: b"x")):
        with pytest.raises(NotWriteableError):
            grid.run(attempt)
    assert grid.run(reader.download()) == b"first"


def test_nothing_there_is_unrecoverable():
    grid = Grid()
    file = create(grid, grid.process())
    for store in grid.stores:
        store.shares.clear()
    stranger = reopened(grid.process(), file)
    for attempt in (
        stranger.download(),
        stranger.modify(lambda o, f: b""),
        stranger.overwrite(b""),
    ):
        with pytest.raises(UnrecoverableFileError):
            grid.run(attempt)


def test_k_and_n_stay_those_of_the_file():
    grid = Grid()
    file = create(grid, grid.process(2, 2, 4), b"abc")
    grid.run(reopened(grid.process(3, 7, 10), file).overwrite(b"defg"))
    version = grid.run(file.best_version())
    assert (version.needed_shares, version.total_shares) == (2, 4)
    assert sorted(shnum for _, shnum in grid.shares(file)) == [0, 1, 2, 3]


def test_happiness_is_demanded_before_anything_is_sent():
    grid = Grid(6)
    with pytest.raises(UploadUnhappinessError):
        create(grid, grid.process(3, 7, 10))
    assert not any(store.shares for store in grid.stores)
    with pytest.raises(NotEnoughServersError):
        create(Grid(0), Grid(0).process())


def test_a_file_on_one_server_spreads_when_there_are_more():
    grid = Grid()
    everybody, grid.servers = grid.servers, grid.servers[:1]
    file = create(grid, grid.process(3, 1, 10), b"old")
    grid.servers = everybody
    other = reopened(grid.process(3, 7, 10), file)
    grid.run(other.overwrite(b"new"))
    assert len({server for server, _ in grid.shares(file)}) >= 7
    grid.servers = everybody[1:]
    assert grid.run(reopened(grid.process(), file).download()) == b"new"


def test_shares_shrink_with_the_contents():
    grid = Grid()
    file = create(grid, grid.process(), data(9000))
    grid.run(file.overwrite(b""))
    for raw in grid.shares(file).values():
        _, sections = decode_header(bytes(raw))
        assert sections.end == len(raw)


def test_the_layout_follows_the_capability():
    grid = Grid()
    for is_mdmf, layout in ((False, sdmf), (True, mdmf)):
        file = create(grid, grid.process(), is_mdmf=is_mdmf)
        assert {raw[0] for raw in grid.shares(file).values()} == {layout.VERSION}


def test_too_large_contents_are_refused_before_anything_is_sent():
    grid = Grid()
    large = bytes(64 * 1024 * 1024 + 1)
    with pytest.raises(FileTooLargeError):
        create(grid, grid.process(), large)
    file = create(grid, grid.process(1, 7, 10), b"", is_mdmf=True)
    with pytest.raises(FileTooLargeError):
        grid.run(file.overwrite(large))


def test_leases_and_write_enablers_are_those_of_each_server():
    grid = Grid()
    file = create(grid, grid.process())
    shares = [s.shares[file.cap.storage_index] for s in grid.stores]
    enablers = {share.write_enabler for slot in shares for share in slot.values()}
    leases = {renew for slot in shares for share in slot.values() for renew in share.leases}
    assert len(enablers) == len(leases) == 10


@pytest.mark.parametrize("file", VECTORS["files"], ids=lambda f: f["name"])
def test_files_written_by_tahoe_are_read_and_overwritten(file):
    shares = {int(n): bytes.fromhex(s["hex"]) for n, s in file["shares"].items() if "hex" in s}
    if len(shares) < file["k"]:
        pytest.skip("fewer than k shares are recorded with their bytes")
    grid = Grid()
    made = create(grid, grid.process(), is_mdmf=file["format"] == "MDMF", keypair=key(file["key"]))
    slots = [store.shares.pop(made.cap.storage_index) for store in grid.stores]
    template = {i: next(iter(slot.values())) for i, slot in enumerate(slots)}
    for shnum, raw in shares.items():
        template[shnum].data[:] = raw
        grid.stores[shnum].shares[made.cap.storage_index] = {shnum: template[shnum]}
    theirs = reopened(grid.process(), made)
    assert grid.run(theirs.download()) == bytes.fromhex(file["plaintext"])
    grid.run(reopened(grid.process(1, 1, 1), made).modify(lambda old, first: old + b"!"))
    assert grid.run(theirs.download()) == bytes.fromhex(file["plaintext"]) + b"!"
    assert len({shnum for _, shnum in grid.shares(made)}) == file["N"]
