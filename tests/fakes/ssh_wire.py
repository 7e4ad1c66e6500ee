"""An SSH session over a TCP connection in memory, and a client that can also break every rule.

The client is written against the RFCs; of the product it uses the framing of packets alone, in the
other direction (which OpenSSH and others test for real in tests/interop).
"""

import hashlib
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.conch.error import ValidPublicKey
from twisted.conch.interfaces import IConchUser
from twisted.conch.ssh.keys import Key as ConchKey
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ISSHPrivateKey, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.fakes import ssh_keys
from tests.fakes.account_lines import string
from truckee.auth import signatures
from truckee.frontends.gate.journal import SilentJournal
from truckee.frontends.gate.registry import Registry
from truckee.frontends.sftp import ciphers
from truckee.frontends.sftp.host_keys import HostKeys
from truckee.frontends.sftp.session import SSHSession
from truckee.frontends.sftp.settings import SFTPSettings
from truckee.frontends.sftp.shell import SFTPUser

HOST_KEYS = HostKeys([Ed25519PrivateKey.generate(), ssh_keys.rsa_key(9)])
VERSION = b"SSH-2.0-Test_1.0"
CURVE = b"curve25519-sha256"
STRICT = b"kex-strict-c-v00@openssh.com"
GCM = b"aes128-gcm@openssh.com"
USER_KEY = ssh_keys.key("ssh-ed25519")


class Tcp(StringTransport):
    """A TCP connection that holds `room` bytes before it is full."""

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.7", 4711))
        self.room = 1 << 30
        self.half_closed = self.aborted = False
        self.kept = 0

    def writeSequence(self, data) -> None:
        self.write(b"".join(data))

    def write(self, data) -> None:
        super().write(data)
        self.kept += len(data)
        if self.kept > self.room and self.producer is not None:
            self.producer.pauseProducing()

    def taken(self) -> None:
        """Let the other side read everything."""
        self.kept = 0
        if self.producer is not None:
            self.producer.resumeProducing()

    def setTcpNoDelay(self, enabled) -> None:
        self.no_delay = enabled

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborted = True


@implementer(ICredentialsChecker)
class Door:
    """`alice` comes in by the password ``secret`` or by `USER_KEY`; what was asked is kept."""

    credentialInterfaces = (IUsernamePassword, ISSHPrivateKey)

    def __init__(self) -> None:
        self.asked = []
        self.answer = None

    def requestAvatarId(self, login):
        self.asked.append(login)
        if self.answer is not None:
            return self.answer()
        if login.username != "alice":
            raise UnauthorizedLogin
        if not ISSHPrivateKey.providedBy(login):
            if login.password != b"secret":
                raise UnauthorizedLogin
        elif login.blob != USER_KEY.blob:
            raise UnauthorizedLogin
        elif login.signature is None:
            raise ValidPublicKey
        elif not signatures.verify(
            login.algorithm, login.blob, login.signed, login.signature, verified=False
        ):
            raise UnauthorizedLogin
        return b"alice"


class Account:
    account = "alice"


@implementer(IRealm)
class Realm:
    def __init__(self) -> None:
        self.logouts = 0
        self.minds = []

    def requestAvatar(self, name, mind, *interfaces):
        self.minds.append(mind)
        return IConchUser, SFTPUser(Account()), self._logout

    def _logout(self) -> None:
        self.logouts += 1


class Recorder:
    """A subsystem that keeps what comes, and says what it is told to say."""

    def __init__(self) -> None:
        self.came = b""
        self.drains = self.ends = self.losses = 0
        self.busy = False

    def start(self, channel) -> None:
        self.channel = channel

    def data(self, data) -> None:
        self.came += data

    def drained(self) -> None:
        self.drains += 1

    def ended(self) -> None:
        self.ends += 1

    def lost(self) -> None:
        self.losses += 1


@dataclass
class Server:
    """One session with everything around it."""

    settings: SFTPSettings = field(default_factory=SFTPSettings)
    registry: Registry = field(default_factory=lambda: Registry("sftp"))
    journal: object = field(default_factory=SilentJournal)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.door, self.realm, self.tcp = Door(), Realm(), Tcp()
        self.subsystems: list[Recorder] = []
        self.session = SSHSession(
            self.clock,
            Portal(self.realm, [self.door]),
            self.settings,
            self.registry,
            HOST_KEYS,
            self.journal,
            self._subsystem,
            "192.0.2.7",
        )

    def _subsystem(self, user, host) -> Recorder:
        self.subsystems.append(Recorder())
        return self.subsystems[-1]

    def lose(self) -> None:
        self.session.connectionLost(Failure(ConnectionDone()))


