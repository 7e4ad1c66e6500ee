"""Requests beyond version 3."""

import struct

import pytest

from tests.fakes import sftp_client as w
from tests.fakes.sftp_client import C, R, T, Talk, W, X, attrs, s, u32, u64
from tests.fakes.tree import Tree
from truckee.core import errors as e
from truckee.frontends.sftp.extensions import Space


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.fixture
def talk(tree):
    return Talk(tree)


def linked(tree):
    return {
        name: tree.run(node.download_best_version())
        for name, (node, _) in tree.run(tree.root.list()).items()
        if not node.get_cap().is_directory
    }


def posix_rename(talk, source, target):
    answer = talk.extended("posix-rename@openssh.com", s(source) + s(target))
    assert answer.kind == w.STATUS
    return answer.code


def test_posix_rename_replaces_files_and_nothing_else(tree, talk):
    talk.put("/a", b"a")
    talk.put("/b", b"b")
    for name in ("/d", "/e"):
        talk.status(w.MKDIR, name)
    writes = lambda: [n for _, n in tree.grid.faults.calls if "writev" in n]  # noqa: E731
    tree.grid.faults.calls.clear()
    assert posix_rename(talk, "/a", "/b") == w.OK
    assert len(writes()) == 1, "one edit of the directory"
    assert linked(tree) == {"b": b"a"}
    assert posix_rename(talk, "/d", "/e") == w.FAILURE
    assert posix_rename(talk, "/d", "/b") == w.FAILURE
    assert posix_rename(talk, "/b", "/d") == w.FAILURE
    assert posix_rename(talk, "/no", "/b") == w.NO_SUCH_FILE
    assert posix_rename(talk, "/d", "/d/below") == w.FAILURE
    assert posix_rename(talk, "/d", "/moved") == w.OK
    assert sorted(talk.names()) == ["b", "e", "moved"]


def statvfs(talk, path="/"):
    answer = talk.extended("statvfs@openssh.com", s(path))
    assert answer.kind == w.REPLY, answer
    return struct.unpack(">11Q", answer.body[4:])


def test_statvfs_tells_a_pebibyte_when_nothing_is_known(talk):
    found = statvfs(talk)
    assert found[:2] == (4096, 4096)
    assert found[2] * 4096 == found[3] * 4096 == found[4] * 4096 == 2**50
    assert found[9:] == (0, 255)
    handle = talk.handle("/f", W | C)
    answer = talk.extended("fstatvfs@openssh.com", handle)
    assert struct.unpack(">11Q", answer.body[4:]) == found
    assert talk.extended("fstatvfs@openssh.com", s("no")).code == w.FAILURE
    assert talk.extended("statvfs@openssh.com", s("/no")).code == w.NO_SUCH_FILE


def test_statvfs_tells_what_is_known_and_that_a_root_is_read_only(tree):
    session = tree.session(readonly=True, protocol="sftp")
    talk = Talk(tree, session, space=lambda: Space(4096 * 1000, 4096 * 600 + 5))
    found = statvfs(talk)
    assert found[2:5] == (1000, 600, 600)
    assert found[9] == 1


@pytest.mark.threat("L8")
def test_the_id_of_the_filesystem_does_not_tell_equal_roots(tree, tmp_path):
    alice = statvfs(Talk(tree))[8]
    bob = statvfs(Talk(tree, tree.session("bob", protocol="sftp")))[8]
    assert alice != bob
    assert statvfs(Talk(tree))[8] == alice
    assert statvfs(Talk(Tree(tmp_path / "other")))[8] != alice


def test_fsync_commits_what_is_there_and_the_handle_goes_on(tree, talk):
    handle = talk.handle("/f", W | C | T)
    assert talk.write(handle, 0, b"one") == w.OK
    assert talk.extended("fsync@openssh.com", handle).code == w.OK
    assert linked(tree) == {"f": b"one"}
    assert talk.write(handle, 3, b" two") == w.OK
    assert linked(tree) == {"f": b"one"}
    tree.client.error = e.NoServersError("none")
    assert talk.extended("fsync@openssh.com", handle).code == w.FAILURE
    tree.client.error = None
    assert talk.extended("fsync@openssh.com", handle).code == w.OK
    uploads = tree.client.uploads
    assert talk.close(handle) == w.OK
    assert tree.client.uploads == uploads
    assert linked(tree) == {"f": b"one two"}
    assert talk.extended("fsync@openssh.com", handle).code == w.FAILURE
    assert talk.extended("fsync@openssh.com", talk.handle("/f", R)).code == w.OK


def test_fsync_reports_its_status_also_where_close_does_not_wait(tmp_path):
    tree = Tree(tmp_path, commit_mode="background")
    talk = Talk(tree)
    handle = talk.handle("/f", W | C | T)
    talk.write(handle, 0, bytes(200_000))
    tree.client.hold()
    number = talk.send(w.EXTENDED, s("fsync@openssh.com") + handle)
    tree.clock.advance(5)
    assert not talk.has(number)
    tree.client.error = e.NoServersError("none")
    tree.client.release()
    assert talk.wait(number).code == w.FAILURE


def test_limits(talk):
    answer = talk.extended("limits@openssh.com")
    assert answer.kind == w.REPLY
    assert struct.unpack(">4Q", answer.body[4:]) == (262144, 261120, 261120, 256)


def copy(talk, source, target, at=0, length=0, to=0):
    return talk.extended("copy-data", source + u64(at) + u64(length) + target + u64(to)).code


