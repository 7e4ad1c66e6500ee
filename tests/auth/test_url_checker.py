from typing import Any

import pytest
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import reactor as _reactor  # noqa: TID251 - real sockets
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from tests.fakes.account_lines import BAD_ROOTS, BCRYPT, ED25519, OTHER, READ, WRITE
from tests.fakes.certificates import authority
from tests.fakes.web_server import Server
from truckee.auth import url_checker
from truckee.auth.accounts import Account, Policy, parse
from truckee.auth.checkers import AccountFileChecker, CompositeChecker
from truckee.auth.credentials import PasswordLogin
from truckee.auth.passwords import PasswordPool
from truckee.auth.throttle import Throttle
from truckee.auth.url_checker import AccountURLChecker
from truckee.core.cpu import InlineCpu
from truckee.core.errors import ConfigError, TemporaryLoginError

reactor: Any = _reactor


class Case(TestCase):
    def setUp(self) -> None:
        self.server = self.serve(authority().certificate("localhost"))
        self.answering = self.server.answering
        self.checker = self.checker_for(self.server.url)

    def serve(self, certificate=None) -> Server:
        server = Server(certificate)
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        return server

    def checker_for(self, url: str, **kwargs) -> AccountURLChecker:
        checker = AccountURLChecker(reactor, url, authority().pem, **kwargs)
        self.addCleanup(checker.stop)
        return checker

    def ask(self, name="alice", password="sesame", source="192.0.2.1", protocol="ftp"):
        login = PasswordLogin(name, password, source, protocol)
        return Deferred.fromCoroutine(self.checker.ask(login))

    async def temporary(self, **kwargs) -> None:
        with pytest.raises(TemporaryLoginError) as caught:
            await self.ask(**kwargs)
        assert "sesame" not in str(caught.value)


class QuestionTest(Case):
    async def test_the_question_is_a_form_as_old_account_servers_know_it(self) -> None:
        await self.ask("alice@example", "sesame", "2001:db8::1", "sftp")
        (heard,) = self.answering.heard
        assert heard.method == b"POST"
        assert heard.fields == {
            b"action": [b"authenticate"],
            b"email": [b"alice@example"],
            b"passwd": [b"sesame"],
        }
        assert heard.headers[b"content-type"].startswith(b"multipart/form-data; boundary=")
        assert heard.headers[b"user-agent"] == b"truckee"
        assert heard.headers[b"x-truckee-client"] == b"2001:db8::1 sftp"

    async def test_names_and_passwords_arrive_as_they_were_typed(self) -> None:
        password = (
            b'p\xe4ss "word"\r\n--\r\nContent-Disposition: form-data; name="email"\r\n\r\nroot'
        )
        await self.ask("Zoe\u0308 <b>", password)
        (heard,) = self.answering.heard
        assert heard.fields[b"email"] == ["Zo\u00eb <b>".encode()]
        assert heard.fields[b"passwd"] == [password]
        assert len(heard.fields) == 3

    @pytest.mark.threat("N11")
    async def test_the_boundary_is_another_one_each_time(self) -> None:
        for _ in range(5):
            await self.ask()
        assert len({heard.headers[b"content-type"] for heard in self.answering.heard}) == 5

    @pytest.mark.threat("A4")
    async def test_what_can_be_no_login_is_not_asked_about(self) -> None:
        for name in ("", "a" * 65, "a/b", "a:b", "a\nb", b"\xff\xfe", "$2b$12$"):
            assert await self.ask(name) is None
        assert await self.ask(password="x" * 1025) is None
        assert self.answering.heard == []
        self.checker = self.checker_for(self.server.url, anonymous=True)
        assert await self.ask("anonymous") is None
        assert self.answering.heard == []


