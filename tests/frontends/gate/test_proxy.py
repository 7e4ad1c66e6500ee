"""Headers of load balancers: who is believed, and what is left of somebody's own inventions."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from truckee.core.errors import FormatError
from truckee.frontends.gate.proxy import LONGEST_V2, MOST_WAITING, Header, ProxyFactory, parse
from truckee.frontends.gate.registry import LOOPBACK

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 8021\r\n"
V1_6 = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"
FOUR = bytes([192, 0, 2, 1, 10, 0, 0, 1]) + struct.pack(">HH", 56324, 8021)
SIX = bytes.fromhex("20010db8" + "00" * 11 + "01") * 2 + struct.pack(">HH", 1, 2)


def v2(command=0x21, family=0x11, body=FOUR) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack(">H", len(body)) + body


@pytest.mark.parametrize(
    ("data", "source", "port"),
    [
        (V1, "192.0.2.1", 56324),
        (V1_6, "2001:db8::1", 1),
        (b"PROXY UNKNOWN\r\n", None, 0),
        (b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n", None, 0),
        (v2(), "192.0.2.1", 56324),
        (v2(family=0x21, body=SIX), "2001:db8::1", 1),
        (v2(body=FOUR + b"\x04\0\x02ab"), "192.0.2.1", 56324),
        (v2(0x20, 0, b""), None, 0),
        (v2(0x20, 0x11, FOUR), None, 0),
    ],
)
def test_a_header_says_who_comes_however_it_is_cut(data, source, port):
    assert parse(data + b"USER ann\r\n") == Header(len(data), source, port)
    for end in range(len(data)):
        assert parse(data[:end]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"USER ann\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 56324\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 99999 1\r\n",
        b"PROXY TCP4 192.0.2.256 10.0.0.1 1 1\r\n",
        b"PROXY TCP4 ::1 ::1 1 1\r\n",
        b"PROXY TCP6 192.0.2.1 10.0.0.1 1 1\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
        b"PROXY  TCP4 192.0.2.1 10.0.0.1 1 1\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 1 1\n" + b"x" * 107,
        b"proxy tcp4 192.0.2.1 10.0.0.1 1 1\r\n",
        b"PROXY " + b"x" * 200,
        v2(0x11),
        v2(0x22),
        v2(family=0x12),
        v2(family=0x31, body=bytes(216)),
        v2(body=FOUR[:11]),
        v2(family=0x21, body=SIX[:35]),
        v2(body=bytes(LONGEST_V2)),
    ],
)
def test_what_is_no_header_is_refused(data):
    with pytest.raises(FormatError):
        parse(data)


@given(st.binary(max_size=200) | st.binary(max_size=50).map(lambda tail: SIGNATURE + tail))
def test_any_bytes_are_a_header_or_a_beginning_or_an_error(data):
    try:
        found = parse(data)
    except FormatError:
        return
    assert found is None or found.size <= len(data)


class Inner(Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason) -> None:
        self.lost = True


class InnerFactory(ServerFactory):
    noisy = False

    def __init__(self) -> None:
        self.peers: list = []
        self.banned = False

    def buildProtocol(self, addr):
        self.peers.append(addr)
        if self.banned:
            return None
        self.last = Inner()
        return self.last


class Door:
    def __init__(self) -> None:
        self.clock, self.inner = Clock(), InnerFactory()
        self.factory = ProxyFactory(self.inner, LOOPBACK, self.clock)

    def connect(self, host="127.0.0.1"):
        kind = IPv6Address if ":" in host else IPv4Address
        peer = kind("TCP", host, 40000)
        protocol = self.factory.buildProtocol(peer)
        if protocol is None:
            return None
        self.transport = StringTransport(peerAddress=peer)
        protocol.makeConnection(self.transport)
        return protocol


@pytest.mark.threat("N13")
def test_a_proxy_is_believed_and_the_protocol_sees_the_client():
    door = Door()
    connection = door.connect()
    for byte in V1 + b"USER ann\r\n":
        connection.dataReceived(bytes([byte]))
    assert door.inner.peers == [IPv4Address("TCP", "192.0.2.1", 56324)]
    inner = door.inner.last
    assert inner.data == b"USER ann\r\n"
    assert inner.transport.getPeer().host == "192.0.2.1"
    inner.transport.write(b"220\r\n")
    assert door.transport.value() == b"220\r\n"
    connection.connectionLost()
    assert inner.lost
    assert not door.clock.getDelayedCalls()
    assert not door.factory.waiting


@pytest.mark.threat("N13")
@pytest.mark.parametrize("header", [V1, v2()])
def test_from_anybody_else_a_header_is_data(header):
    door = Door()
    connection = door.connect("198.51.100.7")
    connection.dataReceived(header)
    assert door.inner.peers == [IPv4Address("TCP", "198.51.100.7", 40000)]
    assert connection is door.inner.last
    assert connection.data == header


@pytest.mark.threat("N13")
def test_a_client_that_comes_by_a_proxy_cannot_introduce_itself_again():
    door = Door()
    connection = door.connect()
    connection.dataReceived(V1 + b"PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\n")
    connection.dataReceived(v2())
    assert len(door.inner.peers) == 1
    assert door.inner.last.transport.getPeer().host == "192.0.2.1"


@pytest.mark.threat("N13")
def test_a_proxy_without_a_header_is_dropped_and_nobody_comes_in_under_its_address():
    door = Door()
    door.connect().dataReceived(b"USER ann\r\n")
    assert door.transport.disconnected
    connection = door.connect("::ffff:127.0.0.1")
    connection.dataReceived(b"PROXY TC")
    door.clock.advance(6)
    assert door.transport.disconnected
    connection.dataReceived(b"P4 192.0.2.1 10.0.0.1 1 1\r\n")
    assert door.inner.peers == []
    connection.connectionLost()
    assert not door.clock.getDelayedCalls()


def test_a_proxy_that_asks_for_itself_is_who_it_is():
    door = Door()
    door.connect().dataReceived(b"PROXY UNKNOWN\r\n")
    assert [peer.host for peer in door.inner.peers] == ["127.0.0.1"]


@pytest.mark.threat("A2")
def test_a_banned_client_is_hung_up_on_behind_a_proxy_too():
    door = Door()
    door.inner.banned = True
    connection = door.connect()
    connection.dataReceived(V1)
    assert door.transport.disconnected
    connection.dataReceived(b"USER ann\r\n")
    connection.connectionLost()


@pytest.mark.threat("D2")
def test_connections_that_never_say_who_comes_are_bounded():
    door = Door()
    held = [door.connect() for _ in range(MOST_WAITING)]
    assert None not in held
    assert door.connect() is None
    held[0].dataReceived(V1)
    assert door.connect() is not None