def test_copying_a_whole_file_moves_no_data(tree, talk):
    data = bytes(i % 251 for i in range(500_000))
    talk.put("/a", data)
    uploads = tree.client.uploads
    tree.grid.faults.calls.clear()
    source, target = talk.handle("/a", R), talk.handle("/b", W | C | T)
    assert copy(talk, source, target) == w.OK
    assert talk.ask(w.FSTAT, target).attrs.size == len(data)
    assert talk.close(target) == w.OK
    assert tree.client.uploads == uploads
    assert "read" not in {name for _, name in tree.grid.faults.calls}
    caps = {n.get_readonly_uri() for n, _ in tree.run(tree.root.list()).values()}
    assert len(caps) == 1
    assert talk.get("/b") == data


def test_copying_parts(tree, talk):
    talk.put("/a", bytes(i % 251 for i in range(600_000)))
    data = talk.get("/a")
    source, target = talk.handle("/a", R), talk.handle("/b", R | W | C)
    assert talk.write(target, 0, b"head") == w.OK
    assert copy(talk, source, target, at=100, length=300_000, to=4) == w.OK
    assert copy(talk, source, target, at=599_990, length=0, to=300_004) == w.OK
    assert copy(talk, source, target, at=10**9, length=5, to=0) == w.OK
    assert copy(talk, source, target, at=2**63, length=5, to=0) == w.FAILURE
    assert talk.close(target) == w.OK
    assert linked(tree)["b"] == b"head" + data[100:300_100] + data[599_990:]


def test_copying_a_file_that_is_being_written(tree, talk):
    source = talk.handle("/a", R | W | C)
    talk.write(source, 0, b"not linked yet")
    target = talk.handle("/b", W | C)
    assert copy(talk, source, target) == w.OK
    assert talk.close(target) == w.OK
    assert linked(tree) == {"b": b"not linked yet"}


def test_copying_needs_the_right_handles(talk):
    talk.put("/a", b"a")
    reader, writer, both = (
        talk.handle("/a", R),
        talk.handle("/b", W | C),
        talk.handle("/c", R | W | C),
    )
    assert copy(talk, writer, both) == w.DENIED
    assert copy(talk, reader, reader) == w.DENIED
    assert copy(talk, both, both) == w.FAILURE
    assert copy(talk, s("no"), writer) == w.FAILURE
    assert copy(talk, reader, s("no")) == w.FAILURE


def test_copies_crosswise_get_through(tree, talk):
    one, two = talk.handle("/1", R | W | C), talk.handle("/2", R | W | C)
    talk.write(one, 0, b"1" * 200_000)
    talk.write(two, 0, b"2" * 200_000)
    numbers = [
        talk.send(w.EXTENDED, s("copy-data") + a + u64(0) + u64(0) + b + u64(200_000))
        for a, b in ((one, two), (two, one))
    ]
    assert [talk.wait(n).code for n in numbers] == [w.OK, w.OK]


def hardlink(talk, source, target):
    return talk.extended("hardlink@openssh.com", s(source) + s(target)).code


def test_a_second_name(tree, talk):
    talk.put("/a", b"a")
    talk.put("/b", b"b")
    talk.status(w.MKDIR, "/d")
    assert hardlink(talk, "/a", "/c") == w.OK
    assert hardlink(talk, "/a", "/b") == w.FAILURE
    assert hardlink(talk, "/d", "/e") == w.FAILURE
    assert hardlink(talk, "/no", "/e") == w.NO_SUCH_FILE
    assert hardlink(talk, "/a", "/no/e") == w.NO_SUCH_FILE
    assert linked(tree) == {"a": b"a", "b": b"b", "c": b"a"}


@pytest.mark.parametrize("flags", [W | C | X, W | C | T])
@pytest.mark.parametrize("answered", [False, True])
def test_a_second_name_right_behind_a_close_has_the_contents(tree, talk, flags, answered):
    """git writes a temporary object, closes it, links it; sshfs does not wait for the close."""
    handle = talk.handle("/tmp_obj", flags)
    talk.write(handle, 0, b"object")
    closing = talk.send(w.CLOSE, handle)
    if answered:
        talk.wait(closing)
    linking = talk.send(w.EXTENDED, s("hardlink@openssh.com") + s("/tmp_obj") + s("/object"))
    removing = talk.send(w.REMOVE, s("/tmp_obj"))
    assert talk.wait(linking).code == w.OK
    assert talk.wait(removing).code == w.OK
    assert linked(tree) == {"object": b"object"}


def test_a_second_name_of_a_file_still_open_has_what_was_written_so_far(tree, talk):
    handle = talk.handle("/a", W | C | X)
    talk.write(handle, 0, b"so far")
    assert hardlink(talk, "/a", "/b") == w.OK
    assert linked(tree) == {"a": b"so far", "b": b"so far"}
    assert talk.close(handle) == w.OK


def test_lsetstat_is_setstat(talk):
    talk.put("/f", b"1")
    assert talk.extended("lsetstat@openssh.com", s("/f") + attrs(times=(1, 9))).code == w.OK
    assert talk.stat("/f").mtime == 9


@pytest.mark.parametrize(
    ("given", "path"), [("~", "/"), ("~bob", "/"), ("~/a/b", "/a/b"), ("~bob/a", "/a"), ("a", "/a")]
)
def test_everybodys_home_is_the_root(talk, given, path):
    answer = talk.extended("expand-path@openssh.com", s(given))
    assert list(answer.names) == [path]


def test_what_is_not_known_is_unsupported(talk):
    for name in ("users-groups-by-id@openssh.com", "home-directory", "", "\0", "x" * 1000):
        assert talk.extended(name, u32(0)).code == w.UNSUPPORTED
