"""An account stays below its root and, where it may only read, changes nothing; over FTP."""

import itertools
import time

import pytest

from tests.fakes.fake_vfs import FakeSession
from tests.fakes.ftp_on_tree import TreeServer
from tests.fakes.ftp_wire import Server
from tests.fakes.tree import Tree
from truckee.core.errors import TruckeeError
from truckee.core.formats.caps import ChkReadCap

UPS = [
    "..", "../..", "../../..", "%2e%2e", "%252e%252e", "..%2f", "..\\", "\\..\\..", ". .", ".. ",
    " ..", "...", "....//", "․․", "．．",
    "..;", "..\x01", "~", "~root", "‥", "\ufeff..", "..\u200b",
    "a/../..", "d/../../outer", "./../", "//..", "/../..", "/./..", "d/./../..", "..//..",
]  # fmt: skip
TAILS = [
    "", "/", "/outer", "/outer/mark", "/root", "/root/f", "/etc/passwd", "//outer", "/./outer",
    "/OUTER", "/óuter", "/o\u0301uter", "/uri/URI:DIR2:x", "/outer/../outer", "/ outer", "/*",
]  # fmt: skip
LONE = [
    "/uri", "/uri/CAP", "uri/CAP", "//uri//CAP", "/uri/CAP/outer", "/../uri/CAP", "URI:DIR2:x",
    "CAP", "/CAP", "file:///etc/passwd", "C:\\", "\\\\host\\share", "/dev/null", "|id", "-la ..",
    "$HOME", "`id`", "{a,b}", "é/../..", "/" * 900 + "..", "../" * 300, "x/" * 200 + "../" * 250,
]  # fmt: skip
SPELLINGS = list(dict.fromkeys([u + t for u, t in itertools.product(UPS, TAILS)] + LONE))

OPERATIONS = [
    "CWD {}", "CDUP {}", "XCWD {}", "MKD {}", "XMKD {}", "RMD {}", "XRMD {}", "DELE {}", "SIZE {}",
    "MDTM {}", "MDTM 20010203040506 {}", "MFMT 20010203040506 {}", "MLST {}", "STAT {}",
    "SITE CHMOD 644 {}", "SITE UTIME 200302030405 {}", "RNFR {}", "RNTO {}", "LIST {}", "NLST {}",
    "MLSD {}", "RETR {}", "STOR {}", "APPE {}", "STOU {}",
]  # fmt: skip


class Recorder(FakeSession):
    """Notes every path that a command comes to."""

    def __init__(self) -> None:
        super().__init__(root={"d": {}, "f": b"1"})
        self.paths: set[tuple[str, ...]] = set()

    def look(self, path):
        self.paths.add(tuple(path))
        return super().look(path)


@pytest.mark.threat("F1")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_five_hundred_spellings_never_make_a_path_with_a_way_up(operation) -> None:
    assert len(SPELLINGS) >= 500
    session = Recorder()
    server = Server(vfs=session)
    client = server.login()
    for spelling in SPELLINGS:
        if client.wire.closed is not None:
            client = server.login()
        line = operation.format(spelling.replace("CAP", "URI:DIR2:a:b"))
        if operation.startswith("RNTO"):
            client.ask("RNFR f")
        answer = client.ask(line) or client.pass_time(61)
        assert answer[:1] in {*"12345"}, line
        where = client.ask("PWD")
        assert where.startswith('257 "/') or client.wire.closed, (line, where)
        assert '"/..' not in where, line
        session.root.setdefault("f", b"1")
        session.root.setdefault("d", {})
        client.ask("ABOR", "CWD /")
    assert session.paths
    for path in session.paths:
        for name in path:
            assert name not in ("", ".", ".."), path
            assert not set("/\0\r\n") & set(name), path


@pytest.mark.threat("F1")
@pytest.mark.parametrize("uri_paths", [False, True], ids=["uri off", "uri on, not for this one"])
def test_no_spelling_reaches_what_lies_beside_the_root(tmp_path, uri_paths) -> None:
    tree = Tree(tmp_path, uri_paths=uri_paths)
    outside = tree.session()
    tree.run(outside.mkdir(("outer",)))
    tree.run(outside.mkdir(("root",)))
    tree.put(outside, "/outer/mark", b"OUTSIDE")
    tree.put(outside, "/root/f", b"inside")
    tree.run(outside.mkdir(("root", "d")))
    inner = tree.run(tree.root.get("root"))
    session = tree.session(root=inner, uri_paths=False)
    forbidden = {tree.stat(session, "/").unique}
    for path in ("/", "/outer", "/outer/mark"):
        forbidden.add(tree.stat(outside, path).unique)
    own = forbidden - {tree.stat(session, "/").unique}
    cap = tree.root.get_uri().decode()
    server = TreeServer(tree, session)
    for spelling in SPELLINGS:
        path = spelling.replace("CAP", cap)
        answer = server.ask(f"MLST {path}")
        assert not any(unique in answer for unique in own), path
        assert "outer" not in answer or "250" not in answer[:3] or spelling in answer, path
    for spelling in SPELLINGS[::10] + LONE:
        path = spelling.replace("CAP", cap)
        text, data = server.transfer(f"RETR {path}")
        assert b"OUTSIDE" not in data, path
        text, data = server.transfer(f"NLST {path}")
        assert b"mark" not in data, (path, text)
        server.ask(f"DELE {path}")
    for spelling in SPELLINGS[::40] + LONE:
        path = spelling.replace("CAP", cap)
        server.ask(f"MKD {path}")
        server.transfer(f"STOR {path}", b"planted")
        server.ask("RNFR f")
        server.ask(f"RNTO {path}")
    assert len(tree.names(session, "/")) > 10  # it was not refused everything
    assert sorted(tree.names(outside, "/")) == ["outer", "root"]
    assert list(tree.names(outside, "/outer")) == ["mark"]
    assert tree.get(outside, "/outer/mark") == b"OUTSIDE"


