import re
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from tests.fakes.openmetrics import parse, value
from truckee.frontends.gate.record import Record
from truckee.frontends.gate.registry import Ledger, Registry
from truckee.frontends.node import figures
from truckee.frontends.node.figures import Accounts, Sources
from truckee.frontends.node.openmetrics import render
from truckee.frontends.node.watchdog import Watchdog
from truckee.frontends.vfs.process import Gauges

ROOT = Path(__file__).resolve().parents[3]


class Passwords:
    refused = 4

    def __len__(self):
        return 3


def sources(**more):
    clock = Clock()
    ledger = Ledger()
    fields = {
        "record": Record(clock),
        "registries": {door: Registry(door, ledger=ledger) for door in ("ftp", "sftp")},
        "gauges": lambda: Gauges(5, 2, 1, 1000, 9000),
        "bans": lambda: 6,
        "accounts": lambda: Accounts(7, 8),
        "passwords": Passwords(),
        "stores": 10,
        "absent": lambda: 3,
        "watchdog": Watchdog(None, clock.seconds),
        "seconds": clock.seconds,
        "started": -60.0,
        "lines_dropped": lambda: 11,
        "logins_lost": lambda: 12,
    }
    return Sources(**fields | more)


def read(found):
    return parse(render(figures.families(found)))


def test_every_figure_that_operators_were_promised_is_there():
    s = sources()
    session = type("S", (), {"account": "ann", "leaving": False, "busy": False})()
    s.registries["ftp"].enter(session, "10.0.0.1")
    s.record.connected("ftp", "10.0.0.1")
    s.record.login("ftp", "10.0.0.1", "ann", "password", "ok")
    s.record.login("sftp", "10.0.0.1", "ann", "key", "denied")
    s.record.transfer("ftp", "10.0.0.1", "ann", "put", "/x", 100, 1.0, "ok")
    s.record.transfer("sftp", "10.0.0.1", "ann", "get", "/x", 50, 1.0, "aborted")
    s.record.banned("10.0.0.9", 60)
    s.watchdog.long_turns["ftp"] += 2
    found = read(s)
    for name, labels, wanted in [
        ("truckee_uptime_seconds", {}, 60),
        ("truckee_sessions", {"door": "ftp"}, 1),
        ("truckee_sessions", {"door": "sftp"}, 0),
        ("truckee_strangers", {"door": "ftp"}, 0),
        ("truckee_connections", {"door": "ftp"}, 1),
        ("truckee_refusals", {"door": "ftp"}, 0),
        ("truckee_logins", {"door": "ftp", "method": "password", "outcome": "ok"}, 1),
        ("truckee_logins", {"door": "sftp", "method": "key", "outcome": "denied"}, 1),
        ("truckee_banned_sources", {}, 6),
        ("truckee_bans", {}, 1),
        ("truckee_transfers", {"door": "ftp", "verb": "put", "ending": "ok"}, 1),
        ("truckee_transfers", {"door": "sftp", "verb": "get", "ending": "aborted"}, 1),
        ("truckee_received_bytes", {"door": "ftp"}, 100),
        ("truckee_sent_bytes", {"door": "sftp"}, 50),
        ("truckee_pending_files", {}, 5),
        ("truckee_commits_pending", {}, 2),
        ("truckee_commits_failed", {}, 1),
        ("truckee_spool_bytes", {}, 1000),
        ("truckee_spool_limit_bytes", {}, 9000),
        ("truckee_accounts", {}, 7),
        ("truckee_accounts_bad_lines", {}, 8),
        ("truckee_bcrypt_waiting", {}, 3),
        ("truckee_bcrypt_refused", {}, 4),
        ("truckee_reactor_delay_seconds", {}, 0),
        ("truckee_reactor_long_turns", {"room": "ftp"}, 2),
        ("truckee_stores_present", {}, 7),
        ("truckee_stores_absent", {}, 3),
        ("truckee_log_lines_dropped", {}, 11),
        ("truckee_login_history_lost", {}, 12),
    ]:
        assert value(found, name, **labels) == wanted, name
    assert value(found, "truckee_resident_memory_bytes") > 1_000_000
    assert value(found, "truckee_open_files") > 2


@pytest.mark.threat("L1")
def test_no_label_holds_what_a_client_sent():
    s = sources()
    s.record.refused("ftp", "MARK", "MARK")
    s.record.login("ftp", "MARK", "MARK", "password", "denied")
    s.record.transfer("ftp", "MARK", "MARK", "put", "MARK", 1, 1, "failed")
    s.record.banned("MARK", 1)
    assert "MARK" not in render(figures.families(s))


def test_the_same_names_exist_before_anything_has_happened():
    before, s = read(sources()), sources()
    s.record.login("ftp", "10.0.0.1", "ann", "password", "ok")
    s.record.transfer("ftp", "10.0.0.1", "ann", "put", "/x", 1, 1.0, "ok")
    after = read(s)
    assert {n: set(f.samples) for n, f in before.items()} == {
        n: set(f.samples) for n, f in after.items()
    }


def test_the_documentation_lists_exactly_these():
    text = (ROOT / "docs" / "operations.rst").read_text()
    told = re.findall(r"^``(truckee\w*)`` +(info|gauge|counter) ", text, re.MULTILINE)
    assert told == [(family.name, family.kind) for family in figures.families(sources())]


def test_as_json_a_figure_is_a_number_or_a_list():
    fields = figures.as_fields(figures.families(sources()))
    assert fields["accounts_bad_lines"] == 8
    assert {"door": "sftp", "value": 0} in fields["sessions"]
    assert all(isinstance(value, int | float | list) for value in fields.values())
