"""An account stays below its root and, where it may only read, changes nothing; over SFTP."""

import pytest

from tests.fakes import sftp_client as w
from tests.fakes.sftp_client import A, C, R, T, Talk, W, X, attrs, s, u32, u64
from tests.fakes.tree import Tree
from tests.hostile.test_ftp_confinement import LONE, SPELLINGS, stored
from truckee.core.errors import NoSuchChildError


def extended(name: str, body: bytes) -> tuple[int, bytes]:
    return w.EXTENDED, s(name) + body


def operations(path: bytes | str) -> list[tuple[int, bytes]]:
    """Return every request that takes a path."""
    name, other = s(path), s("/f")
    return [
        *((kind, name) for kind in (w.STAT, w.LSTAT, w.OPENDIR, w.REALPATH, w.REMOVE, w.RMDIR)),
        *((w.OPEN, name + u32(flags) + attrs()) for flags in (R, W, W | C, W | C | T, W | C | X)),
        (w.MKDIR, name + attrs()),
        (w.SETSTAT, name + attrs(times=(1, 2))),
        (w.SETSTAT, name + attrs(size=0)),
        (w.READLINK, name),
        (w.SYMLINK, name + other),
        (w.SYMLINK, other + name),
        (w.RENAME, name + other),
        (w.RENAME, other + name),
        extended("posix-rename@openssh.com", other + name),
        extended("posix-rename@openssh.com", name + other),
        extended("hardlink@openssh.com", name + other),
        extended("hardlink@openssh.com", other + name),
        extended("statvfs@openssh.com", name),
        extended("lsetstat@openssh.com", name + attrs(mode=0o444)),
        extended("expand-path@openssh.com", name),
    ]


class Recorder:
    """A session that notes every path that a request comes to, and finds nothing there."""

    account = "alice"
    readonly = False

    def __init__(self) -> None:
        self.paths: set[tuple[str, ...]] = set()

    def now(self) -> float:
        return 0.0

    def __getattr__(self, name):
        async def call(*args, **how):
            self.paths |= {a for a in args if isinstance(a, tuple)}
            raise NoSuchChildError("absent")

        return call


@pytest.mark.threat("F1")
def test_five_hundred_spellings_never_make_a_path_with_a_way_up(tmp_path) -> None:
    assert len(SPELLINGS) >= 500
    tree = Tree(tmp_path)
    session = Recorder()
    talk = Talk(tree, session)
    for spelling in SPELLINGS:
        for kind, body in operations(spelling.replace("CAP", "URI:DIR2:a:b")):
            number = talk.send(kind, body)
            if not talk.has(number):
                tree.clock.advance(0.01)
            answer = talk.wait(number)
            if answer.kind == w.NAME:
                (name,) = answer.names
                assert name.startswith("/")
                assert ".." not in name.split("/")
    assert len(session.paths) > 100
    for path in session.paths:
        for name in path:
            assert name not in ("", ".", ".."), path
            assert not set("/\0") & set(name), path


@pytest.mark.threat("F1")
@pytest.mark.parametrize("uri_paths", [False, True], ids=["uri off", "uri on, not for this one"])
def test_no_spelling_reaches_what_lies_beside_the_root(tmp_path, uri_paths) -> None:
    tree = Tree(tmp_path, uri_paths=uri_paths)
    outside = tree.session()
    tree.run(outside.mkdir(("outer",)))
    tree.run(outside.mkdir(("root",)))
    tree.put(outside, "/outer/mark", b"OUTSIDE")
    tree.put(outside, "/root/f", b"inside")
    inner = tree.run(tree.root.get("root"))
    session = tree.session(root=inner, uri_paths=False, protocol="sftp")
    talk = Talk(tree, session)
    cap = tree.root.get_uri().decode()
    for spelling in SPELLINGS[::40] + LONE:
        path = spelling.replace("CAP", cap)
        for kind, body in operations(path):
            answer = talk.ask(kind, body)
            if answer.kind != w.HANDLE:
                continue
            handle = s(answer.handle)
            found = talk.ask(w.READ, handle + u64(0) + u32(100)).body
            found += talk.ask(w.READDIR, handle).body
            assert b"OUTSIDE" not in found, path
            assert b"mark" not in found, path
            talk.ask(w.WRITE, handle + u64(0) + s("planted"))
            talk.ask(w.CLOSE, handle)
    assert len(talk.names()) > 10  # it was not refused everything
    assert sorted(tree.names(outside, "/")) == ["outer", "root"]
    assert list(tree.names(outside, "/outer")) == ["mark"]
    assert tree.get(outside, "/outer/mark") == b"OUTSIDE"


