"""Sessions over a real client and memory servers."""

import json
import os
import time
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from tests.fakes.tree import Sink, Tree
from truckee.core import errors as e
from truckee.core.cpu import InlineCpu
from truckee.core.crypto import hashes
from truckee.core.formats import dirnode
from truckee.core.interfaces import Encoding
from truckee.core.storage.faults import Kind, Rule
from truckee.core.upload.sources import BytesSource
from truckee.core.upload.upload import Uploader
from truckee.frontends.vfs import write_buffer
from truckee.frontends.vfs.buffer_source import BufferSource
from truckee.frontends.vfs.paths import parse


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 55, 56, 5000, 128 * 1024, 128 * 1024 + 1, 1_300_000])
def test_a_file_comes_back_as_it_was_written(tree, size):
    session = tree.session()
    data = os.urandom(size)
    tree.put(session, "/naïve é 日本.bin", data)
    assert tree.get(session, "/naïve é 日本.bin") == data
    assert tree.stat(session, "/naïve é 日本.bin").size == size
    assert tree.vfs.spool.used == 0
    assert len(tree.vfs.pending) == 0


def test_the_cap_is_the_uploaders_own_for_the_same_bytes(tree):
    session = tree.session()
    for size in (100, 200_000, 1_048_576, 1_048_577, 2_500_000):
        data = os.urandom(size)
        cap = tree.run(tree.client.upload(BytesSource(data)))
        tree.put(session, f"/{size}", data)
        node = tree.run(tree.root.get(f"{size}"))
        assert node.get_uri().decode() == cap.text


