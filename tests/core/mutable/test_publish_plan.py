import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.core.errors import (
    FileTooLargeError,
    NotEnoughServersError,
    SequenceNumberExhaustedError,
    UploadUnhappinessError,
)
from truckee.core.formats import sdmf
from truckee.core.formats.mutable_share import MAX_SEQNUM, Section, Sections
from truckee.core.mutable.publish import (
    goal,
    layout,
    next_seqnum,
    others_wrote,
    requests,
    require_happy,
    specimen,
    writers_geometry,
)
from truckee.core.mutable.servermap import Copy, Servermap
from truckee.core.placement import happiness
from truckee.core.storage.api import TestVector

IDS = [b"%02d" % i for i in range(12)]
NOWHERE = Sections(*[Section(107, 107)] * 6, 107)


def header(seqnum=1):
    return sdmf.SdmfHeader(seqnum, b"r" * 32, bytes(16), sdmf.geometry(9, 3, 10))


def holding(*places, seqnum=1, bad=()):
    copies = {(IDS[i], s): Copy(IDS[i], s, header(seqnum), NOWHERE, b"") for i, s in places}
    return Servermap(copies, {(IDS[i], s): raw for i, s, raw in bad})


def numbered(places):
    return {(IDS.index(server_id), shnum) for server_id, shnum in places}


def test_a_new_file_goes_to_the_servers_in_order_and_wraps():
    assert numbered(goal(Servermap(), IDS, 10, 7)) == {(i, i) for i in range(10)}
    three = numbered(goal(Servermap(), IDS[:3], 7, 3))
    assert three == {(s % 3, s) for s in range(7)}


def test_known_and_bad_places_stay_and_homeless_numbers_go_to_the_least_loaded():
    found = holding((0, 0), (0, 1), (3, 1), bad=[(1, 2, b"x"), (2, 99, b"y")])
    places = numbered(goal(found, IDS[:5], 5, 3))
    assert places == {(0, 0), (0, 1), (3, 1), (1, 2), (2, 3), (4, 4)}


def test_servers_that_failed_get_nothing_new():
    found = Servermap(failed={IDS[0], IDS[2]})
    assert {i for i, _ in numbered(goal(found, IDS[:5], 10, 3))} == {1, 3, 4}
    with pytest.raises(NotEnoughServersError):
        goal(Servermap(failed=set(IDS)), IDS, 10, 7)


def test_a_crowded_layout_is_spread_until_it_is_happy():
    found = holding(*((0, s) for s in range(10)))
    places = goal(found, IDS, 10, 7)
    assert happiness(layout(places)) == 7
    assert len(places) == 16


@given(
    st.sets(st.tuples(st.integers(0, 11), st.integers(0, 9)), max_size=30),
    st.sets(st.integers(0, 11), max_size=6),
    st.integers(0, 10),
)
def test_a_goal_has_every_number_every_known_place_and_all_the_happiness_there_is(
    held, failed, happy
):
    held = {(i, s) for i, s in held if i not in failed}
    found = holding(*held)
    found.failed = {IDS[i] for i in failed}
    places = numbered(goal(found, IDS, 10, happy))
    assert held <= places
    assert {s for _, s in places} == set(range(10))
    assert not {i for i, _ in places} & failed
    assert happiness(layout(places)) >= min(happy, 12 - len(failed), 10)


def test_happiness_is_required():
    places = [(IDS[0], 0), (IDS[1], 0), (IDS[2], 1)]
    require_happy(places, 1, 2, "x")
    with pytest.raises(UploadUnhappinessError, match="only 2 server"):
        require_happy(places, 1, 3, "x")
    require_happy([], 1, 0, "x")


def test_each_place_is_tested_for_what_the_map_shows():
    found = holding((0, 0), bad=[(1, 1, b"junk"), (2, 2, b"")])
    assert specimen(found, (IDS[0], 0)) == TestVector(0, 57, header().checkstring)
    assert specimen(found, (IDS[1], 1)) == TestVector(0, 4, b"junk")
    assert specimen(found, (IDS[2], 2)) == TestVector(0, 1, b"")
    assert specimen(found, (IDS[3], 3)) == TestVector(0, 1, b"")


def test_small_shares_of_one_server_go_together_large_ones_one_by_one():
    places = [(IDS[0], 0), (IDS[0], 5), (IDS[1], 1)]
    assert requests(places, 1000) == [(IDS[0], (0, 5)), (IDS[1], (1,))]
    assert requests(places, 600_000) == [(IDS[0], (0,)), (IDS[0], (5,)), (IDS[1], (1,))]


def test_unaccounted_shares_are_evidence_of_another_writer():
    found = holding((0, 11), bad=[(0, 12, b"x")])
    mine, places = b"mine", {(IDS[0], 0)}

    def evidence(data):
        return others_wrote(data, IDS[0], places, found, mine)

    assert not evidence({})
    assert not evidence({0: [b"old"], 11: [b"old"], 12: [b"?"], 3: [mine]})
    assert evidence({3: [b"other"]})
    assert evidence({3: []})
    assert evidence({0: [b"old"], 11: [b"x"], 4: [b"theirs"]})


@pytest.mark.threat("U9")
def test_the_next_number_is_above_all_seen_and_ends():
    assert next_seqnum(Servermap()) == 1
    assert next_seqnum(holding((0, 0), seqnum=41)) == 42
    with pytest.raises(SequenceNumberExhaustedError):
        next_seqnum(holding((0, 0), seqnum=MAX_SEQNUM))


@pytest.mark.parametrize(
    ("size", "k", "n", "is_mdmf", "fits"),
    [
        (64 * 2**20, 3, 10, False, True),
        (64 * 2**20 + 1, 3, 10, False, False),
        (64 * 2**20, 1, 10, False, False),
        (76 * 2**20, 3, 10, True, True),
        (77 * 2**20, 3, 10, True, False),
        (256 * 2**20, 1, 1, True, True),
        (256 * 2**20 + 1, 1, 1, True, False),
    ],
)
def test_sizes_that_memory_would_not_hold_are_refused(size, k, n, is_mdmf, fits):
    if fits:
        assert writers_geometry(size, k, n, is_mdmf=is_mdmf).size == size
    else:
        with pytest.raises(FileTooLargeError):
            writers_geometry(size, k, n, is_mdmf=is_mdmf)
