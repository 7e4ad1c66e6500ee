import pytest

from truckee.core.formats import sdmf
from truckee.core.formats.mutable_share import Section, Sections
from truckee.core.mutable.servermap import (
    Answered,
    Copy,
    Expired,
    Failed,
    Mode,
    Servermap,
    Survey,
    Waited,
)

IDS = [b"%02d" % i for i in range(20)]
NOWHERE = Sections(*[Section(107, 107)] * 6, 107)


def header(seqnum=1, root=b"r", k=3, n=10):
    return sdmf.SdmfHeader(seqnum, root * 32, bytes(16), sdmf.geometry(9, k, n))


def copy(server_id, shnum, version=None):
    return Copy(server_id, shnum, version or header(), NOWHERE, b"head of a share" * 10)


def answered(i, *shnums, version=None):
    return Answered(IDS[i], [copy(IDS[i], s, version) for s in shnums])


def survey(mode, servers=20, k=3, n=10):
    machine = Survey(IDS[:servers], mode, k, n)
    return machine, [IDS.index(i) for i in machine.begin()]


def feed(machine, *events):
    return [IDS.index(i) for event in events for i in machine.handle(event)]


@pytest.mark.parametrize(
    ("mode", "servers", "first"),
    [(Mode.READ, 20, 6), (Mode.READ, 4, 4), (Mode.WRITE, 20, 13), (Mode.CHECK, 20, 20)],
)
def test_the_first_servers_asked_are_as_many_as_the_mode_wants(mode, servers, first):
    machine, asked = survey(mode, servers)
    assert asked == list(range(first))
    assert not machine.done


def test_no_servers_are_a_survey_that_is_done():
    for mode in Mode:
        machine, asked = survey(mode, 0)
        assert asked == []
        assert machine.done


def test_reading_ends_after_2k_answers_with_a_version():
    machine, _ = survey(Mode.READ)
    assert feed(machine, *(answered(i, i) for i in range(5))) == []
    assert not machine.done
    feed(machine, answered(5))
    assert machine.done
    assert machine.map.best() == header()


def test_reading_goes_on_while_a_newer_version_may_be_somewhere():
    machine, _ = survey(Mode.READ)
    newer = header(2)
    more = feed(machine, *(answered(i, i) for i in range(5)), answered(5, 5, version=newer))
    assert not machine.done
    assert more == [6, 7, 8, 9, 10]
    feed(machine, answered(6, 6, version=newer))
    assert not machine.done
    feed(machine, answered(7, 7, version=newer))
    assert machine.done
    assert machine.map.best() == newer


def test_silent_servers_make_others_be_asked_but_are_still_waited_for():
    machine, _ = survey(Mode.READ)
    feed(machine, answered(0, 0), answered(1, 1))
    assert feed(machine, Waited()) == [6, 7, 8, 9]
    feed(machine, answered(6, 2), answered(7))
    assert not machine.done
    feed(machine, answered(2, 3), answered(8))
    assert machine.done


def test_failures_are_replaced():
    machine, _ = survey(Mode.READ)
    assert feed(machine, Failed(IDS[0]), Failed(IDS[3])) == [6, 7]


def test_writing_ends_at_k_empty_servers_beyond_the_last_holder():
    machine, _ = survey(Mode.WRITE)
    feed(machine, *(answered(i, i) for i in range(10)))
    assert not machine.done
    feed(machine, answered(10), answered(12))
    assert not machine.done
    feed(machine, answered(11))
    assert machine.done


def test_writing_waits_for_everybody_before_the_boundary():
    machine, _ = survey(Mode.WRITE)
    feed(machine, *(answered(i, i) for i in range(9)), *(answered(i) for i in range(10, 13)))
    assert not machine.done
    feed(machine, Failed(IDS[9]))
    assert machine.done


def test_a_holder_far_down_moves_the_boundary():
    machine, _ = survey(Mode.WRITE)
    more = feed(machine, *(answered(i, i) for i in range(10)), answered(10), answered(11))
    more += feed(machine, answered(12, 3))
    assert not machine.done
    assert more == [13, 14, 15, 16, 17]  # five are always in flight
    feed(machine, answered(13), answered(14), answered(15))
    assert machine.done


def test_a_bad_share_makes_a_holder():
    machine, _ = survey(Mode.WRITE)
    feed(machine, *(answered(i, i) for i in range(10)), answered(10), answered(11))
    feed(machine, Answered(IDS[12], (), {7: b"junk"}))
    assert not machine.done


def test_checking_ends_when_all_have_spoken():
    machine, _ = survey(Mode.CHECK)
    feed(machine, *(answered(i, i % 10) for i in range(19)))
    assert not machine.done
    feed(machine, Failed(IDS[19]))
    assert machine.done


def test_without_a_version_everybody_is_asked():
    for mode in (Mode.READ, Mode.WRITE):
        machine, asked = survey(mode)
        queue, heard = list(asked), []
        while queue:
            i = queue.pop(0)
            heard.append(i)
            queue += feed(machine, answered(i))
        assert sorted(heard) == list(range(20))
        assert machine.done
        assert machine.map.best() is None


def test_time_up_ends_it_with_what_there_is():
    machine, _ = survey(Mode.WRITE)
    feed(machine, *(answered(i, i) for i in range(4)), Expired())
    assert machine.done
    assert machine.map.best() == header()
    assert machine.map.failed == set(IDS[4:13])


def make_map(*copies):
    return Servermap({(c.server_id, c.shnum): c for c in copies})


def test_copies_of_one_number_count_once():
    found = make_map(copy(IDS[0], 0), copy(IDS[1], 0), copy(IDS[2], 1))
    assert found.best() is None
    found.copies[IDS[3], 2] = copy(IDS[3], 2)
    assert found.best() == header()


def test_the_best_version_is_the_highest_number_then_the_highest_root():
    low, high, other = header(1), header(2, b"a"), header(2, b"b")
    found = make_map(
        *(copy(IDS[i], i, low) for i in range(10)),
        *(copy(IDS[10 + i], i, high) for i in range(3)),
        *(copy(IDS[13 + i], i + 3, other) for i in range(3)),
    )
    assert found.best() == other
    found.mark_bad(found.copies[IDS[13], 3])
    assert found.best() == high
    assert found.bad[IDS[13], 3] == (b"head of a share" * 10)[:75]


def test_an_unrecoverable_newer_version_is_known_as_such():
    found = make_map(*(copy(IDS[i], i) for i in range(3)), copy(IDS[4], 4, header(9)))
    assert found.unrecoverable_newer()
    assert found.highest_seqnum() == 9
    assert Servermap().highest_seqnum() == 0
    assert not Servermap().unrecoverable_newer()
