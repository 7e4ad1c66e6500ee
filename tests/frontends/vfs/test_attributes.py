"""Attributes, from metadata that anybody may have written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.frontends.vfs.attributes import (
    Attributes,
    clamp_time,
    edge_mtime,
    is_write_barred,
    link_token,
    ls_line,
    ls_time,
    mode_bits,
    owner_text,
    unique_id,
    with_mode,
    with_mtime,
)

CAP = b"URI:LIT:krugkidfnzsc4"


def ours(mtime, cap=CAP):
    return {"truckee": {"mtime": mtime, "for": link_token(cap)}}


@pytest.mark.parametrize(
    ("metadata", "snapshot", "mtime"),
    [
        ({}, False, 0),
        ({"tahoe": {"linkmotime": 12.9}}, False, 12),
        ({"mtime": 5, "tahoe": {"linkmotime": 12}}, False, 12),
        ({"mtime": 5, "tahoe": {"linkmotime": 12}}, True, 5),
        ({**ours(7), "mtime": 5, "tahoe": {"linkmotime": 12}}, True, 7),
        ({**ours(7, b"URI:LIT:other"), "tahoe": {"linkmotime": 12}}, False, 12),
        ({**ours("7"), "tahoe": {"linkmotime": 12}}, False, 12),
        ({"truckee": {"mtime": 7}, "tahoe": {"linkmotime": 12}}, False, 12),
        ({"truckee": [], "tahoe": "x"}, False, 0),
        ({"tahoe": {"linkmotime": True}}, False, 0),
        ({"tahoe": {"linkmotime": float("nan")}}, False, 0),
        ({"tahoe": {"linkmotime": -5}}, False, 0),
        ({"tahoe": {"linkmotime": 10**400}}, False, 253402300799),
    ],
)
def test_the_first_time_that_exists_counts(metadata, snapshot, mtime):
    assert edge_mtime(metadata, CAP, snapshot=snapshot) == mtime


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["truckee", "tahoe", "mtime", "no-write", "x"]), json),
    st.booleans(),
)
def test_no_metadata_breaks_anything(metadata, snapshot):
    time = edge_mtime(metadata, CAP, snapshot=snapshot)
    assert 0 <= time <= 253402300799
    assert isinstance(is_write_barred(metadata), bool)
    changed = with_mtime(metadata, CAP, 42)
    assert edge_mtime(changed, CAP, snapshot=snapshot) == 42
    assert {k: v for k, v in changed.items() if k != "truckee"} == {
        k: v for k, v in metadata.items() if k != "truckee"
    } or metadata != metadata  # NaN
    assert is_write_barred(with_mode(metadata, 0o444))
    assert not is_write_barred(with_mode(metadata, 0o644))
    line = ls_line("n", Attributes("file", 1, time, 0o666, True, "u"), "alice", 1.7e9)
    assert len(line.split(None, 8)) == 9


def test_a_forgotten_time_leaves_no_trace_and_keeps_what_others_stored():
    assert with_mtime(ours(5), CAP, None) == {}
    assert with_mtime({"truckee": {"color": "red", "mtime": 1}}, CAP, None) == {
        "truckee": {"color": "red"}
    }


def test_modes():
    assert mode_bits("dir", True) == 0o777
    assert mode_bits("dir", False) == 0o555
    assert mode_bits("file", True) == 0o666
    assert mode_bits("file", False) == 0o444
    assert mode_bits("unknown", True) == 0


def test_only_the_owners_write_bit_counts():
    assert with_mode({}, 0o100444) == {"no-write": True}
    assert with_mode({"no-write": True, "x": 1}, 33188) == {"x": 1}


@pytest.mark.threat("L8")
def test_unique_names_differ_by_account_and_process():
    a = unique_id(b"k" * 32, "alice", b"index")
    assert a == unique_id(b"k" * 32, "alice", b"index")
    assert a != unique_id(b"k" * 32, "bob", b"index")
    assert a != unique_id(b"K" * 32, "alice", b"index")
    assert unique_id(b"k", "a", b"bc") != unique_id(b"k", "ab", b"c")


def test_ls_lines_look_as_in_the_c_locale():
    now = 1_700_000_000  # 2023-11-14 22:13:20
    file = Attributes("file", 1234567, now - 60, 0o666, True, "u")
    assert ls_line("a b.txt", file, "alice", now) == (
        "-rw-rw-rw-   1 alice    alice         1234567 Nov 14 22:12 a b.txt"
    )
    old = Attributes("dir", 0, 0, 0o555, False, "u")
    assert ls_line("d", old, "much too long a name", now) == (
        "dr-xr-xr-x   1 much_too much_too            0 Jan  1  1970 d"
    )


def test_times_in_listings():
    now = 1_700_000_000
    assert ls_time(now - 181 * 86400, now) == "May 17 22:13"
    assert ls_time(now - 183 * 86400, now) == "May 15  2023"
    assert ls_time(now + 3600, now) == "Nov 14 23:13"
    assert ls_time(now + 2 * 86400, now) == "Nov 16  2023"
    assert ls_time(10**20, now) == "Dec 31  9999"


def test_owners_are_one_word():
    assert owner_text("bob s") == "bob_s"
    assert owner_text("") == "-"
    assert owner_text("a\nb") == "a_b"


def test_times_are_whole_seconds_within_bounds():
    assert clamp_time(1.9) == 1
    assert clamp_time(float("inf")) is None
    assert clamp_time("1") is None