def stream(seed, size):
    """Return the plaintext that the vectors name."""
    blocks = (sha256(seed.encode() + i.to_bytes(8, "big")).digest() for i in range(-(-size // 32)))
    return b"".join(blocks)[:size]


def test_the_digest_agrees_with_what_tahoe_recorded(tree, monkeypatch):
    monkeypatch.setattr(write_buffer, "SMALL", 100)  # so that small files pass through the spool
    uploader = Uploader(list, InlineCpu(), tree.clock, b"")
    vectors = json.loads((Path(__file__).parents[2] / "vectors/immutable.json").read_text())
    done = 0
    for v in vectors["chk"]:
        if v["convergence_hex"] is None or v.get("reader_only"):
            continue
        secret = bytes.fromhex(v["convergence_hex"])
        data = stream(v["plaintext"]["seed"], v["plaintext"]["size"])
        tag = hashes.convergence_tag(secret, v["k"], v["n"], v["segment_size"])
        buffer = write_buffer.WriteBuffer(tree.vfs.spool, "a", lambda tag=tag: tag)
        for at in range(0, len(data), 1000):
            tree.run(buffer.write(at, data[at : at + 1000]))
        tree.run(buffer.freeze())
        encoding = Encoding(v["k"], 1, v["n"], v["max_segment_size"])
        cap = tree.run(uploader.compute_cap(BufferSource(buffer), encoding, secret))
        assert cap.text == v["read_cap"]
        buffer.close()
        done += 1
    assert done >= 3


def test_nothing_is_linked_before_the_commit(tree):
    session = tree.session()
    handle = tree.open(session, "/a")
    tree.run(handle.write(0, b"data"))
    assert tree.run(tree.root.list()) == {}
    handle.abandon()
    handle.abandon()
    assert tree.run(tree.root.list()) == {}
    assert tree.names(session) == {}
    assert tree.vfs.spool.used == 0


def test_overwriting_downloads_nothing_of_the_old_file(tree):
    session = tree.session()
    tree.put(session, "/a", os.urandom(300_000))
    new = os.urandom(200_000)
    tree.grid.faults.calls.clear()
    handle = tree.open(session, "/a")  # as scp: W|C without T, all of it, then its size
    for at in range(0, len(new), 32768):
        tree.run(handle.write(at, new[at : at + 32768]))
    tree.run(handle.truncate(len(new)))
    tree.run(handle.commit())
    assert "read" not in {name for _, name in tree.grid.faults.calls}
    assert tree.get(session, "/a") == new


def test_appending_fetches_the_old_file_at_commit_only(tree):
    session = tree.session()
    old = os.urandom(300_000)
    tree.put(session, "/a", old)
    tree.grid.faults.calls.clear()
    handle = tree.open(session, "/a", append=True)
    tree.run(handle.write(None, b"x"))
    assert handle.size == 300_001
    assert "read" not in {name for _, name in tree.grid.faults.calls}
    tree.run(handle.commit())
    assert tree.get(session, "/a") == old + b"x"


def test_a_restarted_upload_keeps_the_head_of_the_old_file(tree):
    session = tree.session()
    old = os.urandom(500_000)
    tree.put(session, "/a", old)
    handle = tree.open(session, "/a")
    tree.run(handle.truncate(200_000))
    tree.run(handle.write(200_000, b"tail"))
    tree.run(handle.commit())
    assert tree.get(session, "/a") == old[:200_000] + b"tail"


def test_opening_and_closing_without_change_uploads_and_publishes_nothing(tree):
    session = tree.session()
    tree.put(session, "/a", b"x" * 1000)
    uploads = tree.client.uploads
    before = tree.calls
    handle = tree.open(session, "/a")
    tree.run(handle.commit())
    assert tree.client.uploads == uploads
    assert tree.calls == before


def test_an_upload_that_fails_leaves_the_old_link(tree):
    session = tree.session()
    tree.put(session, "/a", b"old" * 100)
    rule = tree.grid.faults.add(
        Rule(Kind.ERROR, calls=frozenset({"allocate_buckets"}), forever=True)
    )
    handle = tree.open(session, "/a", truncate=True)
    tree.run(handle.write(0, b"new" * 100))
    assert issubclass(tree.failure(handle.commit()), e.UploadError)
    assert rule.reached
    assert tree.get(session, "/a") == b"old" * 100
    assert tree.stat(session, "/a").size == 300
    assert tree.vfs.spool.used == 0
    assert tree.vfs.commits.failed == 1


def test_every_broken_call_of_a_commit_leaves_old_or_new(tmp_path):
    n = 0
    while True:
        n += 1
        tree = Tree(tmp_path)
        session = tree.session()
        tree.put(session, "/a", b"old" * 100)
        rule = tree.grid.faults.add(Rule(Kind.ERROR, nth=n))
        handle = tree.open(session, "/a", truncate=True)
        tree.run(handle.write(0, b"new" * 100))
        error = tree.failure(handle.commit())
        assert error is None or issubclass(error, e.TruckeeError)
        tree.grid.faults.rules.clear()
        tree.clock.advance(100)
        got = tree.get(session, "/a")
        assert got == b"new" * 100 or (error is not None and got == b"old" * 100)
        assert tree.vfs.spool.used == 0
        if not rule.reached:
            break
    assert n > 5


def test_a_full_spool_fails_the_commit_and_links_nothing(tmp_path):
    tree = Tree(tmp_path, spool_max=1_000_000)
    session = tree.session()
    tree.put(session, "/a", b"old")
    handle = tree.open(session, "/a", truncate=True)

    async def flood():
        for at in range(0, 2_000_000, 65536):
            await handle.write(at, bytes(65536))

    assert tree.failure(flood()) is e.SpoolFullError
    assert tree.failure(handle.commit()) is e.SpoolFullError
    assert tree.get(session, "/a") == b"old"
    assert tree.vfs.spool.used == 0


def test_a_name_can_be_written_again_after_its_buffer_was_lost(tmp_path):
    tree = Tree(tmp_path, spool_max=1_000_000)
    session = tree.session()
    handle = tree.open(session, "/a")
    reader = tree.run(session.open_read(("a",)))
    assert tree.failure(handle.write(0, bytes(2_000_000))) is e.SpoolFullError
    handle.abandon()
    assert tree.failure(reader.read(0, 1)) is e.SpoolFullError
    tree.put(session, "/a", b"again")
    assert tree.get(session, "/a") == b"again"
    reader.close()
    assert tree.vfs.spool.used == 0


@pytest.mark.threat("F3")
def test_a_file_larger_than_may_be_stored_is_refused_before_any_work(tmp_path):
    tree = Tree(tmp_path, max_file_bytes=10**6)
    handle = tree.open(tree.session(), "/a")
    tree.run(handle.truncate(2**62))
    before = tree.calls
    assert tree.failure(handle.commit()) is e.FileTooLargeError
    assert tree.calls == before


@pytest.mark.threat("F8")
def test_the_end_of_a_session_abandons_and_frees(tree):
    session = tree.session()
    handle = tree.open(session, "/a")
    tree.run(handle.write(0, os.urandom(700_000)))
    assert tree.vfs.spool.used == 700_000
    tree.run(session.logout())
    tree.run(session.logout())
    assert tree.vfs.spool.used == 0
    assert len(tree.vfs.pending) == 0
    assert tree.run(tree.root.list()) == {}
    assert tree.failure(handle.commit()) is e.OperationCancelledError
    assert tree.failure(session.open_write(("b",), truncate=True, create=True)) is (
        e.OperationCancelledError
    )


def test_a_commit_that_has_begun_survives_session_and_caller(tree):
    session = tree.session()
    handle = tree.open(session, "/a")
    tree.run(handle.write(0, b"y" * 200))
    tree.client.hold()
    d = tree.start(handle.commit())
    d.cancel()
    tree.run(session.logout())
    tree.client.release()
    assert tree.get(tree.session(), "/a") == b"y" * 200
    assert tree.vfs.spool.used == 0


def test_a_session_that_ends_while_it_opens_leaves_nothing(tree):
    session = tree.session()
    tree.clock.advance(10)
    tree.grid.faults.add(Rule(Kind.LATE, nth=1, seconds=2.0))
    d = tree.start(session.open_write(("a",), truncate=True, create=True))
    assert not d.called
    tree.run(session.logout())
    tree.clock.advance(3)
    assert d.called
    d.addErrback(lambda f: f.trap(e.OperationCancelledError))
    assert len(tree.vfs.pending) == 0


def test_directories_are_made_renamed_and_removed(tree):
    session = tree.session()
    tree.run(session.mkdir(("d",)))
    assert tree.failure(session.mkdir(("d",))) is e.ExistingChildError
    assert tree.failure(session.mkdir(("x", "y"))) is e.NoSuchChildError
    tree.put(session, "/d/f", b"1")
    assert tree.failure(session.mkdir(("d", "f", "g"))) is e.ChildOfWrongTypeError
    assert tree.failure(session.rmdir(("d",))) is e.DirectoryNotEmptyError
    assert tree.failure(session.rmdir(("d", "f"))) is e.ChildOfWrongTypeError
    assert tree.failure(session.remove(("d",))) is e.ChildOfWrongTypeError
    assert tree.failure(session.rename(("d",), ("d", "e"), replace=True)) is (
        e.ChildOfWrongTypeError
    )
    tree.run(session.rename(("d",), ("e",), replace=False))
    assert tree.get(session, "/e/f") == b"1"
    tree.run(session.remove(("e", "f")))
    tree.run(session.rmdir(("e",)))
    assert tree.names(session) == {}
    assert tree.failure(session.rmdir(("e",))) is e.NoSuchChildError
    assert tree.failure(session.remove(("e",))) is e.NoSuchChildError


def test_a_directory_cannot_move_below_itself_by_another_name(tree):
    session = tree.session()
    tree.run(session.mkdir(("d",)))
    node = tree.run(tree.root.get("d"))
    tree.run(tree.root.set_node("alias", node))
    assert tree.failure(session.rename(("d",), ("alias", "x"), replace=True)) is (
        e.ChildOfWrongTypeError
    )


def test_a_directory_that_somebody_writes_in_is_not_empty(tree):
    session, other = tree.session(), tree.session("bob")
    tree.run(session.mkdir(("d",)))
    handle = tree.open(other, "/d/f")
    assert tree.failure(session.rmdir(("d",))) is e.DirectoryNotEmptyError
    handle.abandon()
    tree.run(session.rmdir(("d",)))


async def outcomes(*calls):
    """Run all at once; return the class of each one's error, None for success."""
    waiting = [Deferred.fromCoroutine(call) for call in calls]
    done = await DeferredList(waiting, consumeErrors=True)
    return [None if fine else result.type for fine, result in done]


def test_two_directories_moved_below_each_other_at_once_stay_in_the_tree(tree):
    one, two = tree.session(), tree.session("bob")
    tree.run(one.mkdir(("a",)))
    tree.run(one.mkdir(("b",)))
    tree.grid.faults.add(Rule(Kind.LATE, forever=True, seconds=0.5))
    found = tree.run(
        outcomes(
            one.rename(("a",), ("b", "a"), replace=True),
            two.rename(("b",), ("a", "b"), replace=True),
        )
    )
    assert found == [None, e.NoSuchChildError]
    assert set(tree.names(one)) == {"b"}
    assert set(tree.names(one, "/b")) == {"a"}
    assert not len(tree.vfs.guard)


@pytest.mark.parametrize("what", ["file", "empty file", "directory", "renamed", "second name"])
@pytest.mark.parametrize("head_start", [0, 0.2, 0.5, 0.7, 1, 1.3])
def test_what_is_acknowledged_is_in_the_tree_when_its_directory_is_removed_at_once(
    tree, what, head_start
):
    one, two = tree.session(), tree.session("bob")
    tree.run(one.mkdir(("d",)))
    tree.put(one, "/f", b"data")
    tree.clock.advance(10)  # what was cached is read anew
    tree.grid.faults.add(Rule(Kind.LATE, forever=True, seconds=0.5))

    async def add():
        if what == "directory":
            await one.mkdir(("d", "x"))
        elif what == "renamed":
            await one.rename(("f",), ("d", "x"), replace=True)
        elif what == "second name":
            await one.link(("f",), ("d", "x"))
        else:
            exclusive = what == "empty file"
            handle = await one.open_write(
                ("d", "x"), truncate=True, create=True, exclusive=exclusive
            )
            await handle.write(0, b"x" * 100)
            await handle.commit()

    async def remove():
        await deferLater(tree.clock, head_start)
        await two.rmdir(("d",))

    adding, removing = tree.run(outcomes(add(), remove()), step=0.1)
    if adding is None:
        assert removing is e.DirectoryNotEmptyError
        assert "x" in tree.names(one, "/d")
    else:
        assert (adding, removing) == (e.NoSuchChildError, None)
        assert "d" not in tree.names(one)
        assert "f" in tree.names(one)
    assert not len(tree.vfs.guard)
    assert not len(tree.vfs.pending)


@pytest.mark.parametrize("head_start", [0, 0.2, 0.5, 0.7, 1, 1.3])
def test_nothing_is_added_to_a_directory_while_it_is_removed(tree, head_start):
    one, two = tree.session(), tree.session("bob")
    tree.run(one.mkdir(("d",)))
    tree.grid.faults.add(Rule(Kind.LATE, forever=True, seconds=0.5))

    async def add():
        await deferLater(tree.clock, head_start)
        await one.mkdir(("d", "x"))

    assert tree.run(outcomes(add(), two.rmdir(("d",)), one.rmdir(("d",))), step=0.1) in (
        [e.NoSuchChildError, None, e.NoSuchChildError],
        [None, e.DirectoryNotEmptyError, e.DirectoryNotEmptyError],
    )
    assert not len(tree.vfs.guard)


def test_whole_trees_are_unlinked_where_the_node_says_so(tmp_path):
    tree = Tree(tmp_path, rmdir_nonempty="unlink")
    session = tree.session()
    tree.run(session.mkdir(("d",)))
    tree.put(session, "/d/f", b"1")
    tree.run(session.rmdir(("d",)))
    assert tree.names(session) == {}


def test_a_rename_replaces_files_only(tree):
    session = tree.session()
    tree.put(session, "/a", b"a")
    tree.put(session, "/b", b"b")
    tree.run(session.mkdir(("d",)))
    rename = session.rename
    assert tree.failure(rename(("a",), ("b",), replace=False)) is e.ExistingChildError
    assert tree.failure(rename(("a",), ("d",), replace=True)) is e.ExistingChildError
    assert tree.failure(rename(("d",), ("a",), replace=True)) is e.ExistingChildError
    assert tree.failure(rename(("a",), ("a",), replace=False)) is e.ExistingChildError
    tree.run(rename(("a",), ("a",), replace=True))
    assert tree.failure(rename(("x",), ("y",), replace=True)) is e.NoSuchChildError
    before = tree.calls
    tree.run(rename(("a",), ("b",), replace=True))
    assert tree.get(session, "/b") == b"a"
    assert sorted(tree.names(session)) == ["b", "d"]
    assert tree.calls > before
    tree.run(rename(("b",), ("d", "c"), replace=False))
    assert tree.get(session, "/d/c") == b"a"


def test_a_rename_in_one_directory_is_one_publish(tree):
    session = tree.session()
    tree.put(session, "/a", b"a")
    tree.put(session, "/b", b"b")
    tree.grid.faults.calls.clear()
    tree.run(session.rename(("a",), ("b",), replace=True))
    writes = [name for _, name in tree.grid.faults.calls if "writev" in name]
    assert len(writes) == 1


def test_a_second_name_for_a_file(tree):
    session = tree.session()
    tree.put(session, "/a", b"a" * 100)
    tree.run(session.link(("a",), ("b",)))
    assert tree.get(session, "/b") == b"a" * 100
    assert tree.stat(session, "/a").unique == tree.stat(session, "/b").unique
    assert tree.failure(session.link(("a",), ("b",))) is e.ExistingChildError


def test_a_copy_of_a_stored_file_moves_no_data(tree):
    session = tree.session()
    tree.put(session, "/a", b"a" * 1000)
    uploads = tree.client.uploads
    source = tree.run(session.open_read(("a",)))
    handle = tree.open(session, "/b")
    tree.run(handle.adopt(source))
    source.close()
    assert handle.size == 1000
    tree.run(handle.commit())
    assert tree.client.uploads == uploads
    assert tree.run(tree.root.get("a")).get_uri() == tree.run(tree.root.get("b")).get_uri()


def test_a_mutable_file_is_read_and_written_under_its_own_cap(tree):
    session = tree.session()
    node = tree.run(tree.client.create_mutable_file(b"one"))
    tree.run(tree.root.set_node("m", node))
    assert tree.get(session, "/m") == b"one"
    assert tree.stat(session, "/m").size == 3
    handle = tree.open(session, "/m")
    tree.run(handle.write(1, b"NEW STUFF"))
    tree.run(handle.commit())
    assert tree.get(session, "/m") == b"oNEW STUFF"
    assert tree.stat(session, "/m").size == 10
    assert tree.names(session)["m"].size == 10
    assert tree.run(tree.root.get("m")).get_uri() == node.get_uri()
    assert tree.run(node.download_best_version()) == b"oNEW STUFF"
    tree.run(session.set_attributes(("m",), mtime=5, mode=0o444, size=2))
    assert tree.get(session, "/m") == b"oN"
    assert tree.stat(session, "/m").mtime == 5
    assert tree.stat(session, "/m").writable


def test_a_time_set_by_a_client_stays_until_the_name_is_written_again(tree):
    session = tree.session()
    tree.put(session, "/a", b"1" * 100)
    assert tree.stat(session, "/a").mtime == int(tree.clock.seconds())
    tree.run(session.set_attributes(("a",), mtime=12345))
    assert tree.stat(session, "/a").mtime == 12345
    assert tree.names(session)["a"].mtime == 12345
    tree.clock.advance(100)
    tree.put(session, "/a", b"2" * 100)
    tree.put(session, "/a", b"1" * 100)  # the same contents as the time was set for
    assert tree.stat(session, "/a").mtime == int(tree.clock.seconds())


def test_a_time_set_on_a_handle_costs_no_publish_of_its_own(tree):
    session = tree.session()
    handle = tree.open(session, "/a")
    tree.run(handle.write(0, b"1"))
    handle.set_mtime(777)
    assert tree.stat(session, "/a").mtime == 777
    tree.grid.faults.calls.clear()
    tree.run(handle.commit())
    writes = [name for _, name in tree.grid.faults.calls if "writev" in name]
    assert len(writes) == 1
    assert tree.stat(session, "/a").mtime == 777


def test_touching_through_an_unchanged_handle_uploads_nothing(tree):
    session = tree.session()
    tree.put(session, "/a", b"1" * 100)
    uploads = tree.client.uploads
    handle = tree.open(session, "/a")
    handle.set_mtime(777)
    tree.run(handle.commit())
    assert tree.client.uploads == uploads
    assert tree.stat(session, "/a").mtime == 777


def test_chmod_bars_writing_and_allows_it_again(tree):
    session = tree.session()
    tree.put(session, "/a", b"1")
    tree.run(session.set_attributes(("a",), mode=0o100444))
    assert tree.stat(session, "/a").mode == 0o444
    assert tree.failure(session.open_write(("a",), truncate=True, create=True)) is (
        e.NotWriteableError
    )
    tree.run(session.set_attributes(("a",), mtime=3, mode=0o644))
    assert tree.stat(session, "/a").mode == 0o666
    tree.put(session, "/a", b"2")
    tree.run(session.mkdir(("d",)))
    tree.run(session.set_attributes(("d",), mode=0o500, mtime=9))
    assert tree.stat(session, "/d").mode == 0o777
    assert tree.stat(session, "/d").mtime == 9
    tree.run(session.set_attributes((), mode=0o500, mtime=9))


def test_a_size_set_by_path_cuts_and_lengthens(tree):
    session = tree.session()
    tree.put(session, "/a", b"123456" * 100)
    tree.run(session.set_attributes(("a",), size=3))
    assert tree.get(session, "/a") == b"123"
    tree.run(session.set_attributes(("a",), size=5))
    assert tree.get(session, "/a") == b"123\0\0"
    assert tree.failure(session.set_attributes(("b",), size=5)) is e.NoSuchChildError


@pytest.mark.threat("U6")
@pytest.mark.threat("L10")
def test_hostile_names_are_hidden(tree):
    session, sftp = tree.session(), tree.session(protocol="sftp")
    node = tree.client.create_node_from_uri(None, b"URI:LIT:")
    hostile = ["..", ".", "", "a/b", "../x", "x\ny", "x\ry", "n\0l"]
    children = {name: (node, {}) for name in [*hostile, "fine", "esc\x1b[0m"]}
    checked, dirnode.checked_name = dirnode.checked_name, lambda name: name
    try:
        root = tree.run(tree.client.create_new_mutable_directory(children))
    finally:
        dirnode.checked_name = checked
    session, sftp = tree.session(root=root), tree.session(root=root, protocol="sftp")
    assert set(tree.names(session)) == {"fine", "esc\x1b[0m"}
    assert set(tree.names(sftp)) == {"fine", "x\ny", "x\ry", "esc\x1b[0m"}


def test_unknown_caps_are_shown_and_cannot_be_opened(tree):
    session = tree.session()
    tree.run(tree.root.set_uri("u", None, b"ro.x-future:abc"))
    found = tree.names(session)["u"]
    assert (found.type, found.mode, found.size) == ("unknown", 0, 0)
    assert tree.stat(session, "/u") == found
    assert tree.failure(session.open_read(("u",))) is e.MustNotBeUnknownRWError
    assert tree.failure(session.open_write(("u",), truncate=True, create=True)) is (
        e.MustNotBeUnknownRWError
    )
    tree.run(session.remove(("u",)))


def test_looking_at_what_is_not_there(tree):
    session = tree.session()
    tree.put(session, "/f", b"1")
    for path in ("/x", "/x/y", "/f/y"):
        assert tree.failure(session.stat(parse(path))) is e.NoSuchChildError
        assert tree.failure(session.open_read(parse(path))) is e.NoSuchChildError
        assert tree.failure(session.list(parse(path))) is e.NoSuchChildError
    assert tree.failure(session.list(("f",))) is e.ChildOfWrongTypeError
    assert tree.failure(session.open_read(())) is e.ChildOfWrongTypeError
    assert tree.failure(session.open_write((), truncate=True, create=True)) is not None
    assert tree.failure(session.open_write(("n",), truncate=True, create=False)) is (
        e.NoSuchChildError
    )
    assert len(tree.vfs.pending) == 0
    assert tree.stat(session, "/").type == "dir"


READONLY = ["account", "root", "no-write", "read cap", "uri"]


@pytest.mark.threat("F2")
@pytest.mark.parametrize("kind", READONLY)
def test_what_is_read_only_refuses_every_change(tmp_path, kind):
    tree = Tree(tmp_path, uri_paths=True)
    writer = tree.session()
    tree.put(writer, "/f", b"1")
    tree.put(writer, "/g", b"2")
    tree.run(writer.mkdir(("d",)))
    below = ()
    session = writer
    if kind == "account":
        session = tree.session(readonly=True)
    elif kind == "root":
        root = tree.client.create_node_from_uri(None, tree.root.get_readonly_uri())
        session = tree.session(root=root)
    elif kind == "no-write":
        tree.run(writer.set_attributes(("f",), mode=0o444))
    elif kind == "read cap":
        below = ("ro",)
        tree.run(tree.root.set_uri("ro", None, tree.root.get_readonly_uri()))
    else:
        below = ("uri", tree.root.get_readonly_uri().decode())
    opened = [
        lambda: session.open_write((*below, "f"), truncate=True, create=True),
        lambda: session.open_write((*below, "f"), truncate=False, create=False, append=True),
        lambda: session.set_attributes((*below, "f"), size=0),
    ]
    others = [
        lambda: session.open_write((*below, "new"), truncate=True, create=True, exclusive=True),
        lambda: session.mkdir((*below, "e")),
        lambda: session.rmdir((*below, "d")),
        lambda: session.remove((*below, "f")),
        lambda: session.rename((*below, "f"), (*below, "h"), replace=True),
        lambda: session.rename((*below, "f"), (*below, "g"), replace=True),
        lambda: session.link((*below, "f"), (*below, "h")),
        lambda: session.set_attributes((*below, "f"), mtime=1),
        lambda: session.set_attributes((*below, "f"), mode=0o444),
    ]
    tree.run(session.stat((*below, "f")))
    before = tree.calls
    for operation in opened if kind == "no-write" else opened + others:
        assert tree.failure(operation()) is e.NotWriteableError
    assert tree.calls == before
    assert tree.get(session, "/".join(("", *below, "f"))) == b"1"
    assert not tree.stat(session, "/".join(("", *below, "f"))).writable


@pytest.mark.threat("L7")
@pytest.mark.threat("F2")
def test_a_read_only_session_never_sees_a_write_cap(tmp_path):
    tree = Tree(tmp_path, uri_paths=True)
    session = tree.session(readonly=True)
    assert session._walker.root.get_write_uri() is None
    text = tree.root.get_uri().decode()
    assert not tree.stat(session, f"/uri/{text}").writable
    assert tree.stat(session, "/uri").type == "dir"
    assert tree.names(session, "/uri") == {}
    assert tree.failure(session.mkdir(("uri", text, "x"))) is e.NotWriteableError


def test_paths_by_cap_work_where_the_node_allows_them(tmp_path):
    tree = Tree(tmp_path, uri_paths=True)
    writer = tree.session()
    other = tree.run(tree.client.create_new_mutable_directory())
    base = f"/uri/{other.get_uri().decode()}"
    tree.put(writer, f"{base}/f", b"by cap")
    assert tree.get(writer, f"{base}/f") == b"by cap"
    assert list(tree.names(writer, base)) == ["f"]
    for path in ("/uri", base):
        assert tree.failure(writer.rmdir(parse(path))) is e.NotWriteableError
        assert tree.failure(writer.remove(parse(path))) is e.NotWriteableError
    assert tree.failure(writer.stat(("uri", "URI:CHK:nonsense"))) is not None
    without = tree.session(uri_paths=False)
    assert tree.failure(without.stat(parse(base))) is e.NoSuchChildError


@pytest.mark.threat("L8")
def test_two_accounts_see_other_names_for_the_same_object(tree):
    alice, bob = tree.session("alice"), tree.session("bob")
    tree.put(alice, "/a", b"1" * 100)
    assert tree.stat(alice, "/a").unique != tree.stat(bob, "/a").unique


def test_a_file_is_sent_with_back_pressure(tree):
    session = tree.session()
    data = os.urandom(3_000_000)
    tree.put(session, "/a", data)
    handle = tree.run(session.open_read(("a",)))
    sink = Sink(pause_every=1)
    d = tree.start(handle.send_to(sink, 1000))
    for _ in range(100):
        if d.called:
            break
        assert sink.paused
        sink.resume()
    assert sink.data == data[1000:]
    assert (sink.registered, sink.unregistered) == (1, 1)
    stopped = Sink(stop_after=1)
    assert tree.failure(handle.send_to(stopped)) is e.DownloadStopped
    part = Sink()
    tree.run(handle.send_to(part, 5, 10))
    assert part.data == data[5:15]
    nothing = Sink()
    tree.run(handle.send_to(nothing, len(data)))
    assert nothing.registered == 0
    handle.close()
    handle.close()
    assert tree.failure(handle.send_to(Sink())) is e.DownloadStopped
    assert tree.failure(handle.read(0, 1)) is e.DownloadStopped


@pytest.mark.threat("D4")
def test_ten_thousand_children_come_in_short_turns(tmp_path):
    tree = Tree(tmp_path)
    node = tree.client.create_node_from_uri(None, b"URI:LIT:mfra")
    children = {
        f"child {i:05d}": (node, {"tahoe": {"linkmotime": i}, "truckee": {"mtime": 1, "for": "x"}})
        for i in range(10_000)
    }
    root = tree.run(tree.client.create_new_mutable_directory(children))
    session = tree.session(root=root)
    turns = []

    async def go():
        found = 0
        async for batch in await session.list(()):
            turns.append(time.thread_time())
            found += len(batch)
        return found

    assert tree.run(go()) == 10_000
    spans = sorted(b - a for a, b in pairwise(turns))
    assert spans[len(spans) // 2] < 0.02


@pytest.mark.parametrize("kind", [Kind.ERROR, Kind.ERROR_AFTER])
@pytest.mark.parametrize("target", [("b",), ("d", "b")])
def test_every_broken_call_of_a_rename_leaves_the_file_under_one_of_its_names(
    tmp_path, kind, target
):
    n = 0
    while True:
        n += 1
        tree = Tree(tmp_path)
        session = tree.session()
        tree.put(session, "/a", b"moved" * 100)
        tree.run(session.mkdir(("d",)))
        tree.put(session, "/" + "/".join(target), b"replaced" * 100)
        tree.clock.advance(10)
        rule = tree.grid.faults.add(Rule(kind, nth=n))
        error = tree.failure(session.rename(("a",), target, replace=True))
        assert error is None or issubclass(error, e.TruckeeError)
        tree.grid.faults.rules.clear()
        tree.clock.advance(100)
        there = tree.get(session, "/" + "/".join(target))
        if tree.failure(session.stat(("a",))) is None:
            assert tree.get(session, "/a") == b"moved" * 100
            assert there in (b"moved" * 100, b"replaced" * 100)
        else:
            assert there == b"moved" * 100
        assert error is not None or "a" not in tree.names(session)
        if not rule.reached:
            break
    assert n > 2
