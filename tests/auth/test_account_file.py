import contextlib
import os
from datetime import date
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent

from tests.fakes.account_lines import BCRYPT, OTHER, READ, WRITE
from truckee.auth.account_file import AccountFile, read_account_file
from truckee.core.cpu import InlineCpu
from truckee.core.errors import AccountError

ALICE = f"alice {BCRYPT} {WRITE}\n"
BOB = f"bob {BCRYPT} {OTHER}\n"


@contextlib.contextmanager
def logged(level):
    """Give the list of events of one level, filled when the block ends."""
    found: list = []
    with capturedLogs() as events:
        yield found
    found += [event for event in events if event["log_level"] is level]


class Place:
    """An account file in a private folder and its reader, with every call done at once."""

    def __init__(self, folder, text=ALICE + BOB):
        self.path = folder / "private" / "accounts"
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        self.write(text)
        self.clock = Clock()
        self.day = date(2030, 1, 1)
        self.revoked: list[set[str]] = []
        self.file = self.reader()

    def reader(self):
        reader = AccountFile(self.path, self.clock, InlineCpu(), today=lambda: self.day)
        reader.on_revoked(lambda names: self.revoked.append(set(names)))
        return reader

    def write(self, text, mode=0o600):
        temporary = self.path.with_name("new")
        temporary.write_text(text)
        temporary.chmod(mode)
        temporary.replace(self.path)

    def run(self, coroutine):
        results: list = []
        Deferred.fromCoroutine(coroutine).addBoth(results.append)
        for _ in range(20):
            if not results:
                self.clock.advance(0.25)
        (result,) = results
        if result is not None:
            result.raiseException()

    def load(self):
        self.run(self.file.load())
        return self

    def look(self):
        self.clock.advance(1)
        self.run(self.file.refresh())

    @property
    def names(self):
        return set(self.file.table.accounts)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_the_file_is_read_at_the_start(place):
    assert place.load().names == {"alice", "bob"}


@pytest.mark.parametrize("text", ["", "# nobody\n", "alice x\n"])
def test_without_a_usable_account_the_start_is_refused(place, text):
    place.write(text)
    with pytest.raises(AccountError):
        place.load()


def test_a_missing_file_refuses_the_start(place):
    place.path.unlink()
    with pytest.raises(AccountError, match="missing"):
        place.load()


@pytest.mark.threat("A5")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
@pytest.mark.threat("A5")
def test_a_file_open_to_others_refuses_the_start(place, mode):
    place.path.chmod(mode)
    with pytest.raises(AccountError, match="open to others"):
        place.load()


def test_a_folder_that_others_can_write_refuses_the_start_unless_sticky(place):
    place.path.parent.chmod(0o770)
    with pytest.raises(AccountError, match="written by others"):
        place.load()
    place.path.parent.chmod(0o1777)
    assert place.load().names


@pytest.mark.threat("A5")
@pytest.mark.threat("A5")
def test_a_symbolic_link_a_pipe_and_a_folder_are_refused(place):
    real = place.path.with_name("real")
    place.path.rename(real)
    place.path.symlink_to(real)
    with pytest.raises(AccountError, match="symbolic link"):
        place.load()
    place.path.unlink()
    os.mkfifo(place.path, 0o600)
    with pytest.raises(AccountError, match="not a regular file"):
        place.load()
    place.path.unlink()
    place.path.mkdir(0o700)
    with pytest.raises(AccountError, match="not a regular file"):
        place.load()


def test_open_permissions_can_be_tolerated(place):
    place.path.chmod(0o644)
    data, _ = read_account_file(place.path, "warn")
    assert data == (ALICE + BOB).encode()


def test_a_changed_file_is_read_again_within_a_second_of_a_login(place):
    place.load()
    place.write(ALICE)
    place.look()
    assert place.names == {"alice"}
    assert place.revoked == [{"bob"}]


def test_between_two_looks_lies_a_second(place):
    place.load()
    place.look()
    place.write(ALICE)
    place.run(place.file.refresh())
    assert place.names == {"alice", "bob"}


def test_who_knows_of_a_change_need_not_wait_for_the_second(place):
    place.load()
    place.look()
    place.write(ALICE)
    place.run(place.file.refresh(at_once=True))
    assert place.names == {"alice"}


