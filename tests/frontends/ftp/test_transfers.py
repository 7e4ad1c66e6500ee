"""Transfers: when an upload counts, how either kind ends, and what stays in memory."""

from ipaddress import IPv4Address

import pytest
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.python.failure import Failure

from tests.fakes.fake_vfs import FakeSession, Gate
from tests.fakes.ftp_wire import Client, Server, final_replies
from truckee.core import errors as e
from truckee.frontends.ftp.data import MOST_HELD
from truckee.frontends.ftp.settings import FTPSettings

BIG = bytes(range(256)) * 4096


def make(root=None, **settings) -> tuple[Server, Client]:
    server = Server(FTPSettings(**settings), FakeSession(root=root if root is not None else {}))
    return server, server.login()


def upload(client: Client, command: str, content: bytes, *, reset=False) -> str:
    data = client.open_data()
    text = client.ask(command)
    data.feed(content)
    if reset:
        data.reset()
    else:
        data.lose()
    return text + client.pass_time(0.2, 0.05)


def download(client: Client, command: str) -> tuple[bytes, str]:
    data = client.open_data()
    text = client.ask(command)
    got = b""
    for _ in range(50):
        got += data.read()
        client.server.reactor.advance(0)
    return got, text + client.text()


# uploads


def test_226_comes_after_the_commit() -> None:
    server, client = make()
    server.vfs.gates["commit"] = Gate(held=[])
    text = upload(client, "STOR a", b"abc")
    assert text.startswith("150 ")
    assert final_replies(text) == []
    assert server.vfs.root == {}
    assert client.pass_time(500, 10) == ""  # no timer runs against a commit
    server.vfs.gates["commit"].release()
    assert client.text().startswith("226 ")
    assert server.vfs.root == {"a": b"abc"}


def test_an_empty_upload_is_a_file() -> None:
    server, client = make()
    assert "226 " in upload(client, "STOR a", b"")
    assert server.vfs.root == {"a": b""}


@pytest.mark.threat("F8", "N9")
def test_a_reset_data_connection_stores_nothing() -> None:
    server, client = make({"a": b"old"})
    assert "426 " in upload(client, "STOR a", b"new", reset=True)
    assert server.vfs.root == {"a": b"old"}


@pytest.mark.threat("F8")
@pytest.mark.parametrize("delay", [0, 0.01, 0.04])
def test_a_client_killed_after_its_last_byte_stores_nothing(delay) -> None:
    server, client = make()
    data = client.open_data()
    client.ask("STOR a")
    data.feed(b"half")
    data.lose()
    server.reactor.advance(delay)
    client.wire.lose()
    client.pass_time(1, 0.1)
    assert server.vfs.root == {}
    assert not server.vfs.open_writes


def test_a_commit_that_has_begun_goes_on_without_the_client() -> None:
    server, client = make()
    server.vfs.gates["commit"] = Gate(held=[])
    upload(client, "STOR a", b"abc")
    client.wire.reset()
    assert server.ftp.sessions == 1
    server.vfs.gates["commit"].release()
    assert server.vfs.root == {"a": b"abc"}
    assert server.ftp.sessions == 0


@pytest.mark.threat("N9")
def test_an_upload_short_of_allo_stores_nothing() -> None:
    server, client = make()
    client.ask("ALLO 10")
    assert "426 " in upload(client, "STOR a", b"short")
    assert server.vfs.root == {}
    assert "226 " in upload(client, "STOR a", b"short")  # it was said for one upload alone


def test_allo_counts_the_part_that_rest_keeps() -> None:
    server, client = make({"a": b"12345"})
    client.ask("ALLO 10", "REST 5")
    assert "226 " in upload(client, "STOR a", b"67890")
    assert server.vfs.root == {"a": b"1234567890"}


def test_rest_and_stor_keep_the_first_bytes() -> None:
    server, client = make({"a": b"1234567"})
    client.ask("REST 3")
    assert "226 " in upload(client, "STOR a", b"xy")
    assert server.vfs.root == {"a": b"123xy"}
    assert "226 " in upload(client, "STOR a", b"z")  # REST is forgotten
    assert server.vfs.root == {"a": b"z"}


