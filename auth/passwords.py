"""Bcrypt for logins: two checks at a time, in turns, in threads of their own.

Knows bcrypt's cost and limits; touches the worker threads behind the `Cpu` door it is given.
"""

import os
from collections.abc import Callable

import bcrypt
from twisted.internet.interfaces import IReactorTime

from truckee.auth.line import Line
from truckee.auth.turns import RUNNING
from truckee.core.cpu import Cpu

MAXIMUM_PASSWORD = 72  # bytes that bcrypt looks at
DEFAULT_COST = 12
LOGIN_GRACE = 60.0
_SALT_LETTERS = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def dummy_hash(cost: int, random: Callable[[int], bytes] = os.urandom) -> bytes:
    """Return a bcrypt hash of that cost that no password is known to match."""
    letters = [_SALT_LETTERS[byte & 63] for byte in random(52)]
    return f"$2b${cost:02d}${''.join(letters[:21])}.{''.join(letters[21:])}".encode("ascii")


def hash_password(password: bytes, cost: int = DEFAULT_COST) -> str:
    """Return the bcrypt hash of at most 72 bytes; blocking, a third of a second."""
    return bcrypt.hashpw(password, bcrypt.gensalt(cost)).decode("ascii")


class PasswordPool:
    """Runs bcrypt for logins, two at a time, in turns."""

    def __init__(
        self,
        cpu: Cpu,
        clock: IReactorTime,
        check: Callable[[bytes, bytes], bool] = bcrypt.checkpw,
        patience: float = LOGIN_GRACE,
    ) -> None:
        """Take a door with two threads of its own, and the longest wait in seconds."""
        self._cpu = cpu
        self._check = check
        self._line: Line[bool] = Line(clock, RUNNING, patience)

    def __len__(self) -> int:
        """Return how many logins wait for their turn."""
        return len(self._line)

    @property
    def refused(self) -> int:
        """Return how many logins were sent away because too many waited, or too long."""
        return self._line.refused

    async def matches(self, source: str, name: str, password: bytes, hashed: bytes) -> bool:
        """Return whether the password gives the hash; TemporaryLoginError when too many wait."""
        return await self._line.turn(
            source, name, lambda: self._cpu.run(self._check, password, hashed)
        )
