"""Bcrypt for logins: two checks at a time, in turns, in threads of their own.

Knows bcrypt's cost and limits; touches the worker threads behind the `Cpu` door it is given.
"""

import os
from collections.abc import Callable

import bcrypt
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from truckee.auth.turns import Ticket, Turns
from truckee.core.cpu import Cpu
from truckee.core.errors import TemporaryLoginError
from truckee.core.tasks import Tasks

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
        self._clock = clock
        self._check = check
        self._patience = patience
        self._turns = Turns()
        self._running = Tasks()
        self._waiting: dict[Ticket, Deferred[bool]] = {}
        self._jobs: dict[Ticket, tuple[bytes, bytes]] = {}
        self.refused = 0

    def __len__(self) -> int:
        """Return how many logins wait for their turn."""
        return len(self._turns)

    async def matches(self, source: str, name: str, password: bytes, hashed: bytes) -> bool:
        """Return whether the password gives the hash; TemporaryLoginError when too many wait."""
        ticket = Ticket(source, name)
        if not self._turns.ask(ticket):
            self.refused += 1
            raise TemporaryLoginError("too many logins are waiting")
        answer: Deferred[bool] = Deferred(lambda _: self._leave(ticket))
        self._waiting[ticket] = answer
        self._jobs[ticket] = (password, hashed)
        timer = self._clock.callLater(self._patience, self._give_up, ticket)
        self._start()
        try:
            return await answer
        finally:
            if timer.active():
                timer.cancel()

    def _start(self) -> None:
        while (ticket := self._turns.start()) is not None:
            self._run(ticket)

    def _run(self, ticket: Ticket) -> None:
        password, hashed = self._jobs.pop(ticket)

        async def check() -> None:
            result: bool | Exception
            try:
                result = await self._cpu.run(self._check, password, hashed)
            except Exception as error:  # noqa: BLE001 - becomes the login's own error
                result = error
            self._turns.done(ticket)
            self._deliver(ticket, result)
            self._start()

        _ = self._running.start(check())

    def _deliver(self, ticket: Ticket, result: bool | Exception) -> None:
        answer = self._waiting.pop(ticket, None)
        if answer is None or answer.called:
            return
        if isinstance(result, Exception):
            answer.errback(result)
        else:
            answer.callback(result)

    def _leave(self, ticket: Ticket) -> None:
        self._turns.withdraw(ticket)
        self._waiting.pop(ticket, None)
        self._jobs.pop(ticket, None)

    def _give_up(self, ticket: Ticket) -> None:
        answer = self._waiting[ticket]
        self._leave(ticket)
        self.refused += 1
        answer.errback(TemporaryLoginError("the login waited too long for its turn"))
