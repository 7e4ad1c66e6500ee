"""FTP on sockets of one's own: foreign addresses, ABOR in several forms, a storm of questions."""

import contextlib
import ftplib
import io
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.events import FileOpenedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from tests.interop.clients.ftp import Curl
from tests.interop.clients.node import ClientNode

pytestmark = pytest.mark.interop

DATA = random.Random(8).randbytes(30_000_000)
ELSEWHERE = "127.0.0.2"  # another host, as far as the server can see


@pytest.fixture(scope="module")
def node(shared_node: ClientNode) -> ClientNode:
    shared_node.empty("/sockets")
    shared_node.put("/sockets/data", DATA)
    return shared_node


@pytest.fixture
def ftp(node: ClientNode) -> Iterator[ftplib.FTP]:
    with contextlib.closing(node.ftp()) as ftp:
        ftp.voidcmd("TYPE I")
        ftp.cwd("/sockets")
        yield ftp


@pytest.mark.threat("N8")
@pytest.mark.parametrize("command", ["PORT 127,0,0,2,40,0", f"EPRT |1|{ELSEWHERE}|10240|"])
def test_x1_the_server_connects_to_nobody_but_its_client(ftp: ftplib.FTP, command: str) -> None:
    with pytest.raises(ftplib.error_perm, match="504 "):
        ftp.sendcmd(command)
    assert "data" in ftp.nlst()


def test_x1_curl_cannot_have_data_sent_elsewhere(node: ClientNode, tmp_path: Path) -> None:
    client = Curl(node.server, tmp_path)
    if why := client.missing():
        pytest.skip(why)
    command = client.command("-P", ELSEWHERE, client.url("/sockets/data"))
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False)
    assert done.returncode == 30
    assert done.stdout == b""


@pytest.mark.threat("N7")
def test_x1_a_data_port_joined_from_elsewhere_gives_nothing(ftp: ftplib.FTP) -> None:
    host, port = ftp.makepasv()
    with socket.socket() as thief:
        thief.settimeout(20)
        thief.bind((ELSEWHERE, 0))
        thief.connect((host, port))
        ftp.putcmd("RETR data")
        with contextlib.suppress(ConnectionResetError):
            assert thief.recv(1000) == b""
    with socket.create_connection((host, port), 20) as mine:
        assert ftp.getresp().startswith("150")
        taken = bytearray()
        while piece := mine.recv(1 << 20):
            taken += piece
    assert ftp.getresp().startswith("226")
    assert taken == DATA


def test_x4_the_command_may_come_before_its_data_connection(ftp: ftplib.FTP) -> None:
    host, port = ftp.makepasv()
    ftp.putcmd("RETR data")
    time.sleep(1)
    with socket.create_connection((host, port), 20) as mine:
        while mine.recv(1 << 20):
            pass
    assert ftp.getresp().startswith("150")
    assert ftp.getresp().startswith("226")


@pytest.mark.long
def test_x4_without_a_data_connection_it_ends_after_ten_seconds(ftp: ftplib.FTP) -> None:
    ftp.makepasv()
    began = time.monotonic()
    ftp.putcmd("RETR data")
    with pytest.raises(ftplib.error_temp, match="425 "):
        while ftp.getresp().startswith("1"):
            pass
    assert 9 < time.monotonic() - began < 14
    assert "data" in ftp.nlst()


def abort_plain(control: socket.socket) -> None:
    control.sendall(b"ABOR\r\n")


def abort_telnet(control: socket.socket) -> None:
    control.sendall(b"\xff\xf4\xff\xf2ABOR\r\n")


def abort_urgent(control: socket.socket) -> None:
    control.sendall(b"\xff\xf4\xff")
    control.send(b"\xf2", socket.MSG_OOB)
    control.sendall(b"ABOR\r\n")


def abort_whole_line_urgent(control: socket.socket) -> None:
    control.sendall(b"ABOR\r\n", socket.MSG_OOB)


@pytest.mark.parametrize(
    "abort", [abort_plain, abort_telnet, abort_urgent, abort_whole_line_urgent]
)
def test_x5_a_download_is_given_up_and_the_session_goes_on(ftp: ftplib.FTP, abort) -> None:
    with ftp.transfercmd("RETR data") as data:
        data.recv(1000)
        abort(ftp.sock)
        with pytest.raises(ftplib.error_temp, match="426 "):
            ftp.getresp()
        assert ftp.getresp().startswith("226")
    assert "data" in ftp.nlst()


@pytest.mark.parametrize(
    "abort", [abort_plain, abort_telnet, abort_urgent, abort_whole_line_urgent]
)
def test_x5_an_upload_is_given_up_and_nothing_of_it_stays(ftp: ftplib.FTP, abort) -> None:
    with ftp.transfercmd("STOR upload") as data:
        data.sendall(DATA[:1_000_000])
        abort(ftp.sock)
        with pytest.raises(ftplib.error_temp, match="426 "):
            ftp.getresp()
        assert ftp.getresp().startswith("226")
    assert "upload" not in ftp.nlst()


def test_x5_ftplib_aborts(ftp: ftplib.FTP) -> None:
    with ftp.transfercmd("RETR data") as data:
        data.recv(1000)
        assert ftp.abort().startswith("426")
    assert ftp.getresp().startswith("226")  # ftplib has read one reply of the two
    assert "data" in ftp.nlst()


class _Opened(FileSystemEventHandler):
    def __init__(self) -> None:
        self.when: list[float] = []

    def on_any_event(self, event: FileSystemEvent) -> None:
        if isinstance(event, FileOpenedEvent) and not event.is_directory:
            self.when.append(time.monotonic())


@pytest.mark.parametrize("asked", [2_000, pytest.param(20_000, marks=pytest.mark.long)])
def test_x15_thousands_of_questions_are_one_look_at_the_directory_in_a_while(
    node: ClientNode, ftp: ftplib.FTP, asked: int
) -> None:
    """Each look opens the directory's one share; they may be `dir_cache_ttl` = 3 s apart."""
    before = node.shares()
    ftp.mkd(f"{asked} times")
    ftp.cwd(f"{asked} times")
    ftp.storbinary("STOR one", io.BytesIO(b"x"))
    (share,) = node.shares() - before
    time.sleep(4)
    opened, observer = _Opened(), Observer()
    observer.schedule(opened, str(share.parent))
    observer.start()
    try:
        began = time.monotonic()
        for _ in range(asked // 20):  # pipelined, as many as a server must take at once
            ftp.sock.sendall(b"MDTM one\r\n" * 20)
            for _ in range(20):
                assert ftp.getresp().startswith("213")
        took = time.monotonic() - began
        time.sleep(0.3)
    finally:
        observer.stop()
        observer.join()
    looks = 0
    last = -1.0
    for when in opened.when:  # what comes at once is one look: its parts may be read one by one
        if when - last > 0.5:
            looks += 1
        last = when
    assert 1 <= looks <= took / 3 + 1
    assert len(opened.when) <= 8 * looks
