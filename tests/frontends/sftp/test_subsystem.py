"""Requests over a channel, served from a grid in memory: every row of the table of requests."""

import itertools

import pytest

from tests.fakes import sftp_client as w
from tests.fakes.sftp_client import A, C, R, T, Talk, W, X, attrs, packet, s, u32, u64
from tests.fakes.tree import Tree
from truckee.core import errors as e
from truckee.core.storage.faults import Kind, Rule
from truckee.frontends.sftp.handles import Room
from truckee.frontends.sftp.subsystem import MAX_PROMISED, MAX_REQUESTS, SFTPSubsystem
from truckee.frontends.vfs.read_stream import Budget

EVERY = list(range(256))


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.fixture
def talk(tree):
    return Talk(tree)


def linked(tree):
    """Return what anybody can see of files."""
    return {
        name: tree.run(node.download_best_version())
        for name, (node, _) in tree.run(tree.root.list()).items()
        if not node.get_cap().is_directory
    }


# version


@pytest.mark.parametrize("version", [3, 4, 5, 6, 2**32 - 1])
def test_version_3_answers_whoever_speaks_3_or_later(tree, version):
    talk = Talk(tree, greet=False)
    answer = talk.greet(version, s("newline@vandyke.com") + s("\n"))
    assert (answer.kind, answer.id) == (w.VERSION, 3)


@pytest.mark.parametrize("first", [packet(w.INIT, u32(2)), packet(w.INIT), packet(w.INIT, b"\0\0")])
def test_an_init_that_makes_no_sense_ends_the_connection(tree, first):
    talk = Talk(tree, greet=False)
    talk.feed(first)
    assert talk.channel.closed == 1
    assert not talk.channel.out


def test_a_second_init_ends_the_connection(talk):
    talk.feed(packet(w.INIT, u32(3)))
    assert talk.channel.closed == 1


@pytest.mark.threat("F6")
@pytest.mark.parametrize("kind", [k for k in EVERY if k != w.INIT])
def test_nothing_is_served_before_init(tree, kind):
    before = tree.calls
    talk = Talk(tree, greet=False)
    talk.feed(packet(kind, u32(1) + s("/f") + u32(R) + attrs()))
    talk.settle(3)
    assert talk.channel.closed == 1
    assert not talk.channel.out
    assert tree.calls == before


# 256 types in four states


def everyday(tree):
    return Talk(tree)


def with_open_files(tree):
    talk = Talk(tree)
    talk.handle("/w", W | C | T)
    talk.handle("/f", R)
    talk.ask(w.OPENDIR, s("/"))
    return talk


def while_a_commit_runs(tree):
    talk = Talk(tree)
    handle = talk.handle("/new", W | C | T)
    tree.client.hold()
    talk.send(w.CLOSE, handle)
    return talk


def after_an_error(tree):
    talk = Talk(tree)
    assert talk.ask(w.CLOSE, s("nonsense")).code == w.FAILURE
    assert talk.ask(w.STAT, b"").code == w.BAD_MESSAGE
    return talk


@pytest.mark.threat("F6")
@pytest.mark.parametrize(
    "state",
    [everyday, with_open_files, while_a_commit_runs, after_an_error],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("body", [b"", s("/nothing/here"), bytes(64), b"\xff" * 40])
def test_each_of_256_types_is_answered_once_and_the_session_goes_on(tree, state, body):
    tree.put(tree.session(), "/f", b"content")
    talk = state(tree)
    for kind in EVERY:
        if kind == w.INIT:
            continue
        answer = talk.ask(kind, body)
        if kind in KNOWN:
            assert answer.kind != w.STATUS or answer.code in (0, 2, 3, 4, 5, 8)
            if not body:
                assert answer.code == w.BAD_MESSAGE
        else:
            assert answer.code == w.UNSUPPORTED
    assert talk.stat("/f").size == 7
    tree.client.release()
    talk.settle(5)
    assert talk.channel.closed is None
    assert linked(tree)["f"] == b"content"


KNOWN = [
    w.OPEN, w.CLOSE, w.READ, w.WRITE, w.LSTAT, w.FSTAT, w.SETSTAT, w.FSETSTAT, w.OPENDIR, w.READDIR,
    w.REMOVE, w.MKDIR, w.RMDIR, w.REALPATH, w.STAT, w.RENAME, w.EXTENDED,
]  # fmt: skip


def test_a_packet_too_short_for_an_id_ends_the_connection(talk):
    talk.feed(packet(w.STAT, b"\0\0"))
    assert talk.channel.closed == 1


@pytest.mark.threat("F6")
@pytest.mark.parametrize("size", [0, 257 * 1024 + 1, 2**32 - 1])
def test_a_packet_of_a_size_that_is_refused_ends_the_connection(tree, talk, size):
    handle = talk.handle("/f", W | C | T)
    talk.write(handle, 0, b"half")
    talk.feed(u32(size) + b"x" * 100)
    assert talk.channel.closed == 1
    talk.settle(5)
    assert linked(tree) == {}
    assert len(tree.vfs.pending) == 0


# paths


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("", "/"), (".", "/"), ("/", "/"), ("..", "/"), ("/a/../b", "/b"), ("a//b/.", "/a/b"),
        ("/../..", "/"), ("/e\u0301", "/é"), ("nowhere", "/nowhere"),
    ],
)  # fmt: skip
def test_realpath_is_canonical_and_does_not_look(tree, talk, raw, path):
    before = tree.calls
    ((name, (line, about)),) = talk.ask(w.REALPATH, s(raw)).names.items()
    assert (name, line, about) == (path, path, None)
    assert tree.calls == before