def test_a_change_that_is_told_of_during_a_reload_is_not_lost(place):
    place.load()
    place.clock.advance(1)
    place.write(ALICE)
    done: list = []
    Deferred.fromCoroutine(place.file.refresh()).addBoth(done.append)
    for _ in range(3):
        Deferred.fromCoroutine(place.file.refresh(at_once=True)).addBoth(done.append)
    place.clock.advance(0.5)
    assert place.names == {"alice"}
    place.write(BOB)
    Deferred.fromCoroutine(place.file.refresh(at_once=True)).addBoth(done.append)
    place.clock.pump([0.5] * 6)
    assert done == [None] * 5
    assert place.names == {"bob"}


def test_the_timer_finds_a_change_without_any_login(place):
    place.load()
    place.file.start()
    place.write(BOB)
    place.clock.pump([0.5] * 13)
    assert place.names == {"bob"}
    place.file.stop()
    place.clock.pump([0.5] * 20)
    assert place.clock.getDelayedCalls() == []


@pytest.mark.threat("A5")
def test_a_file_that_is_still_being_written_is_waited_for(place):
    place.load()
    place.clock.advance(1)
    place.write(ALICE)
    done: list = []
    Deferred.fromCoroutine(place.file.refresh()).addBoth(done.append)
    place.clock.advance(0.4)
    place.write(ALICE + "bob x\n")
    place.clock.advance(0.2)
    assert place.names == {"alice", "bob"}
    assert not done
    place.clock.advance(0.5)
    assert place.names == {"alice"}
    assert done


def test_a_login_during_a_reload_waits_for_it(place):
    place.load()
    place.clock.advance(1)
    place.write(ALICE)
    done: list = []
    Deferred.fromCoroutine(place.file.refresh()).addBoth(lambda _: done.append(1))
    Deferred.fromCoroutine(place.file.refresh()).addBoth(lambda _: done.append(place.names))
    place.clock.pump([0.5, 0.5])
    assert done == [1, {"alice"}] or done == [{"alice"}, 1]


@pytest.mark.threat("A5")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p.unlink(),
        lambda p: p.chmod(0o644),
        lambda p: p.write_bytes(b"\xff"),
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"#" * (1 << 20) + b"##"),
    ],
    ids=["gone", "open", "not text", "empty", "huge"],
)
@pytest.mark.threat("A5")
def test_a_file_that_became_unusable_leaves_the_old_accounts_in_force(place, spoil):
    place.load()
    spoil(place.path)
    place.look()
    assert place.names == {"alice", "bob"}
    assert place.file.failure
    place.write(BOB)
    place.look()
    assert place.names == {"bob"}
    assert place.file.failure is None


def test_a_file_with_no_good_line_left_locks_everybody_out(place):
    place.load()
    place.write("alice x\n")
    place.look()
    assert place.names == set()
    assert place.revoked == [{"alice", "bob"}]


def test_a_slip_in_a_line_does_not_leave_the_old_entry_in_force(place):
    place.load()
    place.write(ALICE.replace("$2b$", "$2b$$") + BOB)
    place.look()
    assert place.names == {"bob"}
    assert place.revoked == [{"alice"}]


@pytest.mark.threat("A7")
@pytest.mark.parametrize(
    ("line", "ends"),
    [
        (f"alice {BCRYPT[:-1]}q {WRITE}\n", False),
        (f"alice {BCRYPT} {WRITE} from=10.0.0.0/8\n", False),
        (f"alice {BCRYPT} {WRITE} ro\n", True),
        (f"alice {BCRYPT} {READ}\n", True),
        (f"alice {BCRYPT} {OTHER}\n", True),
        (f"alice {BCRYPT} {WRITE} proto=sftp\n", True),
        (ALICE + "alice ! =\n", True),
    ],
)
@pytest.mark.threat("A7")
def test_sessions_end_when_authority_changes_and_not_for_a_new_password(place, line, ends):
    place.load()
    before = place.file.generation("alice")
    place.write(line + BOB)
    place.look()
    assert place.revoked == ([{"alice"}] if ends else [])
    assert (place.file.generation("alice") != before) == ends
    assert place.file.generation("bob") == 1


@pytest.mark.threat("A7")
@pytest.mark.threat("A7")
def test_an_account_that_expires_ends_its_sessions_and_is_not_revived_by_an_older_clock(place):
    place.write(ALICE.rstrip() + " expires=2030-01-01\n" + BOB)
    place.load()
    alice = place.file.table.accounts["alice"]
    place.file.start()
    place.clock.advance(5)
    assert not place.revoked
    place.day = date(2030, 1, 2)
    place.clock.advance(5)
    assert place.revoked == [{"alice"}]
    place.clock.advance(5)
    assert place.revoked == [{"alice"}]
    place.file.stop()
    place.day = date(2029, 12, 31)
    assert place.file.is_expired(alice, place.day)
    place.file = place.reader()
    place.load()
    assert place.file.is_expired(place.file.table.accounts["alice"], place.day)
    place.write(ALICE.rstrip() + " expires=2031-01-01\n" + BOB)
    place.look()
    assert not place.file.is_expired(place.file.table.accounts["alice"], place.day)
    expired = place.path.with_name("accounts-expired")
    assert expired.stat().st_mode & 0o777 == 0o600
    assert "URI" not in expired.read_text()


