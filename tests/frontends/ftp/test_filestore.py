"""The server over the real filestore and a grid in memory."""

import ftplib
import io
import os
import time
from pathlib import Path

import pytest
from twisted.internet import reactor  # noqa: TID251 - real sockets
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.fakes.ftp_node import FtpNode

BIG = os.urandom(2_000_003)


def login(port: int, user: str = "alice") -> ftplib.FTP:
    client = ftplib.FTP(encoding="utf-8", timeout=20)
    client.connect("127.0.0.1", port)
    client.login(user, "secret")
    return client


def fetch(client: ftplib.FTP, name: str, rest: int | None = None) -> bytes:
    out = io.BytesIO()
    client.retrbinary(f"RETR {name}", out.write, rest=rest)
    return out.getvalue()


class FilestoreTests(TestCase):
    timeout = 60

    async def start(self) -> FtpNode:
        node = await FtpNode(reactor, Path(self.mktemp())).start()
        self.addCleanup(node.stop)
        return node

    async def test_a_whole_session(self) -> None:
        node = await self.start()

        def talk() -> None:
            with login(node.port) as c:
                c.mkd("d")
                c.storbinary("STOR d/naïve é 日本.bin", io.BytesIO(BIG))
                assert fetch(c, "d/naïve é 日本.bin") == BIG
                assert fetch(c, "d/naïve é 日本.bin", 1_500_000) == BIG[1_500_000:]
                c.storbinary("APPE d/naïve é 日本.bin", io.BytesIO(b"tail"))
                assert c.size("d/naïve é 日本.bin") == len(BIG) + 4
                c.storbinary("STOR d/naïve é 日本.bin", io.BytesIO(b"again"), rest=len(BIG))
                assert fetch(c, "d/naïve é 日本.bin") == BIG + b"again"
                c.storbinary("STOR empty", io.BytesIO(b""))
                assert fetch(c, "empty") == b""
                c.rename("d/naïve é 日本.bin", "moved")
                assert sorted(c.nlst()) == ["d", "empty", "moved"]
                facts = dict(c.mlsd())
                assert facts["moved"]["size"] == str(len(BIG) + 5)
                assert facts["d"]["type"] == "dir"
                assert c.sendcmd("MFMT 20010203040506 moved").startswith("213")
                assert c.sendcmd("MDTM moved") == "213 20010203040506"
                c.sendcmd("SITE CHMOD 444 moved")
                with pytest.raises(ftplib.error_perm, match="550"):
                    c.storbinary("STOR moved", io.BytesIO(b"no"))
                c.delete("empty")
                c.rmd("d")
                with pytest.raises(ftplib.error_perm, match="550"):
                    c.rmd("moved")
                c.mkd("full")
                c.storbinary("STOR full/x", io.BytesIO(b"x"))
                with pytest.raises(ftplib.error_perm, match="not empty"):
                    c.rmd("full")

        await deferToThread(talk)

    @pytest.mark.threat("F2")
    async def test_a_read_only_account(self) -> None:
        node = await self.start()

        def talk() -> None:
            with login(node.port) as c:
                c.storbinary("STOR a", io.BytesIO(BIG))
            with login(node.port, "reader") as c:
                assert fetch(c, "a") == BIG
                for work in (
                    lambda: c.delete("a"),
                    lambda: c.mkd("d"),
                    lambda: c.storbinary("STOR b", io.BytesIO(b"")),
                    lambda: c.rename("a", "b"),
                    lambda: c.voidcmd("MFMT 20010203040506 a"),
                ):
                    with pytest.raises(ftplib.error_perm, match="550"):
                        work()

        await deferToThread(talk)

    @pytest.mark.threat("F8")
    async def test_a_dropped_upload_leaves_the_old_file(self) -> None:
        node = await self.start()

        def talk() -> None:
            with login(node.port) as c:
                c.storbinary("STOR a", io.BytesIO(b"old"))
                dying = login(node.port)
                dying.voidcmd("TYPE I")
                data = dying.transfercmd("STOR a")
                data.sendall(BIG[:700_000])
                assert fetch(c, "a") == b"old"
                data.close()
                dying.sock.close()
                dying.file.close()
                c.voidcmd("TYPE I")
                for _ in range(5):
                    assert fetch(c, "a") == b"old"
                    assert c.size("a") == 3
                    assert c.nlst() == ["a"]

        await deferToThread(talk)
        assert node.ftp.sessions <= 1

    async def test_shares_that_are_gone_are_450_and_come_back(self) -> None:
        node = await self.start()

        def put() -> None:
            with login(node.port) as c:
                c.storbinary("STOR a", io.BytesIO(BIG))

        def get(expected: bytes | None) -> None:
            with login(node.port) as c:
                c.voidcmd("TYPE I")
                if expected is not None:
                    assert fetch(c, "a") == expected
                    return
                with pytest.raises(ftplib.error_temp, match=r"45[01]"):
                    fetch(c, "a")
                assert c.voidcmd("NOOP").startswith("200")

        await deferToThread(put)
        servers, node.servers[:] = node.servers[:], node.servers[:1]
        await deferToThread(get, None)
        node.servers[:] = servers
        await deferToThread(get, BIG)

    async def test_too_few_servers_are_451_and_the_name_stays(self) -> None:
        node = await self.start()

        def talk() -> None:
            with login(node.port) as c:
                c.storbinary("STOR a", io.BytesIO(b"x" * 100))
                servers, node.servers[:] = node.servers[:], node.servers[:1]
                with pytest.raises(ftplib.error_temp, match=r"45[01]"):
                    c.storbinary("STOR a", io.BytesIO(BIG))
                node.servers[:] = servers
                assert fetch(c, "a") == b"x" * 100

        await deferToThread(talk)

    async def test_thousands_of_mdtm_cost_few_looks_at_the_directory(self) -> None:
        node = await self.start()
        looks = 0

        def count(server):
            read = server.slot_readv

            async def counted(*args, **kwargs):
                nonlocal looks
                looks += 1
                return await read(*args, **kwargs)

            server.slot_readv = counted

        def talk() -> float:
            with login(node.port) as c:
                c.storbinary("STOR a", io.BytesIO(b"x"))
                for server in node.servers:
                    count(server)
                began = time.monotonic()
                for _ in range(20):
                    c.sock.sendall(b"MDTM a\r\n" * 100)
                    for _ in range(100):
                        assert c.getresp().startswith("213")
                return time.monotonic() - began

        seconds = await deferToThread(talk)
        rounds = 1 + seconds // 3
        assert looks <= 4 * len(node.servers) * rounds

    async def test_a_client_that_never_reads_is_held_in_bounds(self) -> None:
        node = await self.start()
        kept = []

        def talk() -> None:
            with login(node.port) as c:
                c.storbinary("STOR a", io.BytesIO(BIG * 20))
            c = login(node.port)
            c.voidcmd("TYPE I")
            kept.extend([c.sock, c.file, c.transfercmd("RETR a")])
            time.sleep(1)

        await deferToThread(talk)
        (connection,) = [
            p.session.transfer.connection for p in node.ftp.registry.members() if p.session.transfer
        ]
        assert connection.written < 12 << 20
        for s in kept:
            s.close()
