"""The door to the worker threads: pure functions of bytes, and slow disk work, run behind it.

Knows threads and the reactor's ``callFromThread``; touches nothing else. Nothing that runs behind
the door may touch a node, a log or a Deferred. Two pools are made from it: one for the processor
(hashing, AES, zfec, RSA, bcrypt), one for the disk.

Results are delivered in batches: a worker that finishes while a delivery is already on its way only
appends to it. With thousands of short jobs in flight this costs one reactor wake-up for many
results; ``deferToThreadPool`` costs one each.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

P = ParamSpec("P")
T = TypeVar("T")

_SLICE = 0.010  # seconds of deliveries in one reactor turn


class Cpu(Protocol):
    """Somewhere to run a function that would hold up the reactor."""

    def run(self, f: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run `f` and return what it returns, or raise what it raises."""
        ...


class InlineCpu:
    """Runs at once in the calling thread: for tests, and for work too small for a thread hop."""

    def run(self, f: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run `f` now."""
        d: Deferred[T] = Deferred()
        try:
            result = f(*args, **kwargs)
        except BaseException:  # noqa: BLE001 - handed to the awaiting coroutine
            d.errback(Failure())
            return d
        return succeed(result)


class _Reactor(Protocol):
    """What PoolCpu needs of a reactor."""

    def callFromThread(self, f: Callable[..., object], *args: object) -> None: ...
    def callLater(self, delay: float, f: Callable[..., object], *args: object) -> object: ...
    def seconds(self) -> float: ...


_Job = tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class PoolCpu:
    """A fixed number of threads behind one queue.

    A Deferred that is cancelled before its job starts lets the job be skipped; one that is
    cancelled later drops the result.
    """

    def __init__(self, reactor: _Reactor, threads: int, name: str) -> None:
        """Take the reactor, the number of threads (>= 1) and a name for them."""
        self._reactor = reactor
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[tuple[Deferred[Any], object]] = deque()
        self._lock = Lock()
        self._delivering = False
        self._threads = [
            Thread(target=self._work, name=f"{name}-{i}", daemon=True) for i in range(threads)
        ]
        self._running = False

    def start(self) -> None:
        """Start the threads; jobs given before now begin to run."""
        if not self._running:
            self._running = True
            for thread in self._threads:
                thread.start()

    def stop(self) -> None:
        """Let the jobs in the queue finish and end the threads; blocks until they have ended."""
        if self._running:
            self._running = False
            for _ in self._threads:
                self._jobs.put(None)
            for thread in self._threads:
                thread.join()

    def run(self, f: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Queue `f`; the result arrives in the reactor thread."""
        d: Deferred[T] = Deferred()
        self._jobs.put((d, f, args, kwargs))
        return d

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            d, f, args, kwargs = job
            if d.called:  # cancelled while it waited
                continue
            result: object
            try:
                result = f(*args, **kwargs)
            except BaseException:  # noqa: BLE001 - handed to the awaiting coroutine
                result = Failure()
            del job, f, args, kwargs
            with self._lock:
                self._done.append((d, result))
                if self._delivering:
                    continue
                self._delivering = True
            self._reactor.callFromThread(self._deliver)

    def _deliver(self) -> None:
        deadline = self._reactor.seconds() + _SLICE
        while True:
            with self._lock:
                if not self._done:
                    self._delivering = False
                    return
                d, result = self._done.popleft()
            if not d.called:
                d.callback(result)  # a Failure given to callback starts the errback chain
            if self._reactor.seconds() > deadline:
                self._reactor.callLater(0, self._deliver)
                return