MUTATING = [
    "DELE f", "RMD d", "MKD e", "XMKD e", "XRMD d",
    "MFMT 20010203040506 f", "MDTM 20010203040506 f",
    "SITE CHMOD 444 f", "SITE CHMOD 777 f", "SITE UTIME 200302030405 f",
    "SITE UTIME f 20010203040507 20010203040506 20010203040508 UTC",
    "STOR f", "STOR new", "APPE f", "APPE new", "STOU", "RNFR f|RNTO g", "RNFR f|RNTO h",
    "RNFR d|RNTO k", "REST 1|STOR f",
]  # fmt: skip
KINDS = ["account", "root", "read cap below", "literal root", "unknown below"]


def read_only(tmp_path, kind: str) -> tuple[Tree, TreeServer]:
    tree = Tree(tmp_path)
    writer = tree.session()
    tree.put(writer, "/f", b"1")
    tree.put(writer, "/g", b"2")
    tree.run(writer.mkdir(("d",)))
    readcap = tree.root.get_readonly_uri()
    session = writer
    if kind == "account":
        session = tree.session(readonly=True)
    elif kind == "root":
        session = tree.session(root=tree.client.create_node_from_uri(None, readcap))
    elif kind == "read cap below":
        tree.run(tree.root.set_uri("ro", None, readcap))
    elif kind == "literal root":
        session = tree.session(root=tree.client.create_node_from_uri(None, b"URI:DIR2-LIT:"))
    else:
        tree.run(tree.root.set_uri("ro", b"x-new:w", b"ro.x-new:r"))
    server = TreeServer(tree, session)
    if kind.endswith("below"):
        server.ask("CWD ro")
    return tree, server


def stored(tree: Tree) -> list[dict]:
    """Return every byte that the servers hold."""
    return [
        {
            (si, n): bytes(share.data)
            for si, slot in store.shares.items()
            for n, share in slot.items()
        }
        for store in tree.grid.stores
    ]


@pytest.mark.threat("F2")
@pytest.mark.parametrize("kind", KINDS)
def test_no_command_changes_what_may_only_be_read(tmp_path, kind) -> None:
    tree, server = read_only(tmp_path, kind)
    before = stored(tree)
    server.ask("MLST f")
    calls = tree.calls
    for command in MUTATING:
        if kind == "unknown below":
            command = command.replace(" f", " ro/f").replace(" d", " ro/d").replace(" e", " ro/e")
            command = command.replace("STOU", "STOR ro/z").replace(" new", " ro/new")
        lines = command.split("|")
        server.ask("EPSV")
        server.client.join()
        answers = [server.ask(line) for line in lines]
        assert answers[-1][:3] in ("550", "503", "553"), (command, answers)
    assert tree.calls == calls
    assert stored(tree) == before


@pytest.mark.threat("F9")
@pytest.mark.parametrize("pattern", ["*" * 255, "*a" * 127, "[" * 255, "*[!" * 80])
def test_a_listing_by_a_hostile_pattern_costs_what_a_listing_costs(pattern) -> None:
    names = {"a" * 100 + str(i): b"" for i in range(300)}
    server = Server(vfs=FakeSession(root=names))
    client = server.login()

    def listing(argument: str) -> float:
        client.open_data()
        began = time.process_time()
        client.ask(f"NLST {argument}")
        client.pass_time(0.5, 0.1)
        return time.process_time() - began

    usual = min(listing("a*") for _ in range(3))
    assert min(listing(pattern) for _ in range(3)) < usual + 300 * 0.010


@pytest.mark.threat("F9")
def test_options_of_a_listing_are_ignored_so_that_no_tree_is_walked() -> None:
    tree = {"d": {"e": {"deep": b""}}}
    client = Server(vfs=FakeSession(root=tree)).login()
    for options in ("-R", "-laR", "--recursive", "-R -a"):
        wire = client.open_data()
        client.ask(f"LIST {options}")
        client.pass_time(0.5, 0.1)
        assert b"deep" not in wire.out


@pytest.mark.threat("U2")
@pytest.mark.parametrize("size", [2**43, 2**60, 2**63 - 1])
def test_a_file_that_claims_to_be_endless_is_shown_as_claimed_and_fails_by_name(
    tmp_path, size
) -> None:
    tree = Tree(tmp_path)
    cap = ChkReadCap(b"k" * 16, b"u" * 32, 3, 10, size)
    tree.run(tree.root.set_uri("bomb", None, cap.text.encode()))
    server = TreeServer(tree, tree.session())
    assert server.ask("SIZE bomb") == f"213 {size}\r\n"
    assert f"size={size};" in server.ask("MLST bomb")
    _, listing = server.transfer("LIST")
    assert str(size).encode() in listing
    for rest in (0, 1, size // 2, size - 1, size, 2**63 - 1):
        server.ask(f"REST {rest}")
        text, data = server.transfer("RETR bomb")
        assert text[:3] in ("450", "451", "554", "150"), text
        assert data == b""
    text, _ = server.transfer("APPE bomb", b"tail")
    assert text.split("\r\n")[-2][:1] in "45", text
    assert server.ask("SIZE bomb") == f"213 {size}\r\n"
    with pytest.raises(TruckeeError):
        tree.get(tree.session(), "/bomb")
