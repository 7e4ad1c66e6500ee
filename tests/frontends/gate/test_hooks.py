import json
from typing import Any

import pytest
from twisted.internet import reactor as _reactor  # noqa: TID251 - real sockets
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from tests.fakes.account_lines import WRITE
from tests.fakes.certificates import authority
from tests.fakes.web_server import Server
from truckee.core.errors import ConfigError
from truckee.frontends.gate import hooks
from truckee.frontends.gate.hooks import Hook, Hooks, Journals

reactor: Any = _reactor


def transfer(journal: Any, path="/a/b", verb="put", ending="ok", name="alice") -> None:
    journal.transfer("sftp", "192.0.2.1", name, verb, path, 7, 0.25, ending)


class HookTest(TestCase):
    def setUp(self) -> None:
        self.patch(hooks, "SECONDS", 60.0)  # on a busy machine five may not be enough
        self.server = Server(authority().certificate("localhost"))
        self.addCleanup(lambda: Deferred.fromCoroutine(self.server.stop()))
        self.hook = Hook(reactor, self.server.url, authority().pem)
        self.addCleanup(self.hook.stop)
        self.hooks = Hooks(self.hook, self.hook, lambda: 1_900_000_000.5)

    async def told(self, count: int) -> list[dict]:
        """Return the news once `count` were sent or lost."""
        for _ in range(3000):
            if self.hook.sent + self.hook.lost >= count:
                break
            await deferLater(reactor, 0.01, lambda: None)
        return [json.loads(heard.body) for heard in self.server.answering.heard]

    async def test_logins_are_told(self) -> None:
        self.hooks.login("ftp", "192.0.2.1", "alice", "password", "ok")
        (news,) = await self.told(1)
        assert news == {
            "v": 1,
            "event": "login",
            "time": 1_900_000_000.5,
            "door": "ftp",
            "peer": "192.0.2.1",
            "account": "alice",
            "method": "password",
        }
        (heard,) = self.server.answering.heard
        assert (heard.method, heard.headers[b"content-type"]) == (b"POST", b"application/json")

    async def test_uploads_are_told(self) -> None:
        transfer(self.hooks, "/naïve é 日本.bin")
        (news,) = await self.told(1)
        assert news["event"] == "upload"
        assert news["path"] == "/naïve é 日本.bin"
        assert (news["account"], news["size"], news["seconds"]) == ("alice", 7, 0.25)

    async def test_nothing_else_is_told(self) -> None:
        self.hooks.connected("ftp", "192.0.2.1")
        self.hooks.refused("ftp", "192.0.2.1", "banned")
        self.hooks.left("ftp", "192.0.2.1", "alice", 1.0)
        for outcome in ("denied", "temporary", "limit"):
            self.hooks.login("ftp", "192.0.2.1", "a password by mistake", "password", outcome)
        transfer(self.hooks, verb="get")
        transfer(self.hooks, verb="list")
        transfer(self.hooks, ending="failed")
        transfer(self.hooks, ending="aborted")
        nobody = Hooks(None, None, lambda: 0.0)
        nobody.login("ftp", "192.0.2.1", "alice", "password", "ok")
        transfer(nobody)
        nobody.stop()
        transfer(self.hooks, "/last")
        assert [news["path"] for news in await self.told(1)] == ["/last"]

    @pytest.mark.threat("L1")
    async def test_no_capability_is_told(self) -> None:
        transfer(self.hooks, f"/uri/{WRITE}/a")
        transfer(self.hooks, f"/uri/{WRITE.replace(':', '%3A').lower()}/b")
        transfer(self.hooks, "/\udcff")
        await self.told(3)
        said = b"".join(heard.body for heard in self.server.answering.heard)
        assert WRITE.split(":")[2].encode() not in said
        assert b"/uri/(capability)/a" in said

    async def test_a_hook_that_hangs_holds_up_nothing_and_loses_what_is_too_much(self) -> None:
        self.server.answering.silent = True
        for i in range(100):
            transfer(self.hooks, f"/{i}")
        for _ in range(2000):
            if len(self.server.answering.open) == hooks.AT_ONCE:
                break
            await deferLater(reactor, 0.01, lambda: None)
        assert self.server.answering.most == hooks.AT_ONCE
        assert self.hook.lost == 100 - hooks.WAITING - hooks.AT_ONCE
        self.hooks.stop()
        await deferLater(reactor, 0.1, lambda: None)
        assert self.hook.sent == 0

    async def test_a_hook_that_fails_is_complained_of_once_and_told_again_later(self) -> None:
        events: list = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.server.answering.status = 500
        for _ in range(3):
            transfer(self.hooks)
        await self.told(3)
        assert self.hook.lost == 3
        assert len([e for e in events if e.get("log_namespace") == hooks.__name__]) == 1
        self.server.answering.status = 204
        transfer(self.hooks)
        await self.told(4)
        assert self.hook.sent == 1

    async def test_a_hook_out_of_reach_is_counted(self) -> None:
        await self.server.stop()
        transfer(self.hooks)
        await self.told(1)
        assert self.hook.lost == 1

    async def test_news_that_wait_are_sent_in_the_end(self) -> None:
        for i in range(30):
            transfer(self.hooks, f"/{i}")
        paths = {news["path"] for news in await self.told(30)}
        assert len(paths) == 30

    def test_a_hook_elsewhere_needs_https(self) -> None:
        with pytest.raises(ConfigError):
            Hook(reactor, "http://hooks.example/")


def test_everything_is_passed_on_to_all_journals():
    class Heard:
        def __init__(self) -> None:
            self.said: list = []

        def __getattr__(self, name: str):
            return lambda *args: self.said.append((name, args))

    first, second = Heard(), Heard()
    both: Any = Journals(first, second)
    both.connected("ftp", "p")
    both.refused("ftp", "p", "r")
    both.login("ftp", "p", "n", "key", "ok")
    both.left("ftp", "p", None, 1.0)
    transfer(both)
    assert first.said == second.said
    assert [name for name, _ in first.said] == ["connected", "refused", "login", "left", "transfer"]
