"""What a frontend hands to the portal when somebody asks to come in.

Knows twisted.cred's interfaces; touches nothing. A frontend makes a `PasswordLogin` (or an
`AnonymousLogin`) that also says where the attempt comes from and by which protocol: options of an
account and the throttle need both. Other credentials are taken, too: their attributes ``peer`` (an
address) and ``protocol`` are looked at; without them the attempt is from nowhere by no protocol.
"""

import unicodedata

from twisted.cred.credentials import IAnonymous, IUsernamePassword
from zope.interface import implementer


@implementer(IUsernamePassword)
class PasswordLogin:
    """A name and a password, the address they came from and the protocol that carried them."""

    __slots__ = ("password", "protocol", "source", "username")

    def __init__(
        self, username: str | bytes, password: str | bytes, source: str = "", protocol: str = ""
    ) -> None:
        """Take name and password in either form; `source` is the peer's address as text."""
        self.username = name_of(username)
        self.password = password.encode("utf-8") if isinstance(password, str) else password
        self.source = source
        self.protocol = protocol

    def checkPassword(self, password: bytes) -> bool:
        """Never agree: only the account table can tell."""
        return False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


@implementer(IAnonymous)
class AnonymousLogin:
    """Somebody who gives no name."""

    __slots__ = ("protocol", "source")

    def __init__(self, source: str = "", protocol: str = "") -> None:
        """Take the peer's address and the protocol's name."""
        self.source = source
        self.protocol = protocol


def name_of(name: str | bytes) -> str:
    """Return a user name in NFC, from whatever form a frontend has it in."""
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    return unicodedata.normalize("NFC", text)


def normalised(credentials: object) -> PasswordLogin:
    """Return the login with name in NFC and password in bytes, whatever class brought it."""
    if isinstance(credentials, PasswordLogin):
        return credentials
    return PasswordLogin(
        getattr(credentials, "username", ""),
        getattr(credentials, "password", b""),
        str(getattr(credentials, "peer", "")),
        str(getattr(credentials, "protocol", "")),
    )
