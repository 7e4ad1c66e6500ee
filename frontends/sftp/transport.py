"""SSH's packets on one TCP connection: keys, order of messages, and how much may be under way.

Knows Twisted's transport and conch's arithmetic of key exchanges; touches the connection it is
given and the clock. Above it stand `UserAuth` and then `Connection`.

Out: `sendPacket` for small messages, `send_data` for channels. TCP says when it is full; channels
are then asked for nothing more until it is empty, and when a client makes us answer without ever
reading the answers, we stop reading it.

Keys change at the client's wish, or at ours after `rekey_bytes`, `rekey_seconds` or 2^31 packets.
Between our offer and the new keys only the exchange itself is sent; small messages wait in a list
with a limit, data waits in its channels.
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Protocol

from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import SSHServerTransport
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from truckee.frontends.sftp import ciphers, negotiation
from truckee.frontends.sftp.ciphers import Piece
from truckee.frontends.sftp.host_keys import HostKeys
from truckee.frontends.sftp.messages import (
    MAXIMUM_UINT32,
    Message,
    ProtocolError,
    Reader,
    Reason,
    name_list,
    string,
    uint32,
)
from truckee.frontends.sftp.settings import SFTPSettings
from truckee.frontends.sftp.stages import Stage, is_allowed

PACKET_BEFORE_LOGIN = 35_000
PACKET_AFTER_LOGIN = 300 * 1024
VERSION_LINE = 255
"""Longest first line of a client."""

UNREAD = 256 * 1024
"""Small messages that TCP has not taken; with more of them the client is not read."""

WAITING = 64 * 1024
"""What may have come and wait while a login is checked."""

BLOCKED = 1024
"""Small messages that may wait for new keys."""

REKEY_PACKETS = 1 << 31
LINGER = 3.0
"""How long a client has, in seconds, to read why it is turned away."""

_DURING_EXCHANGE = frozenset({*range(1, 5), *range(20, 50)})

_log = Logger()


class Phase(Enum):
    """How far the running key exchange is."""

    QUIET = auto()
    OFFERED = auto()
    """We have made our offer."""
    AGREED = auto()
    """Both have; the client's share of the secret is next."""
    KEYED = auto()
    """We send under the new keys; the client's NEWKEYS is next."""


class Upper(Protocol):
    """What stands on the transport: the login, and later the channels."""

    def received(self, number: int, message: Reader) -> bool:
        """Take a message; return whether it is known. ProtocolError ends the connection."""
        ...

    def flow(self) -> None:
        """Send what waits, while `can_send`."""
        ...

    def lost(self) -> None:
        """Let go of everything; called once."""
        ...


