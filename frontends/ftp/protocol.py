"""The control connection: commands in, one after the other, and exactly one final reply for each.

Knows Twisted's transports and the table of commands. Commands wait in a short queue of their own;
what does not fit there waits in the line buffer, and beyond that the socket is not read. While a
transfer runs, ABOR, NOOP and STAT are served at once; QUIT waits for its end. A client that does
not read its replies gets no more of them, and is dropped if that lasts.

After AUTH everything passes through a TLS engine; whatever came in clear behind that command, and
whatever was said before it, is forgotten. A client that says it sends no more has left.

Timers, all on the reactor that is given: `login_grace` from the connection to the login, whatever
is sent meanwhile; `idle_timeout` while nothing runs, restarted by whole commands only.
"""

import socket
from collections import deque
from collections.abc import Callable

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from truckee.core.errors import FormatError
from truckee.frontends.ftp import access
from truckee.frontends.ftp.addresses import plain
from truckee.frontends.ftp.channels import ChannelReactor
from truckee.frontends.ftp.codec import (
    MAX_LINE,
    Command,
    LineBuffer,
    LineTooLongError,
    Reply,
    looks_like_http,
    parse_command,
    reply,
)
from truckee.frontends.ftp.commands import COMMANDS, KNOWN_BUT_ABSENT
from truckee.frontends.ftp.data import StreamTransport, TransferFailed
from truckee.frontends.ftp.errors import reply_for
from truckee.frontends.ftp.session import Listener, Refused, Session
from truckee.frontends.ftp.settings import FTPSettings
from truckee.frontends.ftp.tls import Engine, TLSFailed
from truckee.frontends.ftp.transfer import control_lost
from truckee.frontends.gate.journal import Journal
from truckee.frontends.gate.registry import SHUTTING_DOWN, Registry

_log = Logger()

MOST_QUEUED = 32
MOST_UNKNOWN = 3
ANONYMOUS_PER_ADDRESS = 5
GREETING = "Truckee ready"
_SLICE = 0.010  # seconds of commands served in one reactor turn
_CLOSING = 5.0  # seconds for a client to take its last reply
_UNPARSED = Command("", b"")


