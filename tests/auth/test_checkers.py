from datetime import date

import pytest
from twisted.cred.credentials import Anonymous, IUsernamePassword, SSHPrivateKey, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.fakes.account_lines import BCRYPT, ED25519, OTHER, READ, WRITE
from truckee.auth.accounts import Account, AccountTable, Policy, parse, parse_rootcap
from truckee.auth.checkers import AccountFileChecker, AnonymousChecker, CompositeChecker
from truckee.auth.credentials import AnonymousLogin, PasswordLogin
from truckee.auth.passwords import PasswordPool, dummy_hash, hash_password
from truckee.auth.throttle import Throttle
from truckee.core.cpu import InlineCpu
from truckee.core.errors import TemporaryLoginError

TODAY = date(2030, 6, 1)
COST7 = "$2b$07$" + BCRYPT[7:]
FILE = f"""#truckee-accounts: 2
good {BCRYPT} {WRITE}
reader {BCRYPT} {WRITE} ro
plain sesame {OTHER}
locked {BCRYPT} {WRITE}
locked ! =
expired {BCRYPT} {WRITE} expires=2030-05-31
keyonly ssh-ed25519 {ED25519} {WRITE}
sftponly {BCRYPT} {WRITE} proto=sftp
elsewhere {BCRYPT} {WRITE} from=10.0.0.0/8
dear {COST7} {OTHER}
broken {BCRYPT} {READ} nonsense
"""


class Accounts:
    """The account file without a disk."""

    key = b"k" * 32

    def __init__(self, text: str = FILE) -> None:
        self.table = parse(text.encode(), Policy(key=self.key))
        self.broken = False

    async def refresh(self) -> None:
        if self.broken:
            raise RuntimeError("the disk is on fire")

    def generation(self, name: str) -> int:
        return 7

    def is_expired(self, account: Account, today: date) -> bool:
        return account.is_expired(today)


