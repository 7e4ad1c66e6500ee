"""Rows A of the threat model against checkers, throttle and account file together."""

from datetime import date

import pytest
from twisted.conch.error import ValidPublicKey
from twisted.cred.error import LoginFailed, UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.fakes.account_lines import BCRYPT, WRITE
from tests.fakes.ssh_keys import key
from truckee.auth.account_file import AccountFile
from truckee.auth.checkers import AccountFileChecker, CompositeChecker
from truckee.auth.credentials import PasswordLogin
from truckee.auth.passwords import PasswordPool
from truckee.auth.ssh_logins import KeyLogin, PublicKeyChecker
from truckee.auth.throttle import CAPACITY, Throttle
from truckee.core.cpu import InlineCpu
from truckee.core.errors import TemporaryLoginError

ED = key("ssh-ed25519")
DATA = b"a session"
BCRYPT_SECONDS = 0.38  # of one check at the cost of new hashes, on a slow core


class SlowCpu:
    """As many threads as the real pool, on a virtual clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.running = 0
        self.most = 0

    def run(self, f, *args, **kwargs):
        self.running += 1
        self.most = max(self.most, self.running)
        d: Deferred = Deferred()

        def done() -> None:
            self.running -= 1
            d.callback(f(*args, **kwargs))

        self.clock.callLater(BCRYPT_SECONDS, done)
        return d


class House:
    """The account file on a disk, and everything in front of it."""

    def __init__(self, folder, text, *, slow=False, today=date(2030, 1, 1)) -> None:
        folder.chmod(0o700)
        self.path = folder / "accounts"
        if text is not None:
            self.path.touch(0o600)
            self.path.write_text(text)
        self.clock = Clock()
        self.day = today
        self.accounts = AccountFile(
            self.path, self.clock, InlineCpu(), today=lambda: self.day, may_be_empty=True
        )
        self.throttle = Throttle(seconds=self.clock.seconds, jitter=lambda: 0.0)
        self.cpu = SlowCpu(self.clock) if slow else InlineCpu()
        pool = PasswordPool(self.cpu, self.clock, lambda p, h: p == b"x" and h == BCRYPT.encode())
        self.all = CompositeChecker(
            AccountFileChecker(self.accounts, pool, self.throttle, self.clock, lambda: self.day),
            PublicKeyChecker(
                self.accounts, InlineCpu(), self.throttle, self.clock, lambda: self.day
            ),
        )
        assert self.finish(Deferred.fromCoroutine(self.accounts.load())) is None

    def finish(self, d: Deferred):
        results: list = []
        d.addBoth(results.append)
        for _ in range(400):
            if results:
                break
            self.clock.advance(0.1)
        return results[0]

    def begin(self, credentials) -> list:
        results: list = []
        self.all.requestAvatarId(credentials).addBoth(
            lambda result: results.append((self.clock.seconds(), result))
        )
        return results

    def by_key(self, name="ann", source="203.0.113.9", signature=None):
        signed = signature or ED.sign(DATA)
        return self.finish(
            self.all.requestAvatarId(KeyLogin(name, ED.algorithm, ED.blob, DATA, signed, source))
        )

    def probe(self, name="ann"):
        return self.finish(
            self.all.requestAvatarId(
                KeyLogin(name, ED.algorithm, ED.blob, None, None, "203.0.113.9")
            )
        )

    def by_password(self, name="ann", password=b"x", source="203.0.113.9"):
        return self.finish(self.all.requestAvatarId(PasswordLogin(name, password, source, "ftp")))


TEXT = f"ann {BCRYPT} {WRITE}\nann {ED.line} =\n"


@pytest.mark.threat("A2")
def test_ten_thousand_sources_make_the_table_no_larger_and_let_no_banned_one_go(tmp_path):
    house = House(tmp_path, TEXT)
    banned = [f"198.51.100.{i}" for i in range(50)]
    for source in banned:
        for _ in range(8):
            house.throttle.failed(source, "nobody", known=False)
    waiting = []
    for i in range(10_000):
        source = f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" if i & 16 else f"2001:db8:{i:x}::1"
        if i % 8:  # all of them by way of the checkers would take a minute
            house.throttle.failed(source, f"guess{i}", known=bool(i & 8))
            continue
        login: object = PasswordLogin(f"guess{i}", b"y", source, "ftp")
        if i % 16:
            login = KeyLogin("ann", ED.algorithm, ED.blob, DATA, b"bad", source)
        waiting.append(house.begin(login))
        if i % 80 == 0:
            house.clock.advance(2)
    house.clock.advance(20)
    assert len(house.throttle) <= CAPACITY
    assert all(house.throttle.is_banned(source) for source in banned)
    assert all(result[1].check(UnauthorizedLogin) for (result,) in waiting)
    assert house.by_password().username == "ann"
    assert house.by_key().username == "ann"


@pytest.mark.threat("A2")
def test_a_key_that_is_tried_from_many_addresses_of_one_network_bans_the_network(tmp_path):
    house = House(tmp_path, TEXT)
    for i in range(60):
        house.by_key(source=f"2001:db8:0:{i:x}::1", signature=b"bad")
    assert house.throttle.is_banned("2001:db8:0:ffff::1")
    assert not house.throttle.is_banned("2001:db8:1::1")


@pytest.mark.threat("A3")
@pytest.mark.parametrize("sources", [1, 4, 9])
def test_during_a_flood_of_passwords_a_good_one_is_in_within_three_seconds(tmp_path, sources):
    house = House(tmp_path, TEXT, slow=True)
    flood = [
        house.begin(PasswordLogin(f"guess{i}", b"y", f"198.51.100.{i % sources}", "ftp"))
        for i in range(600)
    ]
    house.clock.pump([0.1] * 20)
    began = house.clock.seconds()
    good = house.begin(PasswordLogin("ann", b"x", "203.0.113.9", "ftp"))
    by_key = house.begin(KeyLogin("ann", ED.algorithm, ED.blob, DATA, ED.sign(DATA), "203.0.113.9"))
    assert by_key[0][1].username == "ann"  # nobody waits behind bcrypt with a key
    house.clock.pump([0.05] * 80)
    when, found = good[0]
    assert found.username == "ann"
    assert when - began <= 3
    assert house.cpu.most == 2
    house.clock.pump([1.0] * 400)
    assert all(len(results) == 1 for results in flood)
    assert not any(hasattr(results[0][1], "username") for results in flood)


@pytest.mark.threat("A3")
def test_fifty_clients_of_one_host_wait_for_their_passwords_and_none_for_its_key(tmp_path):
    house = House(tmp_path, TEXT, slow=True)
    waiting = [house.begin(PasswordLogin("ann", b"x", "203.0.113.9", "ftp")) for _ in range(50)]
    for _ in range(50):
        assert (
            house.begin(KeyLogin("ann", ED.algorithm, ED.blob, DATA, ED.sign(DATA), "203.0.113.9"))[
                0
            ][1].username
            == "ann"
        )
    house.clock.pump([0.1] * 150)
    assert all(results[0][1].username == "ann" for results in waiting)


@pytest.mark.threat("A7")
def test_who_was_seen_expired_stays_out_after_a_restart_with_an_older_clock(tmp_path):
    line = TEXT.replace(f"{WRITE}\n", f"{WRITE} expires=2030-01-01\n")
    house = House(tmp_path, line)
    assert house.by_key().username == "ann"
    house.accounts.start()
    house.day = date(2030, 1, 2)
    house.clock.pump([1.0] * 70)
    house.accounts.stop()
    again = House(tmp_path, None, today=date(2029, 12, 31))
    assert again.by_key().check(UnauthorizedLogin)
    assert not again.probe().check(ValidPublicKey)
    assert again.by_password().check(UnauthorizedLogin)
    later = House(tmp_path, line.replace("2030-01-01", "2031-01-01"), today=date(2029, 12, 31))
    assert later.by_key().username == "ann"
    assert later.probe().check(ValidPublicKey)


@pytest.mark.threat("A7")
def test_a_key_that_is_taken_from_the_file_is_worth_nothing_a_second_later(tmp_path):
    house = House(tmp_path, TEXT)
    assert house.by_key().username == "ann"
    new = tmp_path / "new"
    new.touch(0o600)
    new.write_text(f"ann {BCRYPT} {WRITE}\n")
    new.replace(house.path)
    house.clock.advance(1.1)
    assert house.by_key().check(UnauthorizedLogin)
    assert house.by_password().username == "ann"


ALIKE = [
    ("Zo\u00eb", "Zoe\u0308", True),
    ("ann", "Ann", False),
    ("ann", "ann ", False),
    ("ann", " ann", False),
    ("ann", "ann\x00", False),
    ("ann", "a\u200bnn", False),
    ("ann", "\u0430nn", False),
    ("\ufb01n", "fin", False),
    ("stra\u00dfe", "strasse", False),
]


@pytest.mark.threat("A8")
@pytest.mark.parametrize(("written", "given", "same"), ALIKE)
def test_names_that_look_alike_are_two_names_for_keys_and_passwords(tmp_path, written, given, same):
    house = House(tmp_path, f"{written} {BCRYPT} {WRITE}\n{written} {ED.line} =\n")
    assert bool(house.probe(given).check(ValidPublicKey)) is same
    for result in (house.by_key(given), house.by_password(given)):
        assert (getattr(result, "username", None) == written) is same


@pytest.mark.threat("A12")
@pytest.mark.parametrize("broken", ["refresh", "generation", "is_expired"])
@pytest.mark.parametrize(
    "error", [ValueError, KeyError, RecursionError, MemoryError, OSError, AssertionError]
)
def test_whatever_breaks_behind_a_login_never_lets_in(tmp_path, monkeypatch, broken, error):
    house = House(tmp_path, TEXT)

    def fail(*args, **kwargs):
        raise error("broken")

    monkeypatch.setattr(house.accounts, broken, fail)
    for result in (house.by_key(), house.by_password()):
        assert result.check(TemporaryLoginError)
        assert "broken" not in result.getErrorMessage()
    assert not house.probe().check(ValidPublicKey) or broken == "generation"
    assert len(house.throttle) == 0


@pytest.mark.threat("A12")
def test_credentials_of_a_kind_that_nobody_checks_let_nobody_in(tmp_path):
    house = House(tmp_path, TEXT)
    for credentials in (None, object(), "ann", WRITE):
        assert house.finish(house.all.requestAvatarId(credentials)).check(LoginFailed)
