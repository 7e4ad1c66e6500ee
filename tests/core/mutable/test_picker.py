import pytest

from truckee.core.errors import NotEnoughSharesError
from truckee.core.formats import sdmf
from truckee.core.formats.mutable_share import Section, Sections
from truckee.core.mutable.retrieve import Picker
from truckee.core.mutable.servermap import Copy

NOWHERE = Sections(*[Section(107, 107)] * 6, 107)
HEADER = sdmf.SdmfHeader(1, b"r" * 32, bytes(16), sdmf.geometry(9, 3, 10))


def copies(*places):
    return [Copy(server, shnum, HEADER, NOWHERE, b"") for server, shnum in places]


def named(chosen):
    return [(c.server_id, c.shnum) for c in chosen]


def test_the_lowest_share_numbers_are_asked_first():
    picker = Picker(2, copies((b"a", 3), (b"b", 0), (b"c", 1)))
    assert named(picker.begin()) == [(b"b", 0), (b"c", 1)]


def test_one_number_is_asked_of_one_server_and_a_spare_copy_takes_over():
    a, b, c = copies((b"a", 0), (b"b", 0), (b"c", 1))
    picker = Picker(2, [a, b, c])
    assert picker.begin() == [a, c]
    assert picker.failed(a, server_gone=False) == [b]
    assert picker.arrived(b) == []
    assert picker.arrived(c) == []
    assert picker.complete


def test_a_corrupt_share_does_not_condemn_its_server_a_lost_connection_does():
    places = [(b"a", 0), (b"a", 1), (b"b", 2)]
    a0, a1, b2 = copies(*places)
    picker = Picker(1, [a0, a1, b2])
    picker.begin()
    assert picker.failed(a0, server_gone=False) == [a1]
    a0, a1, b2 = copies(*places)
    picker = Picker(1, [a0, a1, b2])
    picker.begin()
    assert picker.failed(a0, server_gone=True) == [b2]


def test_too_few_copies_are_an_error_at_once():
    with pytest.raises(NotEnoughSharesError):
        Picker(2, copies((b"a", 0), (b"b", 0))).begin()
    a, b = copies((b"a", 0), (b"b", 1))
    picker = Picker(2, [a, b])
    picker.begin()
    with pytest.raises(NotEnoughSharesError):
        picker.failed(a, server_gone=False)


def test_an_overdue_copy_is_asked_for_elsewhere_but_may_still_answer():
    a, b, c = copies((b"a", 0), (b"b", 0), (b"c", 1))
    picker = Picker(1, [a, b, c])
    assert picker.begin() == [a]
    assert picker.overdue(a) == [b, c]
    picker.arrived(a)
    assert picker.complete


def test_what_was_good_stays_in_use_and_who_was_slow_comes_last():
    a, b, c = copies((b"a", 0), (b"b", 1), (b"c", 2))
    picker = Picker(1, [a, b, c])
    picker.begin()
    picker.overdue(a)
    picker.arrived(c)
    assert picker.begin() == [c]
    assert picker.failed(c, server_gone=True) == [b]
    assert picker.failed(b, server_gone=True) == [a]


def test_starved_means_that_only_the_overdue_are_left():
    a, b = copies((b"a", 0), (b"b", 1))
    picker = Picker(1, [a, b])
    picker.begin()
    picker.overdue(a)
    assert not picker.starved
    picker.overdue(b)
    assert picker.starved
    more = copies((b"a", 0), (b"c", 0))
    assert picker.add(more) == [more[1]]