class Ended(Exception):
    """The server said goodbye: `reason` and `text`."""

    def __init__(self, reason: int, text: str) -> None:
        super().__init__(reason, text)
        self.reason = reason


class Client:
    """The other side of a `Server`."""

    def __init__(self, server: Server | None = None, cipher=GCM, mac=b"hmac-sha2-256", strict=True):
        self.server = server or Server()
        self.cipher, self.mac, self.strict = cipher, mac, strict
        self.sealer, self.opener = ciphers.PlainSealer(), ciphers.PlainOpener()
        self.out_number = self.in_number = 0
        self.session_id = b""
        self.buffer = bytearray()
        self.inbox: list[tuple[int, bytes]] = []
        self.server.session.makeConnection(self.server.tcp)

    # packets

    def raw(self, data: bytes) -> None:
        self.server.session.dataReceived(data)

    def packet(self, number: int, payload: bytes = b"") -> bytes:
        sealed = self.sealer.seal(self.out_number, [bytes([number]), payload], 1 + len(payload))
        self.out_number += 1
        return b"".join(sealed)

    def send(self, number: int, payload: bytes = b"") -> None:
        self.raw(self.packet(number, payload))

    def collect(self) -> None:
        """Take everything that the server has sent into the inbox."""
        self.buffer += self.server.tcp.value()
        self.server.tcp.clear()
        while self.session_id or self.buffer[:1] != b"S":
            size = self.opener.measure(self.buffer, 0, 1 << 20)
            if size is None or len(self.buffer) < size:
                return
            packet = bytes(self.buffer[:size])
            del self.buffer[:size]
            plain = ciphers.unpadded(self.opener.open(self.in_number, memoryview(packet)))
            self.in_number += 1
            self.inbox.append((plain[0], bytes(plain[1:])))
            if plain[0] == 21 and self.keys is not None:
                self.opener = ciphers.opener(self.cipher, self.mac, *self.keys[1])
                self.in_number = 0 if self.strict else self.in_number

    keys = None
    kem = None  # a private key of ML-KEM for the hybrid exchange

    def read(self) -> tuple[int, bytes]:
        """Return the next message; Ended if that is a goodbye."""
        self.collect()
        number, payload = self.inbox.pop(0)
        if number == 1:
            raise Ended(int.from_bytes(payload[:4]), payload[8:].rstrip(b"\0").decode())
        return number, payload

    def expect(self, number: int) -> bytes:
        found, payload = self.read()
        assert found == number, (found, payload)
        return payload

    def goodbye(self) -> int:
        """Return the reason of the goodbye that must be there, whatever else is."""
        while True:
            try:
                self.read()
            except Ended as ended:
                assert self.server.session.ended
                return ended.reason

    def silent(self) -> bool:
        self.collect()
        return not self.inbox

    # keys

    def greet(self) -> None:
        self.raw(VERSION + b"\r\n")
        line, _, rest = self.server.tcp.value().partition(b"\r\n")
        self.server_version = line
        self.server.tcp.clear()
        self.buffer += rest

    def offer(self, **other: bytes) -> bytes:
        strict = b"," + STRICT if self.strict and not self.session_id else b""
        lists = {
            "kex": CURVE + b",ext-info-c" + strict,
            "host_key": b"ssh-ed25519",
            "cipher_in": self.cipher,
            "cipher_out": self.cipher,
            "mac_in": self.mac,
            "mac_out": self.mac,
            "packed_in": b"none",
            "packed_out": b"none",
            "language_in": b"",
            "language_out": b"",
            **other,
        }
        follows = lists.pop("follows", b"\0")
        return bytes(16) + b"".join(map(string, lists.values())) + follows + bytes(4)

    def make_offer(self, **other: bytes) -> None:
        self.our_offer = self.offer(**other)
        self.send(20, self.our_offer)

    def read_offer(self) -> None:
        self.their_offer = self.expect(20)

    def share(self) -> None:
        self.secret = X25519PrivateKey.generate()
        self.public = self.secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        if self.kem is not None:
            self.public = self.kem.public_key().public_bytes_raw() + self.public
        self.send(30, string(self.public))

    def secret_with(self, theirs: bytes) -> bytes:
        """Return the shared secret, encoded as the hash takes it."""
        shared = self.secret.exchange(X25519PublicKey.from_public_bytes(theirs[-32:]))
        if self.kem is None:
            return ssh_keys.mpint(int.from_bytes(shared))
        return string(hashlib.sha256(self.kem.decapsulate(theirs[:-32]) + shared).digest())

    def read_share(self) -> None:
        """Check the server's signature and make the keys."""
        payload = self.expect(31)
        blob, theirs, signature = strings(payload)
        secret = self.secret_with(theirs)
        parts = [VERSION, self.server_version, b"\x14" + self.our_offer]
        parts += [b"\x14" + self.their_offer, blob, self.public, theirs]
        digest = hashlib.sha256(b"".join(map(string, parts)) + secret).digest()
        assert ConchKey.fromString(blob).verify(signature, digest)
        self.session_id = self.session_id or digest
        keys = [self._key(secret, digest, bytes([letter])) for letter in b"ABCDEF"]
        self.keys = [(keys[2], keys[0], keys[4]), (keys[3], keys[1], keys[5])]

    def _key(self, secret: bytes, digest: bytes, letter: bytes) -> bytes:
        found = hashlib.sha256(secret + digest + letter + self.session_id).digest()
        while len(found) < 64:
            found += hashlib.sha256(secret + digest + found).digest()
        return found

    def new_keys(self) -> None:
        self.send(21)
        self.sealer = ciphers.sealer(self.cipher, self.mac, *self.keys[0])
        self.out_number = 0 if self.strict else self.out_number

    def exchange(self) -> None:
        """Agree on keys; the server may have made its offer already."""
        if not self.session_id:
            self.greet()
        self.make_offer()
        self.read_offer()
        self.share()
        self.collect_share()
        self.new_keys()

    def collect_share(self) -> None:
        """Read the share before NEWKEYS and what comes under the new keys are looked at."""
        self.buffer += self.server.tcp.value()
        self.server.tcp.clear()
        size = self.opener.measure(self.buffer, 0, 1 << 20)
        packet = bytes(self.buffer[:size])
        del self.buffer[:size]
        plain = ciphers.unpadded(self.opener.open(self.in_number, memoryview(packet)))
        self.in_number += 1
        self.inbox.append((plain[0], bytes(plain[1:])))
        held, self.buffer = self.buffer, bytearray()
        self.read_share()
        self.buffer = held
        self.expect(21)

    # above

    def secured(self) -> "Client":
        self.exchange()
        self.expect(7)
        return self

    def logging_in(self) -> "Client":
        self.secured()
        self.send(5, string(b"ssh-userauth"))
        self.expect(6)
        return self

    def password(self, word: bytes = b"secret", name: bytes = b"alice") -> None:
        service = string(b"ssh-connection")
        self.send(50, string(name) + service + string(b"password") + b"\0" + string(word))

    def key_request(self, key=USER_KEY, name=b"alice", *, algorithm=b"", signature=None) -> bytes:
        """Return a login by key: signed well, with another `signature`, or (b"") only asked."""
        algorithm = algorithm or key.algorithm
        head = string(name) + string(b"ssh-connection") + string(b"publickey")
        asked = head + bytes([signature != b""]) + string(algorithm) + string(key.blob)
        if signature == b"":
            return asked
        signed = string(self.session_id) + bytes([50]) + asked
        return asked + string(signature or key.sign(signed, algorithm))

    def working(self) -> "Client":
        self.logging_in()
        self.password()
        self.expect(52)
        return self

    def open_channel(self, number=7, window=1 << 21, packet=32768, kind=b"session") -> int:
        body = b"".join(n.to_bytes(4) for n in (number, window, packet))
        self.send(90, string(kind) + body)
        payload = self.expect(91)
        assert payload[:4] == number.to_bytes(4)
        return int.from_bytes(payload[4:8])

    def sftp(self, **settings: int) -> tuple[int, Recorder]:
        number = self.open_channel(**settings)
        self.send(98, number.to_bytes(4) + string(b"subsystem") + b"\1" + string(b"sftp"))
        self.expect(99)
        return number, self.server.subsystems[-1]


def strings(data: bytes) -> list[bytes]:
    """Return the strings that `data` is made of."""
    found = []
    while data:
        size = int.from_bytes(data[:4])
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found