@pytest.mark.parametrize("kind", [w.STAT, w.LSTAT, w.OPENDIR, w.REMOVE, w.RMDIR, w.REALPATH])
def test_what_is_not_utf8_does_not_exist(talk, kind):
    assert talk.status(kind, b"/\xff\xfe") == w.NO_SUCH_FILE


@pytest.mark.parametrize("raw", [b"/\xff\xfe", b"/a\0b", b"/" + b"n" * 256])
def test_names_that_are_not_allowed_cannot_be_made(tree, talk, raw):
    tree.put(tree.session(), "/f", b"")
    assert talk.status(w.MKDIR, raw) == w.FAILURE
    assert talk.open(raw, W | C).code == w.FAILURE
    assert talk.status(w.RENAME, "/f", raw) == w.FAILURE
    assert list(talk.names()) == ["f"]


def test_stat_tells_of_files_and_directories(tree, talk):
    tree.put(tree.session(), "/f", b"12345")
    assert talk.status(w.MKDIR, "/d") == w.OK
    for kind in (w.STAT, w.LSTAT):
        found = talk.ask(kind, s("/f")).attrs
        assert (found.size, found.mode) == (5, 0o100666)
        assert found.mtime == int(tree.clock.seconds()) or found.mtime > 1_600_000_000
        assert talk.ask(kind, s("/d")).attrs.mode == 0o040777
        assert talk.status(kind, "/no") == w.NO_SUCH_FILE
        assert talk.status(kind, "/f/below") == w.NO_SUCH_FILE
        assert talk.status(kind, "/no/below") == w.NO_SUCH_FILE


def test_a_read_only_session_sees_no_write_bits(tree):
    tree.put(tree.session(), "/f", b"1")
    talk = Talk(tree, tree.session(readonly=True, protocol="sftp"))
    assert talk.stat("/f").mode == 0o100444
    assert talk.stat("/").mode == 0o040555


def test_setstat_sets_times_mode_and_size(tree, talk):
    tree.put(tree.session(), "/f", b"12345")
    assert talk.ask(w.SETSTAT, s("/f") + attrs(times=(1, 1_000_000_000))).code == w.OK
    assert talk.stat("/f").mtime == 1_000_000_000
    assert talk.ask(w.SETSTAT, s("/f") + attrs(size=3)).code == w.OK
    assert talk.get("/f") == b"123"
    assert talk.ask(w.SETSTAT, s("/f") + attrs(size=6)).code == w.OK
    assert talk.get("/f") == b"123\0\0\0"
    assert talk.ask(w.SETSTAT, s("/f") + attrs(mode=33060)).code == w.OK
    assert talk.stat("/f").mode == 0o100444
    assert talk.open("/f", W).code == w.DENIED
    assert talk.ask(w.SETSTAT, s("/f") + attrs(size=0)).code == w.DENIED
    assert talk.ask(w.SETSTAT, s("/f") + attrs(times=(7, 8))).code == w.OK
    assert talk.ask(w.SETSTAT, s("/f") + attrs(mode=0o100644)).code == w.OK
    assert talk.stat("/f").mode == 0o100666


@pytest.mark.parametrize(
    "wanted", [attrs(), attrs(owner=(0, 0)), attrs(mode=0o40700), attrs(extended=[(b"x", b"y")])]
)
def test_what_is_ignored_is_answered_with_success(tree, talk, wanted):
    tree.put(tree.session(), "/f", b"1")
    talk.status(w.MKDIR, "/d")
    for path in ("/f", "/d", "/"):
        assert talk.ask(w.SETSTAT, s(path) + wanted).code == w.OK
    handle = talk.handle("/f", W)
    assert talk.ask(w.FSETSTAT, handle + wanted).code == w.OK


def test_setstat_of_what_is_absent_or_a_directory(tree, talk):
    talk.status(w.MKDIR, "/d")
    assert talk.ask(w.SETSTAT, s("/no") + attrs(times=(1, 1))).code == w.NO_SUCH_FILE
    assert talk.ask(w.SETSTAT, s("/no") + attrs(size=1)).code == w.NO_SUCH_FILE
    assert talk.ask(w.SETSTAT, s("/d") + attrs(size=1)).code == w.FAILURE
    assert talk.ask(w.SETSTAT, s("/d") + attrs(times=(1, 77))).code == w.OK
    assert talk.stat("/d").mtime == 77


def test_directories_are_made_and_removed(tree, talk):
    assert talk.ask(w.MKDIR, s("/d") + attrs(mode=0o444)).code == w.OK
    assert talk.status(w.MKDIR, "/d") == w.FAILURE
    assert talk.status(w.MKDIR, "/") == w.FAILURE
    assert talk.status(w.MKDIR, "/no/d") == w.NO_SUCH_FILE
    talk.put("/d/f", b"1")
    assert talk.status(w.MKDIR, "/d/f/x") == w.FAILURE
    assert talk.status(w.RMDIR, "/d") == w.FAILURE
    assert talk.status(w.RMDIR, "/d/f") == w.FAILURE
    assert talk.status(w.RMDIR, "/no") == w.NO_SUCH_FILE
    assert talk.status(w.REMOVE, "/d") == w.FAILURE
    assert talk.status(w.REMOVE, "/no") == w.NO_SUCH_FILE
    assert talk.status(w.REMOVE, "/d/f") == w.OK
    assert talk.status(w.RMDIR, "/d") == w.OK
    assert talk.names() == {}


def test_rename_refuses_what_exists(tree, talk):
    talk.put("/a", b"a")
    talk.put("/b", b"b")
    talk.handle("/pending", W | C | T)
    assert talk.status(w.RENAME, "/a", "/b") == w.FAILURE
    assert talk.status(w.RENAME, "/a", "/pending") == w.FAILURE
    assert talk.status(w.RENAME, "/no", "/c") == w.NO_SUCH_FILE
    assert talk.status(w.RENAME, "/a", "/no/c") == w.NO_SUCH_FILE
    assert talk.status(w.RENAME, "/a", "/c") == w.OK
    assert linked(tree) == {"b": b"b", "c": b"a"}


