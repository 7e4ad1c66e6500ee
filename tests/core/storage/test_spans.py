from hypothesis import given
from hypothesis import strategies as st

from truckee.core.storage.spans import Spans

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=20)


@given(RANGES, st.integers(0, 60), st.integers(0, 60))
def test_spans_agree_with_a_set_of_numbers(ranges, begin, end):
    spans = Spans()
    model = set()
    for first, last in ranges:
        spans.add(first, last)
        model.update(range(first, last))
        assert spans.missing(60) == runs(set(range(60)) - model)
        assert spans.covers(60) == (set(range(60)) <= model)
    overlap = spans.overlap(begin, end)
    assert {n for a, b in overlap for n in range(a, b)} == model & set(range(begin, end))
    assert all(a < b for a, b in overlap)


def runs(numbers):
    found = []
    for n in sorted(numbers):
        if found and found[-1][1] == n:
            found[-1] = (found[-1][0], n + 1)
        else:
            found.append((n, n + 1))
    return found
