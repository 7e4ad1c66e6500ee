"""What one control connection has said so far, and what it has thereby set up.

Knows the order of commands; touches nothing by itself: opening ports and sending replies goes
through the `Control` that owns the session.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol as Shape
from typing import TypeVar

from OpenSSL import SSL
from twisted.cred.portal import Portal
from twisted.internet.interfaces import IReactorTime

from truckee.core.errors import FormatError
from truckee.frontends.ftp.addresses import is_loopback
from truckee.frontends.ftp.channels import Channel, ChannelReactor
from truckee.frontends.ftp.codec import Reply, reply
from truckee.frontends.ftp.data import DataConnection, TransferFailed
from truckee.frontends.ftp.masquerade import Address, Masquerade
from truckee.frontends.ftp.settings import FTPSettings
from truckee.frontends.ftp.tls import Engine
from truckee.frontends.ftp.transfer import Transfer
from truckee.frontends.gate.journal import Journal, SilentJournal
from truckee.frontends.vfs import paths
from truckee.frontends.vfs.paths import Path
from truckee.frontends.vfs.session import VFSSession

T = TypeVar("T")

FACTS = ("type", "size", "modify", "perm", "unique", "UNIX.mode")


class Refused(Exception):
    """The command is answered with this reply and has no effect."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(code)
        self.reply = reply(code, *lines)


@dataclass(slots=True)
class Login:
    """A successful login: the filestore, and the call that ends it."""

    account: str
    vfs: VFSSession
    logout: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Listener:
    """What the connections of one listener have in common."""

    context: SSL.Context | None = None
    """What TLS is made of; None without it."""
    masquerade: Masquerade = field(default_factory=Address)


class Control(Shape):
    """What commands may ask of the control connection."""

    def send(self, answer: Reply) -> None:
        """Send a preliminary reply."""
        ...

    def send_raw(self, data: bytes) -> None:
        """Send part of a long reply."""
        ...

    async def drained(self) -> None:
        """Return when the client has taken enough for more to be sent."""
        ...

    def listen_closely(self) -> None:
        """Read the control connection even if many commands wait already."""
        ...

    def admit(self, account: str, limit: int | None, *, anonymous: bool = False) -> str:
        """Return "" if the account may have this session, or why not; `limit` is its own."""
        ...

    def logged_in(self) -> None:
        """Take the news that the session has an account now, or another."""
        ...


@dataclass(slots=True)
class Session:
    """The state between two commands."""

    control: Control
    settings: FTPSettings
    reactor: ChannelReactor
    portal: Portal
    peer: str
    local: str
    random: Callable[[int], bytes]
    wall_clock: Callable[[], float]
    journal: Journal = field(default_factory=SilentJournal)
    listener: Listener = field(default_factory=Listener)
    engine: Engine | None = None
    """The TLS of the control connection, from AUTH on."""
    sized: bool = False
    """Whether PBSZ was given."""
    protected: bool = False
    """Whether data connections are under TLS: PROT P."""
    user: bytes | None = None
    failed_logins: int = 0
    login: Login | None = None
    cwd: Path = paths.ROOT
    text: bool = False
    rest: int = 0
    announced: int | None = None
    rename_from: Path | None = None
    epsv_all: bool = False
    facts: tuple[str, ...] = FACTS
    channel: Channel | None = None
    transfer: Transfer | None = None
    words: list[str] = field(default_factory=list)

    @property
    def clock(self) -> IReactorTime:
        """Return the clock alone."""
        return self.reactor

    @property
    def vfs(self) -> VFSSession:
        """Return the filestore of the account; Refused (530) without a login."""
        if self.login is None:
            raise Refused(530, "please log in with USER and PASS")
        return self.login.vfs

    @property
    def context(self) -> SSL.Context | None:
        """Return what TLS is made of here; None without it."""
        return self.listener.context

    @property
    def encrypted(self) -> bool:
        """Return whether the control connection is under TLS."""
        return self.engine is not None and self.engine.established

    def passwords_allowed(self) -> bool:
        """Return whether a password would travel where nobody else can read it, or may be read."""
        if self.encrypted:
            return True
        if self.settings.tls == "required":
            return False
        if self.settings.tls == "off" and self.settings.insecure_plaintext:
            return True
        return is_loopback(self.peer) and is_loopback(self.local)

    def path(self, arg: bytes) -> Path:
        """Return the path of an argument that must be there. Refused, BadNameError."""
        if not arg:
            raise Refused(501, "a path is expected")
        return paths.parse(arg, self.cwd, lines=True)

    def path_or_cwd(self, arg: bytes) -> Path:
        """Return the path of an argument that may be absent."""
        return paths.parse(arg, self.cwd, lines=True)

    def use_channel(self, channel: Channel) -> None:
        """Replace the data connection that is set up for the next transfer."""
        self.drop_channel()
        self.channel = channel

    def drop_channel(self) -> None:
        """Forget the data connection that is set up."""
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close()

    def begin_transfer(self) -> Transfer:
        """Return a transfer over the data connection that is set up. Refused (425) without."""
        channel, self.channel = self.channel, None
        if channel is None:
            raise Refused(425, "use PASV, EPSV, PORT or EPRT first")
        if self.settings.tls == "required" and not self.protected:
            channel.close()
            raise Refused(521, "data connections must be protected: send PBSZ 0 and PROT P")
        self.transfer = Transfer(channel, self.clock, self._secure if self.protected else None)
        return self.transfer

    async def _secure(self, connection: DataConnection) -> None:
        """Put a new data connection under TLS. TransferFailed (425) when that does not work."""
        if self.context is None or self.engine is None:
            raise TransferFailed(425, "no TLS here")
        engine = Engine(self.context)
        await connection.secure(engine, self.settings.connect_timeout)
        required = self.settings.data_tls_resumption == "require"
        if required and not engine.same_session(self.engine):
            failure = TransferFailed(425, "resume the TLS session of the control connection")
            connection.refuse(failure)
            raise failure

    def end_transfer(self) -> None:
        """Close what a transfer command used, and forget what was said for it alone."""
        transfer, self.transfer = self.transfer, None
        if transfer is not None:
            transfer.close()
        self.drop_channel()
        self.rest = 0
        self.announced = None

    def end_login(self) -> None:
        """Log out, and forget everything that came after the greeting."""
        login, self.login = self.login, None
        self.user = None
        self.cwd = paths.ROOT
        self.text = False
        self.rest = 0
        self.announced = None
        self.rename_from = None
        self.epsv_all = False
        self.facts = FACTS
        self.drop_channel()
        if login is not None:
            login.logout()
            self.control.logged_in()

    def forget_security(self) -> None:
        """Forget PBSZ and PROT."""
        self.sized = False
        self.protected = False

    def forget_everything(self) -> None:
        """Be as at the greeting: log out, and take nothing that was said for granted."""
        self.end_login()
        self.forget_security()


def argument(parse: Callable[[bytes], T], arg: bytes) -> T:
    """Return ``parse(arg)``; Refused (501) when the argument breaks its grammar."""
    try:
        return parse(arg)
    except FormatError as error:
        raise Refused(501, f"syntax error: {error}") from None
