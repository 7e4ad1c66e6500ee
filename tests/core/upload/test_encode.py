"""The encoder, and the cap computed through the uploader without servers, against the vectors."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes.plain_reader import read_shares
from truckee.core.cpu import InlineCpu
from truckee.core.errors import AbsurdGeometryError
from truckee.core.formats import caps, immutable_share
from truckee.core.formats.immutable_share import Layout
from truckee.core.formats.segments import Segments
from truckee.core.interfaces import Encoding
from truckee.core.upload import encode
from truckee.core.upload.encode import FileEncoder, encode_group, encode_whole
from truckee.core.upload.sources import BytesSource
from truckee.core.upload.upload import Uploader

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
IMMUTABLE = json.loads((VECTORS / "immutable.json").read_text())


def stream(seed, size):
    blocks = range(-(-size // 32))
    data = b"".join(hashlib.sha256(seed.encode() + i.to_bytes(8, "big")).digest() for i in blocks)
    return data[:size]


def cut(data, sizes):
    pieces, position = [], 0
    for size in sizes:
        pieces.append(data[position : position + size])
        position += size
    return [*pieces, data[position:]]


def encode_in_groups(key, segments, data, step, layout_version=None):
    """Return the whole bytes of all shares, and the hash of the URI extension block."""
    encoder = FileEncoder(segments)
    if layout_version:
        encoder.layout = Layout.for_file(segments, layout_version)
    shares = [bytearray(encoder.layout.encode()) for _ in range(segments.total_shares)]
    for first in range(0, segments.count, step):
        count = min(step, segments.count - first)
        begin = first * segments.segment_size
        plaintext = data[begin : begin + count * segments.segment_size]
        group = encode_group(key, segments, first, count, cut(plaintext, [1, 0, 7, 64]))
        encoder.chain(group, [plaintext])
        for share, more in zip(shares, group.shares, strict=True):
            share += more
    finish = encoder.finish()
    for shnum, share in enumerate(shares):
        assert len(share) == finish.tail_offset
        share += finish.tail(shnum)
        assert len(share) == finish.tail_offset + finish.tail_size
    return shares, finish.ueb_hash


def with_sorted_chain(share, total):
    layout = Layout.decode(share)
    chain = immutable_share.decode_chain(share[layout.share_chain : layout.ueb], total)
    return share[: layout.share_chain] + immutable_share.encode_chain(chain) + share[layout.ueb :]


@pytest.mark.parametrize("case", IMMUTABLE["shares"], ids=lambda c: c["name"])
@pytest.mark.parametrize("step", [1, 2, 5])
def test_shares_equal_tahoes_byte_for_byte_but_for_the_order_of_chains(case, step):
    segments = Segments.for_upload(
        case["plaintext"]["size"], case["k"], case["n"], case["max_segment_size"]
    )
    cap = caps.parse_strict(case["read_cap"])
    data = stream(**case["plaintext"])
    shares, ueb_hash = encode_in_groups(cap.readkey, segments, data, step, case["layout_version"])
    assert ueb_hash == cap.ueb_hash
    if case["n"] <= 4 or 9 <= case["n"] <= 16:
        for entry in case["shares"]:
            digest = hashlib.sha256(shares[entry["shnum"]]).hexdigest()
            assert digest == entry["sha256"]
    if "full_share" in case:
        theirs = bytes.fromhex(case["full_share"]["hex"])
        ours = bytes(shares[case["full_share"]["shnum"]])
        assert with_sorted_chain(theirs, case["n"]) == ours
    for shnum, share in enumerate(shares):
        layout = Layout.decode(share)
        tree = share[layout.block_tree : layout.share_chain]
        assert bytes(tree[:32]).hex() == case["share_hash_leaves_hex"][shnum]


def run(d):
    return SynchronousTestCase().successResultOf(Deferred.fromCoroutine(d))


def compute_cap(data, k, n, max_segment_size, convergence, key=None):
    uploader = Uploader(lambda: (), InlineCpu(), Clock(), b"l" * 32, random=lambda n: key[:n])
    encoding = Encoding(k, 1, n, max_segment_size)
    return run(uploader.compute_cap(BytesSource(data), encoding, convergence))


@pytest.mark.parametrize(
    "case",
    [case for case in IMMUTABLE["chk"] if not case.get("reader_only")],
    ids=lambda c: f"{c['plaintext']['size']}-{c['k']}-{c['n']}-{c['max_segment_size']}",
)
def test_the_cap_computed_for_contents_is_tahoes(case):
    secret = case["convergence_hex"]
    cap = compute_cap(
        stream(**case["plaintext"]),
        case["k"],
        case["n"],
        case["max_segment_size"],
        None if secret is None else bytes.fromhex(secret),
        bytes.fromhex(case["key_hex"]),
    )
    assert cap.text == case["read_cap"]


@pytest.mark.parametrize("case", IMMUTABLE["lit"])
def test_contents_of_at_most_55_bytes_become_literal_caps(case):
    data = bytes.fromhex(case["plaintext_hex"])
    cap = compute_cap(data, 3, 10, 1000, b"")
    assert (cap.text == case["cap"]) is (len(data) <= 55)


@given(st.data())
def test_shares_do_not_depend_on_how_segments_are_grouped_or_plaintext_is_cut(data):
    n = data.draw(st.integers(1, 12))
    k = data.draw(st.integers(1, n))
    size = data.draw(st.integers(1, 3000))
    segments = Segments.for_upload(size, k, n, data.draw(st.integers(64, 3000)))
    contents = stream("any", size)
    steps = data.draw(st.tuples(st.integers(1, 50), st.integers(1, 50)))
    one, two = (encode_in_groups(b"k" * 16, segments, contents, step) for step in steps)
    assert one == two
    encoder = FileEncoder(segments)
    sizes = data.draw(st.lists(st.integers(0, 500), max_size=8))
    finish, whole = encode_whole(b"k" * 16, encoder, cut(contents, sizes), range(n))
    assert [whole[i] for i in range(n)] == [bytes(share) for share in one[0]]
    assert finish.ueb_hash == one[1]
    assert encoder.share_size == len(whole[0])


@given(st.data())
def test_any_k_shares_give_back_the_contents_with_all_hashes_right(data):
    n = data.draw(st.integers(1, 10))
    k = data.draw(st.integers(1, n))
    size = data.draw(st.integers(1, 1500))
    segments = Segments.for_upload(size, k, n, data.draw(st.integers(64, 1500)))
    contents = stream("back", size)
    shares, ueb_hash = encode_in_groups(b"k" * 16, segments, contents, 3)
    some = data.draw(st.permutations(range(n)))[:k]
    cap = caps.ChkReadCap(b"k" * 16, ueb_hash, k, n, size)
    assert read_shares({i: bytes(shares[i]) for i in some}, cap) == contents


def test_groups_stay_small_whatever_k_and_n_are():
    for k, n in ((1, 1), (3, 10), (1, 256), (128, 256), (256, 256), (2, 200)):
        segments = Segments.for_upload(2**40, k, n, 2**20)
        step = encode.segments_per_group(segments)
        assert step == 1 or step * segments.block_size * n <= encode.GROUP_LIMIT
    segments = Segments.for_upload(2**40, 3, 10, 2**20)
    assert encode.segments_per_group(segments) == 3


def test_an_absurd_segment_size_is_refused_before_anything_is_read():
    uploader = Uploader(lambda: (), InlineCpu(), Clock(), b"l" * 32)

    class Huge:
        async def get_size(self):
            return 2**40

        async def read(self, length):
            raise AssertionError

        rewind = read

        async def close(self):
            self.closed = True

    source = Huge()
    d = Deferred.fromCoroutine(uploader.compute_cap(source, Encoding(1, 1, 1, 2**30), b""))
    SynchronousTestCase().failureResultOf(d, AbsurdGeometryError)
    assert source.closed
