"""Ready-made key pairs for new mutable files, and the few private keys in use.

Knows that making a key takes 10 to 130 ms; touches the worker pool. Private keys stay in memory
only: the cache is bounded and nothing here is written or logged.
"""

from collections import OrderedDict, deque
from collections.abc import Callable

from truckee.core.cpu import Cpu
from truckee.core.crypto import rsa
from truckee.core.tasks import Tasks

_READY = 4
_MAX_PAIRS = 256


class KeyPool:
    """Keeps a few key pairs ready; they are made one at a time, so other work finds room."""

    def __init__(
        self, cpu: Cpu, generate: Callable[[], rsa.KeyPair] = rsa.generate, ready: int = _READY
    ) -> None:
        """Take where and how keys are made, and how many to keep ready."""
        self._cpu = cpu
        self._generate = generate
        self._wanted = ready
        self._ready: deque[rsa.KeyPair] = deque()
        self._making = Tasks()  # never more than one
        self._running = False

    def __len__(self) -> int:
        """Return how many keys are ready."""
        return len(self._ready)

    def start(self) -> None:
        """Begin to fill the pool."""
        self._running = True
        self._refill()

    def stop(self) -> None:
        """Make no more keys ahead, and forget those that are ready."""
        self._running = False
        self._ready.clear()
        self._making.cancel()

    async def take(self) -> rsa.KeyPair:
        """Return a key pair that nobody else gets; made now when none is ready."""
        if self._ready:
            pair = self._ready.popleft()
            self._refill()
            return pair
        return await self._cpu.run(self._generate)

    def _refill(self) -> None:
        if self._running and not self._making:
            _ = self._making.start(self._make())

    async def _make(self) -> None:
        while self._running and len(self._ready) < self._wanted:
            pair = await self._cpu.run(self._generate)
            if self._running:
                self._ready.append(pair)


class PairCache:
    """The key pairs used last, by write key: reading one from a share costs calls and time."""

    def __init__(self, maximum: int = _MAX_PAIRS) -> None:
        """Take how many to keep."""
        self._maximum = maximum
        self._pairs: OrderedDict[bytes, rsa.KeyPair] = OrderedDict()

    def get(self, writekey: bytes) -> rsa.KeyPair | None:
        """Return the pair for a write key, if it is known."""
        pair = self._pairs.get(writekey)
        if pair is not None:
            self._pairs.move_to_end(writekey)
        return pair

    def put(self, writekey: bytes, pair: rsa.KeyPair) -> None:
        """Keep a pair whose private half hashes to `writekey`."""
        self._pairs[writekey] = pair
        self._pairs.move_to_end(writekey)
        while len(self._pairs) > self._maximum:
            self._pairs.popitem(last=False)


class SeenSignatures:
    """Digests of (public key, message, signature) that were found good."""

    def __init__(self, maximum: int = 4096) -> None:
        """Take how many to keep."""
        self._maximum = maximum
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        """Return whether this one was found good."""
        if digest not in self._seen:
            return False
        self._seen.move_to_end(digest)
        return True

    def add(self, digest: bytes) -> None:
        """Remember one that was found good."""
        self._seen[digest] = None
        while len(self._seen) > self._maximum:
            self._seen.popitem(last=False)