@implementer(IPushProducer)
class FTPProtocol(Protocol):
    """One client's control connection."""

    transport: StreamTransport

    def __init__(
        self,
        reactor: ChannelReactor,
        portal: Portal,
        settings: FTPSettings,
        registry: Registry,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
        journal: Journal,
        listener: Listener,
    ) -> None:
        self._listener = listener
        self._engine: Engine | None = None
        self._reactor = reactor
        self._portal = portal
        self._settings = settings
        self._registry = registry
        self._random = random
        self._wall_clock = wall_clock
        self._journal = journal
        self._lines = LineBuffer()
        self._queue: deque[Command] = deque()
        self._running: str | None = None
        self._aborts = 0
        self._pumping = False
        self._pump_later: IDelayedCall | None = None
        self._reading = True
        self._writable = True
        self._drain_waiter: Deferred[None] | None = None
        self._timers: dict[str, IDelayedCall] = {}
        self._first_line = True
        self._unknown = 0
        self._closing = False
        self._closing_text = ""
        self.gone = False
        self.refusal = ""
        self.session: Session | None = None

    # what the service asks

    @property
    def account(self) -> str | None:
        """The account that is logged in, or None."""
        session = self.session
        return session.login.account if session is not None and session.login is not None else None

    @property
    def leaving(self) -> bool:
        """Whether the last reply has been given."""
        return self._closing

    @property
    def busy(self) -> bool:
        """Whether a command runs."""
        return self._running is not None

    @property
    def committing(self) -> bool:
        """Whether an upload is on its way into the filestore, past the point of return."""
        transfer = self.session.transfer if self.session is not None else None
        return transfer is not None and transfer.committing

    def shut_down(self, text: str, *, now: bool = False) -> None:
        """Close with 421 once the running command has ended; `now` ends transfers, not commits."""
        self._queue.clear()
        self._lines.clear()
        if self._running is None:
            self._close(reply(421, text))
            return
        self._closing_text = text
        if now and self.session is not None and self.session.transfer is not None:
            self.session.transfer.abort(TransferFailed(426, text))

    # transport

    def connectionMade(self) -> None:
        """Greet."""
        self._tune()
        peer, local = self.transport.getPeer(), self.transport.getHost()
        self.session = Session(
            control=self,
            settings=self._settings,
            reactor=self._reactor,
            portal=self._portal,
            peer=plain(str(getattr(peer, "host", ""))),
            local=plain(str(getattr(local, "host", ""))),
            random=self._random,
            wall_clock=self._wall_clock,
            journal=self._journal,
            words=sorted(COMMANDS),
            listener=self._listener,
        )
        self.transport.registerProducer(self, True)
        if self.refusal:
            self._close(reply(421, self.refusal))
            return
        self._start_timer("login", self._settings.login_grace, self._login_took_too_long)
        self.send(reply(220, GREETING))
        self._start_idling()

    def _tune(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)  # long transfers and commits pass through routers
        handle = getattr(self.transport, "getHandle", lambda: None)()
        if isinstance(handle, socket.socket):
            # ftplib sends the end of ABOR as urgent data; out of band it would be lost
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)

    def dataReceived(self, data: bytes) -> None:
        """Take what came."""
        if self._closing:
            return
        if self._engine is None:
            self._lines.feed(data)
            self._pump()
        else:
            self._take_protected(self._engine, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give up what the client no longer wants; a commit goes on."""
        self.gone = self._closing = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._pump_later is not None:
            self._pump_later.cancel()
            self._pump_later = None
        self._queue.clear()
        self._lines.clear()
        session = self.session
        if session is not None:
            if session.transfer is not None:
                session.transfer.abort(control_lost())
            session.end_login()
        self._wake_drained()
        if self._running is None:
            self._registry.left(self)

    # flow control of replies: we are the transport's producer

    def pauseProducing(self) -> None:
        """Serve no more commands: the client does not take its replies."""
        self._writable = False

    def resumeProducing(self) -> None:
        """Go on: the client took its replies."""
        self._writable = True
        self._wake_drained()
        self._pump()

    def stopProducing(self) -> None:
        """Do nothing: connectionLost does the rest."""

    async def drained(self) -> None:
        """Return when there is room for more of a long reply."""
        if not self._writable and not self.gone:
            self._start_timer("unread", self._settings.data_timeout, self._drop)
            self._drain_waiter = Deferred()
            await self._drain_waiter
        if self.gone:
            raise control_lost()

    def _wake_drained(self) -> None:
        self._stop_timer("unread")
        waiter, self._drain_waiter = self._drain_waiter, None
        if waiter is not None:
            waiter.callback(None)

    def send(self, answer: Reply) -> None:
        """Send a reply."""
        self.send_raw(answer.encode())

    def send_raw(self, data: bytes) -> None:
        """Send part of a reply; nothing after the last one."""
        if self._closing:
            return
        if self._engine is None:
            self.transport.write(data)
        elif self._engine.established:
            try:
                self.transport.write(self._engine.encrypt(data))
            except TLSFailed:
                self._drop()

    # TLS

    def _begin_tls(self, session: Session) -> None:
        """Take no word in clear any more."""
        if session.context is None:
            return
        self._queue.clear()
        self._lines.clear()
        self._first_line = True
        self._set_reading(True)
        self._engine = session.engine = Engine(session.context)
        self._start_timer("handshake", self._settings.connect_timeout, self._drop)

    def _take_protected(self, engine: Engine, data: bytes) -> None:
        try:
            engine.feed(data)
            plain = engine.receive()
        except TLSFailed as failed:
            _log.info("ftp: TLS with {peer} failed: {why}", peer=self._peer(), why=str(failed))
            self.transport.write(engine.outgoing())
            self._hang_up()
            return
        if answers := engine.outgoing():
            if not self._writable:
                self._drop()  # handshakes over and over, and it reads nothing
                return
            self.transport.write(answers)
        if engine.established:
            self._stop_timer("handshake")
        if plain:
            self._lines.feed(plain)
            self._pump()
        if engine.ended:
            self._hang_up()

    def _peer(self) -> str:
        return self.session.peer if self.session is not None else ""

    # the queue

    def listen_closely(self) -> None:
        """Read on, however much waits: a look whether the client is still there."""
        self._set_reading(True)

    def _fill(self) -> None:
        """Take lines out of the buffer while there is room for commands."""
        while len(self._queue) < MOST_QUEUED and not self._closing:
            try:
                line = self._lines.next_line()
            except LineTooLongError:
                self._protocol_error(reply(500, "command line too long"))
                return
            if line is None:
                break
            if self._first_line and looks_like_http(line):
                self._protocol_error(reply(421, "this is not a web server"))
                return
            self._first_line = False
            try:
                self._queue.append(parse_command(line))
            except FormatError:
                self._queue.append(_UNPARSED)
        self._set_reading(len(self._queue) < MOST_QUEUED or len(self._lines) <= MAX_LINE)

    def _set_reading(self, on: bool) -> None:
        if on != self._reading and not self._closing:
            self._reading = on
            if on:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def _pump(self) -> None:
        """Serve commands until one has to wait, or the time slice is over."""
        self._fill()
        self._serve_urgent()
        if self._pumping or self._pump_later is not None:
            return
        self._pumping = True
        end = self._reactor.seconds() + _SLICE
        try:
            while self._ready():
                self._start(self._queue.popleft())
                self._fill()
                self._serve_urgent()  # an ABOR may end what has just begun
                if self._ready() and self._reactor.seconds() > end:
                    self._pump_later = self._reactor.callLater(0, self._pump_again)
                    break
        finally:
            self._pumping = False

    def _ready(self) -> bool:
        waiting = bool(self._queue) and self._running is None
        return waiting and self._writable and not self._closing

    def _pump_again(self) -> None:
        self._pump_later = None
        self._pump()

    def _serve_urgent(self) -> None:
        """While a transfer runs, take ABOR, NOOP and STAT out of the queue and serve them."""
        session = self.session
        transfer = session.transfer if session is not None else None
        if session is None or transfer is None:
            return
        for command in list(self._queue):
            if session.transfer is not transfer or self._closing:
                return  # an ABOR ended it, and what follows was served after it
            match command:
                case Command("ABOR"):
                    self._aborts += 1
                    self._queue.remove(command)
                    transfer.abort(TransferFailed(426, "transfer aborted"))
                case Command("NOOP"):
                    self._queue.remove(command)
                    self.send(reply(200, "ok"))
                case Command("STAT", b""):
                    self._queue.remove(command)
                    self.send(access.status(session))

    # one command

    def _start(self, command: Command) -> None:
        self._running = command.word
        self._stop_timer("idle")
        _ = Deferred.fromCoroutine(self._serve(command))

    async def _serve(self, command: Command) -> None:
        try:
            answer = await self._answer(command)
        except Refused as refused:
            answer = refused.reply
        except TransferFailed as failed:
            answer = reply(failed.code, failed.text)
        except Exception as error:  # noqa: BLE001 - the table takes everything
            answer = reply(*reply_for(error))
        self._finish(answer)

    async def _answer(self, command: Command) -> Reply:
        session = self.session
        entry = COMMANDS.get(command.word)
        if session is None:
            return reply(421, "closing")
        if entry is None:
            return self._not_a_command(command)
        if session.login is None and not entry.before_login:
            return reply(530, "please log in with USER and PASS")
        if command.word != "RNTO":
            session.rename_from = None
        return await entry.run(session, command.arg)

    def _not_a_command(self, command: Command) -> Reply:
        if command.word in KNOWN_BUT_ABSENT:
            return reply(502, "not offered here")
        if self.account is None:
            self._unknown += 1
            if self._unknown >= MOST_UNKNOWN:
                return reply(421, "this is an FTP server")
        return reply(500, "unknown command")

    def _finish(self, answer: Reply) -> None:
        self._running = None
        if self.gone:
            if self.session is not None:
                self.session.end_login()  # a login that came too late
            self._registry.left(self)
            return
        if answer.code in (221, 421):
            self._close(answer)
            return
        self.send(answer)
        if answer.code == 234 and self.session is not None:
            self._begin_tls(self.session)
        while self._aborts:
            self._aborts -= 1
            self.send(reply(226, "abort done"))
        if self._closing_text:
            self._close(reply(421, self._closing_text))
            return
        self._start_idling()
        self._pump()

    # logins

    def admit(self, account: str, limit: int | None, *, anonymous: bool = False) -> str:
        """Return "" if the account may have this session, or why not."""
        registry = self._registry
        if registry.closing:
            return SHUTTING_DOWN
        crowded = anonymous and registry.from_same_address(self, account) >= ANONYMOUS_PER_ADDRESS
        if crowded or not registry.admit(self, account, limit):
            return "too many sessions of this account"
        return ""

    def logged_in(self) -> None:
        """Note a login, or the end of one."""
        if self.account is not None:
            self._stop_timer("login")
        elif not self.gone:
            self._start_timer("login", self._settings.login_grace, self._login_took_too_long)

    # time, and the end

    def _start_timer(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        self._stop_timer(name)

        def fire() -> None:
            del self._timers[name]
            call()

        self._timers[name] = self._reactor.callLater(seconds, fire)

    def _stop_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _start_idling(self) -> None:
        if self._running is None and not self._closing:
            self._start_timer("idle", self._settings.idle_timeout, self._idled)

    def _idled(self) -> None:
        self._close(reply(421, "idle for too long"))

    def _login_took_too_long(self) -> None:
        self._close(reply(421, "no login in time"))

    def _protocol_error(self, answer: Reply) -> None:
        if self.session is not None and self.session.transfer is not None:
            self.session.transfer.abort(TransferFailed(426, "protocol error"))
        self._close(answer, linger=True)

    def _close(self, answer: Reply, *, linger: bool = False) -> None:
        """Send the last reply and close; drop the connection if the client does not take it.

        With `linger` what the client still sends is read and dropped until it closes: closing on
        unread bytes would reset the connection, and the reply would be lost on its way.
        """
        if not self._closing:
            self.send(answer)
            self._hang_up(linger=linger)

    def _hang_up(self, *, linger: bool = False) -> None:
        if self._closing:
            return
        if self._engine is not None:
            self.transport.write(self._engine.close())
        self._closing = True
        self._queue.clear()
        self._lines.clear()
        for name in list(self._timers):
            self._stop_timer(name)
        self.transport.unregisterProducer()
        if linger:
            self.transport.resumeProducing()
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()
        self._start_timer("closing", _CLOSING, self._drop)

    def _drop(self) -> None:
        self.transport.abortConnection()
