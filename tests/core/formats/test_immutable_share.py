import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.core.crypto import hashes
from truckee.core.errors import (
    AbsurdGeometryError,
    FormatError,
    LayoutError,
    UnknownVersionError,
)
from truckee.core.formats import hashtree, immutable_share, ueb
from truckee.core.formats.immutable_share import Layout
from truckee.core.formats.segments import Segments, round_up
from truckee.core.formats.ueb import Ueb

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
IMMUTABLE = json.loads((VECTORS / "immutable.json").read_text())


def segments_of(case):
    size = case["plaintext"]["size"] if "plaintext" in case else case["size"]
    return Segments.for_upload(size, case["k"], case["n"], case["max_segment_size"])


def ueb_of(case):
    return Ueb(
        segments_of(case),
        bytes.fromhex(case["crypttext_hash_hex"]),
        bytes.fromhex(case["crypttext_root_hash_hex"]),
        bytes.fromhex(case["share_root_hash_hex"]),
    )


@pytest.mark.parametrize("case", IMMUTABLE["chk"])
def test_uri_extension_blocks_equal_tahoes(case):
    block = ueb_of(case)
    raw = block.encode()
    s = block.segments
    assert (s.segment_size, s.count) == (case["segment_size"], case["num_segments"])
    assert f"{s.padded_tail}-{s.needed_shares}-{s.total_shares}" == case["tail_codec_params"]
    assert len(raw) == case["ueb_length"] == ueb.encoded_size(s)
    assert hashes.ueb_hash(raw).hex() == case["ueb_hash_hex"]
    assert Ueb.decode(raw, case["k"], case["n"], s.size) == block


@pytest.mark.parametrize("case", IMMUTABLE["layout"])
def test_layouts_equal_tahoes_up_to_huge_files(case):
    segments = segments_of(case)
    assert segments.segment_size == case["segment_size"]
    assert segments.count == case["num_segments"]
    layout = Layout.for_file(segments)
    assert layout.version == case["layout_version"]
    check_offsets(layout, case["offsets"])
    assert layout.share_size(case["ueb_length_assumed"]) == case["share_length"]
    assert layout.encode().hex() == case["header_hex"]
    assert Layout.decode(layout.encode() + b"more") == layout


def check_offsets(layout, offsets):
    assert layout.data == offsets["data"]
    assert layout.plaintext_tree == offsets["plaintext_hash_tree"]
    assert layout.ciphertext_tree == offsets["crypttext_hash_tree"]
    assert layout.block_tree == offsets["block_hashes"]
    assert layout.share_chain == offsets["share_hashes"]
    assert layout.ueb == offsets["uri_extension"]


WHOLE_SHARES = [case for case in IMMUTABLE["shares"] if "full_share" in case]


@pytest.mark.parametrize("case", WHOLE_SHARES, ids=lambda c: c["name"])
def test_the_sections_of_a_whole_share_are_read_and_hang_together(case):
    raw = bytes.fromhex(case["full_share"]["hex"])
    shnum = case["full_share"]["shnum"]
    assert hashlib.sha256(raw).hexdigest() == case["shares"][shnum]["sha256"]
    segments = segments_of(case)
    layout = Layout.decode(raw)
    assert layout == Layout.for_file(segments, case["layout_version"])
    check_offsets(layout, case["offsets"])
    assert layout.block_size == case["block_size"]
    assert layout.share_data_size == case["share_data_size"]
    length = layout.decode_ueb_length(raw[layout.ueb :])
    assert layout.share_size(length) == len(raw) == case["share_length"]
    block = raw[layout.ueb + layout.ueb_length_size :]
    assert block.hex() == case["ueb_hex"]
    decoded = Ueb.decode(block, case["k"], case["n"], segments.size)
    assert decoded.segments == segments
    chain = immutable_share.decode_chain(raw[layout.share_chain : layout.ueb], case["n"])
    tree = hashtree.PartialTree(case["n"], decoded.share_root)
    tree.add(chain)
    assert tree.leaf(shnum).hex() == case["share_hash_leaves_hex"][shnum]
    assert immutable_share.decode_chain(immutable_share.encode_chain(chain), case["n"]) == chain