def test_rest_beyond_the_end_is_554() -> None:
    server, client = make({"a": b"12"})
    client.ask("REST 3")
    assert final_replies(upload(client, "STOR a", b"x"))[0].startswith("554 ")
    client.ask("REST 3")
    assert download(client, "RETR a")[1].startswith("554 ")
    assert server.vfs.root == {"a": b"12"}


def test_appe_adds_to_the_end_and_makes_what_is_absent() -> None:
    server, client = make({"a": b"12"})
    assert "226 " in upload(client, "APPE a", b"34")
    assert "226 " in upload(client, "APPE b", b"5")
    assert server.vfs.root == {"a": b"1234", "b": b"5"}


def test_stou_names_the_file_it_makes() -> None:
    server, client = make()
    text = upload(client, "STOU base", b"1")
    (name,) = server.vfs.root
    assert name.startswith("base.")
    assert f"150 FILE: /{name}\r\n" in text
    assert "226 " in text


def test_a_dropped_stou_leaves_nothing() -> None:
    server, client = make()
    upload(client, "STOU", b"1", reset=True)
    assert server.vfs.root == {}


def test_text_loses_its_carriage_returns_on_the_way_in() -> None:
    server, client = make()
    client.ask("TYPE A")
    data = client.open_data()
    client.ask("STOR a")
    for piece in (b"one\r", b"\ntwo\r\n", b"three\r"):
        data.feed(piece)
    data.lose()
    client.pass_time(0.2, 0.05)
    assert server.vfs.root == {"a": b"one\ntwo\nthree\r"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (e.UploadUnhappinessError(), "451"),
        (e.NoSpaceError(), "452"),
        (e.UncoordinatedWriteError(), "450"),
        (e.FileTooLargeError(), "552"),
    ],
)
def test_a_failed_commit_is_told_and_leaves_the_old_file(error, code) -> None:
    server, client = make({"a": b"old"})
    server.vfs.gates["commit"] = Gate(error=error)
    assert final_replies(upload(client, "STOR a", b"new"))[0].startswith(code)
    assert server.vfs.root == {"a": b"old"}
    assert client.ask("NOOP").startswith("200")


def test_a_full_spool_ends_the_upload_at_once() -> None:
    server, client = make()
    server.vfs.gates["write"] = Gate(error=e.SpoolFullError())
    data = client.open_data()
    client.ask("STOR a")
    data.feed(BIG)
    assert client.text().startswith("452 ")
    server.reactor.advance(0)
    assert data.closed == "ConnectionAborted"


def test_errors_before_the_data_come_without_150() -> None:
    _, client = make({"d": {}})
    for command in ("STOR d", "STOR nowhere/x", "RETR d", "RETR nowhere", "APPE d"):
        assert upload(client, command, b"").startswith("550 "), command


@pytest.mark.threat("F3")
def test_a_slow_disk_slows_the_client_down_and_not_the_memory_up() -> None:
    server, client = make()
    server.vfs.gates["write"] = Gate(held=[])
    data = client.open_data()
    client.ask("STOR a")
    fed = 0
    while data.reading and fed < 64:
        data.feed(BIG)
        fed += 1
    assert fed * len(BIG) <= MOST_HELD + 2 * len(BIG)
    assert client.pass_time(600, 5) == ""  # the disk is slow, not the client
    server.vfs.gates["write"].release()
    assert data.reading
    data.lose()
    client.pass_time(0.2, 0.05)
    assert server.vfs.root == {"a": BIG * fed}


# downloads


def test_a_download_is_whole_and_its_size_is_told() -> None:
    _, client = make({"a": BIG})
    got, text = download(client, "RETR a")
    assert got == BIG
    assert f"({len(BIG)} bytes)" in text
    assert "226 " in text


def test_an_empty_file_comes_too() -> None:
    _, client = make({"a": b""})
    got, text = download(client, "RETR a")
    assert (got, text[-25:-2]) == (b"", text[-25:-2])
    assert "226 " in text


