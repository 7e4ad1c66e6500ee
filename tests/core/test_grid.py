import os
import shutil

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from truckee.core import grid
from truckee.core.cpu import InlineCpu
from truckee.core.errors import ConfigError, ServerGoneError
from truckee.core.grid import EmbeddedGrid, make_stores, read_known, stores_of
from truckee.core.storage.api import LeaseSecrets

SI = bytes(range(16))
SECRETS = LeaseSecrets(b"r" * 32, b"c" * 32)


def result(coroutine, clock=None):
    results: list = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    for _ in range(100):
        if results or clock is None:
            break
        clock.advance(0.1)
    (found,) = results
    if hasattr(found, "raiseException"):
        found.raiseException()
    return found


@pytest.fixture
def paths(tmp_path):
    found = [tmp_path / "servers" / f"0{i}" for i in range(3)]
    make_stores(tmp_path, found)
    return found


def opened(tmp_path, paths):
    clock = Clock()
    found = EmbeddedGrid(stores_of(tmp_path, paths), InlineCpu(), clock, fsync=False)
    result(found.start())
    return clock, found


def test_a_disk_is_counted_once_however_many_stores_it_has(tmp_path, paths):
    _, found = opened(tmp_path, paths)
    disk = os.statvfs(tmp_path)
    assert found.room is not None
    assert found.room.total == disk.f_blocks * disk.f_frsize
    assert 0 < found.room.free <= found.room.total
    result(found.stop())


def test_what_is_reserved_is_not_free(tmp_path, paths):
    found = EmbeddedGrid(
        stores_of(tmp_path, paths), InlineCpu(), Clock(), reserved_space=2**62, fsync=False
    )
    result(found.start())
    assert found.room is not None
    assert found.room.free == 0
    result(found.stop())


def test_seeds_of_a_server_are_the_identity_of_its_store(tmp_path, paths):
    _, found = opened(tmp_path, paths)
    known = read_known(tmp_path)
    for server, path in zip(found.servers(), paths, strict=True):
        assert server.server_id == server.lease_seed == server.permutation_seed == known[path]
    result(found.stop())


def test_stores_keep_their_identity_when_made_again(tmp_path, paths):
    before = read_known(tmp_path)
    make_stores(tmp_path, paths)
    assert read_known(tmp_path) == before
    assert [r.nodeid for r in stores_of(tmp_path, paths)] == [before[p] for p in paths]


def test_a_store_that_is_gone_fails_is_not_made_anew_and_serves_when_it_is_back(tmp_path, paths):
    shutil.move(paths[1], tmp_path / "away")
    clock, found = opened(tmp_path, paths)
    assert found.absent == 1
    assert len(found.servers()) == 3
    server = found.servers()[1]
    with pytest.raises(ServerGoneError):
        result(server.allocate_buckets(SI, SECRETS, frozenset({0}), 10))
    clock.advance(grid.RETRY)
    assert not paths[1].exists()
    shutil.move(tmp_path / "away", paths[1])
    clock.advance(grid.RETRY)
    assert found.absent == 0
    assert result(server.allocate_buckets(SI, SECRETS, frozenset({0}), 10)).writers
    result(found.stop())
    assert not clock.getDelayedCalls()


def test_another_store_in_the_place_of_one_is_not_used(tmp_path, paths):
    shutil.rmtree(paths[1])
    shutil.copytree(paths[2], paths[1])
    _, found = opened(tmp_path, paths)
    assert found.absent == 1
    with pytest.raises(ServerGoneError):
        result(found.servers()[1].get_buckets(SI))
    result(found.stop())


def test_a_folder_that_vanishes_while_running_is_not_made_anew(tmp_path, paths):
    clock, found = opened(tmp_path, paths)
    shutil.rmtree(paths[0])
    with pytest.raises(ServerGoneError):
        result(found.servers()[0].allocate_buckets(SI, SECRETS, frozenset({0}), 10))
    assert not paths[0].exists()
    assert found.absent == 0
    clock.advance(grid.RETRY)
    assert found.absent == 1
    result(found.stop())