def test_symbolic_links_do_not_exist(talk):
    talk.put("/a", b"a")
    assert talk.status(w.READLINK, "/a") == w.UNSUPPORTED
    assert talk.status(w.SYMLINK, "/a", "/b") == w.UNSUPPORTED
    assert list(talk.names()) == ["a"]


# listings


def test_what_is_put_can_be_listed_and_got(talk):
    data = bytes(range(256)) * 700 + b"seven 7"
    talk.put("/naïve é 日本.bin", data)
    assert talk.get("/naïve é 日本.bin") == data
    names = talk.names()
    assert list(names) == ["naïve é 日本.bin"]
    line, found = names["naïve é 日本.bin"]
    assert line.startswith("-rw-rw-rw-   1 alice    alice")
    assert found.size == len(data)
    assert found == talk.stat("/naïve é 日本.bin")


def test_a_listing_is_a_snapshot_and_ends_with_eof(tree, talk):
    for n in range(3):
        talk.put(f"/f{n}", b"")
    talk.status(w.MKDIR, "/d")
    handle = s(talk.ask(w.OPENDIR, s("/")).handle)
    talk.put("/late", b"")
    found = talk.ask(w.READDIR, handle).names
    assert sorted(found) == ["d", "f0", "f1", "f2"]
    assert found["d"][0].startswith("drwxrwxrwx")
    for _ in range(2):
        answer = talk.ask(w.READDIR, handle)
        assert (answer.code, answer.text) == (w.EOF, "end of file")
    assert talk.close(handle) == w.OK
    assert talk.ask(w.READDIR, handle).code == w.FAILURE


def test_opendir_of_a_file_fails_and_of_nothing_finds_nothing(talk):
    talk.put("/f", b"1")
    talk.handle("/pending", W | C | T)
    assert talk.status(w.OPENDIR, "/f") == w.FAILURE
    assert talk.status(w.OPENDIR, "/pending") == w.FAILURE
    assert talk.status(w.OPENDIR, "/no") == w.NO_SUCH_FILE
    assert talk.status(w.OPENDIR, "/f/x") == w.NO_SUCH_FILE


def test_files_being_written_are_listed(talk):
    handle = talk.handle("/f", W | C | T)
    talk.write(handle, 0, b"12345")
    assert talk.names()["f"][1].size == 5
    assert talk.stat("/f").size == 5
    assert talk.ask(w.FSTAT, handle).attrs.size == 5


def test_a_large_directory_comes_in_replies_of_at_most_200_entries_and_200_kib(tree, talk):
    wide = {"😀" * 250 + f"{n:05d}": (None, b"URI:LIT:", {}) for n in range(450)}
    tree.run(tree.root.set_children(wide))
    handle = s(talk.ask(w.OPENDIR, s("/")).handle)
    seen = 0
    while True:
        talk.send(w.READDIR, handle)
        number = talk.send(w.READDIR, handle)
        first, second = talk.wait(number - 1), talk.wait(number)
        if first.kind == w.STATUS:
            break
        for answer in (first, second):
            if answer.kind == w.NAME:
                assert len(answer.body) <= 200 * 1024 + 8
                assert len(answer.names) <= 200
                seen += len(answer.names)
    assert seen == 450


@pytest.mark.threat("F3")
def test_a_name_too_long_for_any_reply_is_left_out(tree, talk, monkeypatch):
    found = tree.run(talk.session.stat(()))

    async def batches():
        yield [("n" * 250_000, found)]
        yield [("short", found), ("m" * 150_000, found)]

    async def listing(path):
        return batches()

    monkeypatch.setattr(talk.session, "list", listing)
    assert list(talk.names()) == ["short"]


@pytest.mark.threat("F1")
def test_hostile_names_are_not_listed(tree, talk):
    for name in ("..", ".", "a/b", "x\0y", "../x", "x\ny"):
        tree.run(tree.root.set_uri(name, None, b"URI:LIT:"))
    assert list(talk.names()) == ["x\ny"]


# open


def test_a_directory_cannot_be_opened(talk):
    talk.status(w.MKDIR, "/d")
    for flags in (R, W, W | C, W | C | T, W | A | C):
        assert talk.open("/d", flags).code == w.FAILURE
        assert talk.open("/", flags).code in (w.FAILURE, w.DENIED)


@pytest.mark.parametrize(
    ("flags", "code"),
    [(0, w.BAD_MESSAGE), (X | W, w.BAD_MESSAGE), (T | R, w.DENIED), (T, w.BAD_MESSAGE)],
)
def test_flags_without_sense_are_refused_for_present_and_absent_names(talk, flags, code):
    talk.put("/f", b"1")
    assert talk.open("/f", flags).code == code
    assert talk.open("/no", flags).code == code
    assert talk.get("/f") == b"1"


@pytest.mark.parametrize("flags", [R, W, R | W, W | T, W | A, W | A | R])
def test_without_create_a_file_must_exist(tree, talk, flags):
    assert talk.open("/no", flags).code == w.NO_SUCH_FILE
    assert talk.open("/no/f", flags).code == w.NO_SUCH_FILE
    assert len(tree.vfs.pending) == 0