def test_rest_starts_in_the_middle() -> None:
    _, client = make({"a": BIG})
    client.ask("REST 1000000")
    got, text = download(client, "RETR a")
    assert got == BIG[1000000:]
    assert "226 " in text
    client.ask(f"REST {len(BIG)}")
    assert download(client, "RETR a")[0] == b""


def test_text_gets_its_carriage_returns_on_the_way_out() -> None:
    _, client = make({"a": b"one\ntwo\r\n\nthree"})
    client.ask("TYPE A")
    assert download(client, "RETR a")[0] == b"one\r\ntwo\r\n\r\nthree"


def test_no_share_is_450_and_a_break_in_the_middle_is_451_with_a_reset() -> None:
    server, client = make({"a": BIG})
    server.vfs.gates["read"] = Gate(error=e.NotEnoughSharesError())
    assert final_replies(download(client, "RETR a")[1])[0].startswith("450 ")
    server.vfs.gates["read"] = Gate()
    server.vfs.gates["piece"] = Gate(error=e.NotEnoughSharesError())
    data = client.open_data()
    text = client.ask("RETR a")
    server.reactor.advance(0)
    assert final_replies(text)[0].startswith("451 ")
    assert data.closed == "ConnectionAborted"
    assert not server.vfs.open_reads


def test_a_client_that_closes_early_gets_426() -> None:
    server, client = make({"a": BIG})
    data = client.open_data()
    data.limit = 1000
    client.ask("RETR a")
    data.lose()
    assert client.text().startswith("426 ")
    assert not server.vfs.open_reads


@pytest.mark.threat("F3", "D1")
def test_a_client_that_never_reads_costs_a_buffer_and_a_minute() -> None:
    server, client = make({"a": BIG * 16})
    data = client.open_data()
    data.limit = 100_000
    client.ask("RETR a")
    assert len(data.dataBuffer) < 1 << 20
    text = client.pass_time(59)
    assert "426" not in text
    assert "426 " in text + client.pass_time(12)
    server.reactor.advance(0)
    assert data.closed == "ConnectionAborted"


def test_a_slow_but_steady_reader_is_served_to_the_end() -> None:
    server, client = make({"a": BIG})
    data = client.open_data()
    data.limit = 20_000
    client.ask("RETR a")
    got = b""
    for _ in range(200):
        got += data.read()
        server.reactor.advance(5)
    assert got == BIG
    assert client.text().startswith("226 ")


@pytest.mark.threat("D1")
def test_an_uploader_who_drips_is_dropped() -> None:
    server, client = make()
    data = client.open_data()
    client.ask("STOR a")
    text = ""
    for _ in range(400):
        data.feed(b"x")
        text += client.pass_time(1)
    assert "426 " in text
    assert server.vfs.root == {}


def test_an_uploader_who_stops_is_dropped() -> None:
    server, client = make()
    data = client.open_data()
    client.ask("STOR a")
    data.feed(b"x")
    assert "426 " in client.pass_time(70)
    assert server.vfs.root == {}


def test_a_slow_grid_is_not_the_clients_fault() -> None:
    server, client = make({"a": BIG})
    server.vfs.gates["piece"] = Gate(held=[])
    client.open_data()
    client.ask("RETR a")
    assert client.pass_time(1000, 5) == ""
    server.vfs.gates["piece"].release()
    assert "226 " in client.pass_time(1)


# ABOR, STAT, QUIT in the middle


@pytest.mark.parametrize("abor", [b"ABOR", b"\xff\xf4\xff\xf2ABOR", b"\xff\xf2ABOR"])
def test_abor_ends_an_upload(abor) -> None:
    server, client = make({"a": b"old"})
    data = client.open_data()
    client.ask("STOR a")
    data.feed(b"new")
    assert [f[:3] for f in client.finals(abor)] == ["426", "226"]
    server.reactor.advance(0)
    assert data.closed == "ConnectionAborted"
    assert server.vfs.root == {"a": b"old"}
    assert "226 " in upload(client, "STOR a", b"next")


