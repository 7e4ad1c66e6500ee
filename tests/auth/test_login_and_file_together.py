"""Checker and account file as the node uses them: bcrypt, a real file, a virtual clock."""

import random
import statistics
import time
from datetime import date

import pytest
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.task import Clock

from tests.fakes.account_lines import BCRYPT, ED25519, OTHER, WRITE
from truckee.auth.account_file import AccountFile
from truckee.auth.checkers import AccountFileChecker
from truckee.auth.credentials import PasswordLogin
from truckee.auth.passwords import PasswordPool, hash_password
from truckee.auth.throttle import Throttle
from truckee.core.cpu import InlineCpu

ALICE = f"alice {BCRYPT} {WRITE}\n"
BOB = f"bob {BCRYPT} {OTHER}\n"


class House:
    def __init__(self, folder, text):
        self.path = folder / "accounts"
        self.clock = Clock()
        self.write(text)
        self.accounts = AccountFile(
            self.path, self.clock, InlineCpu(), today=lambda: date(2030, 1, 1)
        )
        self.checker = AccountFileChecker(
            self.accounts,
            PasswordPool(InlineCpu(), self.clock),
            Throttle(seconds=lambda: 0.0, jitter=lambda: 0.0, exempt=()),
            self.clock,
            lambda: date(2030, 1, 1),
        )
        self.finish(self.accounts.load())

    def write(self, text, mode=0o600):
        temporary = self.path.with_name("new")
        temporary.write_text(text)
        temporary.chmod(mode)
        temporary.replace(self.path)

    def finish(self, coroutine):
        from twisted.internet.defer import Deferred

        results: list = []
        Deferred.fromCoroutine(coroutine).addBoth(results.append)
        while not results:
            self.clock.advance(0.25)
        return results[0]

    def begin(self, name, password=b"x", source="192.0.2.1"):
        results: list = []
        attempt = PasswordLogin(name, password, source, "ftp")
        self.checker.requestAvatarId(attempt).addBoth(results.append)
        return results


@pytest.fixture
def house(tmp_path):
    tmp_path.chmod(0o700)
    return House(tmp_path, ALICE + BOB)


STATES = {
    "both": (ALICE + BOB, 0o600, {"alice", "bob"}),
    "alice": (ALICE, 0o600, {"alice"}),
    "a slip": (ALICE.replace("$2b", "$3b") + BOB, 0o600, {"bob"}),
    "locked": (ALICE + "alice ! =\n" + BOB, 0o600, {"bob"}),
    "empty": ("", 0o600, None),
    "open to others": (ALICE, 0o644, None),
}


@pytest.mark.threat("A5")
def test_while_the_file_is_replaced_over_and_over_nobody_gets_in_who_should_not(house):
    chance = random.Random(5)
    allowed = {"alice", "bob"}
    waiting: list = []
    settled = 0
    for _ in range(100):
        if chance.random() < 0.4:
            text, mode, names = chance.choice(list(STATES.values()))
            if names is None:  # what was seen last stays: see to it that this is the last good one
                house.clock.advance(1)
                house.finish(house.accounts.refresh())
            house.write(text, mode)
            allowed = allowed if names is None else names
            for _, _, _, seen in waiting:
                seen.append(allowed)
            house.clock.advance(1)
        name, password = chance.choice(["alice", "bob"]), chance.choice([b"x", b"y"])
        source = f"192.0.{chance.randrange(256)}.{chance.randrange(256)}"
        waiting.append((house.begin(name, password, source), name, password, [allowed]))
        house.clock.advance(chance.choice([0, 0.3]))
        if chance.random() < 0.5:
            house.clock.pump([0.5] * 60)
            for (result,), name, password, seen in waiting:
                settled += 1
                if hasattr(result, "username"):
                    assert password == b"x"
                    assert any(name in names for names in seen)
                else:
                    assert result.check(UnauthorizedLogin)
                    assert password == b"y" or not all(name in names for names in seen)
            waiting.clear()
    assert settled > 80


@pytest.mark.long
@pytest.mark.threat("A1")
def test_refusals_take_the_same_time(tmp_path):
    tmp_path.chmod(0o700)
    hashed = hash_password(b"right", 8)
    text = "".join(
        f"{line}\n"
        for line in [
            f"known {hashed} {WRITE}",
            f"locked ! {WRITE}",
            f"expired {hashed} {WRITE} expires=2029-01-01",
            f"keyonly ssh-ed25519 {ED25519} {WRITE}",
            f"sftponly {hashed} {WRITE} proto=sftp",
            f"elsewhere {hashed} {WRITE} from=10.0.0.0/8",
            f"plain sesame {WRITE}",
        ]
    )
    house = House(tmp_path, text)
    names = ["known", "unknown", "locked", "expired", "keyonly", "sftponly", "elsewhere", "plain"]
    samples = {name: [] for name in names}
    for i in range(200):
        for name in random.Random(i).sample(names, len(names)):
            began = time.perf_counter()
            house.begin(name, b"wrong", f"198.51.100.{i}")
            samples[name].append(time.perf_counter() - began)
            house.checker._throttle = Throttle(seconds=lambda: 0.0, exempt=())
    medians = {name: statistics.median(times) for name, times in samples.items()}
    middle = statistics.median(medians.values())
    assert all(abs(m - middle) / middle < 0.05 for m in medians.values()), medians
