"""SFTP on one channel: bytes in, requests served, replies out.

Knows how much may be under way and when to stop reading; touches its channel and, through the
requests, the vfs session. Every request is answered once, whatever becomes of it, until the
channel is lost; then everything open is let go and nothing that has not begun is begun.

Requests are taken up in the order in which they come and answered as they end; order.py says which
wait for which. No more are taken up while `MAX_REQUESTS` are under way or `MAX_UNDONE` bytes of
them, while `MAX_PROMISED` bytes have been asked for and not left this machine, or while the channel
is full. Of such bytes `LOW` are this channel's own; for more there must be room among those of its
connection and of the process. What the client sent is counted as consumed once it is answered; so a
client that sends faster than the disk writes, or piles up long requests behind a slow one, is
stopped by its window.
"""

import os
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from truckee.core.errors import FormatError
from truckee.core.tasks import Tasks
from truckee.frontends.gate.journal import Journal, SilentJournal
from truckee.frontends.sftp import extensions, packets, requests
from truckee.frontends.sftp.errors import status_for
from truckee.frontends.sftp.extensions import Space
from truckee.frontends.sftp.handles import Handles, Room
from truckee.frontends.sftp.order import TURN, Starter
from truckee.frontends.sftp.packets import MAX_READ, Packet, Read, Reply, Request, Splitter
from truckee.frontends.sftp.requests import Server, State
from truckee.frontends.sftp.seam import HIGH, LOW, Channel
from truckee.frontends.vfs.session import VFSSession

_log = Logger()

MAX_REQUESTS = 128
MAX_PROMISED = 8 * 1024 * 1024
MAX_UNDONE = 4 * 1024 * 1024

_TURN_REQUESTS = 64


class SFTPSubsystem:
    """One SFTP session on one channel; implements seam.Subsystem."""

    def __init__(
        self,
        session: VFSSession,
        clock: IReactorTime,
        journal: Journal | None = None,
        peer: str = "",
        *,
        room: Room | None = None,
        random: Callable[[int], bytes] = os.urandom,
        space: Callable[[], Space | None] = lambda: None,
    ) -> None:
        """Serve `session`, whose channels share `room` for what they open.

        `space` tells what statvfs speaks of, None if that is unknown.
        """
        self._clock = clock
        room = room or Room()
        self._answers = room.answers
        self._counted = 0
        self._state = State(
            session,
            journal or SilentJournal(),
            peer,
            clock.seconds,
            Handles(room, random),
            Starter(clock),
        )
        self._servers: dict[type[Request], Server] = {
            **requests.SERVERS,
            **extensions.SERVERS,
            **extensions.statvfs_servers(space),
        }
        self._splitter = Splitter()
        self._tasks = Tasks()
        self._channel: Channel | None = None
        self._greeted = False
        self._ending = False
        self._pumping = False
        self._later: IDelayedCall | None = None
        self._taken = 0  # since others had their turn
        self._running = 0
        self._promised = 0
        self._undone = 0
        self._consumed = 0

    def __repr__(self) -> str:
        return f"<SFTPSubsystem {self._running} requests, {len(self._state.handles)} handles>"

    @property
    def busy(self) -> bool:
        """Return whether requests are under way, commits among them."""
        return self._running > 0

    # seam.Subsystem

    def start(self, channel: Channel) -> None:
        """Take the channel."""
        self._channel = channel

    def data(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._channel is not None:
            self._splitter.feed(data)
            self._pump()

    def drained(self) -> None:
        """Go on."""
        self._pump()

    def ended(self) -> None:
        """Answer what has come; then close."""
        self._ending = True
        self._pump()

    def lost(self) -> None:
        """Let go of everything."""
        self._channel = None
        self._splitter.clear()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._answers.give(self._counted)
        self._counted = 0
        self._state.let_go()

    # taking up requests

    def _pump(self) -> None:
        """Take up what may be taken up now."""
        if self._pumping:
            return
        self._pumping = True
        try:
            waits = self._take_turn()
        except FormatError as error:
            _log.info("sftp: a connection is dropped: {reason}", reason=str(error))
            self._leave(1)
            return
        finally:
            self._pumping = False
        self._tell_consumed()
        if self._ending and not waits and not self._running:
            self._leave(0)

    def _take_turn(self) -> bool:
        """Take up requests for a while; return whether more may lie here. FormatError: drop it.

        Each answer makes room for another request, so it is not for one call to say when enough was
        taken up, but for all of a turn of the reactor.
        """
        began = self._clock.seconds()
        while self._channel is not None:
            if self._later is not None or self._is_full():
                return True
            packet = self._splitter.next_packet()
            if packet is None:
                return False
            self._taken += 1
            self._take_up(packet)
            if self._taken >= _TURN_REQUESTS or self._clock.seconds() - began > TURN:
                self._go_on_later()
        return False

    def _is_full(self) -> bool:
        if self._channel is None or self._running >= MAX_REQUESTS:
            return True
        if self._undone > MAX_UNDONE:
            return True
        unsent = self._channel.unsent
        owed = self._promised + unsent
        return not self._may_owe(owed) or unsent > HIGH or owed > MAX_PROMISED

    def _may_owe(self, owed: int) -> bool:
        """Count what is owed beyond `LOW`; return whether there is room for it among all others.

        Whoever is refused has more than `LOW` to send, and is told when that is gone.
        """
        more = max(0, owed - LOW) - self._counted
        if more > 0 and not self._answers.take(more):
            return False
        if more < 0:
            self._answers.give(-more)
        self._counted += more
        return True

    def _go_on_later(self) -> None:
        if self._later is None and self._channel is not None:
            self._later = self._clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._later = None
        self._taken = 0
        self._pump()

    def _take_up(self, packet: Packet) -> None:
        if not self._greeted:
            self._greet(packet)
        elif packet.kind == packets.INIT:
            raise FormatError("a second INIT")
        else:
            request = packet.request()
            self._running += 1
            self._undone += packet.size
            self._promised += _promise(request)
            _ = self._tasks.start(self._serve(request, packet.size))

    def _greet(self, packet: Packet) -> None:
        if packet.kind != packets.INIT or packet.version() < packets.VERSION:
            raise FormatError("no INIT of version 3 or later")
        self._greeted = True
        self._consumed += packet.size
        self._send(packets.version())

    # serving one

    async def _serve(self, request: Request, size: int) -> None:
        """Answer it, come what may."""
        try:
            reply = await self._servers[type(request)](self._state, request)
        except Exception as error:  # noqa: BLE001 - told to the client and, if unexpected, the log
            code, text = status_for(error)
            reply = packets.status(request.id, code, text)
        self._running -= 1
        self._promised -= _promise(request)
        self._undone -= size
        self._consumed += size
        self._send(reply)
        self._state.starter.run()
        if not self._pumping:
            self._pump()

    def _send(self, reply: Reply) -> None:
        if self._channel is not None:
            self._channel.write(reply)

    def _tell_consumed(self) -> None:
        size, self._consumed = self._consumed, 0
        if size and self._channel is not None:
            self._channel.consumed(size)

    def _leave(self, status: int) -> None:
        channel = self._channel
        self.lost()
        if channel is not None:
            channel.close(status)


def _promise(request: Request) -> int:
    """Return how many bytes of data the answer may have."""
    return min(request.length, MAX_READ) if isinstance(request, Read) else 0