def test_what_the_system_refuses_is_told(place, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("truckee.core.files.os.open", refuse)
    with pytest.raises(AccountError, match="cannot be read: Permission denied"):
        read_account_file(place.path)


def test_plaintext_lines_are_warned_of_by_number(place):
    place.write(f"alice sesame {WRITE}\n")
    with logged(LogLevel.warn) as logs:
        place.load()
    assert [formatEvent(event) for event in logs] == ["plaintext passwords on account lines 1"]


def test_a_failure_is_repeated_in_the_log_every_minute(place):
    place.load()
    place.file.start()
    place.path.chmod(0o644)
    with logged(LogLevel.error) as logs:
        place.clock.pump([0.5] * 370)
    place.file.stop()
    texts = [formatEvent(event) for event in logs]
    assert 3 <= len(texts) <= 4
    assert "open to others" in texts[0]


def test_two_logins_that_find_the_change_at_once_reload_once(place):
    late: list = []

    class LateDisk:
        def run(self, f, *args):
            d: Deferred = Deferred()
            late.append(lambda: d.callback(f(*args)))
            return d

    place.load()
    place.clock.advance(1)
    place.write(ALICE)
    place.file._disk = LateDisk()
    done: list = []
    first = Deferred.fromCoroutine(place.file.refresh())
    place.clock.advance(1)
    second = Deferred.fromCoroutine(place.file.refresh())
    for d in (first, second):
        d.addBoth(done.append)
    for _ in range(40):
        while late:
            late.pop(0)()
        place.clock.advance(0.25)
    assert done == [None, None]
    assert place.names == {"alice"}
    assert place.file._loads == 2


def test_an_error_while_looking_does_not_end_the_looking(place):
    place.load()
    place.file.start()
    place.file.on_revoked(lambda names: 1 // 0)
    place.write(BOB)
    with logged(LogLevel.critical) as logs:
        place.clock.pump([0.5] * 20)
    assert len(logs) == 1
    assert place.file._timer.running
    place.file.stop()
    place.file.stop()


def test_a_list_of_expired_accounts_that_cannot_be_read_is_not_in_the_way(place):
    expired = place.path.with_name("accounts-expired")
    expired.write_text("x")
    expired.chmod(0o644)
    with logged(LogLevel.error) as logs:
        assert place.load().names == {"alice", "bob"}
    assert len(logs) == 1


def test_an_account_seen_expired_twice_is_noted_once(place):
    place.write(ALICE.rstrip() + " expires=2029-01-01\n" + BOB)
    place.load()
    place.file.start()
    place.clock.advance(5)
    expired = place.path.with_name("accounts-expired")
    before = expired.stat()
    place.file.stop()
    place.file = place.reader()
    place.load().file.start()
    place.clock.advance(5)
    place.file.stop()
    assert expired.stat() == before or expired.read_bytes()


def test_today_is_the_day_in_utc():
    from datetime import UTC, datetime

    reader = AccountFile(Path("/absent"), Clock(), InlineCpu())
    assert reader._today() in {datetime.now(UTC).date()}
    assert len(reader.key) == 32


@pytest.mark.threat("A7")
@pytest.mark.parametrize("elsewhere", [True, False])
def test_sessions_from_elsewhere_end_when_their_name_gets_a_line(place, elsewhere):
    place.file = AccountFile(
        place.path, place.clock, InlineCpu(), today=lambda: place.day, may_be_empty=elsewhere
    )
    place.load()
    place.file.on_revoked(lambda names: place.revoked.append(set(names)))
    place.write(ALICE + BOB + f"dave ! {WRITE}\neve {BCRYPT}\n")
    place.look()
    assert place.revoked == ([{"dave", "eve"}] if elsewhere else [])


def test_a_file_without_accounts_is_enough_where_somebody_else_knows_some(place):
    place.write("# none\n")
    with pytest.raises(AccountError, match="no usable account"):
        place.load()
    place.file = AccountFile(place.path, place.clock, InlineCpu(), may_be_empty=True)
    assert place.load().names == set()
