"""A memory grid with mutable files on it, and processes that share nothing but its servers."""

import json
from functools import cache
from itertools import count
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from zope.interface import implementer

from truckee.core.cpu import InlineCpu
from truckee.core.crypto import rsa
from truckee.core.formats.caps import parse_strict
from truckee.core.interfaces import Encoding
from truckee.core.mutable.file import MutableContext, MutableFile
from truckee.core.mutable.keys import KeyPool
from truckee.core.storage.faults import Faults
from truckee.core.storage.memory import MemoryStore
from truckee.core.storage.server import LocalServer

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/mutable.json").read_text())


@cache
def key(number: int) -> rsa.KeyPair:
    """Return the key pair of this number; making one takes a while."""
    if number < len(VECTORS["keys"]):
        return rsa.load_private(bytes.fromhex(VECTORS["keys"][number]["privkey_der"]))
    return rsa.generate()


class Grid:
    """Servers that can be broken through `faults`; `server.…` is wrapped, `stores[i]` is bare."""

    def __init__(self, servers: int = 10, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.faults = Faults(self.clock)
        self.stores = [MemoryStore(bytes([i]) * 20) for i in range(servers)]
        self.servers = [
            self.faults.wrap(LocalServer(store, self.clock, wall=lambda: 1.7e9))
            for store in self.stores
        ]
        self._keys = count()

    def process(self, k: int = 3, happy: int = 7, n: int = 10, **more: object) -> MutableContext:
        """Return the context of one process."""
        pool = KeyPool(InlineCpu(), lambda: key(next(self._keys) % 6))
        return MutableContext(
            servers=lambda: self.servers,
            cpu=InlineCpu(),
            clock=self.clock,
            lease_secret=b"L" * 32,
            keys=pool,
            encoding=Encoding(k, happy, n),
            normal=more.pop("normal", lambda mean, _: mean),
            **more,
        )

    def run(self, coroutine, seconds: float = 0.0, step: float = 0.5):
        """Return what the coroutine gives while up to `seconds` pass; raise what it raises."""
        d = Deferred.fromCoroutine(coroutine)
        passed = 0.0
        while not d.called and passed < seconds:
            self.clock.advance(step)
            passed += step
        found: list = []
        d.addBoth(found.append)
        if not found:
            raise AssertionError("it has not come to an end")
        if hasattr(found[0], "raiseException"):
            found[0].raiseException()
        return found[0]

    def shares(self, file: MutableFile) -> dict[tuple[int, int], bytearray]:
        """Return the bytes of all shares of a file, by number of server and of share."""
        return {
            (i, shnum): share.data
            for i, store in enumerate(self.stores)
            for shnum, share in store.shares.get(file.cap.storage_index, {}).items()
        }

    def delete(self, file: MutableFile, server: int, shnum: int) -> None:
        """Lose one share."""
        slot = self.stores[server].shares[file.cap.storage_index]
        del slot[shnum]
        if not slot:
            del self.stores[server].shares[file.cap.storage_index]

    def snapshot(self, file: MutableFile) -> dict[tuple[int, int], bytes]:
        """Return a copy of all shares."""
        return {place: bytes(data) for place, data in self.shares(file).items()}

    def restore(self, file: MutableFile, shares: dict[tuple[int, int], bytes]) -> None:
        """Put the bytes of these shares back."""
        for place, data in self.shares(file).items():
            if place in shares:
                data[:] = shares[place]

    def rewind(self, file: MutableFile, shares: dict[tuple[int, int], bytes]) -> None:
        """Put the bytes of these shares back and remove all others."""
        self.restore(file, shares)
        for server, shnum in self.shares(file).keys() - shares.keys():
            self.delete(file, server, shnum)


def reopened(context: MutableContext, file: MutableFile, *, readonly: bool = False) -> MutableFile:
    """Return the file as another process finds it, from the text of its capability."""
    cap = parse_strict(file.cap.read_cap().text if readonly else file.cap.text)
    return MutableFile(context, cap)


@implementer(IConsumer)
class Sink:
    """Takes bytes; pauses the producer after every `pause_every` writes, stops it after some."""

    def __init__(self, pause_every: int = 0, stop_after: int = 0) -> None:
        self.pieces: list[bytes] = []
        self.producer = None
        self.registered = self.unregistered = 0
        self.paused = False
        self._pause_every = pause_every
        self._stop_after = stop_after

    def registerProducer(self, producer, streaming):
        assert streaming
        self.producer = producer
        self.registered += 1

    def unregisterProducer(self):
        self.unregistered += 1

    def write(self, data):
        assert not self.paused
        self.pieces.append(data)
        if self._stop_after and len(self.pieces) >= self._stop_after:
            self.producer.stopProducing()
        elif self._pause_every and len(self.pieces) % self._pause_every == 0:
            self.paused = True
            self.producer.pauseProducing()

    def resume(self) -> None:
        """Take more."""
        self.paused = False
        self.producer.resumeProducing()

    @property
    def data(self) -> bytes:
        """Return all bytes so far."""
        return b"".join(self.pieces)