class AnswerTest(Case):
    async def test_a_directory_capability_lets_in(self) -> None:
        self.answering.body = f"  {WRITE}\r\n".encode()
        found = await self.ask()
        assert found is not None
        assert (found.username, found.rootcap.text, found.readonly) == ("alice", WRITE, False)
        self.answering.body = READ.encode()
        found = await self.ask()
        assert found is not None
        assert found.readonly

    async def test_the_answer_may_carry_options(self) -> None:
        self.answering.body = WRITE.encode()
        self.answering.fields = {"X-Truckee-Options": "ro max-sessions=3 proto=ftp,sftp"}
        found = await self.ask()
        assert found is not None
        assert found.readonly
        assert found.options.max_sessions == 3
        for options in ("proto=sftp", "from=10.0.0.0/8", "expires=2020-01-01"):
            self.answering.fields = {"X-Truckee-Options": options}
            assert await self.ask() is None

    async def test_a_zero_and_two_statuses_are_a_no(self) -> None:
        for status, body in [(200, b"0"), (200, b" 0\n"), (401, b""), (403, WRITE.encode())]:
            self.answering.status, self.answering.body = status, body
            assert await self.ask() is None
        assert self.checker.failures == 0

    async def test_all_else_is_nobodys_fault_and_lets_nobody_in(self) -> None:
        """Acceptance X19."""
        bodies = [b"", b"1", b"00", b"<html>", b"\xff", WRITE.encode() + b" x", b"x" * 5000]
        bodies += [root.encode() for root in BAD_ROOTS.values()]
        bodies += [WRITE.encode() + b"\n" + OTHER.encode()]
        for body in bodies:
            self.answering.body = body
            await self.temporary()
        self.answering.body = WRITE.encode()
        for status in (201, 204, 206, 300, 304, 400, 404, 407, 429, 500, 503):
            self.answering.status = status
            await self.temporary()
        self.answering.status = 200
        for options in ("nonsense", "ro=yes", "expires=never", "\u00e9"):
            self.answering.fields = {"X-Truckee-Options": options}
            await self.temporary()
        assert self.checker.failures == len(bodies) + 11 + 4

    @pytest.mark.threat("N11")
    async def test_a_redirect_is_refused_and_the_password_goes_nowhere_else(self) -> None:
        other = self.serve(authority().certificate("localhost"))
        other.answering.body = WRITE.encode()
        for status in (301, 302, 303, 307, 308):
            self.answering.status = status
            self.answering.fields = {"Location": other.url}
            await self.temporary()
        assert other.answering.heard == []

    async def test_a_server_that_does_not_answer_is_given_up(self) -> None:
        self.patch(url_checker, "SECONDS", 0.3)
        self.checker = self.checker_for(self.server.url)
        self.answering.silent = True
        await self.temporary()
        assert len(self.answering.heard) == 1

    async def test_a_server_without_a_good_certificate_lets_nobody_in(self) -> None:
        server = self.serve(authority(1).certificate("localhost"))
        server.answering.body = WRITE.encode()
        self.checker = self.checker_for(server.url)
        await self.temporary()
        assert server.answering.heard == []

    @pytest.mark.threat("N11")
    async def test_http_is_for_this_machine(self) -> None:
        with pytest.raises(ConfigError):
            self.checker_for("http://accounts.example/login")
        server = self.serve()
        server.answering.body = WRITE.encode()
        self.checker = self.checker_for(server.url)
        assert await self.ask() is not None

    @pytest.mark.threat("L1")
    async def test_the_log_tells_that_it_failed_and_no_secret(self) -> None:
        events: list = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.answering.body = BAD_ROOTS["file"].encode()
        for _ in range(3):
            await self.temporary()
        lines = [e for e in events if e.get("log_namespace") == url_checker.__name__]
        assert len(lines) == 1
        assert not any("sesame" in str(e) or "URI:CHK" in str(e) for e in events)


class CrowdTest(Case):
    def setUp(self) -> None:
        self.patch(url_checker, "SECONDS", 60.0)  # on a busy machine ten may not be enough
        super().setUp()

    async def reach(self, count: int) -> None:
        """Wait until so many questions are under way."""
        for _ in range(2000):
            if len(self.answering.open) >= count:
                return
            await deferLater(reactor, 0.01, lambda: None)
        raise AssertionError(len(self.answering.open))

    @pytest.mark.threat("A3")
    async def test_sixteen_are_asked_at_a_time_and_the_others_wait(self) -> None:
        self.answering.silent = True
        self.answering.body = WRITE.encode()
        asked = [self.ask(source=f"192.0.2.{i}") for i in range(40)]
        await self.reach(16)
        await deferLater(reactor, 0.1, lambda: None)
        while any(not d.called for d in asked):
            for request in list(self.answering.open):
                self.answering.answer(request)
            await deferLater(reactor, 0.02, lambda: None)
        assert all(found is not None for found in await gatherResults(asked))
        assert self.answering.most == 16

    async def test_too_many_are_told_to_come_later(self) -> None:
        self.answering.silent = True
        asked = [self.ask(source=f"192.0.2.{i}") for i in range(60)]
        refused = [d for d in asked if d.called]
        assert len(refused) == 60 - 16 - 32
        for d in asked:
            d.addErrback(lambda f: f.trap(TemporaryLoginError))
        self.checker.stop()
        await gatherResults(refused)

    async def test_a_stop_leaves_nothing_behind(self) -> None:
        self.answering.silent = True
        asked = self.ask()
        await self.reach(1)
        self.checker.stop()
        with pytest.raises(TemporaryLoginError):
            await asked


