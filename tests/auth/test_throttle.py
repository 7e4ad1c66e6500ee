import pytest
from twisted.internet.task import Clock

from truckee.auth.throttle import LOOPBACK, Throttle


def throttle(**options: object) -> tuple[Clock, Throttle]:
    clock = Clock()
    return clock, Throttle(seconds=clock.seconds, jitter=lambda: 0.0, **options)


@pytest.mark.threat("A2")
def test_fifteen_wrong_passwords_ban_a_source_for_half_an_hour():
    clock, t = throttle()
    for _ in range(14):
        t.failed("192.0.2.1", "alice", known=True)
        assert not t.is_banned("192.0.2.1")
    t.failed("192.0.2.1", "alice", known=True)
    assert t.is_banned("192.0.2.1")
    assert not t.is_banned("192.0.2.2")
    assert [source for source, _ in t.bans()] == ["192.0.2.1"]
    clock.advance(1800)
    assert not t.is_banned("192.0.2.1")


def test_unknown_names_count_double_and_session_floods_triple():
    _, t = throttle()
    for _ in range(8):
        t.failed("192.0.2.1", "nobody", known=False)
    assert t.is_banned("192.0.2.1")
    for _ in range(5):
        t.limit_hit("192.0.2.9")
    assert t.is_banned("192.0.2.9")


def test_each_further_ban_is_longer_up_to_a_day():
    clock, t = throttle()
    lengths = []
    for _ in range(100):
        while not t.is_banned("192.0.2.1"):
            t.failed("192.0.2.1", "alice", known=True)
        lengths.append(t.bans()[0][1])
        clock.advance(lengths[-1])
    assert lengths[:3] == [1800.0, 2700.0, 3600.0]
    assert lengths[-1] == 86400.0


def test_each_ban_is_told_once_with_its_length():
    clock, t = throttle()
    told = []
    t.on_ban = lambda source, seconds: told.append((source, seconds))
    for _ in range(2):
        for _ in range(15):
            t.failed("2001:db8::1", "alice", known=True)
        clock.advance(4000)
    assert told == [("2001:db8::/64", 1800.0), ("2001:db8::/64", 2700.0)]


def test_old_failures_are_forgotten():
    clock, t = throttle()
    for _ in range(14):
        t.failed("192.0.2.1", "alice", known=True)
    clock.advance(1801)
    t.failed("192.0.2.1", "alice", known=True)
    assert not t.is_banned("192.0.2.1")
    assert t.delay("192.0.2.1", "alice") == 1.0


def test_answers_slow_down_from_the_fifth_point_on():
    _, t = throttle()
    delays = [t.failed("192.0.2.1", "alice", known=True) for _ in range(11)]
    assert delays == [1, 1, 1, 1, 1, 2, 4, 8, 16, 16, 16]


@pytest.mark.threat("A2")
def test_a_name_is_slowed_from_everywhere_but_never_banned():
    _, t = throttle()
    for i in range(100):
        t.failed(f"192.0.2.{i}", "alice", known=True)
    assert not t.is_banned("192.0.2.200")
    assert t.delay("192.0.2.200", "alice") == 16
    assert t.delay("192.0.2.200", "bob") == 1


@pytest.mark.threat("A9")
@pytest.mark.threat("A9")
def test_this_machine_is_slowed_but_not_banned():
    _, t = throttle(exempt=LOOPBACK)
    for source in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        for _ in range(50):
            t.failed(source, "alice", known=False)
        assert not t.is_banned(source)
        assert t.delay(source, "alice") == 16


@pytest.mark.threat("A2")
@pytest.mark.threat("A2")
def test_an_ipv6_source_is_its_64_and_later_its_48():
    _, t = throttle()
    for i in range(15):
        t.failed(f"2001:db8:0:1::{i:x}", "alice", known=True)
    assert t.is_banned("2001:db8:0:1:ffff::1")
    assert not t.is_banned("2001:db8:0:2::1")
    for i in range(2, 6):
        for _ in range(14):
            t.failed(f"2001:db8:0:{i}::1", "alice", known=True)
    assert t.is_banned("2001:db8:0:99::1")
    assert not t.is_banned("2001:db8:1::1")


@pytest.mark.threat("A2")
@pytest.mark.threat("A2")
def test_memory_is_bounded_and_the_banned_leave_last():
    _, t = throttle(capacity=100)
    for _ in range(15):
        t.failed("192.0.2.1", "alice", known=True)
    for i in range(10_000):
        t.failed(f"10.0.{i >> 8}.{i & 255}", f"name{i}", known=False)
    assert len(t) <= 100
    assert t.is_banned("192.0.2.1")


def test_a_ban_can_be_lifted():
    _, t = throttle()
    for _ in range(15):
        t.failed("192.0.2.1", "alice", known=True)
    assert t.clear("192.0.2.1")
    assert not t.is_banned("192.0.2.1")
    assert not t.clear("192.0.2.1")


def test_a_network_is_let_in_again_by_the_name_under_which_it_is_shown():
    _, t = throttle()
    for i in range(15):
        t.failed(f"2001:db8::{i}", "alice", known=True)
    ((shown, _),) = t.bans()
    assert shown == "2001:db8::/64"
    assert t.clear(shown)
    assert not t.is_banned("2001:db8::1")


def test_a_table_full_of_bans_still_takes_the_next():
    _, t = throttle(capacity=4)
    for i in range(9):
        for _ in range(15):
            t.limit_hit(f"192.0.2.{i}")
    assert len(t) == 4
    assert t.is_banned("192.0.2.8")


def test_a_source_without_an_address_is_counted_under_its_name():
    _, t = throttle(exempt=LOOPBACK)
    for _ in range(15):
        t.failed("somewhere", "alice", known=True)
    assert t.is_banned("somewhere")
    assert not t.is_banned("")
    t.failed("", "alice", known=True)