class House:
    """A checker with counted bcrypt checks."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.accounts = Accounts()
        self.checks: list[tuple[bytes, bytes]] = []
        self.pool = PasswordPool(InlineCpu(), self.clock, self.check)
        self.throttle = Throttle(seconds=self.clock.seconds, jitter=lambda: 0.0)
        self.checker = AccountFileChecker(
            self.accounts, self.pool, self.throttle, self.clock, lambda: TODAY
        )

    def check(self, password: bytes, hashed: bytes) -> bool:
        assert len(password) <= 72
        self.checks.append((password, hashed))
        return password == b"x" and hashed.endswith(BCRYPT[7:].encode())

    def login(self, name, password=b"x", source="192.0.2.1", protocol="ftp"):
        return self.ask(PasswordLogin(name, password, source, protocol))

    def ask(self, credentials):
        results: list[object] = []
        d = self.checker.requestAvatarId(credentials)
        d.addBoth(results.append)
        self.clock.pump([0.5] * 40)
        (result,) = results
        return result


def test_the_right_password_gives_the_avatar_id():
    house = House()
    found = house.login("good")
    assert (found.username, found.readonly, found.generation) == ("good", False, 7)
    assert found.rootcap.text == WRITE
    assert len(house.checks) == 1


@pytest.mark.threat("L1")
def test_the_repr_of_an_avatar_id_shows_no_capability():
    assert "URI" not in repr(House().login("good"))
    assert "secret" not in repr(PasswordLogin("alice", "secret"))


def test_a_read_only_account_is_marked():
    assert House().login("reader").readonly


def test_a_plaintext_line_lets_in_and_still_costs_one_check():
    house = House()
    assert house.login("plain", "sesame").username == "plain"
    assert house.login("plain", "x").check(UnauthorizedLogin)
    assert len(house.checks) == 2


STATES = ["nobody", "locked", "expired", "keyonly", "sftponly", "elsewhere", "broken", "", "Good"]


@pytest.mark.threat("A1")
@pytest.mark.parametrize("name", STATES)
@pytest.mark.threat("A1")
def test_every_kind_of_refusal_costs_one_check_as_dear_as_the_dearest(name):
    house = House()
    wrong = house.login("good", b"y")
    refused = house.login(name)
    assert refused.check(UnauthorizedLogin)
    assert str(refused.value) == str(wrong.value)
    assert len(house.checks) == 2
    assert house.checks[1][1].startswith(b"$2b$07$")


@pytest.mark.threat("A4")
@pytest.mark.parametrize("password", [b"x" * 73, b"x" * 1_000_000, "é" * 37])
@pytest.mark.threat("A4")
def test_passwords_that_bcrypt_would_cut_are_wrong_and_cost_one_check(password):
    house = House()
    assert house.login("good", password).check(UnauthorizedLogin)
    assert len(house.checks) == 1


def test_options_decide_by_protocol_and_address():
    house = House()
    assert house.login("sftponly", protocol="sftp").username == "sftponly"
    assert house.login("elsewhere", source="10.9.9.9").username == "elsewhere"


@pytest.mark.threat("A8")
@pytest.mark.threat("A8")
def test_names_are_compared_in_nfc_and_bytes_are_taken():
    house = House()
    house.accounts.table = parse(f"Zo\u00eb {BCRYPT} {WRITE}".encode(), Policy())
    assert house.login("Zoe\u0308").username == "Zo\u00eb"
    assert house.login("Zo\u00eb".encode()).username == "Zo\u00eb"
    assert house.login(b"\xff\xfe").check(UnauthorizedLogin)


def test_twisteds_own_credentials_are_taken_as_coming_from_nowhere():
    house = House()
    assert house.ask(UsernamePassword(b"good", b"x")).username == "good"
    assert house.ask(UsernamePassword(b"elsewhere", b"x")).check(UnauthorizedLogin)


@pytest.mark.threat("A12")
@pytest.mark.threat("A12")
def test_an_unexpected_error_is_a_temporary_failure_and_never_a_login():
    house = House()
    house.accounts.broken = True
    assert house.login("good").check(TemporaryLoginError)
    house = House()
    house.pool = PasswordPool(InlineCpu(), house.clock, lambda p, h: 1 // 0)
    house.checker._pool = house.pool
    assert house.login("good").check(TemporaryLoginError)


def test_failed_logins_are_answered_late_and_good_ones_at_once():
    house = House()
    results: list[object] = []
    d = house.checker.requestAvatarId(PasswordLogin("good", b"y", "192.0.2.1", "ftp"))
    d.addErrback(results.append)
    house.clock.advance(0.9)
    assert not results
    house.clock.advance(0.2)
    assert results
    good: list[object] = []
    house.checker.requestAvatarId(PasswordLogin("good", b"x", "192.0.2.1", "ftp")).addCallback(
        good.append
    )
    assert good


def test_a_banned_source_is_refused_without_a_check():
    house = House()
    for _ in range(15):
        house.login("good", b"y")
    checks = len(house.checks)
    assert house.login("good").check(UnauthorizedLogin)
    assert len(house.checks) == checks
    assert house.login("good", source="192.0.2.2").username == "good"


class LateCpu:
    """Keeps jobs until they are told to end."""

    def __init__(self) -> None:
        self.jobs: list[Deferred[bool]] = []

    def run(self, f, *args, **kwargs):
        self.jobs.append(Deferred())
        return self.jobs[-1]


def ask(pool: PasswordPool, source: str, name: str) -> tuple[list[object], Deferred]:
    results: list[object] = []
    d = Deferred.fromCoroutine(pool.matches(source, name, b"x", b"h"))
    d.addBoth(results.append)
    return results, d


def test_two_checks_run_and_the_others_wait_until_they_are_told_to_come_later():
    clock, cpu = Clock(), LateCpu()
    pool = PasswordPool(cpu, clock)
    waiting = [ask(pool, f"s{i}", "alice")[0] for i in range(34)]
    assert len(cpu.jobs) == 2
    full, _ = ask(pool, "late", "alice")
    assert isinstance(full[0], Failure)
    assert full[0].check(TemporaryLoginError)
    assert pool.refused == 1
    cpu.jobs[0].callback(True)
    assert waiting[0] == [True]
    assert len(cpu.jobs) == 3
    clock.advance(60)
    assert waiting[20][0].check(TemporaryLoginError)
    assert not waiting[2] or waiting[2][0].check(TemporaryLoginError)
    assert len(pool) == 0


@pytest.mark.threat("A3")
@pytest.mark.threat("A3")
def test_one_client_with_many_connections_waits_and_is_served():
    clock, cpu = Clock(), LateCpu()
    pool = PasswordPool(cpu, clock)
    waiting = [ask(pool, "one", "alice")[0] for _ in range(50)]
    for i in range(50):
        cpu.jobs[i].callback(True)
    assert waiting == [[True]] * 50


def test_a_client_that_leaves_gives_up_its_turn():
    clock, cpu = Clock(), LateCpu()
    pool = PasswordPool(cpu, clock)
    asked = [ask(pool, "one", "alice") for _ in range(3)]
    for results, d in asked:
        d.cancel()
        assert isinstance(results[0], Failure)
    assert len(pool) == 0
    cpu.jobs[0].callback(True)
    assert clock.getDelayedCalls() == []


def test_real_bcrypt_agrees_with_its_own_hashes_and_never_with_a_dummy():
    pool = PasswordPool(InlineCpu(), Clock())
    results: list[object] = []
    for password, hashed in [
        (b"open sesame", hash_password(b"open sesame", 4).encode()),
        (b"open sesame", dummy_hash(4)),
        (b"x\x00y", hash_password(b"x\x00z", 4).encode()),
    ]:
        d = Deferred.fromCoroutine(pool.matches("s", "n", password, hashed))
        d.addCallback(results.append)
    assert results == [True, False, False]


@pytest.mark.threat("F7")
def test_anonymous_sessions_can_only_read():
    checker = AnonymousChecker(parse_rootcap(WRITE), Throttle())
    results: list = []
    checker.requestAvatarId(AnonymousLogin("192.0.2.1", "ftp")).addCallback(results.append)
    (found,) = results
    assert found.readonly
    assert found.rootcap.text == READ


def test_one_checker_stands_for_all():
    house = House()
    anonymous = AnonymousChecker(parse_rootcap(WRITE), house.throttle)
    both = CompositeChecker(house.checker, anonymous)
    results: list = []
    for credentials in (
        PasswordLogin("good", b"x", "192.0.2.1", "ftp"),
        Anonymous(),
        SSHPrivateKey(b"good", b"ssh-ed25519", b"", b"", b""),
    ):
        both.requestAvatarId(credentials).addBoth(results.append)
    assert [getattr(r, "username", None) for r in results] == ["good", "anonymous", None]
    assert results[2].check(UnauthorizedLogin)
    assert len(both.credentialInterfaces) == 2


@pytest.mark.threat("F7")
def test_a_banned_source_is_not_anonymous_either():
    throttle = Throttle()
    for _ in range(15):
        throttle.limit_hit("192.0.2.1")
    results: list = []
    checker = AnonymousChecker(parse_rootcap(WRITE), throttle)
    checker.requestAvatarId(AnonymousLogin("192.0.2.1")).addErrback(results.append)
    assert results[0].check(UnauthorizedLogin)


@pytest.mark.threat("A1")
def test_an_empty_table_still_costs_a_check():
    house = House()
    house.accounts.table = AccountTable()
    assert house.login("good").check(UnauthorizedLogin)
    assert house.checks[0][1].startswith(b"$2b$12$")


def test_credentials_of_a_frontend_that_name_peer_and_protocol_are_understood():
    from zope.interface import implementer

    @implementer(IUsernamePassword)
    class Frontends:
        username, password, peer, protocol = "elsewhere", b"x", "10.0.0.1", "ftp"

    assert House().ask(Frontends()).username == "elsewhere"
    assert not PasswordLogin("good", b"x").checkPassword(b"x")


def test_today_is_a_day():
    house = House()
    checker = AccountFileChecker(house.accounts, house.pool, house.throttle, house.clock)
    assert checker._today() >= TODAY.replace(year=2024)


@pytest.mark.threat("A7")
@pytest.mark.parametrize(
    ("line", "enters"),
    [
        (f"good {BCRYPT} {OTHER}", True),
        (f"good {COST7} {WRITE}", False),
        (f"good ! {WRITE}", False),
        (f"good {BCRYPT} {WRITE} proto=web", False),
        (f"nobody {BCRYPT} {WRITE}", False),
    ],
)
def test_what_the_file_says_when_bcrypt_has_ended_is_what_counts(line, enters):
    house = House()
    cpu = LateCpu()
    house.checker._pool = PasswordPool(cpu, house.clock, house.check)
    results: list = []
    house.checker.requestAvatarId(PasswordLogin("good", b"x", "192.0.2.1", "ftp")).addBoth(
        results.append
    )
    house.accounts.table = parse((line + "\n").encode(), Policy(key=house.accounts.key))
    cpu.jobs[0].callback(True)
    house.clock.advance(2)
    assert hasattr(results[0], "rootcap") is enters
    if enters:
        assert results[0].rootcap.text == OTHER
