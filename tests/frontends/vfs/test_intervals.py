"""Interval sets against a plain set of integers."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from truckee.frontends.vfs.intervals import IntervalSet

point = st.integers(0, 60)
step = st.one_of(
    st.tuples(st.just("add"), point, point),
    st.tuples(st.just("cut"), point, point),
)


@given(st.lists(step, max_size=40), point, point)
def test_an_interval_set_behaves_as_a_set_of_integers(steps, start, end):
    ours, model = IntervalSet(), set()
    for kind, a, b in steps:
        before = len(model)
        if kind == "add":
            model |= set(range(a, b))
            assert ours.add(a, b) == len(model) - before
        else:
            model = {i for i in model if i < a}
            assert ours.cut(a) == before - len(model)
        ranges = list(ours)
        assert all(low < high for low, high in ranges)
        assert all(x[1] < y[0] for x, y in pairwise(ranges))
        assert {i for low, high in ranges for i in range(low, high)} == model
        assert ours.total == len(model)
    asked = set(range(start, end))
    assert {i for low, high in ours.within(start, end) for i in range(low, high)} == asked & model
    assert {i for low, high in ours.missing(start, end) for i in range(low, high)} == asked - model
    assert ours.covers(start, end) == (asked <= model)


def test_pieces_in_sequence_stay_one_range():
    ours = IntervalSet()
    for i in range(1000):
        assert ours.add(i * 10, i * 10 + 10) == 10
    assert len(ours) == 1
