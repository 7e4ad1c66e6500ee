"""SSH's packets on one TCP connection: keys, order of messages, and how much may be under way.

Knows Twisted's transport and conch's arithmetic of key exchanges; touches the connection it is
given and the clock. Above it stand `UserAuth` and then `Connection`.

Out: `sendPacket` for small messages, `send_data` for channels. TCP says when it is full; channels
are then asked for nothing more until it is empty, and when a client makes us answer without ever
reading the answers, we stop reading it.

While keys are exchanged (`KeyExchange`), data waits in its channels.
"""

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from truckee.frontends.sftp import ciphers
from truckee.frontends.sftp.ciphers import Piece
from truckee.frontends.sftp.host_keys import HostKeys
from truckee.frontends.sftp.keys import KeyExchange, Phase
from truckee.frontends.sftp.messages import (
    MAXIMUM_UINT32,
    Message,
    ProtocolError,
    Reader,
    Reason,
    uint32,
)
from truckee.frontends.sftp.settings import SFTPSettings
from truckee.frontends.sftp.stages import is_allowed

PACKET_BEFORE_LOGIN = 35_000
PACKET_AFTER_LOGIN = 300 * 1024
VERSION_LINE = 255
"""Longest first line of a client."""

UNREAD = 256 * 1024
"""Small messages that TCP has not taken; with more of them the client is not read."""

TCP_BUFFER = 128 * 1024
"""What is read, and what is handed over, in one turn of the reactor."""

WAITING = 64 * 1024
"""What may have come and wait while a login is checked, or for the next turn of the reactor."""

TURN = 0.005
"""After so many seconds of one turn of the reactor the others go first."""

_log = Logger()


class Upper(Protocol):
    """What stands on the transport: the login, and later the channels."""

    def received(self, number: int, message: Reader) -> bool:
        """Take a message; return whether it is known. ProtocolError ends the connection."""
        ...

    @property
    def has_unsent(self) -> bool:
        """Whether something waits to be sent."""
        ...

    def flow(self) -> None:
        """Send what waits, while `can_send`."""
        ...

    def lost(self) -> None:
        """Let go of everything; called once."""
        ...


@implementer(IPushProducer)
class SSHTransport(KeyExchange):
    """The lower half of one connection. `SSHSession` adds what it is for."""

    def __init__(self, clock: IReactorTime, host_keys: HostKeys, settings: SFTPSettings) -> None:
        """Take the clock, our keys and the settings."""
        super().__init__(clock, host_keys, settings)
        self.last_received = clock.seconds()
        self.heard = True
        """Whether anything came since somebody set this to False."""
        self.last_taken = clock.seconds()
        """When the client last took something, of what waited for it."""
        self.upper: Upper | None = None
        self._buffer = bytearray()
        self._at = 0
        self._parsing = False
        self._held = False
        self._postponed = False
        self._reading = True
        self._tcp_full = False
        self._unread = 0
        self._limit = PACKET_BEFORE_LOGIN

    # the connection

    def connectionMade(self) -> None:
        """Say who we are, and make our offer."""
        self.transport.setTcpNoDelay(True)
        self.transport.bufferSize = TCP_BUFFER
        self.transport.registerProducer(self, True)
        self.transport.write(self.ourVersionString + b"\r\n")
        self.timer("keys", self.settings.key_exchange_grace, self._no_keys)
        self.sendKexInit()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Tell those above."""
        self.ended = True
        self.stop_timers()
        self._blocked.clear()
        upper, self.upper = self.upper, None
        if upper is not None:
            upper.lost()

    # in

    def dataReceived(self, data: bytes) -> None:
        """Take what has come, cut anywhere."""
        if self.ended:
            return
        self.last_received = self.clock.seconds()
        self.heard = True
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
        """Take messages for one turn; a packet can be tiny, so their number says nothing."""
        if self._parsing or self._postponed:
            return
        self._parsing = True
        began = self.clock.seconds()
        try:
            while not (self._held or self.ended) and self._take():
                if self.clock.seconds() - began > TURN:
                    self._postponed = True
                    break
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
        if self._postponed:
            self.timer("next turn", 0, self._go_on)
        self.flow()
        self._choose_reading()

    def _go_on(self) -> None:
        self._postponed = False
        self._parse()

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
                self.stop()
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
        too_much = (self._held or self._postponed) and len(self._buffer) > WAITING
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
        super().sendPacket(messageType, payload)
        if self._tcp_full and not self.ended:
            self._unread += len(payload) + 64
            self._choose_reading()

    def send_data(self, pieces: Sequence[Piece], size: int) -> None:
        """Send a message of channel data, `size` bytes in all; only while `can_send`."""
        self.last_taken = self.clock.seconds()
        self._transmit(pieces, size)
        self._consider_rekeying()

    @property
    def is_waiting(self) -> bool:
        """Whether TCP is full, or those above have something that the client does not take."""
        return self._tcp_full or (self.upper is not None and self.upper.has_unsent)

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
        self.last_taken = self.clock.seconds()
        if not self.ended:
            self.flow()
            self._choose_reading()

    def stopProducing(self) -> None:
        """Take the news that the connection is gone; `connectionLost` follows."""
        self._tcp_full = True

    def large_packets(self) -> None:
        """Allow what only somebody who is logged in may send."""
        self._limit = PACKET_AFTER_LOGIN
