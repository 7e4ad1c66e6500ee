import pytest

from truckee.frontends.gate.pacing import CAPACITY, IN_ALL, Pacer, network


class Now:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.threat("D5")
def test_ten_lines_a_second_for_each_source_and_kind_then_a_count():
    now = Now()
    pacer = Pacer(now)
    answers = [pacer.admit("login", "1.2.3.4") for _ in range(100)]
    assert answers == [0] * 10 + [None] * 90
    assert pacer.admit("login", "1.2.3.5") == 0
    assert pacer.admit("ban", "1.2.3.4") == 0
    now.now = 1.0
    assert pacer.admit("login", "1.2.3.4") == 90
    assert pacer.admit("login", "1.2.3.4") == 0
    assert pacer.dropped == 90


@pytest.mark.threat("D5")
def test_many_sources_together_have_a_bound_too():
    now = Now()
    pacer = Pacer(now)
    sources = [f"10.0.{i // 250}.{i % 250}" for i in range(5000)]
    written = sum(pacer.admit("login", source) is not None for source in sources)
    assert written == IN_ALL
    assert len(pacer._of_source) <= CAPACITY + 1


def test_what_was_left_out_is_told_once():
    now = Now()
    pacer = Pacer(now)
    for _ in range(25):
        pacer.admit("login", "1.2.3.4")
    (told,) = pacer.settle()
    assert (told.kind, told.source, told.count) == ("login", "1.2.3.4", 15)
    assert pacer.settle() == []


def test_of_many_sources_the_largest_are_named_and_the_others_summed():
    pacer = Pacer(Now())
    for i in range(60):
        for _ in range(11 + i):
            pacer.admit(f"kind{i % 2}", f"10.0.0.{i}")
    told = pacer.settle()
    assert len(told) == 22
    assert sum(t.count for t in told) == pacer.dropped
    assert [t.source for t in told[-2:]] == ["others", "others"]


def test_silent_sources_are_forgotten():
    now = Now()
    pacer = Pacer(now)
    pacer.admit("login", "1.2.3.4")
    now.now = 60.0
    pacer.settle()
    assert not pacer._of_source


def test_an_ipv6_network_is_one_source():
    assert network("2001:db8::1") == network("2001:db8::ffff:1")
    assert network("2001:db8:0:1::1") != network("2001:db8::1")
    assert network("::ffff:10.0.0.1") == "10.0.0.1"
    assert network("fe80::1%eth0") == "fe80::/64"
    assert network("no:address") == "no:address"
