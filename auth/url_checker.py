"""Accounts that another program knows: it is asked over HTTPS whether a password is right.

Knows the question (a form, as Tahoe-LAFS up to 1.15 sent it) and the answers: a directory
capability lets in, ``0`` or 401 or 403 does not, all else is a failure that nobody is blamed for.
Touches the network by `truckee.core.posting`, which holds every rule of where a password may go.
Nothing is kept of an answer.
"""

import secrets
from collections.abc import Callable
from datetime import date
from typing import Any

from twisted.logger import Logger

from truckee.auth.accounts import Options, check_name, parse_options, parse_rootcap, today
from truckee.auth.credentials import PasswordLogin
from truckee.auth.line import Line
from truckee.auth.realm import FTPAvatarID
from truckee.core.errors import AccountError, ServerGoneError, TemporaryLoginError
from truckee.core.formats.caps import DirectoryCap
from truckee.core.posting import Destination, Poster, Reply

SECONDS = 10.0
IN_FLIGHT = 16
LONGEST_PASSWORD = 1024
_COMPLAIN = 60.0
_DENIED = frozenset({401, 403})

_log = Logger()


class AccountURLChecker:
    """Asks the URL about names that the account file does not know."""

    def __init__(
        self,
        reactor: Any,  # noqa: ANN401
        url: str,
        ca: bytes | None = None,
        *,
        anonymous: bool = False,
        today: Callable[[], date] = today,
        random: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        """Take the address, and the CA (PEM) to trust; ConfigError when it may not be asked."""
        self._poster = Poster(reactor, Destination.parse(url), SECONDS, ca)
        self._line: Line[Reply] = Line(reactor, IN_FLIGHT, SECONDS)
        self._reactor = reactor
        self._anonymous = anonymous
        self._today = today
        self._random = random
        self._complained = float("-inf")
        self.failures = 0
        """How often the URL could not be asked or gave no answer that makes sense."""

    async def ask(self, login: PasswordLogin) -> FTPAvatarID | None:
        """Return what the login gives, or None when it is wrong; TemporaryLoginError if unknown."""
        if not self._may_be_asked(login):
            return None
        try:
            reply = await self._line.turn(login.source, login.username, lambda: self._post(login))
            found = understood(reply)
        except ServerGoneError as error:
            self._complain(str(error))
            raise TemporaryLoginError("the account server could not be asked") from None
        if found is None or not self._may_enter(login, found[1]):
            return None
        rootcap, options = found
        readonly = options.readonly or rootcap.is_readonly
        return FTPAvatarID(login.username, rootcap, readonly, options)

    def stop(self) -> None:
        """Break off what is being asked."""
        self._line.stop()

    def _may_be_asked(self, login: PasswordLogin) -> bool:
        try:
            check_name(login.username, anonymous=self._anonymous)
        except AccountError:
            return False
        return len(login.password) <= LONGEST_PASSWORD

    async def _post(self, login: PasswordLogin) -> Reply:
        fields = {
            "action": b"authenticate",
            "email": login.username.encode("utf-8"),
            "passwd": login.password,
        }
        boundary = self._random(24)
        headers = {
            "User-Agent": "truckee",
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "X-Truckee-Client": f"{login.source or '-'} {login.protocol or '-'}",
        }
        return await self._poster.post(headers, multipart(boundary, fields))

    def _may_enter(self, login: PasswordLogin, options: Options) -> bool:
        expired = options.expires is not None and self._today() > options.expires
        return (
            not expired
            and options.allows_protocol(login.protocol)
            and options.allows_source(login.source)
        )

    def _complain(self, reason: str) -> None:
        self.failures += 1
        if self._reactor.seconds() - self._complained >= _COMPLAIN:
            self._complained = self._reactor.seconds()
            _log.error("the account URL does not work: {reason}", reason=reason)


def multipart(boundary: str, fields: dict[str, bytes]) -> bytes:
    """Return a form; the boundary must be one that nobody can have put into a field."""
    start = f"--{boundary}\r\n".encode("ascii")
    parts = [
        start + f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode("ascii") + value
        for name, value in fields.items()
    ]
    return b"\r\n".join([*parts, f"--{boundary}--\r\n".encode("ascii")])


def understood(reply: Reply) -> tuple[DirectoryCap, Options] | None:
    """Return root and options of a yes, None for a no; ServerGoneError for all else."""
    if reply.status in _DENIED:
        return None
    if reply.status != 200:
        raise ServerGoneError(f"it answered with status {reply.status}")
    text = reply.body.strip()
    if text == b"0":
        return None
    words = b" ".join(reply.headers.getRawHeaders(b"x-truckee-options") or [])
    try:
        return parse_rootcap(text.decode("ascii")), parse_options(words.decode("ascii").split())
    except UnicodeDecodeError:
        raise ServerGoneError("its answer is no capability") from None
    except AccountError as error:
        raise ServerGoneError(f"its answer is not understood: {error}") from None
