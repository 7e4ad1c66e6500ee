import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.auth.turns import OUTSIDE, PER_SOURCE, QUEUED, RUNNING, Ticket, Turns


@pytest.mark.threat("A3")
def test_sources_take_turns_and_within_a_source_its_names():
    turns = Turns()
    tickets = [Ticket("a", "x"), Ticket("a", "x"), Ticket("a", "y"), Ticket("b", "z")]
    for ticket in tickets:
        assert turns.ask(ticket)
    order = []
    while (ticket := turns.start()) is not None:
        order.append(ticket)
        turns.done(ticket)
    assert order == [tickets[0], tickets[3], tickets[2], tickets[1]]


def test_two_run_at_a_time():
    turns = Turns()
    for i in range(5):
        turns.ask(Ticket(str(i), "x"))
    first, second = turns.start(), turns.start()
    assert first is not None
    assert second is not None
    assert turns.start() is None
    turns.done(first)
    assert turns.start() is not None


@pytest.mark.threat("A3")
@pytest.mark.threat("A3")
def test_a_flood_from_one_source_does_not_fill_the_queue():
    turns = Turns()
    for i in range(500):
        assert turns.ask(Ticket("flood", f"n{i}"))
    mine = Ticket("me", "alice")
    assert turns.ask(mine)
    started = [turns.start(), turns.start()]
    assert mine in started


def test_the_queue_is_full_for_further_sources():
    turns = Turns()
    accepted = 0
    while turns.ask(Ticket(f"s{accepted}", "x")):
        accepted += 1
        turns.start()
    assert accepted == QUEUED + RUNNING


def test_one_that_leaves_makes_room():
    turns = Turns()
    ticket = Ticket("a", "x")
    turns.ask(ticket)
    assert turns.withdraw(ticket)
    assert not turns.withdraw(ticket)
    assert turns.start() is None
    assert len(turns) == 0


def test_one_that_has_begun_cannot_leave():
    turns = Turns()
    ticket = Ticket("a", "x")
    turns.ask(ticket)
    assert turns.start() is ticket
    assert not turns.withdraw(ticket)
    turns.done(ticket)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 2))))
def test_nobody_is_lost_and_the_bounds_hold(events):
    turns = Turns()
    waiting: list[Ticket] = []
    running: list[Ticket] = []
    for kind, source, name in events:
        if kind < 2:
            ticket = Ticket(str(source), str(name))
            if turns.ask(ticket):
                waiting.append(ticket)
        elif kind == 2 and running:
            turns.done(running.pop(0))
        elif kind == 3 and waiting:
            assert turns.withdraw(waiting.pop(0))
        while (started := turns.start()) is not None:
            waiting.remove(started)
            running.append(started)
        assert len(running) <= RUNNING
        assert len(turns) == len(waiting)
        assert not waiting or len(running) == RUNNING
    assert PER_SOURCE == 2


def test_even_outside_the_queue_there_is_an_end():
    turns = Turns()
    while turns.ask(Ticket("flood", "x")):
        pass
    assert len(turns) == OUTSIDE