@st.composite
def any_segments(draw):
    total = draw(st.integers(1, 256))
    needed = draw(st.integers(1, total))
    return Segments.for_upload(
        draw(st.integers(1, 2**30)), needed, total, draw(st.integers(2**10, 2**25))
    )


@given(any_segments())
def test_segments_and_blocks_add_up(s):
    assert s.segment_size % s.needed_shares == 0
    assert sum(s.size_of(i) for i in (0, s.count - 1)[: s.count]) <= s.size
    assert (s.count - 1) * s.segment_size + s.tail_size == s.size
    assert s.share_data_size == -(-s.size // s.needed_shares)
    assert s.padded_tail - s.tail_size < s.needed_shares
    assert s.block_size_of(s.count - 1) * s.needed_shares == s.padded_tail
    assert round_up(s.tail_size, s.needed_shares) == s.padded_tail


@given(any_segments(), st.sampled_from([1, 2]))
def test_every_header_survives_its_bytes(s, version):
    layout = Layout.for_file(s, version)
    assert Layout.decode(layout.encode()) == layout
    assert layout.decode_ueb_length(layout.encode_ueb(b"u" * 300)) == 300


@given(any_segments(), st.sampled_from([None, b"c" * 32]))
def test_every_uri_extension_block_survives_its_bytes(s, flat):
    block = Ueb(s, flat, b"r" * 32, b"s" * 32)
    assert Ueb.decode(block.encode(), s.needed_shares, s.total_shares, s.size) == block
    if flat:
        assert len(block.encode()) == ueb.encoded_size(s)


@given(any_segments(), st.data())
def test_a_damaged_uri_extension_block_gives_the_declared_error_or_another_value(s, data):
    block = Ueb(s, b"c" * 32, b"r" * 32, b"s" * 32)
    raw = bytearray(block.encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    try:
        other = Ueb.decode(bytes(raw), s.needed_shares, s.total_shares, s.size)
    except FormatError:
        return
    assert other.segments == s


def small_ueb(**changes):
    fields = {
        b"codec_name": b"crs",
        b"codec_params": b"1002-3-10",
        b"crypttext_hash": b"c" * 32,
        b"crypttext_root_hash": b"r" * 32,
        b"needed_shares": b"3",
        b"num_segments": b"1",
        b"segment_size": b"1002",
        b"share_root_hash": b"s" * 32,
        b"size": b"1000",
        b"tail_codec_params": b"1002-3-10",
        b"total_shares": b"10",
    }
    fields.update({key.encode(): value for key, value in changes.items()})
    return b"".join(k + b":" + hashes.netstring(v) for k, v in fields.items() if v is not None)


def test_redundant_fields_may_be_missing_and_unknown_ones_present():
    raw = small_ueb(
        codec_name=None,
        codec_params=None,
        crypttext_hash=None,
        needed_shares=None,
        num_segments=None,
        size=None,
        tail_codec_params=None,
        total_shares=None,
        plaintext_hash=b"p",
        something_new=b"",
    )
    block = Ueb.decode(raw, 3, 10, 1000)
    assert block.segments.segment_size == 1002
    assert block.ciphertext_hash is None


@pytest.mark.parametrize(
    "changes",
    [
        {"crypttext_root_hash": None},
        {"share_root_hash": None},
        {"segment_size": None},
        {"segment_size": b"0"},
        {"segment_size": b"1001"},
        {"segment_size": b"-3"},
        {"segment_size": b"+1002"},
        {"codec_name": b"xor"},
        {"codec_params": b"1002-3"},
        {"codec_params": b"1002-3-11"},
        {"tail_codec_params": b"1000-3-10"},
        {"needed_shares": b"4"},
        {"num_segments": b"2"},
        {"size": b"1001"},
        {"total_shares": b"11"},
        {"crypttext_hash": b"short"},
        {"crypttext_root_hash": b"r" * 33},
        {"share_root_hash": b""},
        {"padding": b"x" * 2000},
    ],
    ids=repr,
)
def test_authentic_nonsense_is_refused(changes):
    with pytest.raises(FormatError):
        Ueb.decode(small_ueb(**changes), 3, 10, 1000)


@pytest.mark.parametrize(
    "raw",
    [
        b"size",
        b":1:1,",
        b"si ze:1:1,",
        b"size:4:1000",
        b"size:99999999999999999:x,",
        b"size:4:1000,size:4:1000,",
        small_ueb() + b"x",
    ],
)
def test_broken_framing_is_refused(raw):
    with pytest.raises(FormatError):
        Ueb.decode(raw, 3, 10, 1000)


@pytest.mark.threat("U2")
def test_segments_of_a_gib_and_swarms_of_tiny_ones_are_absurd():
    with pytest.raises(AbsurdGeometryError):
        Ueb.decode(
            small_ueb(
                segment_size=b"1073741826", codec_params=None, tail_codec_params=None,
                num_segments=None, size=None,
            ),
            3, 10, 2**40,
        )  # fmt: skip
    with pytest.raises(AbsurdGeometryError):
        Segments(2**40, 1, 1, 1)
    assert Segments(2**60, 1, 1, 2**17).count == 2**43
    assert Segments(2**24, 1, 1, 1).count == 2**24


@pytest.mark.parametrize("cut", [0, 3, 20, 35])
def test_a_header_cut_short_is_a_layout_error(cut):
    raw = Layout.for_file(Segments(1000, 3, 10, 1002)).encode()
    with pytest.raises(LayoutError):
        Layout.decode(raw[:cut])


def test_another_version_is_unknown_not_corrupt():
    for version in (0, 3, 2**32 - 1):
        with pytest.raises(UnknownVersionError):
            Layout.decode(version.to_bytes(4, "big") + bytes(100))


@given(st.binary(min_size=68, max_size=80), st.sampled_from([1, 2]))
def test_no_header_makes_the_decoder_fail_otherwise(raw, version):
    try:
        layout = Layout.decode(version.to_bytes(4, "big") + raw)
    except LayoutError:
        return
    assert layout.data <= layout.ciphertext_tree <= layout.block_tree <= layout.share_chain


def test_only_the_plaintext_tree_may_lie_anywhere():
    good = Layout.for_file(Segments(1000, 3, 10, 1002))
    words = [good.encode()[i : i + 4] for i in range(0, 36, 4)]
    for position in (3, 5, 6, 7, 8):
        bad = list(words)
        bad[position] = b"\xff" * 4
        with pytest.raises(LayoutError):
            Layout.decode(b"".join(bad))
    words[4] = b"\xff" * 4
    assert Layout.decode(b"".join(words)).ueb == good.ueb


@pytest.mark.parametrize("length", [0, 2000, 2**32 - 1])
def test_an_absurd_length_of_the_uri_extension_block_is_refused(length):
    layout = Layout.for_file(Segments(1000, 3, 10, 1002))
    with pytest.raises(LayoutError):
        layout.decode_ueb_length(length.to_bytes(4, "big"))
    with pytest.raises(LayoutError):
        layout.decode_ueb_length(b"\0\0\1")


@given(st.dictionaries(st.integers(0, 510), st.binary(min_size=32, max_size=32), max_size=20))
def test_every_chain_survives_its_bytes_in_any_order(nodes):
    raw = immutable_share.encode_chain(nodes)
    assert immutable_share.decode_chain(raw, 256) == nodes
    entries = [raw[i : i + 34] for i in range(0, len(raw), 34)]
    assert entries == sorted(entries)
    assert immutable_share.decode_chain(b"".join(reversed(entries)), 256) == nodes


def test_hostile_chains_are_refused():
    entry = immutable_share.encode_chain({5: b"h" * 32})
    assert immutable_share.decode_chain(entry * 510, 256) == {5: b"h" * 32}
    for raw, total in (
        (entry[:-1], 256),
        (entry * 511, 256),
        (entry, 2),
        (entry + immutable_share.encode_chain({5: b"x" * 32}), 256),
    ):
        with pytest.raises(LayoutError):
            immutable_share.decode_chain(raw, total)
