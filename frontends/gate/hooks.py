"""Other programs are told of logins and uploads, by a POST to an address of the configuration.

Knows what is told, and by `truckee.core.posting` where it may go; touches the network. Nothing
waits for it: a program that is slow or gone loses news, and the node only counts what it missed.
What is told is the account, the address it came from and, of an upload, path, size and time; never
a password, and a capability that stands in a path is cut out.
"""

import json
import re
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from truckee.core.errors import ServerGoneError
from truckee.core.posting import Destination, Poster
from truckee.core.tasks import Tasks
from truckee.frontends.gate.journal import Door, Ending, Journal, Method, Outcome, Verb

SECONDS = 5.0
WAITING = 64
AT_ONCE = 4
_COMPLAIN = 60.0
_LONGEST_PATH = 4096
_UPLOADS = frozenset({"put", "append"})
_CAPABILITY = re.compile(r"URI(?::|%3A)[^/]*", re.IGNORECASE)

_log = Logger()


class Hook:
    """One address, and the news that wait to go there."""

    def __init__(self, reactor: Any, url: str, ca: bytes | None = None) -> None:  # noqa: ANN401
        """Take the address, and the CA (PEM) to trust; ConfigError when it may not be told."""
        self._poster = Poster(reactor, Destination.parse(url), SECONDS, ca)
        self._reactor = reactor
        self._tasks = Tasks()
        self._waiting: deque[bytes] = deque()
        self._complained = float("-inf")
        self.sent = 0
        self.lost = 0
        """News that waited behind too many others, or that nobody took."""

    def tell(self, news: dict[str, object]) -> None:
        """Send it when its turn comes; returns at once."""
        if len(self._waiting) >= WAITING:
            self._lose("too many wait")
            return
        self._waiting.append(json.dumps({"v": 1, **news}, ensure_ascii=False).encode("utf-8"))
        if len(self._tasks) < AT_ONCE:
            _ = self._tasks.start(self._send())

    def stop(self) -> None:
        """Drop what waits, break off what is being sent."""
        self._waiting.clear()
        self._tasks.cancel()

    async def _send(self) -> None:
        headers = {"User-Agent": "truckee", "Content-Type": "application/json"}
        while self._waiting:
            try:
                reply = await self._poster.post(headers, self._waiting.popleft())
            except ServerGoneError as error:
                self._lose(str(error))
                continue
            if 200 <= reply.status < 300:
                self.sent += 1
            else:
                self._lose(f"it answered with status {reply.status}")

    def _lose(self, reason: str) -> None:
        self.lost += 1
        if self._reactor.seconds() - self._complained >= _COMPLAIN:
            self._complained = self._reactor.seconds()
            text = "a hook was not told: {reason}; {lost} so far"
            _log.warn(text, reason=reason, lost=self.lost)


class Hooks:
    """A `Journal` that tells hooks of logins and uploads that went well, and nothing else."""

    def __init__(self, login: Hook | None, upload: Hook | None, wall: Callable[[], float]) -> None:
        """Take whom to tell of what, and the clock on the wall."""
        self._login = login
        self._upload = upload
        self._wall = wall

    def stop(self) -> None:
        """Tell no more."""
        for hook in (self._login, self._upload):
            if hook is not None:
                hook.stop()

    def connected(self, door: Door, peer: str) -> None:
        """Nobody is told."""

    def refused(self, door: Door, peer: str, reason: str) -> None:
        """Nobody is told."""

    def left(self, door: Door, peer: str, name: str | None, seconds: float) -> None:
        """Nobody is told."""

    def login(self, door: Door, peer: str, name: str, method: Method, outcome: Outcome) -> None:
        """Tell of somebody who came in."""
        if self._login is not None and outcome == "ok":
            self._login.tell(
                {
                    "event": "login",
                    "time": self._wall(),
                    "door": door,
                    "peer": peer,
                    "account": _text(name),
                    "method": method,
                }
            )

    def transfer(
        self,
        door: Door,
        peer: str,
        name: str,
        verb: Verb,
        path: str,
        size: int,
        seconds: float,
        ending: Ending,
    ) -> None:
        """Tell of a file that arrived and is stored."""
        if self._upload is not None and verb in _UPLOADS and ending == "ok":
            self._upload.tell(
                {
                    "event": "upload",
                    "time": self._wall(),
                    "door": door,
                    "peer": peer,
                    "account": _text(name),
                    "verb": verb,
                    "path": _CAPABILITY.sub("(capability)", _text(path))[:_LONGEST_PATH],
                    "size": size,
                    "seconds": round(seconds, 3),
                }
            )


def _text(text: str) -> str:
    """Return text that can be written as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


class Journals:
    """A `Journal` that passes everything on to several."""

    def __init__(self, *journals: Journal) -> None:
        """Take them in the order in which they are told."""
        self._journals = journals

    def connected(self, door: Door, peer: str) -> None:
        """Pass it on."""
        for journal in self._journals:
            journal.connected(door, peer)

    def refused(self, door: Door, peer: str, reason: str) -> None:
        """Pass it on."""
        for journal in self._journals:
            journal.refused(door, peer, reason)

    def login(self, door: Door, peer: str, name: str, method: Method, outcome: Outcome) -> None:
        """Pass it on."""
        for journal in self._journals:
            journal.login(door, peer, name, method, outcome)

    def left(self, door: Door, peer: str, name: str | None, seconds: float) -> None:
        """Pass it on."""
        for journal in self._journals:
            journal.left(door, peer, name, seconds)

    def transfer(
        self,
        door: Door,
        peer: str,
        name: str,
        verb: Verb,
        path: str,
        size: int,
        seconds: float,
        ending: Ending,
    ) -> None:
        """Pass it on."""
        for journal in self._journals:
            journal.transfer(door, peer, name, verb, path, size, seconds, ending)