@pytest.mark.parametrize(
    ("flags", "content"),
    [
        (W, b"NEW45678"), (R | W, b"NEW45678"), (W | T, b"NEW"), (R | W | T, b"NEW"),
        (W | C, b"NEW45678"), (W | C | T, b"NEW"), (W | A, b"12345678NEW"),
        (W | A | C, b"12345678NEW"), (A, b"12345678NEW"), (W | A | C | R, b"12345678NEW"),
    ],
)  # fmt: skip
def test_an_existing_file_is_written_as_the_flags_say(tree, talk, flags, content):
    talk.put("/f", b"12345678")
    handle = talk.handle("/f", flags)
    assert talk.write(handle, 0, b"NEW") == w.OK
    assert linked(tree) == {"f": b"12345678"}
    assert talk.close(handle) == w.OK
    assert linked(tree) == {"f": content}


@pytest.mark.parametrize("flags", [W | C, W | C | T, R | W | C, W | C | X, C | X, W | A | C, C])
def test_an_absent_file_is_created_empty_even_without_a_write(tree, talk, flags):
    handle = talk.handle("/f", flags)
    assert linked(tree) == ({"f": b""} if flags & X else {})
    assert talk.close(handle) == w.OK
    assert linked(tree) == {"f": b""}


@pytest.mark.parametrize("flags", [W | C | X, C | X, W | C | T | X])
def test_exclusive_creation_fails_for_what_exists_linked_or_not(talk, flags):
    talk.put("/f", b"1")
    talk.handle("/pending", W | C | T)
    assert talk.open("/f", flags).code == w.FAILURE
    assert talk.open("/pending", flags).code == w.FAILURE
    assert talk.get("/f") == b"1"


def test_of_two_exclusive_creators_one_fails(tree):
    one, two = Talk(tree), Talk(tree)
    numbers = [t.send(w.OPEN, s("/f") + u32(W | C | X) + attrs()) for t in (one, two)]
    kinds = sorted(t.wait(n).kind for t, n in zip((one, two), numbers, strict=True))
    assert kinds == [w.STATUS, w.HANDLE]


def test_unknown_caps_are_shown_and_cannot_be_opened(tree, talk):
    tree.run(tree.root.set_uri("u", None, b"URI:FUTURE:x"))
    assert talk.stat("/u").mode == 0o100000
    for flags in (R, W, W | C | T):
        assert talk.open("/u", flags).code == w.DENIED


def test_a_mode_without_write_matters_only_when_the_file_is_created(talk):
    handle = talk.handle("/ro", W | C | T, attrs(mode=0o100444))
    assert talk.write(handle, 0, b"1") == w.OK
    assert talk.close(handle) == w.OK
    assert talk.stat("/ro").mode == 0o100444
    assert talk.open("/ro", W).code == w.DENIED
    talk.put("/f", b"1")
    for flags in (R, W, W | C, W | C | T):  # sshfs sends mode 0 with plain opens
        handle = talk.handle("/f", flags, attrs(mode=0))
        assert talk.close(handle) == w.OK
        assert talk.stat("/f").mode == 0o100666


def test_times_given_at_open_are_those_of_the_file(talk):
    handle = talk.handle("/f", W | C | T, attrs(times=(5, 1_000_000_000)))
    talk.write(handle, 0, b"1")
    talk.close(handle)
    assert talk.stat("/f").mtime == 1_000_000_000


# read and write


def test_a_read_is_short_only_at_the_end(tree, talk):
    data = bytes(i % 251 for i in range(700_000))
    tree.put(tree.session(), "/f", data)
    handle = talk.handle("/f", R)
    for at, size in itertools.product((0, 1, 131071, 699_990, 699_999), (1, 32768, 261120, 2**20)):
        assert talk.read(handle, at, size) == data[at : at + min(size, 2**18)]
    for at in (700_000, 700_001, 2**31, 2**63 - 1, 2**63, 2**64 - 1):
        answer = talk.ask(w.READ, handle + u64(at) + u32(1))
        assert (answer.code, answer.text) == (w.EOF, "end of file")
    for at in (0, 700_000):
        assert talk.ask(w.READ, handle + u64(at) + u32(0)).data == b""


def test_what_is_not_opened_for_it_cannot_be_read_or_written(talk):
    talk.put("/f", b"1")
    reader, writer = talk.handle("/f", R), talk.handle("/f", W)
    directory = s(talk.ask(w.OPENDIR, s("/")).handle)
    assert talk.write(reader, 0, b"x") == w.DENIED
    assert talk.ask(w.READ, writer + u64(0) + u32(1)).code == w.DENIED
    assert talk.write(talk.handle("/f", R | C), 0, b"x") == w.DENIED
    assert talk.write(directory, 0, b"x") == w.FAILURE
    assert talk.ask(w.READ, directory + u64(0) + u32(1)).code == w.FAILURE
    assert talk.ask(w.READDIR, reader).code == w.FAILURE
    assert talk.ask(w.FSETSTAT, reader + attrs(size=0)).code == w.DENIED


def test_what_is_written_can_be_read_through_the_same_handle(talk):
    talk.put("/f", b"0123456789" * 50_000)
    handle = talk.handle("/f", R | W)
    write = talk.send(w.WRITE, handle + u64(4) + s("WXYZ"))
    read = talk.send(w.READ, handle + u64(0) + u32(10))
    again = talk.send(w.WRITE, handle + u64(0) + s("ab"))
    last = talk.send(w.READ, handle + u64(0) + u32(10))
    assert talk.wait(read).data == b"0123WXYZ89"
    assert talk.wait(last).data == b"ab23WXYZ89"
    assert talk.wait(write).code == talk.wait(again).code == w.OK


def test_many_requests_can_be_sent_before_the_first_answer(talk):
    handle = talk.handle("/f", W | C | T)
    numbers = [talk.send(w.WRITE, handle + u64(i * 999) + s(bytes([i]) * 999)) for i in range(50)]
    closing = talk.send(w.CLOSE, handle)
    assert talk.ask(w.FSTAT, handle).code == w.FAILURE
    assert [talk.wait(n).code for n in [*numbers, closing]] == [w.OK] * 51
    handle = talk.handle("/f", R)
    numbers = [talk.send(w.READ, handle + u64(i * 999) + u32(999)) for i in range(50)]
    closing = talk.send(w.CLOSE, handle)
    assert [talk.wait(n).data for n in numbers] == [bytes([i]) * 999 for i in range(50)]
    assert talk.wait(closing).code == w.OK


