from datetime import date

import pytest
from twisted.conch.error import ValidPublicKey
from twisted.cred.credentials import SSHPrivateKey
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.fakes.account_lines import BCRYPT, OTHER, WRITE
from tests.fakes.ssh_keys import KINDS, Key, key
from truckee.auth.accounts import Account, Policy, parse
from truckee.auth.checkers import REFUSED
from truckee.auth.ssh_logins import KeyLogin, PublicKeyChecker
from truckee.auth.throttle import Throttle
from truckee.core.cpu import InlineCpu
from truckee.core.errors import TemporaryLoginError

TODAY = date(2030, 6, 1)
ED, OTHER_ED, STRANGER = key("ssh-ed25519"), key("ssh-ed25519", 1), key("ssh-ed25519", 2)
RSA, SK = key("rsa-sha2-512"), key("sk-ssh-ed25519@openssh.com")
FILE = f"""#truckee-accounts: 2
good {BCRYPT} {WRITE}
good {ED.line} laptop =
good {RSA.line} old desk =
other {OTHER_ED.line} {OTHER}
reader {ED.line} {WRITE} ro
locked {ED.line} {WRITE}
locked ! =
expired {ED.line} {WRITE} expires=2030-05-31
ftponly {ED.line} {WRITE} proto=ftp
elsewhere {ED.line} {WRITE} from=10.0.0.0/8
broken {ED.line} {WRITE} nonsense
keyless {BCRYPT} {WRITE}
token {SK.line} {WRITE}
pinned {SK.line} {WRITE} verify-required
"""
REFUSING = ["nobody", "other", "locked", "expired", "ftponly", "elsewhere", "broken", "keyless"]
DATA = b"all that the client signs"


class Accounts:
    key = b"k" * 32

    def __init__(self, text: str = FILE) -> None:
        self.read(text)
        self.broken = False

    def read(self, text: str) -> None:
        self.table = parse(text.encode(), Policy(key=self.key))

    async def refresh(self) -> None:
        if self.broken:
            raise RuntimeError("the disk is on fire")

    def generation(self, name: str) -> int:
        return 7

    def is_expired(self, account: Account, today: date) -> bool:
        return account.is_expired(today)


class House:
    def __init__(self, cpu=None) -> None:
        self.clock = Clock()
        self.accounts = Accounts()
        self.throttle = Throttle(seconds=self.clock.seconds, jitter=lambda: 0.0)
        self.checker = PublicKeyChecker(
            self.accounts, cpu or InlineCpu(), self.throttle, self.clock, lambda: TODAY
        )

    def begin(self, credentials) -> list:
        results: list = []
        self.checker.requestAvatarId(credentials).addBoth(results.append)
        return results

    def ask(self, credentials):
        results = self.begin(credentials)
        self.clock.pump([0.5] * 60)
        (result,) = results
        return result

    def probe(self, name, signer: Key = ED, source="192.0.2.1", algorithm=b""):
        return self.ask(
            KeyLogin(name, algorithm or signer.algorithm, signer.blob, None, None, source)
        )

    def login(self, name, signer: Key = ED, source="192.0.2.1", signature=b"", **kwargs):
        signature = signature or signer.sign(DATA, **kwargs)
        return self.ask(KeyLogin(name, signer.algorithm, signer.blob, DATA, signature, source))

    def score(self, source="192.0.2.1") -> int:
        """How many points the source has, by what it can still afford."""
        entry = self.throttle._entries.get(source)
        return 0 if entry is None else entry.score(self.clock.seconds())


def test_a_key_of_the_account_lets_in():
    house = House()
    for name, signer, readonly in [("good", ED, False), ("good", RSA, False), ("reader", ED, True)]:
        assert house.probe(name, signer).check(ValidPublicKey)
        found = house.login(name, signer)
        assert (found.username, found.readonly, found.generation) == (name, readonly, 7)
        assert found.rootcap.text == WRITE
    assert house.score() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_of_key_lets_in(kind):
    house = House()
    house.accounts.read(f"good {key(kind).line} a comment {WRITE}\n")
    assert house.probe("good", key(kind)).check(ValidPublicKey)
    assert house.login("good", key(kind)).username == "good"


@pytest.mark.threat("A1", "A6")
@pytest.mark.parametrize("name", REFUSING)
def test_a_key_is_confirmed_only_for_an_account_that_it_may_enter_now(name):
    house = House()
    refused = house.probe(name)
    assert refused.check(UnauthorizedLogin)
    assert not refused.check(ValidPublicKey)
    assert str(refused.value) == REFUSED
    assert house.score() == 0
    signed = house.login(name)
    assert str(signed.value) == REFUSED
    assert house.score() == (2 if name == "nobody" else 1)


@pytest.mark.threat("A1")
@pytest.mark.parametrize("name", ["good", *REFUSING])
def test_every_refusal_comes_after_the_same_delay(name):
    for delay, credentials in (
        (0.5, KeyLogin(name, STRANGER.algorithm, STRANGER.blob, None, None, "192.0.2.1")),
        (1.0, KeyLogin(name, ED.algorithm, ED.blob, DATA, ED.sign(b"x"), "192.0.2.1")),
    ):
        house = House()
        results = house.begin(credentials)
        house.clock.advance(delay - 0.01)
        assert not results
        house.clock.advance(0.02)
        assert results[0].check(UnauthorizedLogin)


