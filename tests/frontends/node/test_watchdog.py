import sys
import time

import pytest
from twisted.internet import reactor  # noqa: TID251 - it is this one that is watched
from twisted.internet.task import deferLater
from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import TestCase

from truckee.frontends.node.watchdog import LIMIT, WINDOW, Watchdog, place_of, room_of


def run_in(module, body="seconds(duration)"):
    """Return a function that seems to be in `module`."""
    scope = {"__name__": module, "seconds": time.sleep}
    exec(f"def work(duration):\n    {body}\n", scope)
    return scope["work"]


class WatchdogTests(TestCase):
    def setUp(self):
        self.events = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.poller = reactor._poller
        self.watchdog = Watchdog(reactor)
        self.watchdog.start()
        self.addCleanup(self.watchdog.stop)

    def lines(self):
        texts = [eventAsText(e, includeTimestamp=False, includeSystem=False) for e in self.events]
        return [text for text in texts if "held up" in text]

    @pytest.mark.threat("D4")
    async def test_a_long_turn_is_counted_and_logged_with_what_ran(self):
        work = run_in("truckee.frontends.ftp.somewhere")
        await deferLater(reactor, 0.01, work, 3 * LIMIT)
        await deferLater(reactor, 0.01, lambda: None)
        assert self.watchdog.long_turns == {"ftp": 1}
        (line,) = self.lines()
        assert "by frontends.ftp.somewhere.work" in line
        assert 3 * LIMIT <= self.watchdog.delay() < 10

    @pytest.mark.threat("D4")
    async def test_what_ran_for_a_frontend_is_told_with_it(self):
        inner = run_in("truckee.core.somewhere")
        scope = {"__name__": "truckee.frontends.sftp.door", "inner": inner}
        exec("def serve(duration):\n    inner(duration)\n", scope)
        await deferLater(reactor, 0.01, scope["serve"], 3 * LIMIT)
        await deferLater(reactor, 0.01, lambda: None)
        assert self.watchdog.long_turns == {"sftp": 1}
        assert "by core.somewhere.work for frontends.sftp.door.serve" in self.lines()[0]

    async def test_short_turns_are_not_told_of(self):
        for _ in range(20):
            await deferLater(reactor, 0.001, time.sleep, 0.005)
        assert self.lines() == []
        assert self.watchdog.delay() > 0.004

    async def test_the_reactor_is_left_as_it_was(self):
        assert reactor._poller is not self.poller
        self.watchdog.stop()
        assert reactor._poller is self.poller
        self.watchdog.stop()

    @pytest.mark.threat("L1")
    async def test_no_data_is_in_what_is_told(self):
        work = run_in("truckee.core.somewhere", "secret = 'MARK'; seconds(duration)")
        await deferLater(reactor, 0.01, work, 3 * LIMIT)
        await deferLater(reactor, 0.01, lambda: None)
        assert self.lines()
        assert "MARK" not in repr(self.events)


def test_the_longest_turn_is_forgotten_after_two_minutes():
    now = [0.0]
    watchdog = Watchdog(None, lambda: now[0])
    watchdog.turn_begins()
    now[0] = 0.09
    watchdog.turn_ends()
    for at, delay in [(1, 0.09), (WINDOW + 1, 0.09), (2 * WINDOW + 1, 0.0)]:
        now[0] = at
        assert watchdog.delay() == pytest.approx(delay)
    now[0] = 10 * WINDOW
    assert watchdog.delay() == 0.0


def test_a_reactor_without_a_poller_is_left_alone():
    watchdog = Watchdog(object())
    watchdog.start()
    watchdog.stop()


def test_places_have_rooms():
    assert room_of("core.dirtables.pack") == "core"
    assert room_of("core.dirtables.pack for frontends.vfs.session.rename") == "vfs"
    assert room_of("auth.accounts.parse") == "auth"
    assert room_of("twisted.internet.tcp.doRead") == "elsewhere"
    assert room_of("elsewhere") == "elsewhere"
    assert place_of(sys._getframe()).endswith(".test_places_have_rooms")