def test_appends_go_to_the_end_whatever_their_offset(tree, talk):
    talk.put("/f", b"start")
    handle = talk.handle("/f", W | A)
    for number in [talk.send(w.WRITE, handle + u64(0) + s(f" {i}")) for i in range(5)]:
        assert talk.wait(number).code == w.OK
    talk.close(handle)
    assert linked(tree) == {"f": b"start 0 1 2 3 4"}


@pytest.mark.parametrize("trailing", [b"\0", bytes(100), b"\xff" * 5])
def test_trailing_bytes_behind_a_write_are_ignored(tree, talk, trailing):
    """X9: rclone 1.60 sends them."""
    handle = talk.handle("/f", W | C | T)
    assert talk.ask(w.WRITE, handle + u64(0) + s("data") + trailing).code == w.OK
    talk.close(handle)
    assert linked(tree) == {"f": b"data"}


def test_requests_on_a_closed_handle_fail(talk):
    """X9."""
    talk.put("/f", b"1")
    handle = talk.handle("/f", R | W)
    assert talk.close(handle) == w.OK
    after = [
        (w.READ, u64(0) + u32(1)), (w.WRITE, u64(0) + s("x")), (w.FSTAT, b""),
        (w.FSETSTAT, attrs()), (w.READDIR, b""), (w.CLOSE, b""),
    ]  # fmt: skip
    for kind, body in after:
        answer = talk.ask(kind, handle + body)
        assert (answer.code, answer.text) == (w.FAILURE, "invalid handle")


def test_handles_are_random_and_belong_to_one_channel(tree, talk):
    tree.put(tree.session(), "/f", b"1")
    handles = {talk.open("/f", R).handle for _ in range(50)}
    assert len(handles) == 50
    assert all(len(h) == 16 and int(h, 16) >= 0 for h in handles)
    other = Talk(tree, talk.session)
    assert all(other.ask(w.FSTAT, s(h)).code == w.FAILURE for h in handles)


def test_fsetstat_is_kept_for_the_commit(tree, talk):
    handle = talk.handle("/f", W | C | T)
    talk.write(handle, 0, b"123456")
    tree.grid.faults.calls.clear()
    assert talk.ask(w.FSETSTAT, handle + attrs(4, 0o100644, (1, 1_000_000_000))).code == w.OK
    assert not tree.grid.faults.calls
    assert talk.ask(w.FSTAT, handle).attrs.size == 4
    assert talk.close(handle) == w.OK
    found = talk.stat("/f")
    assert (found.size, found.mtime) == (4, 1_000_000_000)


def test_fsetstat_of_a_file_that_is_read_reaches_the_file(talk):
    talk.put("/f", b"1")
    handle = talk.handle("/f", R)
    assert talk.ask(w.FSETSTAT, handle + attrs(times=(1, 77))).code == w.OK
    assert talk.stat("/f").mtime == 77


def test_fstat_of_a_directory(talk):
    handle = s(talk.ask(w.OPENDIR, s("/")).handle)
    assert talk.ask(w.FSTAT, handle).attrs.mode == 0o040777


# what must cost nothing


def test_an_overwrite_as_scp_does_it_fetches_nothing_of_the_old_file(tree, talk):
    old, new = bytes(500_000), b"\x01" * 300_000
    tree.put(tree.session(), "/f", old)
    tree.grid.faults.calls.clear()
    handle = talk.handle("/f", W | C, attrs(mode=0o100644))
    for at in range(0, len(new), 32768):
        assert talk.write(handle, at, new[at : at + 32768]) == w.OK
    assert talk.ask(w.FSETSTAT, handle + attrs(size=len(new))).code == w.OK
    assert talk.close(handle) == w.OK
    assert "read" not in {name for _, name in tree.grid.faults.calls}
    assert linked(tree) == {"f": new}


def test_touch_uploads_nothing(tree, talk):
    tree.put(tree.session(), "/f", bytes(300_000))
    uploads = tree.client.uploads
    handle = talk.handle("/f", W)
    assert talk.ask(w.SETSTAT, s("/f") + attrs(times=(1, 99))).code == w.OK
    assert talk.close(handle) == w.OK
    assert tree.client.uploads == uploads
    assert talk.stat("/f").mtime == 99


def test_an_append_to_a_gibibyte_opens_and_writes_at_once(tree, talk):
    from truckee.core.formats.caps import ChkReadCap

    cap = ChkReadCap(b"k" * 16, b"u" * 32, 1, 1, 2**30)
    tree.run(tree.root.set_uri("big", None, cap.text.encode()))
    talk.stat("/big")
    before = tree.calls
    handle = talk.handle("/big", W | A)
    assert talk.write(handle, 0, b"!") == w.OK
    assert talk.ask(w.FSTAT, handle).attrs.size == 2**30 + 1
    assert tree.calls == before


# bounds


@pytest.mark.threat("F3")
def test_ten_thousand_opens_leave_256_files_and_64_directories(tree, talk):
    tree.put(tree.session(), "/f", b"1")
    opened = []
    for _ in range(10_000):
        answer = talk.open("/f", R)
        if answer.kind == w.HANDLE:
            opened.append(s(answer.handle))
        else:
            assert (answer.code, answer.text) == (w.FAILURE, "too many open files")
    assert len(opened) == 256
    assert talk.close(opened[0]) == w.OK
    assert talk.open("/f", R).kind == w.HANDLE
    answers = [talk.ask(w.OPENDIR, s("/")) for _ in range(70)]
    assert [a.kind for a in answers] == [w.HANDLE] * 64 + [w.STATUS] * 6
    assert answers[-1].text == "too many open directories"


