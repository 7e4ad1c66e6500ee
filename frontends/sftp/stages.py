"""Which message may come when. Pure.

Every message that is out of place ends the connection: what an attacker slips in before the keys
are there must never reach a layer above (Terrapin), and a client that is not logged in has no
channels. The five stages are those of one connection; `exchanging` adds that the client has begun
a key exchange, in which it may send nothing else.
"""

from enum import Enum, auto
from functools import cache

from truckee.frontends.sftp.messages import Message


class Stage(Enum):
    """How far a connection has come."""

    OPENING = auto()
    """No keys are in use, and the client has not made its offer."""
    EXCHANGING = auto()
    """No keys are in use yet; the offers are made."""
    SECURED = auto()
    """Keys are in use; nothing was asked for."""
    LOGGING_IN = auto()
    WORKING = auto()
    """Somebody is logged in."""


@cache
def is_allowed(
    number: int, stage: Stage, *, exchanging: bool, strict: bool, first_in_keys: bool
) -> bool:
    """Return whether the client may send message `number` now.

    `strict` says that the client promised strict key exchange; `first_in_keys`, that this is the
    first message under the first keys, where alone it may tell its extensions.
    """
    unprotected = stage in {Stage.OPENING, Stage.EXCHANGING}
    match number:
        case Message.DISCONNECT:
            return True
        case Message.IGNORE | Message.UNIMPLEMENTED | Message.DEBUG:
            return not (unprotected and strict)
        case Message.KEXINIT:
            return not exchanging
        case Message.KEX_INIT | Message.NEWKEYS:
            return exchanging
    if exchanging or unprotected:
        return False
    match stage:
        case Stage.SECURED:
            told = number == Message.EXT_INFO and first_in_keys
            return told or number == Message.SERVICE_REQUEST
        case Stage.LOGGING_IN:
            return 50 <= number <= 79
        case _:
            return number >= 80
