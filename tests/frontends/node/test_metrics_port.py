import contextlib
import socket
import urllib.request
from contextlib import closing

import pytest
from twisted.internet import reactor  # noqa: TID251 - real sockets
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from truckee.frontends.node.metrics_port import MOST_CONNECTIONS, WHOLE, MetricsPort, _Factory

GET = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:8023\r\n\r\n"


@implementer(ITCPTransport)
class Transport(StringTransport):
    """Remembers being aborted."""

    aborted = False

    def abortConnection(self):
        self.aborted = True
        self.disconnecting = True


class Client:
    def __init__(self, figures=lambda: "figures\n", only_local=True, factory=None, clock=None):
        self.clock = clock or Clock()
        self.factory = factory or _Factory(self.clock, figures, only_local=only_local)
        self.protocol = self.factory.buildProtocol(None)
        self.transport = Transport()
        self.protocol.makeConnection(self.transport)

    def send(self, data, piece=None):
        for i in range(0, len(data), piece or len(data)):
            self.protocol.dataReceived(data[i : i + (piece or len(data))])
        return self.status

    @property
    def status(self):
        head = self.transport.value().split(b"\r\n")[0].split()
        return int(head[1]) if head else None

    @property
    def body(self):
        return self.transport.value().partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("piece", [None, 1, 7])
def test_get_metrics_is_answered_and_the_connection_closed(piece):
    client = Client()
    assert client.send(GET, piece) == 200
    assert client.body == b"figures\n"
    assert b"application/openmetrics-text; version=1.0.0" in client.transport.value()
    assert client.transport.disconnecting


@pytest.mark.threat("W11")
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET http://127.0.0.1/metrics HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 405),
        (b"get /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\n" + (b"a: " + b"b" * 4000 + b"\r\n") * 6 + b"\r\n", 431),
        (b"x" * 100_000, 431),
        (b"GET /metrics?x=1 HTTP/1.0\n\n", 200),
    ],
)
def test_anything_else_is_refused(request_, status):
    client = Client()
    assert client.send(request_) == status
    assert client.transport.disconnecting
    assert client.transport.value().count(b"HTTP/1.1 ") == 1


@pytest.mark.threat("W11")
@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"127.0.0.1:8023", 200),
        (b"[::1]:8023", 200),
        (b"[::1]", 200),
        (b"localhost:8023", 200),
        (b"LOCALHOST", 200),
        (b"evil.example:8023", 421),
        (b"127.0.0.1.evil.example", 421),
        (b"", 421),
        (b"\xff", 421),
    ],
)
def test_a_page_in_a_browser_cannot_read_it_under_its_own_name(host, status):
    request = b"GET /metrics HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    assert Client().send(request) == status
    assert Client(only_local=False).send(request) == 200


@pytest.mark.threat("D1")
def test_a_client_that_drips_is_cut_off():
    client = Client()
    for byte in GET[:-4] * 3:
        client.send(bytes([byte]))
        client.clock.advance(0.5)
        if client.transport.aborted:
            break
    assert client.transport.aborted
    assert client.clock.seconds() <= 15.5


@pytest.mark.threat("D1")
def test_a_client_that_takes_nothing_is_cut_off():
    client = Client()
    client.send(GET)
    client.clock.advance(WHOLE)
    assert client.transport.aborted


def test_a_connection_that_ends_leaves_nothing():
    client = Client()
    client.send(GET)
    client.protocol.connectionLost()
    assert client.clock.getDelayedCalls() == []
    assert not client.factory.connections


@pytest.mark.threat("D2")
def test_connections_are_few_and_the_oldest_makes_room():
    first = Client()
    more = [Client(factory=first.factory, clock=first.clock) for _ in range(MOST_CONNECTIONS + 1)]
    aborted = [c.transport.aborted for c in (first, *more)]
    assert aborted == [True, True] + [False] * MOST_CONNECTIONS
    assert len(first.factory.connections) == MOST_CONNECTIONS
    assert more[-1].send(GET) == 200


class ListeningTests(TestCase):
    async def listening(self, figures=lambda: "figures\n"):
        port = MetricsPort(reactor, figures)
        self.addCleanup(port.stop)
        (address,) = await port.listen([serverFromString(reactor, "tcp:0:interface=127.0.0.1")])
        return port, address.port

    async def test_figures_are_fetched_over_a_real_socket(self):
        _, number = await self.listening()

        def fetch():
            with urllib.request.urlopen(f"http://127.0.0.1:{number}/metrics", timeout=10) as answer:
                return answer.read(), answer.headers["Content-Type"]

        body, kind = await deferToThread(fetch)
        assert body == b"figures\n"
        assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"

    @pytest.mark.threat("L1")
    async def test_what_breaks_is_logged_and_not_told(self):
        def broken():
            raise RuntimeError("MARK")

        client = Client(broken)
        assert client.send(GET) == 500
        assert b"MARK" not in client.transport.value()
        assert len(self.flushLoggedErrors(RuntimeError)) == 1

    async def test_stopping_closes_what_is_open(self):
        port, number = await self.listening()

        def connect():
            return socket.create_connection(("127.0.0.1", number), 10)

        with closing(await deferToThread(connect)) as s:
            await port.stop()
            with contextlib.suppress(ConnectionResetError):
                assert await deferToThread(s.recv, 1) == b""
        with pytest.raises(OSError):
            await deferToThread(connect)