def test_abor_ends_a_download() -> None:
    server, client = make({"a": BIG * 4})
    data = client.open_data()
    data.limit = 1000
    client.ask("RETR a")
    assert [f[:3] for f in client.finals("ABOR")] == ["426", "226"]
    assert not server.vfs.open_reads
    assert download(client, "RETR a")[0] == BIG * 4


def test_abor_reaches_past_commands_that_wait() -> None:
    server, client = make({"a": BIG * 4, "b": b""})
    client.open_data().limit = 1000
    client.ask("RETR a")
    assert [f[:3] for f in client.finals("DELE b", "ABOR")] == ["426", "226", "250"]
    assert "b" not in server.vfs.root


@pytest.mark.parametrize("gate", ["open_write", "write"])
def test_abor_does_not_wait_for_a_grid_that_hangs(gate) -> None:
    server, client = make()
    server.vfs.gates[gate] = Gate(held=[])
    data = client.open_data()
    client.ask("STOR a")
    data.feed(BIG)
    assert [f[:3] for f in client.finals("ABOR")] == ["426", "226"]
    server.vfs.gates[gate].release()
    assert not server.vfs.open_writes
    assert server.vfs.root == {}


def test_abor_in_the_moment_before_the_commit_still_works() -> None:
    server, client = make()
    data = client.open_data()
    client.ask("STOR a")
    data.feed(b"new")
    data.lose()
    assert [f[:3] for f in client.finals("ABOR")] == ["426", "226"]
    client.pass_time(1, 0.1)
    assert server.vfs.root == {}


def test_abor_during_the_commit_waits_for_it() -> None:
    server, client = make()
    server.vfs.gates["commit"] = Gate(held=[])
    upload(client, "STOR a", b"new")
    assert client.ask("ABOR") == ""
    server.vfs.gates["commit"].release()
    assert [f[:3] for f in final_replies(client.text())] == ["226", "226"]
    assert server.vfs.root == {"a": b"new"}


def test_abor_without_a_transfer_is_225_and_drops_the_data_port() -> None:
    _server, client = make({"a": b"1"})
    client.ask("PASV")
    assert client.ask("ABOR").startswith("225 ")
    assert client.ask("RETR a").startswith("425 ")


def test_stat_tells_the_bytes_so_far() -> None:
    _, client = make()
    data = client.open_data()
    client.ask("STOR a")
    data.feed(b"12345")
    assert "5 bytes so far" in client.ask("STAT")
    assert client.ask("NOOP").startswith("200")


def test_quit_waits_for_the_transfer() -> None:
    server, client = make()
    data = client.open_data()
    client.ask("STOR a")
    data.feed(b"1")
    assert client.ask("QUIT") == ""
    data.lose()
    text = client.pass_time(0.2, 0.05)
    assert [f[:3] for f in final_replies(text)] == ["226", "221"]
    assert server.vfs.root == {"a": b"1"}


# data connections


def test_without_a_data_connection_set_up_it_is_425() -> None:
    _, client = make({"a": b""})
    assert client.ask("RETR a").startswith("425 ")


def test_the_command_may_come_before_the_connection() -> None:
    _, client = make({"a": b"abc"})
    client.ask("PASV")
    text = client.ask("RETR a")
    client.pass_time(9)
    data = client.join()
    text += client.pass_time(1)
    assert data.out == b"abc"
    assert "226 " in text


def test_nobody_connecting_is_425_after_ten_seconds() -> None:
    server, client = make({"a": b"abc"})
    client.ask("PASV")
    client.ask("RETR a")
    assert client.pass_time(9.5, 0.5) == ""
    assert client.pass_time(1).startswith("425 ")
    assert not server.vfs.open_reads


@pytest.mark.threat("N7")
def test_a_stranger_who_joins_gets_nothing_and_the_client_still_does() -> None:
    _, client = make({"a": b"abc"})
    client.ask("PASV")
    for _ in range(1000):
        assert client.join("127.0.0.2") is None
    data = client.join()
    client.ask("RETR a")
    assert data.out == b"abc"


@pytest.mark.threat("N7")
def test_only_the_first_connection_counts() -> None:
    _, client = make({"a": b"abc"})
    client.ask("PASV")
    assert client.join() is not None
    assert client.join() is None


