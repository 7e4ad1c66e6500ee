"""What the FTP door reports to the journal."""

from twisted.cred.error import UnauthorizedLogin

from tests.fakes.fake_vfs import FakePortal, FakeSession
from tests.fakes.ftp_wire import Server
from truckee.core.errors import TemporaryLoginError
from truckee.frontends.ftp.settings import FTPSettings


class Notes:
    def __init__(self) -> None:
        self.lines: list = []

    def __getattr__(self, kind):
        return lambda *fields: self.lines.append((kind, *fields))

    def of(self, kind: str) -> list:
        return [line[1:] for line in self.lines if line[0] == kind]


def test_a_session_is_told_from_beginning_to_end() -> None:
    notes = Notes()
    server = Server(journal=notes, vfs=FakeSession(root={"a": b"12345"}))
    client = server.login()
    for command, data in (("RETR a", b""), ("STOR b", b"abc"), ("LIST -la", b""), ("RETR no", b"")):
        wire = client.open_data()
        client.ask(command)
        if data:
            wire.feed(data)
            wire.lose()
        client.pass_time(0.3, 0.05)
    wire = client.open_data()
    client.ask("APPE b")
    wire.feed(b"x")
    client.ask("ABOR", "QUIT")
    client.pass_time(1)
    assert notes.of("connected") == [("ftp", "127.0.0.1")]
    assert notes.of("login") == [("ftp", "127.0.0.1", "alice", "password", "ok")]
    assert [(t[2], t[3], t[4], t[5], t[7]) for t in notes.of("transfer")] == [
        ("alice", "get", "/a", 5, "ok"),
        ("alice", "put", "/b", 3, "ok"),
        ("alice", "list", "/", notes.of("transfer")[2][5], "ok"),
        ("alice", "get", "/no", 0, "failed"),
        ("alice", "append", "/b", 1, "aborted"),
    ]
    ((door, peer, name, seconds),) = notes.of("left")
    assert (door, peer, name) == ("ftp", "127.0.0.1", "alice")
    assert seconds > 1


def test_whose_transfer_it_was_is_known_when_the_client_has_gone() -> None:
    notes = Notes()
    client = Server(journal=notes).login()
    wire = client.open_data()
    client.ask("STOR a")
    wire.feed(b"abc")
    client.wire.lose()
    client.pass_time(1)
    ((_, _, name, *_, path, size, _, ending),) = notes.of("transfer")
    assert (name, path, size, ending) == ("alice", "/a", 3, "aborted")


def test_a_file_with_a_name_of_our_own_is_reported_under_that_name() -> None:
    notes = Notes()
    server = Server(journal=notes)
    client = server.login()
    wire = client.open_data()
    client.ask("STOU")
    wire.feed(b"abc")
    wire.lose()
    client.pass_time(0.3, 0.05)
    ((*_, verb, path, size, _, ending),) = notes.of("transfer")
    assert (verb, size, ending) == ("put", 3, "ok")
    assert path == f"/{next(iter(server.vfs.root))}"


def test_every_way_a_login_can_end_is_told() -> None:
    notes = Notes()
    answers: list = [None, TemporaryLoginError("x"), RuntimeError("x")]

    def check(credentials):
        answer = answers.pop(0) or UnauthorizedLogin()
        raise answer

    server = Server(journal=notes, portal=FakePortal(check))
    for _ in range(3):
        server.connect().ask("USER ann", "PASS x")
    assert [line[4] for line in notes.of("login")] == ["denied", "temporary", "temporary"]


def test_a_login_while_the_node_stops_is_told_why_it_is_refused() -> None:
    notes = Notes()
    server = Server(journal=notes)
    server.portal.held = []
    client = server.connect()
    client.send("USER alice", "PASS secret")
    _ = server.ftp.stopService()
    client.text()
    server.portal.held[0].callback(None)
    assert client.text() == "421 the node is shutting down\r\n"
    assert notes.of("login")[0][4] == "limit"


def test_strangers_come_in_by_a_method_of_their_own() -> None:
    notes = Notes()
    portal = FakePortal(lambda c: FakeSession("anonymous"))
    server = Server(FTPSettings(anonymous=True), portal=portal, journal=notes)
    server.connect().ask("USER ftp", "PASS a@b")
    assert notes.of("login") == [("ftp", "127.0.0.1", "ftp", "anonymous", "ok")]
