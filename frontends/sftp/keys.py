"""Keys of one connection: how they are agreed, when they are agreed anew, and packets under them.

Knows conch's arithmetic of key exchanges, which it inherits, and the order of an exchange; touches
the clock and, for packets out, TCP. Keys change at the client's wish, or at ours after
`rekey_bytes`, `rekey_seconds` or 2^31 packets. Between our offer and the new keys only the exchange
itself is sent; small messages wait in a list with a limit.

With a strict client packets are numbered anew under each key, so that nothing which was slipped in
or taken out before can go unnoticed.
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any

from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import SSHServerTransport
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

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
from truckee.frontends.sftp.stages import Stage

REKEY_PACKETS = 1 << 31
BLOCKED = 1024
"""Small messages that may wait for new keys."""

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


class KeyExchange(SSHServerTransport):
    """The part of a connection that seals, and that knows the keys."""

    ourVersionString = b"SSH-2.0-Truckee"
    transport: Any

    def __init__(self, clock: IReactorTime, host_keys: HostKeys, settings: SFTPSettings) -> None:
        """Take the clock, our keys and the settings."""
        self.clock = clock
        self.settings = settings
        self.stage = Stage.OPENING
        self.ended = False
        self._host_keys = host_keys
        self._phase = Phase.QUIET
        self._agreed: negotiation.Agreement | None = None
        self._strict = False
        self._ignore_guess = False
        self._first_in_keys = False
        self._next_opener: ciphers.Opener = ciphers.PlainOpener()
        self._sealer: ciphers.Sealer = ciphers.PlainSealer()
        self._opener: ciphers.Opener = ciphers.PlainOpener()
        self._blocked: list[tuple[int, bytes]] = []
        self._bytes = [0, 0]
        self._packets = [0, 0]
        self._timers: dict[str, IDelayedCall] = {}

    def timer(self, name: str, seconds: float, then: Callable[[], object]) -> None:
        """Call `then` after some time, in place of an earlier timer of that name."""
        self.stop_timer(name)
        self._timers[name] = self.clock.callLater(seconds, then)

    def stop_timer(self, name: str) -> None:
        """Forget a timer."""
        timer = self._timers.pop(name, None)
        if timer is not None and timer.active():
            timer.cancel()

    def _no_keys(self) -> None:
        self.disconnect(Reason.KEY_EXCHANGE_FAILED, "no keys were agreed in time")

    def stop_timers(self) -> None:
        """Forget every timer."""
        for name in list(self._timers):
            self.stop_timer(name)

    def stop(self) -> None:
        """Take and send nothing more; closing what is below is up to the caller.

        A producer that TCP has paused would keep it from closing when all is sent.
        """
        self.ended = True
        self.stop_timers()
        self.transport.unregisterProducer()

    # packets out

    def disconnect(self, reason: Reason, text: str) -> None:
        """Say why, and end the connection. Again: nothing."""
        if self.ended:
            return
        _log.debug("ssh disconnect {code}: {text}", code=int(reason), text=text)
        self._transmit(
            (bytes((Message.DISCONNECT,)), uint32(reason), string(text.encode()), bytes(4))
        )
        self.stop()
        # Closing at once with something unread makes the kernel reset the connection, and the
        # client would not see the reason. So only our side closes, and then there is some patience.
        half_close = getattr(self.transport, "loseWriteConnection", None)
        if half_close is None:
            self.transport.loseConnection()
            return
        half_close()
        self.transport.resumeProducing()
        self.timer("linger", LINGER, self.transport.abortConnection)

    def sendDisconnect(self, reason: int, desc: bytes | str) -> None:
        """End the connection; conch's arithmetic calls this."""
        text = desc if isinstance(desc, str) else desc.decode("utf-8", "replace")
        self.disconnect(Reason(reason), text)

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        """Send a message, or keep it until the running key exchange is over."""
        if self.ended:
            return
        if self._phase is Phase.QUIET or messageType in _DURING_EXCHANGE:
            self._transmit((bytes((messageType,)), payload))
            return
        self._blocked.append((messageType, payload))
        if len(self._blocked) > BLOCKED:
            self.disconnect(Reason.PROTOCOL_ERROR, "too many requests in a key exchange")

    def _transmit(self, pieces: Sequence[Piece], size: int | None = None) -> None:
        if size is None:
            size = sum(map(len, pieces))
        sequence = self.outgoingPacketSequence
        self.transport.writeSequence(self._sealer.seal(sequence, pieces, size))
        self.outgoingPacketSequence = (sequence + 1) & MAXIMUM_UINT32
        self._bytes[1] += size
        self._packets[1] += 1

    # new keys

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
