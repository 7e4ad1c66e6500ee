import pytest

from tests.fakes.chk_shares import encode_chk, stream
from truckee.core.download.share import (
    FileFacts,
    Range,
    ShareContact,
    ShareError,
    Spans,
    leaves_of,
    merge,
)
from truckee.core.download.slabs import CIPHERTEXT, SLAB, Slab, SlabStore
from truckee.core.errors import BadHashError, CorruptShareError
from truckee.core.formats import hashtree


def facts_of(file):
    cap = file.cap
    return FileFacts(cap.ueb_hash, cap.needed_shares, cap.total_shares, cap.size)


def answer(contact, data, first, count, blocks=True):
    spans = Spans()
    ranges = contact.wanted(first, count, blocks=blocks)
    for r in ranges:
        spans.add(r.offset, data[r.offset : r.end])
    return ranges, spans


@pytest.mark.parametrize(
    ("ranges", "merged"),
    [
        ([], []),
        ([Range(5, 0)], []),
        ([Range(10, 5), Range(0, 10)], [Range(0, 15)]),
        ([Range(0, 10), Range(14, 2)], [Range(0, 16)]),
        ([Range(0, 10), Range(15, 2)], [Range(0, 10), Range(15, 2)]),
        ([Range(0, 100), Range(5, 2)], [Range(0, 100)]),
        ([Range(1 << 63, 1)], []),
    ],
)
def test_close_ranges_become_one(ranges, merged):
    assert merge(ranges, gap=4) == merged


def test_a_span_gives_what_one_buffer_has_entirely():
    spans = Spans()
    spans.add(10, b"abcdef")
    assert spans.get(12, 3) == b"cde"
    assert spans.get(12, 5) is None
    assert spans.some(12, 5) == b"cdef"
    assert spans.get(9, 2) is None


def test_a_small_file_is_had_in_one_round_of_one_request():
    file = encode_chk(stream("a", 5000), 2, 3)
    contact = ShareContact(facts_of(file), 1)
    ranges, spans = answer(contact, file.shares[1], 0, 1)
    assert len(ranges) == 1
    contact.take(spans, 0)
    assert contact.wanted(0, 1, blocks=False) == []
    (block,) = contact.blocks(spans, 0, 1)
    assert block == file.shares[1][file.layout.data : file.layout.data + 2500]


def test_first_contact_with_a_large_file_needs_two_requests_and_later_ones_one():
    file = encode_chk(stream("a", 9_000_000), 3, 5)
    contact = ShareContact(facts_of(file), 4)
    ranges, spans = answer(contact, file.shares[4], 0, 1)
    assert len(ranges) == 2
    contact.take(spans, 0)
    assert len(contact.wanted(1, 5)) == 1


def test_a_wrong_guess_of_the_segment_size_is_put_right():
    file = encode_chk(stream("a", 900_000), 3, 5, 65536)
    contact = ShareContact(facts_of(file), 0)
    for _ in range(3):
        _, spans = answer(contact, file.shares[0], 0, 2)
        contact.take(spans, 0)
    assert contact.facts.segments == file.segments
    assert contact.blocks(spans, 0, 2) is not None


def test_hashes_known_from_another_share_are_not_asked_again():
    file = encode_chk(stream("a", 9_000_000), 3, 5)
    facts = facts_of(file)
    first, second = ShareContact(facts, 0), ShareContact(facts, 1)
    _, spans = answer(first, file.shares[0], 0, 1)
    first.take(spans, 0)
    wanted = second.wanted(0, 1, blocks=False)
    ueb = file.layout.ueb
    assert all(r.end <= ueb or r.offset > ueb for r in wanted)


@pytest.mark.threat("S2")
def test_a_share_of_another_number_is_refused():
    file = encode_chk(stream("a", 5000), 2, 5)
    contact = ShareContact(facts_of(file), 1)
    _, spans = answer(contact, file.shares[2], 0, 1)
    with pytest.raises(ShareError) as caught:
        contact.take(spans, 0)
    assert caught.value.corrupt


def test_an_unknown_version_is_no_corruption():
    file = encode_chk(stream("a", 5000), 2, 5)
    contact = ShareContact(facts_of(file), 1)
    _, spans = answer(contact, b"\0\0\0\x03" + file.shares[1][4:], 0, 1)
    with pytest.raises(ShareError) as caught:
        contact.take(spans, 0)
    assert not caught.value.corrupt


def test_an_authentic_but_malformed_ueb_is_the_fault_of_the_file():
    file = encode_chk(stream("a", 5000), 2, 5, change_ueb=lambda ueb: ueb[:-1])
    contact = ShareContact(facts_of(file), 1)
    _, spans = answer(contact, file.shares[1], 0, 1)
    with pytest.raises(CorruptShareError):
        contact.take(spans, 0)
    assert contact.facts.fault is not None


def test_slabs_of_a_large_tree_hang_from_its_root_by_their_uncles():
    count = 5 * SLAB + 3
    leaves = [i.to_bytes(32, "big") for i in range(count)]
    nodes = hashtree.build(leaves)
    first_leaf = hashtree.padded_leaves(count) - 1
    padded = nodes[first_leaf:]
    for number in range(6):
        slab = Slab.holding(count, number * SLAB)
        assert len(slab.uncles) == 3
        data = b"".join(padded[number * SLAB : (number + 1) * SLAB])
        uncles = {n: nodes[n] for n in slab.uncles}
        slab.check(nodes[0], data, uncles)
        assert slab.leaf(data, number * SLAB + 1) == padded[number * SLAB + 1]
        for bad in (data[:-1] + b"x", data[:-32]):
            with pytest.raises(BadHashError):
                slab.check(nodes[0], bad, uncles)
        with pytest.raises(BadHashError):
            slab.check(nodes[0], data, {**uncles, slab.uncles[0]: bytes(32)})


@pytest.mark.parametrize("count", [1, 2, 3, 300, 512])
def test_a_small_tree_is_one_slab(count):
    leaves = [i.to_bytes(32, "big") for i in range(count)]
    nodes = hashtree.build(leaves)
    slab = Slab.holding(count, count - 1)
    assert slab.uncles == []
    slab.check(nodes[0], b"".join(nodes[hashtree.padded_leaves(count) - 1 :]), {})


@pytest.mark.threat("U2")
def test_the_slab_of_an_absurdly_large_tree_costs_little():
    slab = Slab.holding(2**46, 2**45)
    assert slab.width == SLAB
    assert len(slab.uncles) == 46 - 9


def test_slabs_are_forgotten_oldest_first():
    store = SlabStore(2)
    slabs = [Slab(5000, i) for i in range(3)]
    store.put(0, slabs[0], b"a")
    store.put(0, slabs[1], b"bb")
    store.get(0, slabs[0])
    store.put(CIPHERTEXT, slabs[2], b"ccc")
    assert store.get(0, slabs[1]) is None
    assert store.get(0, slabs[0]) == b"a"
    assert store.size == 4


def test_leaves_are_unknown_before_they_are_checked():
    file = encode_chk(stream("a", 5000), 2, 5)
    facts = facts_of(file)
    assert leaves_of(facts, CIPHERTEXT, 0, 1) is None
