"""The server on real sockets, with Python's ftplib at the other end."""

import contextlib
import ftplib
import io
import os
import socket
import time

import pytest
from twisted.internet import reactor  # noqa: TID251 - real sockets
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from tests.fakes.fake_vfs import FakePortal, FakeSession, Gate, fake_checker
from truckee.core import errors as e
from truckee.frontends.ftp.service import FTPServer
from truckee.frontends.ftp.settings import FTPSettings

BIG = os.urandom(5_000_001)


class SocketTests(TestCase):
    timeout = 30

    async def start(self, root=None, host="127.0.0.1", **settings) -> int:
        self.vfs = FakeSession(root=root if root is not None else {})
        self.ftp = FTPServer(
            reactor,
            FakePortal(fake_checker(self.vfs)),
            FTPSettings(passive_ports=None, transfer_grace=0.1, **settings),
        )
        kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
        (address,) = await self.ftp.listen([kind(reactor, 0, interface=host)])
        self.addCleanup(self.ftp.stopService)
        return address.port

    def login(self, port: int, host="127.0.0.1") -> ftplib.FTP:
        client = ftplib.FTP(encoding="utf-8", timeout=10)
        client.connect(host, port)
        client.login("alice", "secret")
        return client

    def in_thread(self, f, *args) -> Deferred:
        return deferToThread(f, *args)

    async def test_a_whole_session(self) -> None:
        port = await self.start({"d": {}})

        def talk() -> None:
            with self.login(port) as c:
                c.storbinary("STOR naïve é 日本.bin", io.BytesIO(BIG))
                out = io.BytesIO()
                c.retrbinary("RETR naïve é 日本.bin", out.write)
                assert out.getvalue() == BIG
                out = io.BytesIO()
                c.retrbinary("RETR naïve é 日本.bin", out.write, rest=4_000_000)
                assert out.getvalue() == BIG[4_000_000:]
                assert c.size("naïve é 日本.bin") == len(BIG)
                c.storbinary("APPE naïve é 日本.bin", io.BytesIO(b"tail"))
                assert sorted(c.nlst()) == ["d", "naïve é 日本.bin"]
                assert {name for name, _ in c.mlsd()} == {"d", "naïve é 日本.bin"}
                lines: list[str] = []
                c.retrlines("LIST", lines.append)
                assert len(lines) == 2
                c.rename("naïve é 日本.bin", "d/x")
                c.storlines("STOR text", io.BytesIO(b"one\ntwo\n"))
                got: list[str] = []
                c.retrlines("RETR text", got.append)
                assert got == ["one", "two"]
                c.mkd("new")
                c.rmd("new")
                c.delete("text")
                with pytest.raises(ftplib.error_perm):
                    c.rmd("d")
                c.set_pasv(False)
                out = io.BytesIO()
                c.retrbinary("RETR d/x", out.write)
                assert out.getvalue() == BIG + b"tail"
                c.storbinary("STOR active", io.BytesIO(BIG))

        await self.in_thread(talk)
        assert self.vfs.root == {"d": {"x": BIG + b"tail"}, "active": BIG}

    async def test_ipv6(self) -> None:
        try:
            port = await self.start({"a": b"123"}, host="::1")
        except Exception:
            raise SkipTest("no IPv6 on this machine") from None

        def talk() -> None:
            with self.login(port, "::1") as c:
                out = io.BytesIO()
                c.retrbinary("RETR a", out.write)
                c.set_pasv(False)
                c.retrbinary("RETR a", out.write)
                assert out.getvalue() == b"123123"
                with pytest.raises(ftplib.error_perm):
                    c.sendcmd("PASV")

        await self.in_thread(talk)

    async def test_abor_as_urgent_data(self) -> None:
        port = await self.start({"a": BIG * 8})

        def talk() -> None:
            with self.login(port) as c:
                c.voidcmd("TYPE I")
                data = c.transfercmd("RETR a")
                data.recv(1000)
                answer = c.abort()
                assert answer.startswith("426"), answer
                assert c.voidresp().startswith("226")
                data.close()
                data = c.transfercmd("STOR b")
                data.sendall(b"x" * 1000)
                assert c.abort().startswith("426")
                assert c.voidresp().startswith("226")
                data.close()
                assert c.voidcmd("NOOP").startswith("200")

        await self.in_thread(talk)
        assert set(self.vfs.root) == {"a"}

    @pytest.mark.threat("F8")
    async def test_a_reset_upload_stores_nothing_and_a_killed_client_neither(self) -> None:
        port = await self.start()

        def talk() -> None:
            c = self.login(port)
            c.voidcmd("TYPE I")
            data = c.transfercmd("STOR reset")
            data.sendall(b"x" * 1000)
            time.sleep(0.05)
            data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            data.close()
            with pytest.raises(ftplib.error_temp):
                c.voidresp()
            data = c.transfercmd("STOR killed")
            data.sendall(b"x" * 1_000_000)
            data.close()
            c.sock.close()
            c.file.close()
            time.sleep(0.3)

        await self.in_thread(talk)
        assert self.vfs.root == {}
        assert not self.vfs.open_writes

    async def test_an_early_close_by_the_client_ends_a_download(self) -> None:
        port = await self.start({"a": BIG * 20})

        def talk() -> None:
            with self.login(port) as c:
                c.voidcmd("TYPE I")
                data = c.transfercmd("RETR a")
                data.recv(1000)
                data.close()
                with pytest.raises(ftplib.error_temp):
                    c.voidresp()

        await self.in_thread(talk)
        assert not self.vfs.open_reads

    async def test_a_download_that_breaks_is_a_reset_and_451(self) -> None:
        port = await self.start({"a": BIG})
        self.vfs.gates["piece"] = Gate(error=e.CorruptShareError())

        def talk() -> None:
            with self.login(port) as c:
                c.voidcmd("TYPE I")
                data = c.transfercmd("RETR a")
                with pytest.raises(ConnectionResetError):
                    while data.recv(65536):
                        pass
                data.close()
                with pytest.raises(ftplib.error_temp, match=r"^451"):
                    c.voidresp()

        await self.in_thread(talk)

    async def test_a_line_too_long_gets_its_reply_through_a_flood(self) -> None:
        port = await self.start()

        def talk() -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
                s.sendall(b"x" * 1_000_000)
                s.shutdown(socket.SHUT_WR)
                got = b""
                while data := s.recv(4096):
                    got += data
            return got

        got = await self.in_thread(talk)
        assert got.endswith(b"500 command line too long\r\n"), got

    @pytest.mark.threat("N7")
    async def test_a_stranger_cannot_take_the_data_connection(self) -> None:
        port = await self.start({"a": b"abc"})

        def talk() -> None:
            with self.login(port) as c:
                c.voidcmd("TYPE I")
                host, data_port = c.makepasv()
                for _ in range(50):
                    with socket.socket() as s:
                        s.bind(("127.0.0.2", 0))
                        s.settimeout(5)
                        s.connect((host, data_port))
                        with contextlib.suppress(ConnectionResetError):
                            assert s.recv(10) == b""
                with socket.create_connection((host, data_port)) as s:
                    c.putcmd("RETR a")
                    assert s.recv(10) == b"abc"
                    assert s.recv(10) == b""
                c.getresp()
                c.voidresp()

        await self.in_thread(talk)

    @pytest.mark.threat("N7")
    async def test_a_port_is_open_on_the_address_that_was_reached_alone(self) -> None:
        port = await self.start()

        def talk() -> None:
            with self.login(port) as c:
                _, data_port = c.makepasv()
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.3", data_port), timeout=5)

        await self.in_thread(talk)

    async def test_memory_is_bounded_when_one_side_stops(self) -> None:
        port = await self.start({"a": BIG * 20})
        self.vfs.gates["write"] = Gate(held=[])
        sockets = []

        def talk() -> int:
            for command in ("RETR a", "STOR b"):
                c = self.login(port)
                c.voidcmd("TYPE I")
                data = c.transfercmd(command)
                sockets.extend([c.sock, c.file, data])
                if command == "RETR a":
                    continue
                data.setblocking(False)
                sent, ends = 0, time.monotonic() + 1.0
                while time.monotonic() < ends and sent < 200_000_000:
                    try:
                        sent += data.send(BIG)
                    except BlockingIOError:
                        time.sleep(0.01)
            return sent

        sent = await self.in_thread(talk)
        transfers = [p.session.transfer for p in self.ftp.registry.members()]
        down, up = sorted(transfers, key=lambda t: t.connection.received)
        assert down.connection.written < 8 << 20
        assert up.connection._held <= 5 << 20
        assert sent < 30 << 20
        for s in sockets:
            s.close()
        self.vfs.gates["write"].release()
