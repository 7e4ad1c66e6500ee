import contextlib
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.core.errors import (
    AbsurdGeometryError,
    FileTooLargeError,
    FormatError,
    LayoutError,
    UnknownVersionError,
)
from truckee.core.formats import mdmf, sdmf
from truckee.core.formats.mutable_share import (
    Geometry,
    decode_chain,
    encode_chain,
    next_multiple,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/mutable.json").read_text())
SHARES = [
    pytest.param(file, int(shnum), bytes.fromhex(share["hex"]), id=f"{file['name']}-sh{shnum}")
    for file in VECTORS["files"]
    for shnum, share in file["shares"].items()
    if "hex" in share
]


def module(file):
    return sdmf if file["format"] == "SDMF" else mdmf


def share_class(file):
    return sdmf.SdmfShare if file["format"] == "SDMF" else mdmf.MdmfShare


@pytest.mark.parametrize("file", VECTORS["files"], ids=lambda f: f["name"])
def test_the_recorded_header_of_share_0_is_read(file):
    want = file["header_share0"]
    raw = bytes.fromhex(file["shares"]["0"].get("hex", ""))
    if not raw:
        pytest.skip("bytes not recorded")
    header, sections = module(file).decode_header(raw)
    g = header.geometry
    assert (header.version, header.seqnum) == (want["version"], want["seqnum"])
    assert header.root_hash.hex() == want["root_hash"]
    assert (g.needed_shares, g.total_shares) == (want["k"], want["N"])
    assert (g.segment_size, g.size) == (want["segsize"], want["datalen"])
    assert sections.signature.start == want["signature"]
    assert sections.chain.start == want["share_hash_chain"]
    assert sections.block_hashes.start == want["block_hash_tree"]
    assert sections.data.start == want["share_data"]
    assert sections.encprivkey.start == want["enc_privkey"]
    assert sections.end == want["EOF"]


@pytest.mark.parametrize(("file", "shnum", "raw"), SHARES)
def test_recorded_shares_are_decoded_and_encoded_to_the_same_bytes(file, shnum, raw):
    share = share_class(file).decode(raw)
    _, sections = module(file).decode_header(raw)
    again = share.encode()
    assert len(again) == sections.end
    if file["format"] == "SDMF":
        assert again == raw[: sections.end]
    else:  # Tahoe-LAFS leaves bytes of older versions in the gap
        gap = slice(sections.pubkey.end, sections.data.start)
        assert again[: gap.start] == raw[: gap.start]
        assert again[gap] == bytes(gap.stop - gap.start)
        assert again[gap.stop :] == raw[gap.stop : sections.end]
    assert hashlib.sha256(raw).hexdigest() == file["shares"][str(shnum)]["sha256"]


@pytest.mark.parametrize(("file", "shnum", "raw"), SHARES)
def test_a_share_cut_anywhere_is_refused(file, shnum, raw):
    _, sections = module(file).decode_header(raw)
    for length in {*range(0, sections.end, 97), sections.end - 1}:
        with pytest.raises(FormatError):
            share_class(file).decode(raw[:length])


@pytest.mark.threat("S9")
@pytest.mark.parametrize(("file", "shnum", "raw"), SHARES[:1] + SHARES[-1:])
def test_any_damage_to_a_header_is_refused_or_decoded_never_another_error(file, shnum, raw):
    header_size = module(file).HEADER_SIZE
    for position in range(header_size):
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            damaged = raw[:position] + bytes([value]) + raw[position + 1 :]
            with contextlib.suppress(FormatError):
                share_class(file).decode(damaged)


def bytes_of(size):
    return st.binary(min_size=size, max_size=size)


seqnums = st.integers(0, 2**64 - 1)
chains = st.dictionaries(st.integers(0, 6), bytes_of(32), max_size=4)


@st.composite
def sdmf_shares(draw):
    k = draw(st.integers(1, 4))
    size = draw(st.integers(0, 50))
    geometry = sdmf.geometry(size, k, draw(st.integers(k, 4)))
    header = sdmf.SdmfHeader(draw(seqnums), draw(bytes_of(32)), draw(bytes_of(16)), geometry)
    return sdmf.SdmfShare(
        header,
        draw(st.binary(max_size=300)),
        draw(st.binary(max_size=300)),
        draw(chains) if geometry.total_shares > 2 else {},
        draw(bytes_of(32)),
        draw(bytes_of(geometry.block_size)),
        draw(st.binary(max_size=300)),
    )


@st.composite
def mdmf_shares(draw):
    k = draw(st.integers(1, 3))
    segment_size = k * draw(st.integers(1, 20))
    size = draw(st.integers(0, 100))
    g = Geometry(k, draw(st.integers(max(k, 3), 4)), segment_size, size)
    header = mdmf.MdmfHeader(draw(seqnums), draw(bytes_of(32)), g)
    blocks = [draw(bytes_of(16 + g.mdmf_block_size(s))) for s in range(g.segments)]
    return mdmf.MdmfShare(
        header,
        draw(st.binary(max_size=300)),
        draw(chains),
        draw(st.binary(max_size=300)),
        draw(st.binary(max_size=300)),
        blocks,
        [draw(bytes_of(32)) for _ in range(g.block_tree_size // 32)],
    )


@given(sdmf_shares(), st.binary(max_size=9))
def test_sdmf_shares_survive_the_round_trip_with_leftovers_behind(share, leftovers):
    assert sdmf.SdmfShare.decode(share.encode() + leftovers) == share


@given(mdmf_shares(), st.binary(max_size=9))
def test_mdmf_shares_survive_the_round_trip_with_leftovers_behind(share, leftovers):
    assert mdmf.MdmfShare.decode(share.encode() + leftovers) == share


@given(st.one_of(sdmf_shares(), mdmf_shares()), st.data())
def test_damaged_shares_decode_to_a_share_or_a_format_error(share, data):
    raw = bytearray(share.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, min(130, len(raw)) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FormatError):
        type(share).decode(bytes(raw))


@given(st.one_of(sdmf_shares(), mdmf_shares()))
def test_prefix_and_checkstring_are_the_first_bytes_of_a_share(share):
    raw = share.encode()
    assert raw.startswith(share.header.prefix)
    assert raw.startswith(share.header.checkstring)


def test_sizes_of_prefixes_checkstrings_and_headers():
    assert (sdmf.PREFIX_SIZE, sdmf.CHECKSTRING_SIZE, sdmf.HEADER_SIZE) == (75, 57, 107)
    assert (mdmf.PREFIX_SIZE, mdmf.CHECKSTRING_SIZE, mdmf.HEADER_SIZE) == (59, 41, 123)


@pytest.mark.parametrize("first", [b"\2", b"\xff"])
def test_other_versions_are_unknown(first):
    for layout in (sdmf, mdmf):
        with pytest.raises(UnknownVersionError):
            layout.decode_header(first + bytes(200))
    with pytest.raises(UnknownVersionError):
        sdmf.decode_header(b"\1" + bytes(200))


@pytest.mark.threat("S9")
@pytest.mark.parametrize(
    ("k", "n", "segment_size", "size"),
    [
        (0, 0, 0, 0),
        (0, 1, 1, 1),
        (2, 1, 2, 1),
        (3, 256, 3, 3),
        (3, 10, 0, 1),
        (3, 10, 100, 100),
        (1, 1, 2**64, 1),
        (1, 1, 1, -1),
    ],
)
def test_impossible_geometry_is_refused(k, n, segment_size, size):
    with pytest.raises(LayoutError):
        Geometry(k, n, segment_size, size)


@pytest.mark.threat("U9")
def test_geometry_that_costs_too_much_is_named():
    for g in (
        Geometry(1, 1, 128 * 1024 * 1024 + 1, 1),
        Geometry(3, 10, 66, 66 * (2**24 + 1)),
        Geometry(1, 1, 1, 2**63),
    ):
        with pytest.raises(AbsurdGeometryError):
            g.require_bearable()
    Geometry(1, 1, 131072, 2**60).require_bearable()
    Geometry(3, 10, 66, 66 * 2**24).require_bearable()
    large = sdmf.SdmfHeader(1, bytes(32), bytes(16), sdmf.geometry(64 * 2**20 + 1, 3, 10))
    with pytest.raises(FileTooLargeError):
        large.require_bearable()


def test_writers_cut_as_tahoe_does():
    assert sdmf.geometry(20, 3, 10) == Geometry(3, 10, 21, 20)
    assert sdmf.geometry(0, 3, 10).segments == 0
    assert mdmf.geometry(0, 3, 10) == Geometry(3, 10, 131073, 0)
    g = mdmf.geometry(131073 * 2 + 1, 3, 10)
    assert g.segments == 3
    assert [g.segment_length(s) for s in range(3)] == [131073, 131073, 1]
    assert [g.mdmf_block_size(s) for s in range(3)] == [43691, 43691, 1]
    assert next_multiple(0, 3) == 0


def test_chains_may_hold_more_than_needed_but_no_contradiction():
    nodes = {number: bytes([number]) * 32 for number in range(31)}
    raw = encode_chain(nodes)
    assert decode_chain(raw, 10) == nodes
    assert decode_chain(raw + raw[:34], 10) == nodes
    refused = [raw[:-1], raw + raw[:2] + b"x" * 32, b"\0\x1f" + bytes(32), raw[:34] * 511]
    for broken in refused:
        with pytest.raises(LayoutError):
            decode_chain(broken, 10)


def test_a_part_too_long_for_the_mdmf_head_is_refused():
    share = mdmf.MdmfShare.decode(
        next(raw for f, _, raw in (p.values for p in SHARES) if f["format"] == "MDMF")
    )
    for broken in (
        mdmf.MdmfShare(
            share.header,
            bytes(2000),
            share.chain,
            share.signature,
            share.pubkey,
            share.data,
            share.block_hashes,
        ),
        mdmf.MdmfShare(
            share.header, b"", share.chain, share.signature, share.pubkey, [], share.block_hashes
        ),
        mdmf.MdmfShare(
            share.header, b"", share.chain, share.signature, share.pubkey, share.data, []
        ),
    ):
        with pytest.raises(LayoutError):
            broken.encode()