@pytest.mark.threat("A1")
def test_asking_for_keys_tells_nothing_by_way_of_a_ban():
    house = House()
    for name in ("good", "nobody"):
        for _ in range(40):
            refused = house.probe(name, STRANGER, source="192.0.2.9")
            assert not refused.check(ValidPublicKey)
    assert not house.throttle.is_banned("192.0.2.9")
    assert house.throttle.delay("192.0.2.9", "good") == 1.0


def test_a_source_that_guesses_passwords_waits_for_its_key_questions_too():
    house = House()
    for _ in range(4):
        house.throttle.failed("192.0.2.1", "nobody", known=False)
    results = house.begin(
        KeyLogin("good", STRANGER.algorithm, STRANGER.blob, None, None, "192.0.2.1")
    )
    house.clock.advance(3.9)
    assert not results
    house.clock.advance(0.2)
    assert results


@pytest.mark.threat("A6")
def test_crafted_requests_are_refused_and_bad_signatures_counted():
    house = House()
    sha1, longer = RSA.sign(DATA, b"ssh-rsa"), ED.blob + b"\x00"
    attempts = [
        house.login("good", ED, signature=STRANGER.sign(DATA)),
        house.login("good", ED, signature=ED.sign(b"another session")),
        house.login("good", RSA, signature=sha1),
        house.login("good", RSA, signature=RSA.sign(DATA, b"rsa-sha2-256")),
        house.login("good", ED, signature=b"\x00"),
        house.ask(KeyLogin("good", b"ssh-rsa", RSA.blob, DATA, sha1, "192.0.2.1")),
        house.ask(KeyLogin("good", ED.algorithm, longer, DATA, ED.sign(DATA), "192.0.2.1")),
        house.login("token", SK, flags=0),
        house.login("pinned", SK, flags=1),
    ]  # fmt: skip
    assert all(attempt.check(UnauthorizedLogin) for attempt in attempts)
    assert house.score() == len(attempts)
    assert house.login("token", SK, flags=1).username == "token"
    assert house.login("pinned", SK, flags=5).username == "pinned"


@pytest.mark.threat("A6")
def test_a_sha1_algorithm_is_not_confirmed_for_a_key_that_could_do_better():
    house = House()
    assert not house.probe("good", RSA, algorithm=b"ssh-rsa").check(ValidPublicKey)
    assert house.probe("good", RSA, algorithm=b"rsa-sha2-256").check(ValidPublicKey)
    assert not house.probe("good", ED, algorithm=b"rsa-sha2-256").check(ValidPublicKey)


def test_addresses_are_checked_for_keys_too():
    house = House()
    assert house.login("elsewhere", source="10.1.2.3").username == "elsewhere"
    assert house.probe("elsewhere", source="::ffff:10.1.2.3").check(ValidPublicKey)


@pytest.mark.threat("A2")
def test_a_banned_source_is_refused_even_with_the_right_key():
    house = House()
    for _ in range(15):
        house.login("good", signature=STRANGER.sign(DATA))
    assert house.probe("good").check(UnauthorizedLogin)
    assert house.login("good").check(UnauthorizedLogin)
    assert house.login("good", source="192.0.2.2").username == "good"


class LateCpu:
    """Keeps jobs until they are told to run."""

    def __init__(self) -> None:
        self.jobs: list = []

    def run(self, f, *args, **kwargs):
        d: Deferred = Deferred()
        self.jobs.append(lambda: d.callback(f(*args, **kwargs)))
        return d


@pytest.mark.threat("A7")
@pytest.mark.parametrize(
    "line",
    [
        f"good {BCRYPT} {WRITE}",
        f"good ! {WRITE}",
        f"good {OTHER_ED.line} {WRITE}",
        f"b {BCRYPT} {WRITE}",
    ],
)
def test_a_key_that_was_taken_away_while_its_signature_was_checked_does_not_let_in(line):
    cpu = LateCpu()
    house = House(cpu)
    results = house.begin(KeyLogin("good", ED.algorithm, ED.blob, DATA, ED.sign(DATA), "192.0.2.1"))
    house.accounts.read(line + "\n")
    cpu.jobs.pop()()
    house.clock.advance(1.1)
    assert results[0].check(UnauthorizedLogin)


@pytest.mark.threat("A12")
def test_an_unexpected_error_never_lets_in():
    house = House()
    house.accounts.broken = True
    assert house.login("good").check(TemporaryLoginError)

    class BrokenCpu:
        def run(self, f, *args, **kwargs):
            raise ZeroDivisionError

    assert House(BrokenCpu()).login("good").check(TemporaryLoginError)


def test_twisteds_own_credentials_are_taken_as_coming_from_nowhere():
    house = House()
    made = SSHPrivateKey(b"good", ED.algorithm, ED.blob, DATA, ED.sign(DATA))
    assert house.ask(made).username == "good"
    made = SSHPrivateKey(b"elsewhere", ED.algorithm, ED.blob, DATA, ED.sign(DATA))
    assert house.ask(made).check(UnauthorizedLogin)


@pytest.mark.threat("A8")
def test_names_are_compared_in_nfc_and_exactly():
    house = House()
    house.accounts.read(f"Zo\u00eb {ED.line} {WRITE}\n")
    assert house.probe("Zoe\u0308".encode()).check(ValidPublicKey)
    for other in ("zo\u00eb", "Zoe", "Zo\u00eb ", b"Zo\xeb"):
        assert not house.probe(other).check(ValidPublicKey)


@pytest.mark.threat("L1")
def test_the_repr_of_a_login_shows_nothing():
    assert repr(KeyLogin("good", b"a", b"b", b"c", b"d", "192.0.2.1")) == "<KeyLogin>"