@pytest.mark.threat("F3")
def test_all_channels_of_a_connection_share_the_room_for_handles(tree, talk):
    tree.put(tree.session(), "/f", b"1")
    room = Room()
    one, two = (Talk(tree, talk.session, room=room) for _ in range(2))
    kinds = [one.open("/f", R).kind for _ in range(200)]
    kinds += [two.open("/f", R).kind for _ in range(200)]
    assert kinds == [w.HANDLE] * 256 + [w.STATUS] * 144
    assert Talk(tree, room=Room()).open("/f", R).kind == w.HANDLE
    one.subsystem.lost()
    assert [two.open("/f", R).kind for _ in range(200)] == [w.HANDLE] * 200
    two.subsystem.lost()
    assert (room.files, room.directories) == (0, 0)


@pytest.mark.threat("F3")
def test_openings_that_fail_or_wait_are_counted_right(tree, talk):
    for _ in range(300):
        assert talk.open("/no", R).code == w.NO_SUCH_FILE
        assert talk.status(w.OPENDIR, "/no") == w.NO_SUCH_FILE
    tree.put(tree.session(), "/f", b"1")
    tree.clock.advance(10)
    tree.grid.faults.add(Rule(Kind.LATE, nth=1, seconds=2.0))
    numbers = [talk.send(w.OPEN, s("/f") + u32(R) + attrs()) for _ in range(300)]
    kinds = [talk.wait(n).kind for n in numbers]
    assert kinds.count(w.HANDLE) == 256


@pytest.mark.threat("F3")
def test_reads_that_nobody_takes_stop_at_the_promised_bytes(tree):
    tree.put(tree.session(), "/f", bytes(20 * 2**20))
    for size in (255 * 1024, 2**18, 2**32 - 1):
        talk = Talk(tree)
        handle = talk.handle("/f", R)
        talk.channel.stuck = True
        numbers = [talk.send(w.READ, handle + u64(i * 2**18) + u32(size)) for i in range(64)]
        for _ in range(100):
            tree.clock.advance(0.25)
        assert talk.channel.most_unsent <= MAX_PROMISED + 2**18 + 1000
        held = talk.sent - talk.channel.taken
        assert held > 0, "requests that are not taken up keep the window shut"
        talk.channel.stuck, talk.channel.unsent = False, 0
        talk.subsystem.drained()
        assert all(len(talk.wait(n).data) == min(size, 2**18) for n in numbers)
        assert talk.sent == talk.channel.taken


@pytest.mark.threat("F3")
def test_reads_that_nobody_takes_share_the_room_of_their_connection(tree):
    tree.put(tree.session(), "/f", bytes(20 * 2**20))
    all_rooms = Budget(10 * 2**20)
    rooms = [Room(answers=Budget(8 * 2**20, all_rooms)) for _ in range(2)]
    talks = [Talk(tree, room=room) for room in rooms for _ in range(5)]
    waiting = []
    for talk in talks:
        handle = talk.handle("/f", R)
        talk.channel.stuck = True
        sent = [talk.send(w.READ, handle + u64(i * 2**18) + u32(2**18)) for i in range(64)]
        waiting.append((talk, sent))
    for _ in range(100):
        tree.clock.advance(0.25)
    kept = [talk.channel.most_unsent for talk in talks]
    assert min(kept) >= 2**18, "each channel gets something"
    assert sum(kept[:5]) <= 8 * 2**20 + 5 * (2**19 + 1000)
    assert sum(kept) <= 10 * 2**20 + 10 * (2**19 + 1000)
    for talk, sent in waiting:
        talk.channel.stuck, talk.channel.unsent = False, 0
        talk.subsystem.drained()
        assert all(len(talk.wait(n).data) == 2**18 for n in sent)
        talk.subsystem.lost()
    assert all_rooms.take(10 * 2**20), "all of it was given back"


@pytest.mark.threat("F3")
def test_long_requests_behind_a_slow_one_keep_the_window_shut(tree, talk):
    handle = talk.handle("/f", W | C | T)
    talk.write(handle, 0, b"x")
    tree.client.hold()
    before = talk.sent
    numbers = [talk.send(w.EXTENDED, s("hardlink@openssh.com") + s("/f") + s("/g"))]
    for _ in range(100):
        long = s("hardlink@openssh.com") + s("/f" + 240 * ("/" + 250 * "x")) + s("/g")
        numbers.append(talk.send(w.EXTENDED, long))
    tree.clock.advance(1)
    assert talk.channel.taken == before
    assert talk.subsystem._undone <= 4 * 2**20 + 2**18
    tree.client.release()
    assert [talk.wait(n).code for n in numbers] == [w.OK] + [w.FAILURE] * 100
    assert talk.channel.taken == talk.sent


@pytest.mark.threat("F3")
def test_a_hundred_thousand_small_requests_are_taken_up_in_slices(tree, talk):
    one = b"".join(packet(w.REALPATH, u32(i) + s("/")) for i in range(1000, 101_000))
    talk.feed(one)
    assert 0 < len(talk.channel.pieces) < 200, "one turn of the reactor serves few of them"
    for _ in range(3000):
        tree.clock.advance(0.001)
    talk.collect()
    assert len(talk.answers) == 100_000
    assert talk.channel.taken == talk.sent