def test_a_folder_that_vanishes_while_running_serves_when_it_is_back(tmp_path, paths):
    clock, found = opened(tmp_path, paths)
    shutil.move(paths[0], tmp_path / "away")
    clock.advance(grid.RETRY)
    shutil.move(tmp_path / "away", paths[0])
    assert result(found.servers()[0].get_buckets(SI)) == {}
    clock.advance(grid.RETRY)
    assert found.absent == 0
    result(found.stop())


def test_a_store_added_to_the_configuration_is_made_once(tmp_path, paths):
    more = [*paths, tmp_path / "servers" / "03"]
    nodeid = stores_of(tmp_path, more)[3].nodeid
    assert (more[3] / "nodeid").exists()
    shutil.rmtree(more[3])
    assert stores_of(tmp_path, more)[3].nodeid == nodeid
    assert not more[3].exists()


def test_a_copy_of_a_store_cannot_be_added(tmp_path, paths):
    shutil.copytree(paths[0], tmp_path / "servers" / "copy")
    with pytest.raises(ConfigError, match="same store"):
        stores_of(tmp_path, [*paths, tmp_path / "servers" / "copy"])


def test_a_store_that_was_moved_keeps_its_identity_in_the_new_place(tmp_path, paths):
    before = [r.nodeid for r in stores_of(tmp_path, paths)]
    (tmp_path / "disk").mkdir()
    moved = [paths[0], tmp_path / "disk" / "store", paths[2]]
    shutil.move(paths[1], moved[1])
    assert [r.nodeid for r in stores_of(tmp_path, moved)] == before
    assert set(read_known(tmp_path)) == set(moved)
    shutil.copytree(moved[1], paths[1])
    with pytest.raises(ConfigError, match="same store"):
        stores_of(tmp_path, [*moved, paths[1]])


def test_a_disk_that_is_added_before_it_is_there_is_made_a_store_when_it_is(tmp_path):
    node, disk = tmp_path / "node", tmp_path / "disk"
    node.mkdir()
    inside = node / "servers" / "00"
    with pytest.raises(ConfigError, match="not there"):
        make_stores(node, [inside, disk / "store"])
    assert read_known(node) == {}
    make_stores(node, [inside])
    with pytest.raises(ConfigError, match="not there"):
        stores_of(node, [inside, disk / "store"])
    assert set(read_known(node)) == {inside}
    disk.mkdir()
    assert len(stores_of(node, [inside, disk / "store"])) == 2
    assert (disk / "store" / "nodeid").exists()


def test_the_store_of_another_node_is_named_and_leaves_no_trace(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    make_stores(one, [one / "servers" / "00"])
    with pytest.raises(ConfigError, match=r"one/servers/00 holds the store of another node"):
        make_stores(two, [two / "servers" / "00", one / "servers" / "00"])
    assert read_known(two) == {}


def test_without_the_list_of_known_stores_all_of_them_must_be_there(tmp_path, paths):
    before = [r.nodeid for r in stores_of(tmp_path, paths)]
    (tmp_path / grid.KNOWN).unlink()
    assert [r.nodeid for r in stores_of(tmp_path, paths)] == before
    (tmp_path / grid.KNOWN).unlink()
    shutil.rmtree(paths[2])
    with pytest.raises(ConfigError, match="missing"):
        stores_of(tmp_path, paths)


@pytest.mark.threat("D6")
@pytest.mark.parametrize("text", ["nonsense servers/00\n", "aaaa servers/00\n", "\xff"])
def test_a_damaged_list_of_known_stores_is_told(tmp_path, paths, text):
    (tmp_path / grid.KNOWN).write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match="damaged"):
        stores_of(tmp_path, paths)
