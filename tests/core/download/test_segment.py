import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.core.download.segment import (
    Arrived,
    Decode,
    Exhausted,
    Fetch,
    Found,
    GiveUp,
    Lost,
    Overdue,
    StretchFetch,
    WantShares,
)
from truckee.core.errors import NoSharesError, NotEnoughSharesError

A, B, C, D = b"A", b"B", b"C", b"D"
DRY = WantShares(urgent=True)
CROWDED = WantShares(urgent=False)


def found(*keys, grade=0):
    return [Found(key, grade) for key in keys]


def test_fetching_starts_with_the_first_share_and_goes_on_looking():
    fetch = StretchFetch(2)
    assert fetch.handle() == [DRY]
    assert fetch.handle(*found((A, 4))) == [Fetch((A, 4)), DRY]
    assert fetch.handle(*found((B, 5))) == [Fetch((B, 5))]


def test_among_equally_fast_servers_primary_shares_come_first():
    fetch = StretchFetch(2)
    assert fetch.handle(*found((A, 7), (B, 1), (C, 0))) == [Fetch((C, 0)), Fetch((B, 1))]


def test_a_faster_server_goes_before_a_primary_share():
    fetch = StretchFetch(1)
    assert fetch.handle(Found((A, 0), 3), Found((B, 9), 0)) == [Fetch((B, 9))]


@pytest.mark.threat("S3")
def test_ten_servers_with_one_share_number_are_one_share():
    fetch = StretchFetch(2)
    copies = [(bytes([i]), 0) for i in range(10)]
    assert fetch.handle(*found(*copies)) == [Fetch(copies[0]), DRY]
    assert fetch.handle(Arrived(copies[0])) == [DRY]
    (give_up,) = fetch.handle(Exhausted())
    assert isinstance(give_up, GiveUp)


def test_one_server_gives_one_share_as_long_as_there_is_a_choice():
    fetch = StretchFetch(3)
    actions = fetch.handle(*found((A, 0), (A, 1), (B, 2), (C, 3)))
    assert actions == [Fetch((A, 0)), Fetch((B, 2)), Fetch((C, 3))]


def test_one_server_gives_several_shares_when_nothing_else_is_left():
    fetch = StretchFetch(3)
    actions = fetch.handle(*found((A, 0), (A, 1), (A, 2)))
    assert actions == [Fetch((A, 0)), CROWDED, Fetch((A, 1)), Fetch((A, 2))]


def test_k_distinct_blocks_are_decoded_primaries_first():
    fetch = StretchFetch(2)
    fetch.handle(*found((A, 5), (B, 1)))
    assert fetch.handle(Arrived((A, 5))) == []
    assert fetch.handle(Arrived((B, 1))) == [Decode(((B, 1), (A, 5)))]


def test_an_overdue_share_is_replaced_and_still_used_when_it_comes_first():
    fetch = StretchFetch(1)
    fetch.handle(*found((A, 0), (B, 1)))
    assert fetch.handle(Overdue((A, 0))) == [Fetch((B, 1))]
    assert fetch.handle(Arrived((A, 0))) == [Decode(((A, 0),))]


def test_the_same_number_may_be_asked_elsewhere_when_it_is_overdue():
    fetch = StretchFetch(1)
    fetch.handle(*found((A, 0), (B, 0)))
    assert fetch.handle(Overdue((A, 0))) == [Fetch((B, 0))]


def test_overdue_shares_keep_the_hope_alive_until_they_are_lost():
    fetch = StretchFetch(1)
    fetch.handle(*found((A, 0)))
    fetch.handle(Exhausted())
    assert fetch.handle(Overdue((A, 0))) == []
    (give_up,) = fetch.handle(Lost((A, 0), "gone"))
    assert "Last failure: gone" in str(give_up.error)


def test_a_block_that_fails_its_hash_is_replaced_by_another_share():
    fetch = StretchFetch(2)
    fetch.handle(*found((A, 0), (B, 1), (C, 2)))
    fetch.handle(Arrived((A, 0)), Arrived((B, 1)))
    assert fetch.handle(Lost((A, 0), "bad block")) == [Fetch((C, 2))]
    assert fetch.handle(Arrived((C, 2))) == [Decode(((B, 1), (C, 2)))]


def test_a_lost_share_that_a_new_search_finds_again_may_be_asked_again():
    fetch = StretchFetch(1)
    fetch.handle(*found((A, 0)))
    assert fetch.handle(Lost((A, 0), "gone")) == [DRY]
    assert fetch.handle(*found((A, 0))) == [Fetch((A, 0))]


def test_finding_a_share_twice_changes_nothing():
    fetch = StretchFetch(1)
    fetch.handle(*found((A, 0)))
    assert fetch.handle(*found((A, 0))) == []


def test_no_shares_and_too_few_shares_are_different_errors():
    none = StretchFetch(2)
    (give_up,) = none.handle(Exhausted())
    assert type(give_up.error) is NoSharesError
    few = StretchFetch(2)
    few.handle(*found((A, 0)))
    (give_up,) = few.handle(Exhausted())
    assert type(give_up.error) is NotEnoughSharesError


def test_nothing_happens_after_giving_up():
    fetch = StretchFetch(1)
    fetch.handle(Exhausted())
    assert fetch.handle(*found((A, 0))) == []


@pytest.mark.parametrize("k", [1, 3, 256])
def test_only_so_many_shares_are_asked_as_are_needed(k):
    fetch = StretchFetch(k)
    keys = [(b"%d" % i, i) for i in range(256)]
    assert len(fetch.handle(*found(*keys))) == k


@given(st.data())
def test_whatever_happens_it_ends_with_k_blocks_or_gives_up_when_all_shares_are_decided(data):
    k = data.draw(st.integers(1, 4))
    keys = data.draw(
        st.lists(
            st.tuples(st.sampled_from([A, B, C, D]), st.integers(0, 5)), unique=True, max_size=10
        )
    )
    good = {key for key in keys if data.draw(st.booleans())}
    fetch = StretchFetch(k)
    waiting = list(fetch.handle(*found(*keys))) + list(fetch.handle(Exhausted()))
    outcome = None
    while waiting:
        action = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
        match action:
            case Fetch(key):
                if data.draw(st.booleans()):
                    waiting += fetch.handle(Overdue(key))
                waiting += fetch.handle(Arrived(key) if key in good else Lost(key, "bad"))
            case Decode(chosen):
                outcome = chosen
                break
            case GiveUp():
                outcome = None
    distinct = {shnum for _, shnum in good}
    if len(distinct) >= k:
        assert outcome is not None
        assert len({shnum for _, shnum in outcome}) == k
        assert set(outcome) <= good
    else:
        assert outcome is None
