"""Strangers who are let in without a password: one directory, to read, and few at a time."""

import pytest
from twisted.cred.portal import Portal
from twisted.protocols.ftp import IFTPShell

from tests.fakes.ftp_on_tree import TreeServer
from tests.fakes.ftp_wire import Server
from tests.fakes.tree import Tree
from truckee.auth.checkers import AnonymousChecker
from truckee.auth.realm import Dispatcher
from truckee.auth.throttle import Throttle
from truckee.frontends.ftp.settings import FTPSettings
from truckee.frontends.ftp.shell import handler_factory
from truckee.frontends.gate.registry import Limits

WRITES = [
    "STOR x",
    "STOR f",
    "APPE f",
    "STOU",
    "MKD e",
    "RMD d",
    "DELE f",
    "RNFR f|RNTO z",
    "MDTM 20010203040506 f",
]
WRITES += [
    "MFMT 20010203040506 f",
    "SITE CHMOD 777 f",
    "SITE UTIME 200302030405 f",
    "XMKD e",
    "XRMD d",
]


class House:
    def __init__(self, tmp_path, limits: Limits | None = None, **settings) -> None:
        self.tree = Tree(tmp_path, uri_paths=True)
        owner = self.tree.session()
        self.tree.run(owner.mkdir(("public",)))
        self.tree.run(owner.mkdir(("public", "d")))
        self.tree.put(owner, "/public/f", b"for all")
        self.tree.put(owner, "/secret", b"not for all")
        public = self.tree.run(self.tree.root.get("public"))
        client_for = lambda name: self.tree.client  # noqa: E731
        realm = Dispatcher(client_for, {IFTPShell: handler_factory(self.tree.vfs, client_for)})
        self.checker = AnonymousChecker(public.get_cap(), Throttle())
        portal = Portal(realm, [self.checker])
        self.server = Server(
            FTPSettings(anonymous=True, **settings), portal=portal, limits=limits or Limits()
        )

    def login(self, peer="127.0.0.1", name="anonymous") -> tuple:
        client = self.server.connect(peer)
        client.ask(f"USER {name}")
        return client, client.ask("PASS a@b")


@pytest.fixture
def house(tmp_path) -> House:
    return House(tmp_path)


def enter(house: House, name="anonymous") -> TreeServer:
    client, answer = house.login(name=name)
    assert answer.startswith("230 logged in, read-only")
    server = TreeServer.__new__(TreeServer)
    server.tree, server.server, server.client = house.tree, house.server, client
    return server


@pytest.mark.threat("F7")
@pytest.mark.parametrize("name", ["anonymous", "ftp", "FTP", "Anonymous"])
def test_a_stranger_reads_and_changes_nothing(house, name) -> None:
    server = enter(house, name)
    assert server.transfer("RETR f")[1] == b"for all"
    calls = house.tree.calls
    for command in WRITES:
        server.ask("EPSV")
        server.client.join()
        answer = [server.ask(line) for line in command.split("|")][-1]
        assert answer.startswith("550 "), command
    assert house.tree.calls == calls


@pytest.mark.threat("F7")
def test_a_stranger_has_no_paths_by_capability(house) -> None:
    server = enter(house)
    cap = house.tree.root.get_uri().decode()
    readcap = house.tree.root.get_readonly_uri().decode()
    for text in (cap, readcap):
        for path in (f"/uri/{text}", f"/uri/{text}/secret", f"uri/{text}", f"//uri//{text}"):
            for command in ("CWD", "MLST", "SIZE", "MDTM", "STAT"):
                answer = server.ask(f"{command} {path}")
                assert answer[:3] == "550", (command, answer)
            assert server.transfer(f"RETR {path}")[1] == b""
    assert server.ask("CWD /uri").startswith("550")


@pytest.mark.threat("F7")
def test_strangers_of_one_address_have_five_sessions(tmp_path) -> None:
    house = House(tmp_path, Limits(exempt=()))
    codes = [house.login("127.0.0.2")[1][:3] for _ in range(7)]
    assert codes == ["230"] * 5 + ["421"] * 2
    assert house.login("127.0.0.3")[1].startswith("230")


def test_strangers_come_from_anywhere_where_a_clear_line_is_meant(tmp_path) -> None:
    meant = House(tmp_path, tls="off", insecure_plaintext=True)
    assert meant.login("198.51.100.7")[1].startswith("230")


@pytest.mark.threat("N5")
@pytest.mark.parametrize("tls", ["auto", "required", "off"])
def test_and_nowhere_else_is_anybody_asked_for_a_password_in_clear(tmp_path, tls) -> None:
    client = House(tmp_path, tls=tls).server.connect("198.51.100.7")
    assert client.ask("USER anonymous").startswith("530 TLS required")


@pytest.mark.threat("F7")
def test_without_a_directory_for_them_strangers_are_nobody() -> None:
    client = Server().connect()
    assert client.ask("USER anonymous").startswith("331")
    client.ask("PASS a@b")
    assert client.pass_time(30).startswith("530") or "230" not in client.text()