def mutating(base: str) -> list[tuple[int, bytes]]:
    """Return every request that would change something in `base`, where f, g and d are."""
    f, g, d, new = (s(base + "/" + name) for name in ("f", "g", "d", "new"))
    return [
        (w.REMOVE, f),
        (w.RMDIR, d),
        (w.MKDIR, new + attrs()),
        (w.SETSTAT, f + attrs(times=(1, 2))),
        (w.SETSTAT, f + attrs(mode=0o444)),
        (w.SETSTAT, f + attrs(size=0)),
        (w.SETSTAT, f + attrs(owner=(0, 0))),
        (w.RENAME, f + new),
        (w.RENAME, f + g),
        (w.RENAME, d + new),
        *(
            (w.OPEN, name + u32(flags) + attrs())
            for flags in (W, R | W, W | C, W | C | T, W | C | X, C | X, W | A, W | A | C, W | T)
            for name in (f, new)
            if name == f or flags & C
        ),
        extended("posix-rename@openssh.com", f + g),
        extended("posix-rename@openssh.com", f + new),
        extended("hardlink@openssh.com", f + new),
        extended("lsetstat@openssh.com", f + attrs(times=(1, 2))),
    ]


KINDS = ["account", "root", "read cap below", "literal root", "uri by read cap"]


@pytest.mark.threat("F2")
@pytest.mark.parametrize("kind", KINDS)
def test_no_request_changes_what_may_only_be_read(tmp_path, kind) -> None:
    tree = Tree(tmp_path, uri_paths=True)
    writer = tree.session()
    tree.put(writer, "/f", b"1")
    tree.put(writer, "/g", b"2")
    tree.run(writer.mkdir(("d",)))
    readcap = tree.root.get_readonly_uri()
    base, how = "", {}
    if kind == "account":
        how["readonly"] = True
    elif kind == "root":
        how["root"] = tree.client.create_node_from_uri(None, readcap)
    elif kind == "read cap below":
        tree.run(tree.root.set_uri("ro", None, readcap))
        base = "/ro"
    elif kind == "literal root":
        how["root"] = tree.client.create_node_from_uri(None, b"URI:DIR2-LIT:")
    else:
        base = "/uri/" + readcap.decode()
    talk = Talk(tree, tree.session(protocol="sftp", **how))
    talk.ask(w.STAT, s(base + "/f"))
    before, calls = stored(tree), tree.calls
    for kind_, body in mutating(base):
        assert talk.ask(kind_, body).code == w.DENIED, (kind_, body)
    assert tree.calls == calls
    assert stored(tree) == before
    assert len(tree.vfs.pending) == 0


@pytest.mark.threat("F2")
def test_a_file_that_bars_writing_and_a_mutable_read_cap_cannot_be_opened_to_write(tmp_path):
    tree = Tree(tmp_path)
    writer = tree.session()
    tree.put(writer, "/barred", b"1")
    tree.run(writer.set_attributes(("barred",), mode=0o444))
    mutable = tree.run(tree.client.create_mutable_file(b"2"))
    tree.run(tree.root.set_uri("mutable", None, mutable.get_readonly_uri()))
    talk = Talk(tree)
    talk.names()
    calls = tree.calls
    for path in ("/barred", "/mutable"):
        for flags in (W, R | W, W | C, W | C | T, W | A, W | T):
            assert talk.open(path, flags).code == w.DENIED
        assert talk.ask(w.SETSTAT, s(path) + attrs(size=0)).code == w.DENIED
    assert tree.calls == calls
    assert talk.get("/barred") == b"1"
    assert talk.get("/mutable") == b"2"
