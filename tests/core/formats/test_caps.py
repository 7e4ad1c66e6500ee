import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.core import errors
from truckee.core.formats import caps
from truckee.core.formats.caps import (
    ChkReadCap,
    ChkVerifyCap,
    DirectoryCap,
    LitCap,
    MdmfReadCap,
    MdmfVerifyCap,
    MdmfWriteCap,
    SdmfReadCap,
    SdmfVerifyCap,
    SdmfWriteCap,
    UnknownCap,
)

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
IMMUTABLE = json.loads((VECTORS / "immutable.json").read_text())
MUTABLE = json.loads((VECTORS / "mutable.json").read_text())
DIRECTORIES = json.loads((VECTORS / "directories.json").read_text())

TAHOE_NAMES = {
    "WriteableSSKFileURI": SdmfWriteCap,
    "ReadonlySSKFileURI": SdmfReadCap,
    "SSKVerifierURI": SdmfVerifyCap,
    "WriteableMDMFFileURI": MdmfWriteCap,
    "ReadonlyMDMFFileURI": MdmfReadCap,
    "MDMFVerifierURI": MdmfVerifyCap,
    "CHKFileURI": ChkReadCap,
    "CHKFileVerifierURI": ChkVerifyCap,
    "LiteralFileURI": LitCap,
    "DirectoryURI": SdmfWriteCap,
    "ReadonlyDirectoryURI": SdmfReadCap,
    "DirectoryURIVerifier": SdmfVerifyCap,
    "MDMFDirectoryURI": MdmfWriteCap,
    "ReadonlyMDMFDirectoryURI": MdmfReadCap,
    "MDMFDirectoryURIVerifier": MdmfVerifyCap,
    "ImmutableDirectoryURI": ChkReadCap,
    "ImmutableDirectoryURIVerifier": ChkVerifyCap,
    "LiteralDirectoryURI": LitCap,
}


def check_type(cap, tahoe_name):
    if tahoe_name == "UnknownURI":
        assert isinstance(cap, UnknownCap)
    elif "Directory" in tahoe_name:
        assert type(cap) is DirectoryCap
        assert type(cap.inner) is TAHOE_NAMES[tahoe_name]
    else:
        assert type(cap) is TAHOE_NAMES[tahoe_name]


@pytest.mark.parametrize("case", IMMUTABLE["cap_parse"], ids=lambda c: repr(c["text"])[:60])
def test_immutable_caps_are_parsed_or_refused_as_they_must(case):
    cap = caps.parse(case["text"])
    if case["truckee_must"] == "accept":
        assert cap.text == case["normalized"]
        assert caps.parse(cap.text) == cap == caps.parse_strict(case["text"].encode())
    else:
        assert isinstance(cap, UnknownCap)
        assert cap.text == case["text"]
        with pytest.raises(errors.BadURIError):
            caps.parse_strict(case["text"])


@pytest.mark.parametrize("case", IMMUTABLE["chk"])
def test_published_caps_of_chk_files_follow_from_their_fields(case):
    cap = ChkReadCap(
        bytes.fromhex(case["key_hex"]),
        bytes.fromhex(case["ueb_hash_hex"]),
        case["k"],
        case["n"],
        case["plaintext"]["size"],
    )
    assert cap.text == case["read_cap"]
    assert cap.verify_cap().text == case["verify_cap"]
    assert caps.parse(case["read_cap"]) == cap
    assert caps.parse(case["verify_cap"]) == cap.verify_cap()


@pytest.mark.parametrize("case", IMMUTABLE["lit"])
def test_literal_caps_hold_their_contents(case):
    data = bytes.fromhex(case["plaintext_hex"])
    assert LitCap(data).text == case["cap"]
    assert caps.parse(case["cap"]) == LitCap(data)


@pytest.mark.parametrize("case", MUTABLE["caps"])
def test_mutable_caps_are_parsed_as_by_tahoe_but_for_a_trailing_newline(case):
    cap = caps.parse(case["cap"], deep_immutable=case["deep_immutable"])
    if case["cap"].endswith("\n"):
        assert isinstance(cap, UnknownCap)
        assert isinstance(cap.error, errors.BadURIError)
        return
    check_type(cap, case["type"])
    assert cap.text == case["out"]
    if isinstance(cap, UnknownCap):
        found = None if cap.error is None else type(cap.error).__name__
        assert found == case["error"]


@pytest.mark.parametrize("key", MUTABLE["keys"])
def test_caps_of_a_key_pair_diminish_along_the_derivations(key):
    for name, text in key["caps"].items():
        cap = caps.parse_strict(text)
        assert cap.text == text, name


