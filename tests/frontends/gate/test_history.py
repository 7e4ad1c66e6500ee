import os

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from truckee.core.cpu import InlineCpu
from truckee.core.errors import ConfigError
from truckee.frontends.gate import history
from truckee.frontends.gate.history import BATCH, KEPT, LoginEntry, LoginHistory


class HistoryTests(SynchronousTestCase):
    def setUp(self):
        from pathlib import Path

        self.private = Path(self.mktemp()).absolute()
        self.private.mkdir(mode=0o700)
        self.clock = Clock()
        self.wall = 1_800_000_000.0
        self.history = self.make()

    def make(self):
        names = {"ann", "bob", "é"}
        return LoginHistory(
            self.private, self.clock, InlineCpu(), lambda: self.wall, names.__contains__
        )

    def note(self, name="ann", peer="10.0.0.1", outcome="ok"):
        self.history.note(name, "ftp", peer, "password", outcome)

    def read(self, name="ann"):
        return history.read(self.private, name)

    def test_logins_are_written_in_batches_and_read_without_a_node(self):
        self.note()
        self.note(outcome="denied")
        self.note("bob", "::1")
        assert self.read() == []
        self.clock.advance(BATCH)
        assert self.read() == [
            LoginEntry(1_800_000_000, "ftp", "10.0.0.1", "password", "ok"),
            LoginEntry(1_800_000_000, "ftp", "10.0.0.1", "password", "denied"),
        ]
        assert [entry.peer for entry in self.read("bob")] == ["::1"]
        assert self.clock.getDelayedCalls() == []

    def test_stopping_writes_what_waits(self):
        self.note()
        self.successResultOf(self.history.stop())
        assert len(self.read()) == 1
        assert self.clock.getDelayedCalls() == []

    def test_a_later_run_adds_to_what_is_there(self):
        for _ in range(3):
            self.note()
            self.successResultOf(self.history.stop())
            self.history = self.make()
        assert len(self.read()) == 3

    def test_those_alike_within_a_batch_are_one_entry_with_a_count(self):
        for _ in range(500):
            self.wall += 1
            self.note(outcome="denied")
        self.note()
        self.successResultOf(self.history.flush())
        first, last = self.read()
        assert (first.outcome, first.times, first.when) == ("denied", 500, 1_800_000_500)
        assert (last.outcome, last.times) == ("ok", 1)

    @pytest.mark.threat("D5")
    def test_only_the_last_thousand_are_kept(self):
        for i in range(KEPT + 500):
            self.note(peer=f"10.0.{i // 250}.{i % 250}")
            if i % 100 == 0:
                self.successResultOf(self.history.flush())
        self.successResultOf(self.history.flush())
        found = self.read()
        assert len(found) == KEPT
        assert found[-1].peer == "10.0.5.249"
        (path,) = (self.private / "logins").iterdir()
        assert path.stat().st_size < 200_000

    @pytest.mark.threat("D5")
    def test_a_flood_does_not_wait_in_memory(self):
        for i in range(10_000):
            self.note(peer=f"10.{i // 62500}.{i // 250 % 250}.{i % 250}")
        assert self.history._count < 2000

    @pytest.mark.threat("L1")
    def test_what_is_no_account_is_not_kept(self):
        self.note("my-password-typed-as-a-name", outcome="denied")
        self.history.note("who@ever", "ftp", "10.0.0.1", "anonymous", "ok")
        self.successResultOf(self.history.flush())
        assert not (self.private / "logins").exists()

    def test_who_came_in_has_an_account_wherever_it_is_kept(self):
        self.note("known elsewhere")
        self.successResultOf(self.history.flush())
        assert len(self.read("known elsewhere")) == 1

    def test_names_in_any_spelling_are_one_account(self):
        self.note("e\u0301")
        self.successResultOf(self.history.flush())
        assert len(self.read("é")) == 1

    @pytest.mark.threat("L5")
    def test_nobody_else_may_read_them(self):
        self.note()
        self.successResultOf(self.history.flush())
        folder = self.private / "logins"
        (path,) = folder.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o644)
        with pytest.raises(ConfigError):
            self.read()

    def test_damaged_lines_are_passed_over(self):
        self.note()
        self.successResultOf(self.history.flush())
        (path,) = (self.private / "logins").iterdir()
        good = path.read_text()
        bad = ["", "{", "[]", '{"time":"x"}', "[" * 5000, '{"time":true}', "\x00", "é"]
        bad.append(good.split("\n")[1].replace('"ftp"', '"gopher"'))
        bad.append(good.split("\n")[1].replace(":1}", ':"1"}'))
        path.write_bytes((good + "\n".join(bad) + "\n").encode() + b"\xff\xfe\n")
        assert len(self.read()) == 1
        self.note()
        self.successResultOf(self.history.flush())
        assert len(self.read()) == 2

    def test_a_full_disk_is_counted_and_harms_nothing(self):
        folder = self.private / "logins"
        folder.mkdir(mode=0o755)
        os.chmod(folder, 0o755)
        self.note()
        self.successResultOf(self.history.flush())
        assert self.history.lost == 1
        os.chmod(folder, 0o700)
        self.note()
        self.successResultOf(self.history.flush())
        assert len(self.read()) == 1
