import pytest
from twisted.internet.task import Clock
from twisted.logger import eventAsText, globalLogPublisher

from truckee.frontends.gate.journal import Journal, SilentJournal
from truckee.frontends.gate.record import Record


@pytest.fixture
def log():
    events = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


class Notes:
    def __init__(self):
        self.taken = []

    def note(self, *login):
        self.taken.append(login)


def texts(log):
    return [eventAsText(event, includeTimestamp=False, includeSystem=False) for event in log]


def everything(journal: Journal) -> None:
    journal.connected("ftp", "10.0.0.1")
    journal.refused("sftp", "10.0.0.2", "too many sessions")
    journal.login("ftp", "10.0.0.1", "ann", "password", "ok")
    journal.login("sftp", "10.0.0.1", "ann", "key", "denied")
    journal.transfer("ftp", "10.0.0.1", "ann", "put", "/a MARK/b", 1000, 1.5, "ok")
    journal.transfer("ftp", "10.0.0.1", "ann", "get", "/a MARK/b", 300, 0.5, "aborted")
    journal.transfer("ftp", "10.0.0.1", "ann", "list", "/a MARK", 30, 0.5, "ok")
    journal.left("ftp", "10.0.0.1", "ann", 12.0)


def test_every_event_is_a_line_with_fields(log):
    everything(Record(Clock()))
    assert texts(log) == [
        "ftp connection from 10.0.0.1",
        "sftp refuses 10.0.0.2: too many sessions",
        "ftp login of ann from 10.0.0.1 by password: ok",
        "sftp login of ann from 10.0.0.1 by key: denied",
        "ftp put of ann from 10.0.0.1: 1000 bytes in 1.500 s, ok",
        "ftp get of ann from 10.0.0.1: 300 bytes in 0.500 s, aborted",
        "ftp list of ann from 10.0.0.1: 30 bytes in 0.500 s, ok",
        "ftp connection from 10.0.0.1 ended after 12.0 s",
    ]
    assert (log[4]["door"], log[4]["verb"], log[4]["size"]) == ("ftp", "put", 1000)


@pytest.mark.threat("L1")
def test_paths_are_in_no_event_unless_asked_for(log):
    everything(Record(Clock()))
    assert "MARK" not in repr(log)
    everything(Record(Clock(), log_paths=True))
    assert sum("MARK" in line for line in texts(log)) == 3


def test_everything_is_counted():
    record = Record(Clock())
    everything(record)
    counts = record.counts
    assert counts.connections == {"ftp": 1}
    assert counts.refusals == {"sftp": 1}
    assert counts.logins == {("ftp", "password", "ok"): 1, ("sftp", "key", "denied"): 1}
    assert counts.transfers[("ftp", "put", "ok")] == 1
    assert counts.received == {"ftp": 1000}
    assert counts.sent == {"ftp": 330}


def test_bans_are_counted_and_written(log):
    record = Record(Clock())
    record.banned("10.0.0.9", 1800)
    assert texts(log) == ["10.0.0.9 is shut out for 1800 s"]
    assert record.counts.bans == 1


def test_logins_are_kept_as_history():
    notes = Notes()
    everything(Record(Clock(), notes))
    assert notes.taken == [
        ("ann", "ftp", "10.0.0.1", "password", "ok"),
        ("ann", "sftp", "10.0.0.1", "key", "denied"),
    ]


@pytest.mark.threat("D5")
def test_a_hundred_thousand_failed_logins_make_less_than_a_mebibyte_of_log():
    from truckee.frontends.node.logs import RedactingObserver

    clock = Clock()
    written = []
    record = Record(clock, Notes())
    observer = RedactingObserver(written.append, clock.seconds)
    globalLogPublisher.addObserver(observer)
    try:
        record.start()
        for i in range(100_000):
            record.login("ftp", f"10.0.{i % 7}.{i % 100}", f"name{i}", "password", "denied")
            clock.advance(0.001)
        record.stop()
    finally:
        globalLogPublisher.removeObserver(observer)
    assert sum(len(line.encode()) for line in written) < 1 << 20
    told = sum(1 for line in written if "login of" in line)
    assert told > 1000
    assert record.lines_dropped > 50_000
    assert record.counts.logins["ftp", "password", "denied"] == 100_000
    assert any("more lines of the kind failed-login" in line for line in written)


@pytest.mark.threat("A9")
def test_several_accounts_from_one_exempt_address_are_noticed():
    record = Record(Clock(), is_exempt=lambda peer: peer.startswith("127."))
    for peer, names in {"127.0.0.1": "abc", "127.0.0.2": "a", "10.0.0.1": "abc"}.items():
        for name in names:
            record.login("ftp", peer, name, "password", "ok")
            record.login("ftp", peer, f"wrong {name}", "password", "denied")
    assert record.shared_exempt_sources() == {"127.0.0.1": 3}


@pytest.mark.threat("L10")
def test_hostile_names_are_escaped_where_they_are_written():
    from truckee.frontends.node.logs import RedactingObserver

    written = []
    globalLogPublisher.addObserver(observer := RedactingObserver(written.append))
    try:
        record = Record(Clock(), log_paths=True)
        record.login("ftp", "10.0.0.1", "a\x1b[2J\nforged {door}", "password", "denied")
        record.transfer("ftp", "10.0.0.1", "a", "put", "/\u202e\r\n{x}", 0, 0, "failed")
    finally:
        globalLogPublisher.removeObserver(observer)
    assert len(written) == 2
    assert all(line.count("\n") == 1 and "\x1b" not in line for line in written)
    assert "\u202e" not in written[1]


def test_the_silent_journal_takes_the_same():
    everything(SilentJournal())
