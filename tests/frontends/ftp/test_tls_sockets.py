"""FTPS on real sockets: data connections under TLS, their ends, and clients of many habits."""

import contextlib
import ftplib
import io
import os
import socket
import ssl
import struct
import time

import pytest
from twisted.internet import reactor  # noqa: TID251 - real sockets
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from tests.fakes.fake_vfs import FakePortal, FakeSession, fake_checker
from tests.fakes.ftps import client_context, identity
from truckee.frontends.ftp.service import FTPServer
from truckee.frontends.ftp.settings import FTPSettings

BIG = os.urandom(5_000_001)
V12 = ssl.TLSVersion.TLSv1_2


class Resuming(ftplib.FTP_TLS):
    """Resumes the control connection's session on data connections, as careful clients do."""

    def ntransfercmd(self, cmd, rest=None):
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        if self._prot_p:
            connection = self.context.wrap_socket(connection, session=self.sock.session)
        return connection, size


class FtpsTests(TestCase):
    timeout = 60

    async def start(self, root=None, **settings) -> int:
        self.vfs = FakeSession(root=root if root is not None else {})
        settings.setdefault("transfer_grace", 0.1)
        self.ftp = FTPServer(
            reactor,
            FakePortal(fake_checker(self.vfs)),
            FTPSettings(passive_ports=None, **settings),
            identity=identity(),
        )
        (address,) = await self.ftp.listen([TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")])
        self.addCleanup(self.ftp.stopService)
        self.port = address.port
        return address.port

    @contextlib.contextmanager
    def login(self, kind=ftplib.FTP_TLS, context=None, protect=True):
        client = kind(context=context or client_context(), encoding="utf-8", timeout=20)
        try:
            client.connect("127.0.0.1", self.port)
            client.login("alice", "secret")
            if protect:
                client.prot_p()
            client.voidcmd("TYPE I")
            yield client
        finally:
            client.close()

    async def talk(self, f, *args):
        return await deferToThread(f, *args)

    def get(self, c, name, **more) -> bytes:
        out = bytearray()
        c.retrbinary(f"RETR {name}", out.extend, **more)
        return bytes(out)

    async def _whole_session(self, **settings) -> None:
        await self.start({"d": {}}, **settings)

        def talk() -> None:
            with self.login() as c:
                for active in (False, True):
                    c.set_pasv(not active)
                    c.storbinary("STOR x", io.BytesIO(BIG), blocksize=1 << 20)
                    assert self.get(c, "x") == BIG
                    assert self.get(c, "x", rest=4_000_000) == BIG[4_000_000:]
                    c.storbinary("STOR empty", io.BytesIO(b""))
                    assert self.get(c, "empty") == b""
                    c.storbinary("APPE x", io.BytesIO(b"tail"))
                    assert sorted(c.nlst()) == ["d", "empty", "x"]
                    assert {name for name, _ in c.mlsd()} == {"d", "empty", "x"}
                    lines: list[str] = []
                    c.retrlines("LIST", lines.append)
                    assert len(lines) == 3
                    assert c.nlst("d") == []
                c.prot_c()
                assert self.get(c, "x") == BIG + b"tail"
                c.quit()

        await self.talk(talk)
        assert self.vfs.root == {"d": {}, "x": BIG + b"tail", "empty": b""}

    async def test_a_whole_session_passive_and_active(self) -> None:
        await self._whole_session()

    async def test_a_whole_session_with_tls_1_3(self) -> None:
        await self._whole_session(tls_max="1.3")

    @pytest.mark.threat("N9")
    async def test_a_client_that_uploads_and_closes_at_once_loses_nothing(self) -> None:
        """Whatever the server sends such a client unasked, its kernel answers with a reset."""
        for highest in ("1.2", "1.3"):
            await self.start(tls_max=highest)

            def talk() -> None:
                with self.login() as c:
                    for i in range(10):
                        data = c.transfercmd(f"STOR {i}")
                        assert data.version() == f"TLSv{c.sock.version()[-3:]}"
                        data.sendall(BIG)
                        raw = data.detach()
                        end = socket.socket(fileno=raw)
                        end.close()
                        assert c.voidresp().startswith("226")

            await self.talk(talk)
            assert [len(self.vfs.root[str(i)]) for i in range(10)] == [len(BIG)] * 10

    # ends

    @pytest.mark.threat("N9")
    async def test_an_end_without_close_notify_is_a_warning_or_nothing_is_stored(self) -> None:
        said: list[dict] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)

        def cut(c, name: str) -> str:
            data = c.transfercmd(f"STOR {name}")
            data.sendall(b"x" * 100_000)
            socket.socket(fileno=data.detach()).close()  # no unwrap
            return c.getmultiline()

        def ended(c, name: str) -> str:
            c.storbinary(f"STOR {name}", io.BytesIO(b"whole"))
            return "226"

        for strict, code in ((False, "226"), (True, "426")):
            await self.start(strict_tls_eof=strict)

            def talk(how) -> str:
                with self.login() as c:
                    return how(c, "up")

            said.clear()
            assert (await self.talk(talk, cut))[:3] == code
            assert ("up" in self.vfs.root) == (not strict)
            assert any("without close_notify" in str(e["log_format"]) for e in said)
            said.clear()
            assert await self.talk(talk, ended) == "226"
            assert self.vfs.root["up"] == b"whole"
            assert not any("without close_notify" in str(e["log_format"]) for e in said)

    @pytest.mark.threat("N9")
    async def test_a_reset_stores_nothing(self) -> None:
        await self.start()

        def talk() -> None:
            with self.login() as c:
                data = c.transfercmd("STOR up")
                data.sendall(b"x" * 100_000)
                time.sleep(0.1)
                raw = socket.socket(fileno=data.detach())
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raw.close()
                with pytest.raises(ftplib.error_temp, match="426"):
                    c.voidresp()
                assert c.voidcmd("NOOP")

        await self.talk(talk)
        assert self.vfs.root == {}

    @pytest.mark.threat("N9")
    async def test_an_upload_short_of_allo_stores_nothing(self) -> None:
        await self.start()

        def talk() -> None:
            with self.login() as c:
                c.voidcmd("ALLO 1000")
                with pytest.raises(ftplib.error_temp, match="426"):
                    c.storbinary("STOR up", io.BytesIO(b"short"))

        await self.talk(talk)
        assert self.vfs.root == {}

    @pytest.mark.threat("N9")
    async def test_damaged_records_end_the_upload(self) -> None:
        await self.start()

        def talk() -> None:
            with self.login() as c:
                data = c.transfercmd("STOR up")
                data.sendall(b"x" * 1000)
                raw = socket.socket(fileno=data.detach())
                raw.sendall(b"\x17\x03\x03\x00\x40" + b"\x00" * 64)
                with pytest.raises(ftplib.error_temp, match="426"):
                    c.voidresp()
                raw.close()

        await self.talk(talk)
        assert self.vfs.root == {}

    async def test_abor_ends_a_protected_transfer(self) -> None:
        await self.start({"a": BIG * 8})

        def talk() -> None:
            with self.login() as c:
                data = c.transfercmd("RETR a")
                data.recv(1000)
                c.putcmd("ABOR")
                assert c.getmultiline().startswith("426")
                assert c.voidresp().startswith("226")
                data.close()
                data = c.transfercmd("STOR b")
                data.sendall(b"x" * 1000)
                c.putcmd("ABOR")
                assert c.getmultiline().startswith("426")
                assert c.voidresp().startswith("226")
                data.close()
                assert c.voidcmd("NOOP").startswith("200")

        await self.talk(talk)
        assert set(self.vfs.root) == {"a"}

    async def test_a_client_may_shut_down_its_sending_side_and_still_receive(self) -> None:
        await self.start({"a": BIG})

        def receive(data) -> bytes:
            got = bytearray()
            while piece := data.recv(1 << 16):
                got += piece
            data.close()
            return bytes(got)

        def talk() -> None:
            with self.login(protect=False) as c:
                host, port = c.makepasv()
                with socket.create_connection((host, port), timeout=20) as data:
                    data.shutdown(socket.SHUT_WR)
                    time.sleep(0.1)
                    c.voidcmd("NOOP")
                    c.sendcmd("RETR a")
                    assert receive(data) == BIG
                assert c.voidresp().startswith("226")
                data = c.transfercmd("RETR a")
                data.shutdown(socket.SHUT_WR)
                assert receive(data) == BIG
                assert c.voidresp().startswith("226")
                c.prot_p()
                data = c.transfercmd("RETR a")
                raw = socket.socket(fileno=os.dup(data.fileno()))
                raw.shutdown(socket.SHUT_WR)
                assert receive(data) == BIG
                raw.close()
                assert c.voidresp().startswith("226")

        await self.talk(talk)

    # handshakes

    async def test_a_data_connection_without_a_handshake_is_425(self) -> None:
        await self.start({"a": BIG}, connect_timeout=1.5)

        def talk() -> None:
            with self.login() as c:
                for command in ("RETR a", "STOR b"):
                    host, port = c.makepasv()
                    with socket.create_connection((host, port), timeout=20) as data:
                        c.sendcmd(command)
                        began = time.monotonic()
                        with pytest.raises(ftplib.error_temp, match="425 no TLS handshake"):
                            c.voidresp()
                        assert 1.0 < time.monotonic() - began < 10
                        with contextlib.suppress(ConnectionResetError):
                            assert data.recv(10) == b""
                assert c.voidcmd("NOOP")

        await self.talk(talk)
        assert set(self.vfs.root) == {"a"}

    async def test_plain_data_where_tls_was_agreed_is_425(self) -> None:
        await self.start()

        def talk() -> None:
            with self.login() as c:
                host, port = c.makepasv()
                with socket.create_connection((host, port), timeout=20) as data:
                    c.sendcmd("STOR b")
                    data.sendall(b"plain text, and not a handshake at all")
                    with pytest.raises(ftplib.error_temp, match="425 TLS handshake failed"):
                        c.voidresp()

        await self.talk(talk)
        assert self.vfs.root == {}

    async def test_a_client_that_leaves_in_the_handshake_is_425(self) -> None:
        await self.start()

        def talk() -> None:
            with self.login() as c:
                for linger in (False, True):
                    host, port = c.makepasv()
                    data = socket.create_connection((host, port), timeout=20)
                    c.sendcmd("STOR b")
                    data.sendall(b"\x16\x03\x01\x00\xff\x01")
                    if linger:
                        option = struct.pack("ii", 1, 0)
                        data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
                    data.close()
                    with pytest.raises(ftplib.error_temp, match="425 TLS handshake failed"):
                        c.voidresp()

        await self.talk(talk)
        assert self.vfs.root == {}

    async def test_prot_counts_as_it_is_when_the_transfer_begins(self) -> None:
        await self.start({"a": b"abc"})

        def talk() -> None:
            with self.login(protect=False) as c:
                host, port = c.makepasv()
                c.prot_p()
                with socket.create_connection((host, port), timeout=20) as data:
                    c.sendcmd("RETR a")
                    with c.context.wrap_socket(data) as secure:
                        assert secure.recv(10) == b"abc"
                        assert secure.recv(10) == b""
                assert c.voidresp().startswith("226")

        await self.talk(talk)

    # sessions

    @pytest.mark.threat("N7")
    async def test_resumption_is_accepted_and_can_be_required(self) -> None:
        for required, allowed in ((False, True), (True, False)):
            how = "require" if required else "accept"
            await self.start({"a": b"abc"}, data_tls_resumption=how)

            def talk(allowed=allowed) -> None:
                context = client_context(highest=V12)
                with self.login(Resuming, context) as c:
                    for active in (False, True):
                        c.set_pasv(not active)
                        data = c.transfercmd("RETR a")
                        assert data.session_reused
                        assert data.recv(10) == b"abc"
                        data.close()
                        c.voidresp()
                with self.login(context=client_context(highest=V12)) as c:
                    if allowed:
                        assert self.get(c, "a") == b"abc"
                    else:
                        with pytest.raises(ftplib.error_temp, match="425 resume"):
                            c.retrbinary("RETR a", lambda data: None)
                with self.login(context=context) as victim, self.login(Resuming, context) as thief:
                    host, port = victim.makepasv()
                    raw = socket.create_connection((host, port), timeout=20)
                    victim.sendcmd("RETR a")
                    with context.wrap_socket(raw, session=thief.sock.session) as data:
                        assert data.recv(10) == (b"abc" if allowed else b"")
                    if allowed:
                        victim.voidresp()
                    else:
                        with pytest.raises(ftplib.error_temp, match="425 resume"):
                            victim.voidresp()

            await self.talk(talk)

    async def test_with_tls_required_ftplib_must_protect_its_data(self) -> None:
        await self.start({"a": b"abc"}, tls="required")

        def talk() -> None:
            with self.login(protect=False) as c:
                with pytest.raises(ftplib.error_perm, match="521"):
                    c.retrbinary("RETR a", lambda data: None)
                c.prot_p()
                assert self.get(c, "a") == b"abc"
            plain = ftplib.FTP(timeout=20)
            plain.connect("127.0.0.1", self.port)
            with pytest.raises(ftplib.error_perm, match="530 TLS required"):
                plain.login("alice", "secret")
            plain.close()

        await self.talk(talk)

    async def test_memory_is_bounded_under_tls_when_one_side_stops(self) -> None:
        await self.start({"a": BIG * 20})
        kept = []

        def talk() -> None:
            with self.login() as c:
                data = c.transfercmd("RETR a")
                kept.append(data)
                time.sleep(1.0)
                (transfer,) = [s.session.transfer for s in self.ftp.registry.members()]
                assert transfer.connection.written < 8 << 20
                data.close()

        await self.talk(talk)

    async def test_a_clock_that_runs_out_while_nothing_comes_is_426(self) -> None:
        await self.start(data_timeout=1.5)

        def talk() -> None:
            with self.login() as c:
                data = c.transfercmd("STOR up")
                data.sendall(b"x" * 1000)
                with pytest.raises(ftplib.error_temp, match="426"):
                    c.voidresp()
                data.close()

        await self.talk(talk)
        assert self.vfs.root == {}
