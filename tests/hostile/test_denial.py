"""Crowds: drip clients, more connections than descriptors, more log lines than anybody reads."""

import contextlib
import io
import os
import socket
import time

import pytest
from twisted.logger import LogLevel

from tests.fakes.fake_vfs import FakeSession
from tests.fakes.ftp_wire import Client, Server
from tests.system.node import Node
from truckee.frontends.gate.registry import Limits
from truckee.frontends.node.access import bearable_sessions
from truckee.frontends.node.logs import RedactingObserver


class Crowd:
    """Clients that do as little as keeps a naive server waiting, for an hour on a virtual clock."""

    def __init__(self) -> None:
        self.vfs = FakeSession(root={"big": bytes(4 << 20), "d": {}})
        self.server = Server(vfs=self.vfs, limits=Limits(max_sessions=200))
        self.strangers: list[Client] = []
        self.uploads = []
        self.downloads = []
        self.idlers: list[Client] = []

    def gather(self) -> None:
        self.strangers = [self.server.connect() for _ in range(300)]
        for _ in range(20):
            client = self.server.login()
            wire = client.open_data()
            client.send("STOR drip")
            self.uploads.append(wire)
        for _ in range(20):
            client = self.server.login()
            wire = client.open_data()
            wire.limit = 1000
            client.send("RETR big")
            self.downloads.append(wire)
        for _ in range(10):
            client = self.server.login()
            client.open_data()
            self.idlers.append(client)

    def drip(self, second: int) -> None:
        for client in self.strangers:
            client.wire.feed(b"U")
        for client in self.idlers:
            client.wire.feed(b"N")
        if second % 30 == 0:
            for wire in self.uploads:
                wire.feed(b"x")
            for wire in self.downloads:
                if wire.out:
                    wire.out = wire.out[1:]
                    wire._flush()


@pytest.mark.threat("D1", "D2")
def test_a_crowd_of_drip_clients_is_gone_in_time_and_others_are_served() -> None:
    crowd = Crowd()
    crowd.gather()
    clock = crowd.server.reactor
    for second in range(1800):
        crowd.drip(second)
        clock.advance(1)
        if second % 120 == 5:
            good = crowd.server.connect("127.0.0.9")
            assert good.ask("USER alice").startswith("331"), second
            assert good.ask("PASS secret").startswith("230"), second
            wire = good.open_data("127.0.0.9")
            good.send("LIST")
            clock.advance(0.5)
            assert b"big" in wire.out
            wire.lose()
            good.pass_time(1)
            good.ask("QUIT")
            good.pass_time(1)
    assert all(client.wire.closed for client in crowd.strangers)
    assert all(wire.closed for wire in crowd.uploads)
    assert all(wire.closed for wire in crowd.downloads)
    assert all(client.wire.closed for client in crowd.idlers)
    assert crowd.server.ftp.sessions == 0
    assert "drip" not in crowd.vfs.root
    assert not crowd.vfs.open_writes
    assert not crowd.vfs.open_reads


@pytest.mark.threat("D2")
@pytest.mark.parametrize(
    ("descriptors", "wanted", "given"),
    [
        (1024, 200, 200),
        (256, 200, 64),
        (256, 10, 10),
        (128, 200, 8),
        (1 << 20, 5000, 5000),
        (-1, 5000, 5000),
    ],
)
def test_there_are_no_more_sessions_than_descriptors_allow(descriptors, wanted, given) -> None:
    assert bearable_sessions(wanted, descriptors) == given


@pytest.mark.threat("D2")
def test_a_node_with_few_descriptors_bears_a_flood(tmp_path) -> None:
    few = ("sh", "-c", 'ulimit -S -n 256; exec "$@"', "sh")
    node = Node(tmp_path / "node", ("--servers", "3"), through=few).start()
    with contextlib.ExitStack() as held, node_ended(node):
        for _ in range(160):
            s = held.enter_context(socket.socket())
            s.settimeout(5)
            with contextlib.suppress(OSError):
                s.connect(("127.0.0.1", node.port))
                s.sendall(b"U")
        began = time.monotonic()
        with contextlib.closing(node.ftp()) as ftp:
            ftp.storbinary("STOR good", io.BytesIO(b"x" * 100_000))
            assert ftp.size("good") == 100_000
        assert time.monotonic() - began < 20  # 0.3 s where nothing else runs
        assert len(os.listdir(f"/proc/{node.process.pid}/fd")) < 256
        held.close()
        for _ in range(3):
            assert node.names() == ["good"]
        assert node.stop() == 0
    log = (node.folder / "logs" / "truckee.log").read_text()
    assert "Traceback" not in log
    assert "descriptors" in log


@contextlib.contextmanager
def node_ended(node: Node):
    try:
        yield
    finally:
        node.kill()


@pytest.mark.threat("D5")
def test_two_hundred_thousand_failed_logins_leave_less_than_a_mebibyte() -> None:
    now = [0.0]
    lines: list[str] = []
    observer = RedactingObserver(lines.append, lambda: now[0])
    for i in range(200_000):
        now[0] += 0.001
        observer(
            {
                "log_time": 1.7e9,
                "log_level": LogLevel.info,
                "log_namespace": "truckee.frontends.ftp.access",
                "log_format": "ftp login of {name} from {peer} failed: {reason}",
                "name": "n" * 64,
                "peer": f"10.0.{i >> 8 & 255}.{i & 255}",
                "reason": "LoginFailed",
            }
        )
    assert sum(map(len, lines)) < 1 << 20
    assert sum("more like it" in line for line in lines) > 100
    assert len(observer._kinds) == 1


@pytest.mark.threat("D5")
def test_no_line_is_endless() -> None:
    lines: list[str] = []
    RedactingObserver(lines.append)(
        {"log_time": 0, "log_format": "{x}", "log_namespace": "a", "x": "\n" * 10**6 + "y" * 10**6}
    )
    assert len("".join(lines)) < 200_000


@pytest.mark.threat("F3")
def test_a_million_commands_ahead_take_no_memory() -> None:
    server = Server()
    client = server.login()
    client.wire.limit = 0
    for _ in range(1000):
        client.wire.feed(b"NOOP\r\n" * 1000)
        if not client.wire.reading:
            break
    assert not client.wire.reading
    held = len(client.wire.dataBuffer) + len(client.protocol._lines)
    assert held < 200_000