@pytest.mark.parametrize("case", DIRECTORIES["diminish"])
def test_caps_diminish_as_by_tahoe(case):
    cap = caps.parse(case["cap"])
    check_type(cap, case["type"])
    assert cap.is_readonly is case["readonly"]
    assert cap.is_mutable is case["mutable"]
    assert cap.is_directory is ("DIR2" in case["cap"])
    assert cap.read_cap().text == case["readcap"]
    expected = case["cap"] if case["verifycap"] == "!AssertionError" else case["verifycap"]
    verify = cap.verify_cap()
    assert (verify and verify.text) == expected
    found = cap.storage_index
    assert (found and found.hex()) == case["storage_index"]
    assert cap.write_cap() == (None if case["readonly"] else cap)


KEY = st.binary(min_size=16, max_size=16)
HASH = st.binary(min_size=32, max_size=32)


@st.composite
def chk_fields(draw):
    total = draw(st.integers(1, 256))
    needed = draw(st.integers(1, total))
    return draw(KEY), draw(HASH), needed, total, draw(st.integers(1, 2**63 - 1))


FILE_CAPS = st.one_of(
    st.builds(LitCap, st.binary(max_size=200)),
    chk_fields().map(lambda f: ChkReadCap(*f)),
    chk_fields().map(lambda f: ChkVerifyCap(*f)),
    *(
        st.builds(kind, KEY, HASH)
        for kind in (
            SdmfWriteCap,
            SdmfReadCap,
            SdmfVerifyCap,
            MdmfWriteCap,
            MdmfReadCap,
            MdmfVerifyCap,
        )
    ),
)
CAPS = st.one_of(FILE_CAPS, st.builds(DirectoryCap, FILE_CAPS))


@given(CAPS)
def test_every_cap_survives_its_text(cap):
    assert caps.parse(cap.text) == cap == caps.parse_strict(cap.text_bytes)
    assert hash(caps.parse(cap.text)) == hash(cap)


@pytest.mark.threat("U7")
@given(CAPS)
def test_authority_never_grows_by_diminishing(cap):
    read, verify = cap.read_cap(), cap.verify_cap()
    assert read.is_readonly
    assert read.read_cap() == read
    assert read.verify_cap() == verify
    if verify is not None:
        assert verify.read_cap() == verify.verify_cap() == verify
        assert verify.storage_index == cap.storage_index
        assert not verify.is_mutable
        assert verify.is_directory == cap.is_directory


@given(CAPS)
def test_prefixes_and_places_constrain_without_changing_what_is_read(cap):
    imm, ro = caps.parse("imm." + cap.text), caps.parse("ro." + cap.text)
    assert imm == (UnknownCap(b"imm." + cap.text_bytes) if cap.is_mutable else cap)
    assert ro == (cap if cap.is_readonly else UnknownCap(b"ro." + cap.text_bytes))
    assert isinstance(caps.parse("ro.imm." + cap.text), UnknownCap)
    placed = caps.parse(cap.text, deep_immutable=True)
    assert placed == (UnknownCap(cap.text_bytes) if cap.is_mutable else cap)


@given(CAPS, st.data())
def test_a_damaged_text_is_never_taken_for_the_same_cap(cap, data):
    raw = bytearray(cap.text_bytes)
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255).filter(lambda x: x != raw[at]))
    other = caps.parse(bytes(raw))
    assert other != cap or raw[at : at + 1] == b"0"  # a digit may turn into a leading zero
    if isinstance(other, UnknownCap):
        assert other.text_bytes == bytes(raw)


@given(st.one_of(st.binary(max_size=100), st.text(max_size=100)))
def test_no_text_makes_the_parser_fail(text):
    cap = caps.parse(text)
    if isinstance(cap, UnknownCap):
        assert cap.text_bytes == (text if isinstance(text, bytes) else cap.text_bytes)
        assert caps.parse(cap.text) == cap


@pytest.mark.threat("L1")
@given(CAPS)
def test_no_repr_shows_key_material(cap):
    body = cap.text.split(":", 2)[2]
    for field in body.split(":"):
        assert len(field) < 8 or field not in repr(cap)


def test_a_text_beyond_64_kib_is_not_looked_into():
    text = "URI:LIT:" + "a" * 65536
    cap = caps.parse(text)
    assert isinstance(cap, UnknownCap)
    assert isinstance(cap.error, errors.BadURIError)


def test_lone_surrogates_are_kept_apart_from_known_caps():
    assert isinstance(caps.parse("URI:LIT:\ud800"), UnknownCap)


@pytest.mark.parametrize("fields", [(0, 1, 1), (2, 1, 1), (1, 257, 1), (1, 1, 0), (1, 1, 2**63)])
def test_impossible_parameters_are_refused_when_a_cap_is_made(fields):
    for kind in (ChkReadCap, ChkVerifyCap):
        with pytest.raises(errors.BadURIError):
            kind(b"k" * 16, b"h" * 32, *fields)
