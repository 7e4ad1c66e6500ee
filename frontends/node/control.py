"""A local socket by which the command line asks a running node for something.

Knows one JSON object per line, question and answer; touches ``private/control``, which only the
node's own user can open. What is asked for here needs the node's grid: nothing that the account
file could say as well. Capabilities travel over it, passwords never do.
"""

import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver

from truckee.core.errors import ServerGoneError, TruckeeError
from truckee.core.tasks import Tasks

NAME = "control"
LONGEST_LINE = 65536
_LONGEST_PATH = 100  # the system's limit is 107
_PATIENCE = 120.0

_log = Logger()

Answer = Mapping[str, object]
Handler = Callable[[Mapping[str, Any]], Awaitable[Answer]]


class _Protocol(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = LONGEST_LINE

    def __init__(self, handlers: Mapping[str, Handler], tasks: Tasks) -> None:
        self._handlers = handlers
        self._tasks = tasks

    def lineReceived(self, line: bytes) -> None:
        _ = self._tasks.start(self._serve(line))

    async def _serve(self, line: bytes) -> None:
        answer: Answer
        try:
            question = json.loads(line)
            handler = self._handlers[str(question["do"])]
            answer = await handler(question)
        except TruckeeError as error:
            answer = {"error": str(error)}
        except (ValueError, KeyError, TypeError, RecursionError):
            answer = {"error": "not understood"}
        except Exception:  # noqa: BLE001 - the node must live on
            _log.failure("a question of the command line could not be answered")
            answer = {"error": "internal error"}
        if self.transport is not None:
            self.transport.write(json.dumps({"v": 1, **answer}).encode("utf-8") + b"\n")
            self.transport.loseConnection()


class _Factory(ServerFactory):
    noisy = False

    def __init__(self, handlers: Mapping[str, Handler], tasks: Tasks) -> None:
        self._handlers = handlers
        self._tasks = tasks

    def buildProtocol(self, addr: object) -> _Protocol:
        return _Protocol(self._handlers, self._tasks)


class Control:
    """The listening side."""

    def __init__(self, folder: Path, reactor: Any, handlers: Mapping[str, Handler]) -> None:  # noqa: ANN401
        """Take the private folder and what can be asked."""
        self._path = folder / NAME
        self._reactor = reactor
        self._tasks = Tasks()
        self._factory = _Factory(handlers, self._tasks)
        self._port: IListeningPort | None = None
        self._folder = -1

    def start(self) -> None:
        """Listen, in the place of what a killed node may have left there."""
        self._path.unlink(missing_ok=True)
        self._folder = os.open(self._path.parent, os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC)
        address = _address(self._path, self._folder)
        self._port = self._reactor.listenUNIX(address, self._factory, mode=0o600)

    async def stop(self) -> None:
        """Close the socket; questions under way are dropped."""
        self._tasks.cancel()
        if self._port is not None:
            port, self._port = self._port, None
            stopped: Deferred[None] | None = port.stopListening()
            if stopped is not None:
                await stopped
            os.close(self._folder)


def _address(path: Path, folder: int) -> str:
    """Return a name of the socket short enough for the system: by way of its open folder."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        return str(path)
    return f"/proc/self/fd/{folder}/{path.name}"


def ask(
    folder: Path, question: Mapping[str, object], patience: float = _PATIENCE
) -> Mapping[str, Any]:
    """Ask the node that runs on this private folder; blocking, for `patience` seconds at most.

    Raises ServerGoneError when it cannot be reached, or with what it says went wrong.
    """
    try:
        answer = _exchange(folder, json.dumps(question).encode("utf-8") + b"\n", patience)
    except OSError:
        raise ServerGoneError("the running node does not answer on its control socket") from None
    fields: Mapping[str, Any] = {}
    with suppress(ValueError):
        fields = json.loads(answer)
    if not isinstance(fields, dict) or "error" in fields or not fields:
        said = str(fields.get("error", "")) if isinstance(fields, dict) else ""
        raise ServerGoneError(f"the running node could not do it: {said}")
    return fields


def _exchange(folder: Path, question: bytes, patience: float = _PATIENCE) -> bytes:
    fd = os.open(folder, os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(patience)
            s.connect(_address(folder / NAME, fd))
            s.sendall(question)
            answer = b""
            while len(answer) < LONGEST_LINE and (piece := s.recv(LONGEST_LINE)):
                answer += piece
            return answer
    finally:
        os.close(fd)