FILE = f"""good {BCRYPT} {WRITE}
locked ! {WRITE}
keyonly ssh-ed25519 {ED25519} {WRITE}
expired {BCRYPT} {WRITE} expires=2020-01-01
broken {BCRYPT} {WRITE} nonsense
short
"""


class Accounts:
    key = b"k" * 32

    def __init__(self) -> None:
        self.table = parse(FILE.encode(), Policy(key=self.key))

    async def refresh(self) -> None:
        pass

    def generation(self, name: str) -> int:
        return 1

    def is_expired(self, account: Account, today) -> bool:
        return account.is_expired(today)


class OrderTest(Case):
    def setUp(self) -> None:
        super().setUp()
        self.answering.body = OTHER.encode()
        self.checks: list[bytes] = []
        self.throttle = Throttle(exempt=())
        self.patch(self.throttle, "delay", lambda source, name: 0.0)
        pool = PasswordPool(InlineCpu(), reactor, self.check)
        self.accounts = Accounts()
        self.all = CompositeChecker(
            AccountFileChecker(self.accounts, pool, self.throttle, reactor, elsewhere=self.checker)
        )

    def check(self, password: bytes, hashed: bytes) -> bool:
        self.checks.append(hashed)
        return password == b"x" and hashed == BCRYPT.encode()

    def login(self, name, password=b"x", source="192.0.2.1"):
        return self.all.requestAvatarId(PasswordLogin(name, password, source, "ftp"))

    @pytest.mark.threat("N11")
    async def test_a_name_of_the_file_is_never_told_to_the_url(self) -> None:
        assert (await self.login("good")).rootcap.text == WRITE
        names = ["good", "locked", "keyonly", "expired", "broken", "short"]
        for i, name in enumerate(names):
            with pytest.raises(UnauthorizedLogin):
                await self.login(name, b"y", f"198.51.100.{i}")
        assert self.answering.heard == []

    @pytest.mark.threat("N11")
    async def test_nor_is_one_whose_line_has_a_quote_without_end(self) -> None:
        accounts = Accounts()
        text = f'#truckee-accounts: 2\ngood {BCRYPT} {WRITE}\n"mallory x {BCRYPT} {WRITE}\n'
        accounts.table = parse(text.encode(), Policy(key=accounts.key))
        assert accounts.table.mentions("mallory")
        assert accounts.table.mentions("mallory x")
        assert not accounts.table.mentions("eve")
        assert "mallory" not in repr(accounts.table)

    @pytest.mark.threat("A7")
    async def test_a_yes_is_worth_nothing_when_the_name_has_got_a_line_meanwhile(self) -> None:
        self.answering.silent = True
        waiting = self.login("dave")
        while not self.answering.open:
            await deferLater(reactor, 0.01, lambda: None)
        self.accounts.table = parse(f"{FILE}dave ! {WRITE}\n".encode(), Policy())
        self.answering.answer(self.answering.open[0])
        with pytest.raises(UnauthorizedLogin):
            await waiting

    async def test_any_other_name_is_asked_about(self) -> None:
        found = await self.login("dave")
        assert (found.username, found.rootcap.text) == ("dave", OTHER)
        assert self.checks == []

    @pytest.mark.threat("A1")
    async def test_a_no_costs_one_check_and_one_point_and_says_the_same(self) -> None:
        self.answering.body = b"0"
        with pytest.raises(UnauthorizedLogin) as wrong:
            await self.login("good", b"y")
        with pytest.raises(UnauthorizedLogin) as denied:
            await self.login("dave")
        assert str(wrong.value) == str(denied.value)
        assert len(self.checks) == 2
        for _ in range(12):
            with pytest.raises(UnauthorizedLogin):
                await self.login("dave")
        assert not self.throttle.is_banned("192.0.2.1")
        with pytest.raises(UnauthorizedLogin):
            await self.login("dave")
        assert self.throttle.is_banned("192.0.2.1")
        asked = len(self.answering.heard)
        with pytest.raises(UnauthorizedLogin):
            await self.login("dave")
        assert len(self.answering.heard) == asked

    async def test_a_failure_is_temporary_and_held_against_nobody(self) -> None:
        self.answering.status = 500
        for _ in range(20):
            with pytest.raises(TemporaryLoginError):
                await self.login("dave")
        assert not self.throttle.is_banned("192.0.2.1")
        assert len(self.throttle) == 0
        assert self.checks == []
