"""An FTP server on transports in memory: a client that types lines and reads replies."""

import re
from dataclasses import dataclass, field
from functools import cached_property

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from tests.fakes.fake_vfs import FakePortal, FakeSession, fake_checker
from truckee.frontends.ftp.service import FTPServer
from truckee.frontends.ftp.settings import FTPSettings
from truckee.frontends.ftp.tls import Identity
from truckee.frontends.gate.journal import Journal, SilentJournal
from truckee.frontends.gate.registry import Limits, Registry

WIRES: list["Wire"] = []
"""Every transport made, so that a test can end them all."""


class Wire:
    """A transport that keeps what is written; `limit` makes it full like a socket nobody reads."""

    def __init__(self, reactor, peer="127.0.0.1", local="127.0.0.1") -> None:
        kind = IPv6Address if ":" in peer else IPv4Address
        WIRES.append(self)
        self.reactor = reactor
        self.peer, self.local = kind("TCP", peer, 40000), kind("TCP", local, 8021)
        self.out = b""
        self.sent = 0
        self.limit: int | None = None
        self.producer = None
        self.full = False
        self.reading = True
        self.closed: str | None = None
        self.protocol = None
        self._waiting: list[bytes] = []
        self._closing = False
        self.write_closed = False
        self._tempDataLen = 0
        self.dataBuffer = b""
        self.offset = 0

    def attach(self, protocol) -> "Wire":
        self.protocol = protocol
        protocol.makeConnection(self)
        return self

    def getPeer(self):
        return self.peer

    def getHost(self):
        return self.local

    def setTcpNoDelay(self, on) -> None:
        pass

    def setTcpKeepAlive(self, on) -> None:
        pass

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        if self.closed or self.write_closed:
            return
        if self.limit is None:
            self.out += data
            return
        self.dataBuffer += data
        self._flush()

    def _flush(self) -> None:
        room = self.limit if self.limit is not None else len(self.dataBuffer)
        take = max(0, min(room - len(self.out), len(self.dataBuffer)))
        self.out += self.dataBuffer[:take]
        self.dataBuffer = self.dataBuffer[take:]
        if self.dataBuffer and not self.full and self.producer is not None:
            self.full = True
            self.producer.pauseProducing()
        elif not self.dataBuffer:
            if self.full and self.producer is not None:
                self.full = False
                self.producer.resumeProducing()
            if self._closing and not self.dataBuffer:
                self.lose()

    def read(self) -> bytes:
        """What the client's kernel has, and make room."""
        out, self.out = self.out, b""
        if self.dataBuffer:
            self._flush()
        return out

    def writeSequence(self, data) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer, streaming) -> None:
        assert self.producer is None
        assert streaming
        if self.closed:
            producer.stopProducing()
        else:
            self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None
        self.full = False

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def loseConnection(self) -> None:
        self._closing = True
        if not self.dataBuffer and self.producer is None:
            self.reactor.callLater(0, self.lose)

    def loseWriteConnection(self) -> None:
        self.write_closed = True

    def abortConnection(self) -> None:
        self.reactor.callLater(0, self.lose, ConnectionAborted())

    def lose(self, error=None) -> None:
        """The connection ends: orderly without an error."""
        if self.closed is None:
            error = error or ConnectionDone()
            self.closed = type(error).__name__
            producer, self.producer = self.producer, None
            if producer is not None:
                producer.stopProducing()
            self.protocol.connectionLost(Failure(error))

    def reset(self) -> None:
        self.lose(ConnectionLost())

    def feed(self, data: bytes) -> None:
        if self.closed is None:
            self.protocol.dataReceived(data)


@dataclass
class Server:
    """One FTP server and the reactor it lives on."""

    settings: FTPSettings = field(default_factory=FTPSettings)
    vfs: FakeSession = field(default_factory=FakeSession)
    portal: FakePortal | None = None
    limits: Limits = field(default_factory=Limits)
    journal: Journal = field(default_factory=SilentJournal)
    banned: set[str] = field(default_factory=set)
    identity: Identity | None = None

    def __post_init__(self) -> None:
        self.reactor = MemoryReactorClock()
        self.portal = self.portal or FakePortal(fake_checker(self.vfs))
        registry = Registry(
            "ftp",
            self.limits,
            may_connect=lambda host: host not in self.banned,
            journal=self.journal,
            seconds=self.reactor.seconds,
        )
        self.ftp = FTPServer(
            self.reactor,
            self.portal,
            self.settings,
            registry,
            journal=self.journal,
            identity=self.identity,
            random=bytes,
            wall_clock=lambda: 1e9,
        )

    @cached_property
    def listener(self):
        return self.ftp.new_listener()

    def connect(self, peer="127.0.0.1", local="127.0.0.1") -> "Client":
        wire = Wire(self.reactor, peer, local)
        protocol = self.ftp.build(peer, self.listener)
        assert protocol is not None
        wire.attach(protocol)
        return Client(self, wire)

    def login(self) -> "Client":
        client = self.connect()
        client.ask("USER alice")
        assert client.ask("PASS secret").startswith("230")
        return client


FINAL = re.compile(r"[2-5][0-9][0-9] ")


class Client:
    """The other end of a control connection."""

    def __init__(self, server: Server, wire: Wire) -> None:
        self.server, self.wire = server, wire
        self.greeting = self.text()

    @property
    def protocol(self):
        return self.wire.protocol

    def text(self) -> str:
        return self.wire.read().decode()

    def send(self, *lines: str | bytes) -> None:
        raw = [line if isinstance(line, bytes) else line.encode() for line in lines]
        self.wire.feed(b"".join(line + b"\r\n" for line in raw))

    def ask(self, *lines: str | bytes) -> str:
        self.send(*lines)
        return self.text()

    def finals(self, *lines: str | bytes) -> list[str]:
        """Send; return the first lines of final replies."""
        return final_replies(self.ask(*lines))

    def pass_time(self, seconds: float, step: float = 1.0) -> str:
        clock = self.server.reactor
        while seconds > 0:
            clock.advance(min(step, seconds))
            seconds -= step
        return self.text()

    def open_data(self, peer="127.0.0.1", command="EPSV") -> Wire | None:
        """Ask for a passive port and connect to it."""
        answer = self.ask(command)
        assert answer[:3] in ("227", "229"), answer
        return self.join(peer)

    def join(self, peer="127.0.0.1") -> Wire | None:
        _port, factory, _, _ = self.server.reactor.tcpServers[-1]
        protocol = factory.buildProtocol(IPv4Address("TCP", peer, 40001))
        if protocol is None:
            return None
        return Wire(self.server.reactor, peer).attach(protocol)


def final_replies(text: str) -> list[str]:
    """Split what a server sent into final replies, checking the form of every line."""
    finals = []
    inside: str | None = None
    for line in text.split("\r\n")[:-1]:
        if inside is not None:
            if line.startswith(inside + " "):
                finals.append(line)
                inside = None
            continue
        assert re.match(r"[1-5][0-9][0-9][ -]", line), line
        if line[3] == "-":
            inside = line[:3]
        elif line[0] != "1":
            finals.append(line)
    assert inside is None, text
    return finals