@pytest.mark.threat("F3")
@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        (w.OPEN, s("/no") + u32(W) + attrs(), w.NO_SUCH_FILE),  # each waits for the one before
        (w.STAT, s("/no"), w.NO_SUCH_FILE),  # all wait for one look at the directory
    ],
)
def test_requests_that_end_together_do_not_draw_all_others_after_them(
    tree, monkeypatch, kind, body, code
):
    turns = []
    go_on = SFTPSubsystem._go_on
    monkeypatch.setattr(
        SFTPSubsystem, "_go_on", lambda self: (turns.append(len(talk.channel.pieces)), go_on(self))
    )
    talk = Talk(tree)
    tree.clock.advance(10)
    tree.grid.faults.add(Rule(Kind.LATE, nth=1, seconds=2.0))
    talk.feed(b"".join(packet(kind, u32(i) + body) for i in range(1000, 6000)))
    tree.clock.advance(1)
    before = len(talk.channel.pieces)
    tree.clock.advance(2)
    turns.append(len(talk.channel.pieces))
    assert max(b - a for a, b in itertools.pairwise([before, *turns])) <= MAX_REQUESTS + 64
    assert [talk.wait(n).code for n in range(1000, 6000)] == [code] * 5000
    assert talk.channel.taken == talk.sent


@pytest.mark.threat("F3")
def test_no_more_than_128_requests_are_under_way(tree, talk):
    tree.clock.advance(10)
    tree.grid.faults.add(Rule(Kind.LATE, nth=1, seconds=5.0))
    numbers = [talk.send(w.STAT, s(f"/n{i}")) for i in range(500)]
    tree.clock.advance(1)
    assert talk.subsystem._running == MAX_REQUESTS
    assert talk.subsystem.busy
    assert all(talk.wait(n).code == w.NO_SUCH_FILE for n in numbers)
    assert not talk.subsystem.busy


@pytest.mark.threat("F3")
def test_data_is_consumed_only_when_the_write_buffer_has_taken_it(tree, talk):
    handle = talk.handle("/f", W | C | T)
    talk.write(handle, 0, b"x")
    tree.client.hold()
    before = talk.channel.taken
    assert before == talk.sent
    number = talk.send(w.EXTENDED, s("fsync@openssh.com") + handle)
    writes = [talk.send(w.WRITE, handle + u64(i * 2**18) + s(bytes(2**18))) for i in range(20)]
    tree.clock.advance(1)
    assert talk.channel.taken == before, "the contents are fixed while they are stored"
    assert talk.subsystem._undone <= 4 * 2**20 + 2**18 + 100
    tree.client.release()
    assert talk.wait(number).code == w.OK
    assert all(talk.wait(n).code == w.OK for n in writes)
    assert talk.channel.taken == talk.sent


@pytest.mark.threat("F3")
def test_offsets_and_sizes_beyond_any_file(tree, talk):
    handle = talk.handle("/f", W | C | T)
    for at in (2**63 - 1, 2**63, 2**64 - 1):
        assert talk.write(handle, at, b"x") == w.FAILURE
    for size in (2**63, 2**64 - 1):
        assert talk.ask(w.FSETSTAT, handle + attrs(size=size)).code == w.FAILURE
        assert talk.ask(w.SETSTAT, s("/f") + attrs(size=size)).code == w.FAILURE
    before = tree.calls
    assert talk.write(handle, 2**62, b"x") == w.OK
    assert talk.ask(w.FSETSTAT, handle + attrs(size=2**62)).code == w.OK
    assert talk.ask(w.FSTAT, handle).attrs.size == 2**62
    assert tree.vfs.spool.used <= 1
    assert talk.close(handle) == w.FAILURE
    assert tree.calls == before
    assert linked(tree) == {}


@pytest.mark.threat("F4")
def test_a_full_spool_fails_writes_and_close_and_leaves_room_for_others(tmp_path):
    tree = Tree(tmp_path, spool_max=2**20)
    greedy = Talk(tree)
    handle = greedy.handle("/f", W | C | T)
    codes = [greedy.write(handle, i * 2**17, bytes(2**17)) for i in range(9)]
    assert codes[0] == w.OK
    assert codes[-1] == w.FAILURE
    other = Talk(tree, tree.session("bob", protocol="sftp"))
    other.put("/g", bytes(2**17))
    assert greedy.ask(w.CLOSE, handle).text == "no space for upload buffer"
    assert list(linked(tree)) == ["g"]


# order


def test_parents_made_in_one_go_are_there_in_time(talk):
    """lftp mkdir -p sends all of them at once."""
    numbers = [talk.send(w.MKDIR, s(p) + attrs()) for p in ("/a", "/a/b", "/a/b/c")]
    opening = talk.send(w.OPEN, s("/a/b/c/f") + u32(W | C) + attrs())
    assert [talk.wait(n).code for n in numbers] == [w.OK] * 3
    assert talk.close(s(talk.wait(opening).handle)) == w.OK
    numbers = [talk.send(w.REMOVE, s("/a/b/c/f"))]
    numbers += [talk.send(w.RMDIR, s(p)) for p in ("/a/b/c", "/a/b", "/a")]
    assert [talk.wait(n).code for n in numbers] == [w.OK] * 4
    assert talk.names() == {}


def test_a_look_waits_for_the_change_before_it(talk):
    talk.put("/f", b"1")
    numbers = [
        talk.send(w.RENAME, s("/f") + s("/g")),
        talk.send(w.STAT, s("/f")),
        talk.send(w.STAT, s("/g")),
        talk.send(w.REMOVE, s("/g")),
        talk.send(w.STAT, s("/g")),
    ]
    answers = [talk.wait(n) for n in numbers]
    assert [a.kind for a in answers] == [w.STATUS, w.STATUS, w.ATTRS, w.STATUS, w.STATUS]
    assert [answers[i].code for i in (0, 1, 3, 4)] == [w.OK, w.NO_SUCH_FILE, w.OK, w.NO_SUCH_FILE]