def test_bytes_sent_before_the_command_are_kept() -> None:
    _, client = make()
    data = client.open_data()
    assert not data.reading


@pytest.mark.threat("D1")
def test_a_port_that_nobody_uses_is_closed_in_time() -> None:
    _server, client = make({"a": b""})
    client.ask("PASV")
    client.pass_time(61)
    assert client.join() is None
    assert final_replies(client.ask("RETR a"))[0].startswith("425 ")


@pytest.mark.threat("N8")
@pytest.mark.parametrize(
    "line",
    [
        "PORT 10,0,0,1,100,1",
        "PORT 127,0,0,1,3,255",
        "PORT 0,0,0,0,100,1",
        "EPRT |1|127.0.0.2|30000|",
        "EPRT |2|::1|30000|",
        "EPRT |2|::ffff:127.0.0.2|30000|",
    ],
)
def test_no_bounce(line) -> None:
    server, client = make({"a": b""})
    assert client.ask(line).startswith("504 ")
    assert client.ask("RETR a").startswith("425 ")
    assert server.reactor.tcpClients == []


def test_active_mode_connects_to_the_client_when_the_transfer_starts() -> None:
    server, client = make({"a": b"abc"})
    assert client.ask("PORT 127,0,0,1,100,1").startswith("200 ")
    assert server.reactor.tcpClients == []
    client.ask("RETR a")
    host, port, factory, timeout, bind = server.reactor.tcpClients[0]
    assert (host, port, timeout, bind) == ("127.0.0.1", 25601, 10, ("127.0.0.1", 0))
    from tests.fakes.ftp_wire import Wire

    wire = Wire(server.reactor).attach(factory.buildProtocol(None))
    assert wire.out == b"abc"
    server.reactor.advance(0)
    assert client.text().startswith("226 ")


def test_passive_ports_come_from_the_range() -> None:
    server, client = make({}, passive_ports=range(50000, 50003))
    client.ask("EPSV")
    assert 50000 <= server.reactor.tcpServers[-1][0] < 50003
    assert server.reactor.tcpServers[-1][3] == "127.0.0.1"


# listings


def test_every_kind_of_listing() -> None:
    _, client = make({"d": {"x": b"12"}, "b.txt": b"123", "a.txt": b""})
    assert download(client, "NLST")[0] == b"d\r\nb.txt\r\na.txt\r\n"
    assert download(client, "NLST -1 *.txt")[0] == b"b.txt\r\na.txt\r\n"
    assert download(client, "NLST d/*")[0] == b"d/x\r\n"
    assert download(client, "NLST d")[0] == b"x\r\n"
    assert download(client, "LIST -la a.txt")[0].endswith(b" a.txt\r\n")
    assert download(client, "LIST -a -l")[0].count(b"\r\n") == 3
    mlsd = download(client, "MLSD")[0].decode()
    assert "type=dir;modify=" in mlsd
    assert "type=file;size=3;" in mlsd
    assert "UNIX.mode=0666; b.txt\r\n" in mlsd
    assert download(client, "MLSD a.txt")[1].startswith("501 ")
    for command in ("LIST", "NLST", "MLSD"):
        assert download(client, f"{command} nowhere")[1].startswith("550 ")
    assert "226 " in download(client, "NLST *.c")[1]


def test_an_empty_directory_is_listed() -> None:
    _, client = make()
    for command in ("LIST", "NLST", "MLSD"):
        got, text = download(client, command)
        assert got == b""
        assert "226 " in text


@pytest.mark.threat("L10", "U6")
def test_names_that_would_forge_a_line_are_left_out() -> None:
    hostile = {"../x": b"", "a/b": b"", "x\ny": b"", "x\rz": b"", "..": b"", "": b"", "n\0": b""}
    _, client = make(hostile | {"good": b"", "日本 \x1b[31m": b""})
    for command in ("LIST", "NLST", "MLSD"):
        lines = download(client, command)[0].decode().split("\r\n")
        assert len(lines) == 3, lines
        assert lines[0].endswith("good")
    text = client.ask("STAT /")
    assert len(text.split("\r\n")) == 5


