"""Turns of the reactor that take too long: how many, how long, and what ran.

Knows that everything waits while one turn runs: from the moment the poller has told of events to
the moment it is asked again. Touches the poller of the reactor, which is wrapped to see those
moments, and has a thread that looks at the stack of a turn that has run for half the limit. Of the
stack only names of modules and functions are taken, no data.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.logger import Logger

LIMIT = 0.1
"""Seconds; a longer turn is counted and logged."""

WINDOW = 60.0
UNKNOWN = "elsewhere"
_OURS = "truckee."
_FRONTENDS = "truckee.frontends."

_log = Logger()


class Watchdog:
    """Watches one reactor; see the head of the module."""

    def __init__(self, reactor: Any, seconds: Callable[[], float] = time.monotonic) -> None:  # noqa: ANN401
        """Take the reactor and a clock that does not stop during a turn."""
        self._reactor = reactor
        self._seconds = seconds
        self._poller: Any = None
        self._began: float | None = None
        self._seen = ""  # what ran, if somebody looked
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._window = (self._seconds(), 0.0, 0.0)  # began, longest in it, longest in that before
        self.long_turns: Counter[str] = Counter()
        """How many turns were too long, by the room that ran."""

    def start(self) -> None:
        """Begin to watch. A reactor without a poller is left alone, with a line in the log."""
        poller = getattr(self._reactor, "_poller", None)
        if poller is None:
            _log.info("long turns of this kind of reactor are not watched")
            return
        self._poller = poller
        self._reactor._poller = _WatchedPoller(poller, self)
        watched = threading.get_ident()
        self._thread = threading.Thread(
            target=self._look, args=(watched,), name="watchdog", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Leave the reactor as it was, and end the thread."""
        if self._thread is None:
            return
        self._reactor._poller = self._poller
        self._stopped.set()
        self._thread.join()
        self._thread = None

    def delay(self) -> float:
        """Return how long the longest turn of the last minute or two took, in seconds."""
        self._turn_window()
        return max(self._window[1:])

    def turn_begins(self) -> None:
        """Take note that events came. Called once a turn: cheap."""
        self._began = self._seconds()

    def turn_ends(self) -> None:
        """Take note that all of them are dealt with."""
        began, self._began = self._began, None
        if began is None:
            return
        took = self._seconds() - began
        if took > self._window[1]:
            self._turn_window()
            start, longest, before = self._window
            self._window = (start, max(longest, took), before)
        if took > LIMIT:
            self._tell(took)
        self._seen = ""

    def _turn_window(self) -> None:
        start, longest, _ = self._window
        now = self._seconds()
        if now - start >= 2 * WINDOW:
            self._window = (now, 0.0, 0.0)
        elif now - start >= WINDOW:
            self._window = (start + WINDOW, 0.0, longest)

    def _tell(self, took: float) -> None:
        where = self._seen or UNKNOWN
        room = room_of(where)
        self.long_turns[room] += 1
        text = "the reactor was held up for {seconds:.3f} s by {where}"
        _log.warn(text, seconds=took, where=where, room=room)

    # below: in the thread

    def _look(self, watched: int) -> None:
        while not self._stopped.wait(LIMIT / 2):
            began = self._began
            if began is None or self._seen or self._seconds() - began < LIMIT / 2:
                continue
            frame = sys._current_frames().get(watched)
            seen = "" if frame is None else place_of(frame)
            del frame
            if self._began == began:
                self._seen = seen


class _WatchedPoller:
    """Takes the place of the reactor's poller, and says when it waits."""

    def __init__(self, poller: Any, watchdog: Watchdog) -> None:  # noqa: ANN401
        self._poll = poller.poll
        self._watchdog = watchdog
        self.register = poller.register
        self.modify = poller.modify
        self.unregister = poller.unregister
        self.close = poller.close
        self.fileno = poller.fileno

    def poll(self, *args: object) -> Any:  # noqa: ANN401
        self._watchdog.turn_ends()
        try:
            return self._poll(*args)
        finally:
            self._watchdog.turn_begins()


def place_of(frame: FrameType) -> str:
    """Return where a stack is: our innermost function, and the frontend it works for, if any."""
    innermost = frontend = ""
    found: FrameType | None = frame
    while found is not None:
        module = str(found.f_globals.get("__name__", ""))
        if module.startswith(_OURS) and module != __name__:
            place = f"{module.removeprefix(_OURS)}.{found.f_code.co_name}"
            innermost = innermost or place
            if module.startswith(_FRONTENDS):
                frontend = frontend or place
        found = found.f_back
    if not innermost:
        return f"{frame.f_globals.get('__name__', UNKNOWN)}.{frame.f_code.co_name}"
    return innermost if frontend in {"", innermost} else f"{innermost} for {frontend}"


def room_of(place: str) -> str:
    """Return the room of a place, such as ``ftp`` or ``core``; for labels of metrics."""
    head, _, rest = place.rpartition(" ")[2].partition(".")
    if head == "frontends":
        return rest.partition(".")[0]
    return head if head in {"auth", "core"} else UNKNOWN