def test_files_beside_each_other_do_not_wait(tree, talk):
    one, two = talk.handle("/one", W | C | T), talk.handle("/two", W | C | T)
    tree.client.hold()
    first, second = talk.send(w.CLOSE, one), talk.send(w.CLOSE, two)
    number = talk.send(w.RENAME, s("/one") + s("/moved"))
    assert talk.ask(w.MKDIR, s("/d") + attrs()).code == w.OK
    assert not talk.has(first)
    assert not talk.has(number)
    assert len(tree.client.held) == 2
    tree.client.release()
    for waiting in (first, second, number):
        assert talk.wait(waiting).code == w.OK
    assert sorted(linked(tree)) == ["moved", "two"]


# errors


def test_an_upload_that_fails_is_told_at_close(tree, talk):
    """X14."""
    talk.put("/f", b"old")
    handle = talk.handle("/f", W | C | T)
    assert talk.write(handle, 0, bytes(200_000)) == w.OK
    tree.client.error = e.UploadUnhappinessError("too few")
    answer = talk.ask(w.CLOSE, handle)
    assert (answer.code, answer.text) == (
        w.FAILURE,
        "upload failed: too few storage servers take shares",
    )
    assert linked(tree) == {"f": b"old"}
    assert talk.ask(w.CLOSE, handle).text == "invalid handle"


def test_a_file_that_cannot_be_fetched_fails_its_reads_alone(tree, talk):
    talk.put("/f", bytes(300_000))
    tree.grid.faults.add(Rule(Kind.ERROR, calls=frozenset({"get_buckets", "read"}), forever=True))
    handle = talk.handle("/f", R)
    answer = talk.ask(w.READ, handle + u64(0) + u32(1))
    assert answer.code == w.FAILURE
    assert answer.text.startswith("file not available")
    assert talk.close(handle) == w.OK


@pytest.mark.threat("L1")
def test_a_bug_is_answered_with_a_number(tree, talk, monkeypatch):
    async def broken(path):
        raise ValueError("URI:CHK:secret")

    monkeypatch.setattr(talk.session, "stat", broken)
    answer = talk.ask(w.STAT, s("/f"))
    assert answer.code == w.FAILURE
    assert answer.text.startswith("internal error, id ")
    assert talk.ask(w.REALPATH, s("/")).kind == w.NAME


# the end


def test_the_clients_eof_is_answered_with_exit_status_0(tree, talk):
    talk.put("/f", b"1")
    handle = talk.handle("/f", R)
    writer = talk.handle("/half", W | C | T)
    talk.write(writer, 0, b"half")
    number = talk.send(w.READ, handle + u64(0) + u32(1))
    talk.subsystem.ended()
    talk.settle(5)
    assert talk.answers[number].data == b"1"
    assert talk.channel.closed == 0
    assert list(linked(tree)) == ["f"]
    assert len(tree.vfs.pending) == 0


def test_eof_behind_requests_waits_for_their_answers(tree, talk):
    handle = talk.handle("/f", W | C | T)
    tree.client.hold()
    number = talk.send(w.CLOSE, handle)
    talk.subsystem.ended()
    tree.clock.advance(1)
    assert talk.channel.closed is None
    tree.client.release()
    assert talk.wait(number).code == w.OK
    assert talk.channel.closed == 0


def test_eof_in_the_middle_of_a_packet_ends_too(talk):
    talk.feed(packet(w.STAT, u32(1) + s("/f"))[:-1])
    talk.subsystem.ended()
    assert talk.channel.closed == 0


def test_a_lost_channel_gets_no_more_answers(tree, talk):
    tree.clock.advance(10)
    tree.grid.faults.add(Rule(Kind.LATE, nth=1, seconds=2.0))
    opening = talk.send(w.OPEN, s("/f") + u32(W | C) + attrs())
    for kind, body in ((w.MKDIR, attrs()), (w.OPENDIR, b""), (w.STAT, b"")):
        talk.send(kind, s("/f") + body)
    talk.subsystem.lost()
    talk.subsystem.lost()
    before = len(talk.channel.pieces)
    talk.subsystem.data(packet(w.STAT, u32(9) + s("/")))
    talk.subsystem.drained()
    talk.settle(20)
    assert len(talk.channel.pieces) == before
    assert not talk.has(opening)
    assert linked(tree) == {}
    assert len(tree.vfs.pending) == 0
    assert not talk.subsystem.busy


# the journal


class Notes:
    """A journal that remembers transfers."""

    def __init__(self):
        self.transfers = []

    def transfer(self, *what):
        self.transfers.append(what)


def test_the_journal_is_told_of_transfers(tree):
    notes = Notes()
    talk = Talk(tree, journal=notes, peer="192.0.2.1")
    talk.put("/f", bytes(5000))
    talk.get("/f")
    handle = talk.handle("/f", W | A)
    talk.write(handle, 0, b"12")
    talk.close(handle)
    talk.names()
    talk.write(talk.handle("/lost", W | C), 0, b"123")
    tree.client.error = e.NoServersError("none")
    handle = talk.handle("/failed", W | C | T)
    talk.write(handle, 0, b"1234")
    assert talk.close(handle) == w.FAILURE
    talk.subsystem.lost()
    assert [(n[3], n[4], n[7]) for n in notes.transfers] == [
        ("put", "/f", "ok"),
        ("get", "/f", "ok"),
        ("append", "/f", "ok"),
        ("list", "/", "ok"),
        ("put", "/failed", "failed"),
        ("put", "/lost", "aborted"),
    ]
    sizes = [n[5] for n in notes.transfers]
    assert sizes[:3] == [5000, 5000, 2]
    assert sizes[3] > 0
    assert sizes[4:] == [4, 3]
    assert {n[:3] for n in notes.transfers} == {("sftp", "192.0.2.1", "alice")}