def test_a_file_with_a_star_in_its_name_is_itself() -> None:
    _, client = make({"*": b"1", "b": b"2"})
    assert download(client, "NLST *")[0] == b"*\r\n"


@pytest.mark.threat("D4")
def test_a_long_listing_takes_turns() -> None:
    server, client = make({f"f{i:05}": b"" for i in range(2000)})
    data = client.open_data()
    client.send("NLST")
    first = len(data.out)
    assert 0 < first < 2000 * 8
    for _ in range(20):
        server.reactor.advance(0)
    assert data.out.count(b"\r\n") == 2000


def test_a_listing_can_be_aborted() -> None:
    _server, client = make({f"f{i:05}": b"" for i in range(2000)})
    data = client.open_data()
    data.limit = 100
    client.ask("LIST")
    assert [f[:3] for f in client.finals("ABOR")] == ["426", "226"]
    assert client.ask("NOOP").startswith("200")


def test_no_free_port_is_425() -> None:
    server, client = make({}, passive_ports=range(50000, 50003))

    def taken(*args, **kwargs):
        raise CannotListenError("", 0, OSError())

    server.reactor.listenTCP = taken
    assert client.finals("PASV", "EPSV")[0].startswith("425 ")


def test_an_ipv6_client_uses_epsv() -> None:
    server = Server(vfs=FakeSession())
    client = server.connect("::1", "::1")
    client.ask("USER alice", "PASS secret")
    assert [f[:3] for f in client.finals("PASV", "EPSV 1", "EPSV 2", "EPSV 3", "EPSV x")] == [
        "522",
        "522",
        "229",
        "522",
        "501",
    ]
    assert client.ask("EPRT |2|::1|30000|").startswith("200 ")
    assert client.ask("EPRT |1|127.0.0.1|30000|").startswith("504 ")


def test_a_masqueraded_address_is_told_to_clients_elsewhere_alone() -> None:
    _, client = make({}, masquerade_address=IPv4Address("192.0.2.7"))
    assert "(127,0,0,1," in client.ask("PASV")


def test_nobody_answering_in_active_mode_is_425() -> None:
    server, client = make({"a": b"abc"})
    client.ask("PORT 127,0,0,1,100,1")
    client.ask("RETR a")
    factory = server.reactor.tcpClients[0][2]
    factory.clientConnectionFailed(server.reactor.connectors[0], Failure(ConnectionRefusedError()))
    assert client.text().startswith("425 ")
    assert client.ask("NOOP").startswith("200 ")


def test_abor_while_connecting_stops_it() -> None:
    server, client = make({"a": b"abc"})
    client.ask("PORT 127,0,0,1,100,1")
    client.ask("RETR a")
    assert [f[:3] for f in client.finals("ABOR")] == ["426", "226"]
    assert server.reactor.connectors[0].stoppedConnecting


def test_a_new_pasv_closes_the_old_port() -> None:
    server, client = make({"a": b"abc"})
    client.ask("PASV")
    old = server.reactor.tcpServers[-1][1]
    client.ask("PASV")
    from twisted.internet.address import IPv4Address as Address

    assert old.buildProtocol(Address("TCP", "127.0.0.1", 40001)) is None


def test_a_stopped_listing_of_a_vanished_client_leaves_nothing_running() -> None:
    server, client = make({f"f{i:05}": b"" for i in range(2000)})
    data = client.open_data()
    data.limit = 100
    client.ask("LIST")
    data.reset()
    assert client.text().startswith("426 ")
    client.wire.lose()
    assert server.ftp.sessions == 0


def test_a_read_that_begins_after_abor_is_stopped() -> None:
    server, client = make({"a": BIG})
    server.vfs.gates["read"] = Gate(held=[])
    client.open_data()
    assert client.ask("RETR a") == ""
    assert [f[:3] for f in client.finals("ABOR")] == ["426", "226"]
    server.vfs.gates["read"].release()
    assert server.vfs.last_read.stopped
    assert server.vfs.last_read.closed
