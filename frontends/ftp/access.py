"""Commands about the connection itself: login, modes, help. Knows the Portal and the session."""

from twisted.cred.error import LoginFailed
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.protocols.ftp import IFTPShell

from truckee.auth.credentials import AnonymousLogin, PasswordLogin
from truckee.core.errors import TemporaryLoginError
from truckee.frontends.ftp.codec import Reply, quoted, reply
from truckee.frontends.ftp.session import FACTS, Login, Refused, Session
from truckee.frontends.ftp.shell import Handler, Peer
from truckee.frontends.gate.journal import Method, Outcome
from truckee.frontends.vfs.paths import format_path, printable

_log = Logger()

MOST_FAILURES = 3
_LONGEST_PASSWORD = 1024


async def user(s: Session, arg: bytes) -> Reply:
    """USER: take the name; say nothing of whether it exists."""
    s.end_login()
    if not s.passwords_allowed():
        offered = s.context is not None and s.settings.tls != "off"
        how = "send AUTH TLS" if offered else "passwords are taken from this machine only"
        return reply(530, f"TLS required: {how}")
    if not arg:
        raise Refused(501, "a name is expected")
    s.user = arg
    return reply(331, "password please")


async def password(s: Session, arg: bytes) -> Reply:
    """PASS: log in."""
    if s.user is None or s.login is not None:
        return reply(503, "USER comes first")
    name, s.user = s.user, None
    peer = Peer(s.peer)
    anonymous = s.settings.anonymous and name.lower() in (b"anonymous", b"ftp")
    method: Method = "anonymous" if anonymous else "password"

    def note(outcome: Outcome) -> None:
        s.journal.login("ftp", s.peer, name.decode("utf-8", "replace"), method, outcome)

    try:
        text = name.decode("utf-8")
        if len(arg) > _LONGEST_PASSWORD:
            raise LoginFailed
        credentials = (
            AnonymousLogin(peer.host, peer.protocol)
            if anonymous
            else PasswordLogin(text, arg, peer.host, peer.protocol)
        )
        _, avatar, logout = await s.portal.login(credentials, peer, IFTPShell)
    except (LoginFailed, UnicodeDecodeError):
        note("denied")
        return _failed(s)
    except (TemporaryLoginError, CancelledError):
        note("temporary")
        return reply(421, "login temporarily impossible, try again later")
    except Exception:  # noqa: BLE001 - whatever breaks in a checker, it must not let anybody in
        note("temporary")
        _log.failure("ftp login from {peer} broke", peer=s.peer)
        return reply(421, "login temporarily impossible, try again later")
    refusal = _enter(s, avatar, logout, anonymous=anonymous)
    note("limit" if refusal else "ok")
    if refusal:
        return reply(421, refusal)
    return reply(230, "logged in, read-only" if s.vfs.readonly else "logged in")


def _failed(s: Session) -> Reply:
    s.failed_logins += 1
    if s.failed_logins >= MOST_FAILURES:
        return reply(421, "too many failed logins")
    return reply(530, "login incorrect")


def _enter(s: Session, avatar: object, logout: object, *, anonymous: bool) -> str:
    """Take the avatar as this session's login; return "", or why it may not have one."""
    if not isinstance(avatar, Handler) or not callable(logout):
        raise TypeError("the realm gave something else than was asked for")
    session = avatar.session
    s.login = Login(session.account, session, logout)
    refusal = s.control.admit(session.account, avatar.max_sessions, anonymous=anonymous)
    if refusal:
        s.end_login()
        return refusal
    s.failed_logins = 0
    s.control.logged_in()
    return ""


async def account(s: Session, arg: bytes) -> Reply:
    """ACCT."""
    return reply(202, "no account information is needed")


async def reinitialise(s: Session, arg: bytes) -> Reply:
    """REIN: as if just connected."""
    s.forget_everything()
    return reply(220, "ready for a new login")


async def quit_(s: Session, arg: bytes) -> Reply:
    """QUIT: the protocol closes after this reply."""
    return reply(221, "goodbye")


async def noop(s: Session, arg: bytes) -> Reply:
    """NOOP."""
    return reply(200, "ok")


async def system(s: Session, arg: bytes) -> Reply:
    """SYST."""
    return reply(215, "UNIX Type: L8")


async def client(s: Session, arg: bytes) -> Reply:
    """CLNT: clients introduce themselves; nothing depends on it."""
    return reply(200, "noted")


async def help_(s: Session, arg: bytes) -> Reply:
    """HELP: the words."""
    rows = [" ".join(s.words[i : i + 10]) for i in range(0, len(s.words), 10)]
    return reply(214, "commands:", *rows, "end")


async def features(s: Session, arg: bytes) -> Reply:
    """FEAT: what is on."""
    names = ["EPSV", "MDTM", "MFMT", "REST STREAM", "SIZE", "TVFS", "UTF8"]
    if s.settings.active_mode:
        names.append("EPRT")
    if s.context is not None and s.settings.tls != "off":
        names += ["AUTH TLS", "AUTH SSL", "PBSZ", "PROT"]
    shown = "".join(f"{fact}{'*' if fact in s.facts else ''};" for fact in FACTS)
    names.append(f"MLST {shown}")
    return reply(211, "features:", *sorted(names), "end")


async def options(s: Session, arg: bytes) -> Reply:
    """OPTS UTF8 ON, OPTS MLST fact;fact;."""
    word, _, rest = arg.partition(b" ")
    match word.upper(), rest.strip(b" "):
        case b"UTF8" | b"UTF-8", value if value.upper() in (b"", b"ON"):
            return reply(200, "UTF-8 is always on")
        case b"MLST", value:
            asked = {fact.strip().lower() for fact in value.split(b";")}
            s.facts = tuple(f for f in FACTS if f.lower().encode("ascii") in asked)
            return reply(200, "MLST OPTS " + "".join(f"{fact};" for fact in s.facts))
    return reply(501, "no such option")


async def type_(s: Session, arg: bytes) -> Reply:
    """TYPE I, L 8, A, A N."""
    match arg.upper().split():
        case [b"I"] | [b"L", b"8"] | [b"L8"]:
            s.text = False
            return reply(200, "type is image")
        case [b"A"] | [b"A", b"N"]:
            s.text = True
            return reply(200, "type is ASCII")
        case []:
            return reply(501, "a type is expected")
    return reply(504, "only types I, L 8 and A")


async def mode(s: Session, arg: bytes) -> Reply:
    """MODE S."""
    return reply(200, "mode is stream") if arg.upper() == b"S" else reply(504, "only mode S")


async def structure(s: Session, arg: bytes) -> Reply:
    """STRU F."""
    return reply(200, "structure is file") if arg.upper() == b"F" else reply(504, "only STRU F")


async def working_directory(s: Session, arg: bytes) -> Reply:
    """PWD."""
    return reply(257, quoted(format_path(s.cwd)) + " is the current directory")


def _how(protected: bool) -> str:
    return "under TLS" if protected else "in clear"


def status(s: Session) -> Reply:
    """Return the answer to STAT without an argument; also given in the middle of a transfer."""
    lines = [f"connected from {s.peer}"]
    if s.login is not None:
        lines.append(f"logged in as {printable(s.login.account)}")
    lines.append(f"control connection {_how(s.encrypted)}, data connections {_how(s.protected)}")
    lines.append(f"type is {'ASCII' if s.text else 'image'}, mode stream, structure file")
    if s.transfer is not None:
        lines.append(f"a transfer is running: {s.transfer.moved} bytes so far")
    return reply(211, "status of this session:", *lines, "end")
