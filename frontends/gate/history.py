"""The last logins of each account, kept across restarts: when, where from, how, with what result.

Knows one small file per account in ``private/logins``, named by a hash of the account's name: a
first line that says whose it is, then one JSON object per line, the newest last. Touches the disk,
in batches through the door it is given; a file is replaced whole. Only names of accounts are kept:
what else people type as a name may be a password.
"""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, cast, get_args

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from truckee.core import files
from truckee.core.cpu import Cpu
from truckee.core.errors import ConfigError
from truckee.core.tasks import Tasks
from truckee.frontends.gate.journal import Door, Method, Outcome

FOLDER = "logins"
KEPT = 1000
BATCH = 30.0
_WAITING = 2000  # logins in memory; then they are written at once
_LONGEST_PEER = 64
_LIMIT = 1 << 20

_log = Logger()


@dataclass(frozen=True, slots=True)
class LoginEntry:
    """One login, or several alike that came within seconds; `when` is that of the last."""

    when: int
    door: Door
    peer: str
    method: Method
    outcome: Outcome
    times: int = 1

    def fields(self) -> dict[str, object]:
        """Return it for JSON."""
        return {
            "time": self.when,
            "door": self.door,
            "peer": self.peer,
            "method": self.method,
            "outcome": self.outcome,
            "times": self.times,
        }

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """Return the entry of a line, or None when it is damaged."""
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(fields, dict):
            return None
        words = [fields.get(name) for name in ("door", "peer", "method", "outcome")]
        numbers = [fields.get("time"), fields.get("times")]
        if not all(isinstance(w, str) for w in words) or not all(type(n) is int for n in numbers):
            return None
        door, peer, method, outcome = cast("list[str]", words)
        known = (get_args(Door), get_args(Method), get_args(Outcome))
        if any(w not in k for w, k in zip((door, method, outcome), known, strict=True)):
            return None
        when, times = cast("list[int]", numbers)
        return cls(
            when,
            cast("Door", door),
            peer[:_LONGEST_PEER],
            cast("Method", method),
            cast("Outcome", outcome),
            times,
        )


class Journaled(Protocol):
    """Where logins are noted for later."""

    def note(self, name: str, door: Door, peer: str, method: Method, outcome: Outcome) -> None:
        """Take note of a login."""
        ...


class LoginHistory:
    """The writing side, in the node's process."""

    def __init__(
        self,
        private: Path,
        clock: IReactorTime,
        disk: Cpu,
        wall: Callable[[], float],
        is_account: Callable[[str], bool],
    ) -> None:
        """Take the private folder, the doors, and what tells accounts from other names."""
        self._folder = private / FOLDER
        self._clock = clock
        self._disk = disk
        self._wall = wall
        self._is_account = is_account
        self._waiting: dict[str, dict[tuple[str, ...], LoginEntry]] = {}
        self._count = 0
        self._timer: IDelayedCall | None = None
        self._turn = DeferredLock()
        self._tasks = Tasks()
        self.lost = 0
        """How many logins could not be written down."""

    def note(self, name: str, door: Door, peer: str, method: Method, outcome: Outcome) -> None:
        """Take note of a login; written within half a minute. Other names are passed over.

        Who came in has an account, also one that the file does not know.
        """
        name = unicodedata.normalize("NFC", name)
        proven = outcome in {"ok", "limit"} and method != "anonymous"
        if not proven and not self._is_account(name):
            return
        alike = self._waiting.setdefault(name, {})
        key = (door, peer, method, outcome)
        before = alike.pop(key, None)
        times = 1 if before is None else before.times + 1
        when = round(self._wall())
        alike[key] = LoginEntry(when, door, peer[:_LONGEST_PEER], method, outcome, times)
        self._count += before is None
        if self._count >= _WAITING:
            self._flush_behind()
        elif self._timer is None:
            self._timer = self._clock.callLater(BATCH, self._flush_behind)

    async def flush(self) -> None:
        """Write down what waits; errors are logged and counted."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        async with self._turn:
            batch, self._waiting, self._count = self._waiting, {}, 0
            for name, alike in batch.items():
                await self._write(name, list(alike.values()))

    def _flush_behind(self) -> None:
        self._timer = None
        _ = self._tasks.start(self.flush())

    async def _write(self, name: str, entries: list[LoginEntry]) -> None:
        try:
            await self._disk.run(append, self._folder, name, entries)
        except (OSError, ConfigError) as error:
            self.lost += len(entries)
            why = error.strerror if isinstance(error, OSError) else str(error)
            _log.warn("logins of an account could not be written down: {why}", why=why)

    def stop(self) -> Deferred[None]:
        """Write down the rest."""
        return Deferred.fromCoroutine(self.flush())


def _path(folder: Path, name: str) -> Path:
    return folder / hashlib.sha256(name.encode("utf-8")).hexdigest()[:32]


def append(folder: Path, name: str, entries: Iterable[LoginEntry]) -> None:
    """Put entries behind those that are there, and keep the last thousand. Blocking."""
    files.make_private_directory(folder)
    path = _path(folder, name)
    lines = [json.dumps(e.fields(), separators=(",", ":")) for e in [*_entries(path), *entries]]
    head = json.dumps({"v": 1, "account": name}, ensure_ascii=False)
    text = "\n".join([head, *lines[-KEPT:]]) + "\n"
    files.replace(path, text.encode("utf-8"))


def read(private: Path, name: str) -> list[LoginEntry]:
    """Return the logins of one account that are written down, oldest first. Blocking.

    Damaged lines are passed over. ConfigError when others may read the file.
    """
    return _entries(_path(private / FOLDER, name))


def _entries(path: Path) -> list[LoginEntry]:
    try:
        text = files.read(path, _LIMIT).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    found = [LoginEntry.parse(line) for line in text.split("\n")[1:] if line]
    return [entry for entry in found if entry is not None]