@implementer(IPushProducer)
class SSHTransport(SSHServerTransport):
    """The lower half of one connection. `SSHSession` adds what it is for."""

    ourVersionString = b"SSH-2.0-Truckee"
    transport: Any

    def __init__(self, clock: IReactorTime, host_keys: HostKeys, settings: SFTPSettings) -> None:
        """Take the clock, our keys and the settings."""
        self.clock = clock
        self.settings = settings
        self.stage = Stage.OPENING
        self.ended = False
        self.last_received = clock.seconds()
        self.upper: Upper | None = None
        self._host_keys = host_keys
        self._phase = Phase.QUIET
        self._agreed: negotiation.Agreement | None = None
        self._strict = False
        self._next_opener: ciphers.Opener = ciphers.PlainOpener()
        self._sealer: ciphers.Sealer = ciphers.PlainSealer()
        self._opener: ciphers.Opener = ciphers.PlainOpener()
        self._buffer = bytearray()
        self._at = 0
        self._parsing = False
        self._held = False
        self._reading = True
        self._first_in_keys = False
        self._tcp_full = False
        self._unread = 0
        self._blocked: list[tuple[int, bytes]] = []
        self._limit = PACKET_BEFORE_LOGIN
        self._bytes = [0, 0]
        self._packets = [0, 0]
        self._timers: dict[str, IDelayedCall] = {}

    # the connection

    def connectionMade(self) -> None:
        """Say who we are, and make our offer."""
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self.transport.write(self.ourVersionString + b"\r\n")
        self.timer("keys", self.settings.key_exchange_grace, self._no_keys)
        self.sendKexInit()

    def _no_keys(self) -> None:
        self.disconnect(Reason.KEY_EXCHANGE_FAILED, "no keys were agreed in time")

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Tell those above."""
        self.ended = True
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()
        self._blocked.clear()
        upper, self.upper = self.upper, None
        if upper is not None:
            upper.lost()

    def timer(self, name: str, seconds: float, then: Callable[[], object]) -> None:
        """Call `then` after some time, in place of an earlier timer of that name."""
        self.stop_timer(name)
        self._timers[name] = self.clock.callLater(seconds, then)

    def stop_timer(self, name: str) -> None:
        """Forget a timer."""
        timer = self._timers.pop(name, None)
        if timer is not None and timer.active():
            timer.cancel()

    def disconnect(self, reason: Reason, text: str) -> None:
        """Say why, and end the connection. Again: nothing."""
        if self.ended:
            return
        _log.debug("ssh disconnect {code}: {text}", code=int(reason), text=text)
        self._transmit(
            (bytes((Message.DISCONNECT,)), uint32(reason), string(text.encode()), bytes(4))
        )
        self.ended = True
        self.transport.unregisterProducer()
        # Closing at once with something unread makes the kernel reset the connection, and the
        # client would not see the reason. So only our side closes, and then there is some patience.
        half_close = getattr(self.transport, "loseWriteConnection", None)
        if half_close is None:
            self.transport.loseConnection()
            return
        half_close()
        self._resume_reading()
        self.timer("linger", LINGER, self.transport.abortConnection)

    def sendDisconnect(self, reason: int, desc: bytes | str) -> None:
        """End the connection; conch's arithmetic calls this."""
        text = desc if isinstance(desc, str) else desc.decode("utf-8", "replace")
        self.disconnect(Reason(reason), text)

    # in

    def dataReceived(self, data: bytes) -> None:
        """Take what has come, cut anywhere."""
        if self.ended:
            return
        self.last_received = self.clock.seconds()
        self._buffer += data
        self._parse()

    def hold(self) -> None:
        """Take no more messages until `release`: each login is answered before the next is read."""
        self._held = True

    def release(self) -> None:
        """Go on after `hold`."""
        self._held = False
        self._parse()

    def _parse(self) -> None:
        if self._parsing:
            return
        self._parsing = True
        try:
            while not (self._held or self.ended) and self._take():
                pass
        except ProtocolError as error:
            self.disconnect(error.reason, error.text)
        except Exception:  # noqa: BLE001 - a stranger's bytes must not reach the reactor's own net
            _log.failure("a message could not be handled")
            self.disconnect(Reason.PROTOCOL_ERROR, "message could not be handled")
        finally:
            self._parsing = False
            del self._buffer[: self._at]
            self._at = 0
        if self.ended:
            self._buffer.clear()
            return
        self.flow()
        self._choose_reading()

    def _take(self) -> bool:
        """Take one message from the buffer; return whether there was one."""
        if not self.gotVersion:
            return self._take_version()
        size = self._opener.measure(self._buffer, self._at, self._limit)
        end = self._at + (size or 0)
        if size is None or len(self._buffer) < end:
            return False
        with memoryview(self._buffer) as whole, whole[self._at : end] as packet:
            plain = self._opener.open(self.incomingPacketSequence, packet)
        self._at = end
        self._bytes[0] += size
        self._packets[0] += 1
        sequence = self.incomingPacketSequence
        self.incomingPacketSequence = (sequence + 1) & MAXIMUM_UINT32
        message = ciphers.unpadded(plain)
        self._dispatch(message[0], message[1:], sequence)
        return True

    def _take_version(self) -> bool:
        end = self._buffer.find(b"\n", 0, VERSION_LINE)
        if end < 0:
            if len(self._buffer) >= VERSION_LINE:
                raise ProtocolError("the first line is too long", Reason.VERSION_NOT_SUPPORTED)
            return False
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        if not line.startswith((b"SSH-2.0-", b"SSH-1.99-")):
            raise ProtocolError("SSH 2 is spoken here", Reason.VERSION_NOT_SUPPORTED)
        self.otherVersionString = line
        self.gotVersion = True
        self._at = end + 1
        self.version_received()
        return True

    def version_received(self) -> None:
        """Take the news that the client has said who it is."""

    def _dispatch(self, number: int, payload: memoryview, sequence: int) -> None:
        first, self._first_in_keys = self._first_in_keys, False
        exchanging = self._phase in {Phase.AGREED, Phase.KEYED}
        if not is_allowed(
            number, self.stage, exchanging=exchanging, strict=self._strict, first_in_keys=first
        ):
            raise ProtocolError(f"message {number} out of place")
        match number:
            case Message.DISCONNECT:
                self.ended = True
                self.transport.loseConnection()
            case Message.IGNORE | Message.UNIMPLEMENTED | Message.DEBUG | Message.EXT_INFO:
                pass
            case Message.KEXINIT:
                self._offer_received(bytes(payload), sequence)
            case Message.KEX_INIT:
                self._share_received(bytes(payload))
            case Message.NEWKEYS:
                self._new_keys_received(payload)
            case Message.SERVICE_REQUEST:
                self.service_requested(Reader(payload).string())
            case _:
                if self.upper is None or not self.upper.received(number, Reader(payload)):
                    self.sendPacket(Message.UNIMPLEMENTED, uint32(sequence))

    def service_requested(self, name: bytes) -> None:
        """Start what was asked for; ProtocolError when there is no such thing."""
        raise ProtocolError("no such service", Reason.SERVICE_NOT_AVAILABLE)

    def _choose_reading(self) -> None:
        """Read the client, unless it does not read us or what it sent has to wait."""
        too_much = self._held and len(self._buffer) > WAITING
        if self._unread > UNREAD or too_much:
            if self._reading:
                self._reading = False
                self.transport.pauseProducing()
        else:
            self._resume_reading()

    def _resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self.transport.resumeProducing()

    # out

    @property
    def can_send(self) -> bool:
        """Whether data may go out now."""
        return self._phase is Phase.QUIET and not (self._tcp_full or self.ended or self._parsing)

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        """Send a message, or keep it until the running key exchange is over."""
        if self.ended:
            return
        if self._phase is not Phase.QUIET and messageType not in _DURING_EXCHANGE:
            self._blocked.append((messageType, payload))
            if len(self._blocked) > BLOCKED:
                self.disconnect(Reason.PROTOCOL_ERROR, "too many requests in a key exchange")
            return
        self._transmit((bytes((messageType,)), payload))
        if self._tcp_full:
            self._unread += len(payload) + 64
            self._choose_reading()

    def send_data(self, pieces: Sequence[Piece], size: int) -> None:
        """Send a message of channel data, `size` bytes in all; only while `can_send`."""
        self._transmit(pieces, size)
        self._consider_rekeying()

    def _transmit(self, pieces: Sequence[Piece], size: int | None = None) -> None:
        if size is None:
            size = sum(map(len, pieces))
        sequence = self.outgoingPacketSequence
        self.transport.writeSequence(self._sealer.seal(sequence, pieces, size))
        self.outgoingPacketSequence = (sequence + 1) & MAXIMUM_UINT32
        self._bytes[1] += size
        self._packets[1] += 1

    def flow(self) -> None:
        """Let those above send what waits."""
        self._consider_rekeying()
        if self.upper is not None and self.can_send:
            self.upper.flow()

    def pauseProducing(self) -> None:
        """Take the news that TCP has enough."""
        self._tcp_full = True

    def resumeProducing(self) -> None:
        """Take the news that TCP has sent everything."""
        self._tcp_full = False
        self._unread = 0
        if not self.ended:
            self.flow()
            self._choose_reading()

    def stopProducing(self) -> None:
        """Take the news that the connection is gone; `connectionLost` follows."""
        self._tcp_full = True

    # keys

    def _consider_rekeying(self) -> None:
        if self._phase is not Phase.QUIET or self.stage is Stage.OPENING or self.ended:
            return
        if max(self._bytes) >= self.settings.rekey_bytes or max(self._packets) >= REKEY_PACKETS:
            self._rekey()

    def _rekey(self) -> None:
        if self._phase is Phase.QUIET:
            self.timer("keys", self.settings.rekey_grace, self._no_keys)
            self.sendKexInit()

    def sendKexInit(self) -> None:
        """Make our offer."""
        first = self.stage is Stage.OPENING
        self.ourKexInitPayload = negotiation.offer(self._host_keys.algorithms, first=first)
        self._transmit((self.ourKexInitPayload,))
        self._phase = Phase.OFFERED

    def _offer_received(self, payload: bytes, sequence: int) -> None:
        self.otherKexInitPayload = bytes((Message.KEXINIT,)) + payload
        agreed = negotiation.agree(Reader(payload), self._host_keys.algorithms)
        if self.stage is Stage.OPENING:
            if agreed.strict and sequence:
                raise ProtocolError("something came before the first key exchange")
            self._strict = agreed.strict
            self.stage = Stage.EXCHANGING
        if self._phase is Phase.QUIET:
            self._rekey()
        self._agreed = agreed
        self._ignore_guess = agreed.ignore_guess
        self.kexAlg, self.keyAlg = agreed.key_exchange, agreed.host_key
        self._phase = Phase.AGREED

    def _share_received(self, payload: bytes) -> None:
        if self._phase is not Phase.AGREED:
            raise ProtocolError("a second secret in one key exchange")
        if self._ignore_guess:
            self._ignore_guess = False
            return
        try:
            if self.kexAlg.startswith(b"mlkem"):
                self._ssh_KEX_HYBRID_INIT(payload)
            else:
                self._ssh_KEX_ECDH_INIT(payload)
        except Exception:  # noqa: BLE001 - points off the curve, cut strings: all the client's doing
            raise ProtocolError("no shared secret", Reason.KEY_EXCHANGE_FAILED) from None

    def _getHostKeys(self, keyAlg: bytes) -> tuple[Key, Key]:
        return self._host_keys.pair(negotiation.HOST_KEY_ALGORITHMS[keyAlg])

    def _keySetup(self, sharedSecret: bytes, exchangeHash: bytes) -> None:
        """Take the secret: say NEWKEYS, and send under the new keys from then on."""
        agreed = self._agreed
        if agreed is None:
            raise ProtocolError("keys without an agreement")
        first = self.sessionID is None
        if self.sessionID is None:
            self.sessionID = exchangeHash
        iv_in, iv_out, key_in, key_out, mac_in, mac_out = (
            self._getKey(letter, sharedSecret, exchangeHash)
            for letter in (b"A", b"B", b"C", b"D", b"E", b"F")
        )
        self._next_opener = ciphers.opener(agreed.cipher_in, agreed.mac_in, key_in, iv_in, mac_in)
        self._transmit((bytes((Message.NEWKEYS,)),))
        self._sealer = ciphers.sealer(agreed.cipher_out, agreed.mac_out, key_out, iv_out, mac_out)
        if self._strict:
            self.outgoingPacketSequence = 0
        self._phase = Phase.KEYED
        self._bytes[1] = self._packets[1] = 0
        if first and agreed.extensions:
            self._tell_extensions()

    def _tell_extensions(self) -> None:
        """Say which signatures users may make; it must follow NEWKEYS at once."""
        value = name_list(negotiation.USER_KEY_ALGORITHMS)
        head = bytes((Message.EXT_INFO,)) + uint32(1)
        self._transmit((head, string(b"server-sig-algs"), value))

    def _new_keys_received(self, payload: memoryview) -> None:
        if self._phase is not Phase.KEYED or payload:
            raise ProtocolError("NEWKEYS out of place")
        self._opener = self._next_opener
        if self._strict:
            self.incomingPacketSequence = 0
        self._bytes[0] = self._packets[0] = 0
        self._phase = Phase.QUIET
        self.stop_timer("keys")
        if self.stage is Stage.EXCHANGING:
            self.stage = Stage.SECURED
            self._first_in_keys = True
        self.timer("rekey", self.settings.rekey_seconds, self._rekey)
        blocked, self._blocked = self._blocked, []
        for number, message in blocked:
            self.sendPacket(number, message)

    def large_packets(self) -> None:
        """Allow what only somebody who is logged in may send."""
        self._limit = PACKET_AFTER_LOGIN
