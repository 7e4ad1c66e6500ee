"""ATTRS both ways, and lines of listings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.sftp_client import attrs, take_attrs, take_string
from truckee.core.errors import FormatError
from truckee.frontends.sftp.attributes import Wanted, bare_entry, decode, encode, entry
from truckee.frontends.sftp.fields import Cursor
from truckee.frontends.vfs.attributes import Attributes

FILE = Attributes("file", 12345, 1_700_000_000, 0o644, True, "00")
DIRECTORY = Attributes("dir", 0, 0, 0o777, True, "01")
UNKNOWN = Attributes("unknown", 0, 0, 0, False, "02")


def decoded(raw: bytes) -> Wanted:
    return decode(Cursor(raw, 0, len(raw)))


@given(
    size=st.none() | st.integers(0, 2**64 - 1),
    mode=st.none() | st.integers(0, 2**32 - 1),
    times=st.none() | st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    owner=st.none() | st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    extended=st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=3),
)
def test_what_a_client_wants_set_is_read(size, mode, times, owner, extended):
    found = decoded(attrs(size, mode, times, owner, extended))
    assert found.size == size
    assert found.mode == (None if mode is None else mode & 0o7777)
    assert found.mtime == (None if times is None else times[1])
    assert found.empty == (
        size is None and mode is None and times is None and owner is None and not extended
    )


@given(st.binary(max_size=60))
def test_damaged_attributes_are_a_format_error_or_a_value(raw):
    try:
        found = decoded(raw)
    except FormatError:
        return
    assert found.mode is None or 0 <= found.mode <= 0o7777


def test_a_few_extended_attributes_are_passed_over_and_many_are_refused():
    assert decoded(attrs(size=3, extended=[(b"a", b"b")] * 256)).size == 3
    with pytest.raises(FormatError):
        decoded(attrs(size=3, extended=[(b"", b"")] * 257))


def test_bits_of_the_file_type_are_not_part_of_the_mode():
    assert decoded(attrs(mode=33188)).mode == 0o644


def test_encoded_attributes_have_size_mode_and_times_and_no_owner():
    found, rest = take_attrs(encode(FILE))
    assert (found.size, found.mode, found.mtime, rest) == (12345, 0o100644, 1_700_000_000, b"")
    assert take_attrs(encode(DIRECTORY))[0].mode == 0o040777


def test_something_unknown_is_a_regular_file_that_nobody_may_touch():
    assert take_attrs(encode(UNKNOWN))[0].mode == 0o100000


@pytest.mark.parametrize(
    ("mtime", "sent"), [(-5, 0), (2**32, 2**32 - 1), (253402300799, 2**32 - 1)]
)
def test_times_are_clamped_to_what_the_field_holds(mtime, sent):
    late = Attributes("file", 0, mtime, 0o644, True, "00")
    assert take_attrs(encode(late))[0].mtime == sent


def test_an_entry_has_the_name_the_line_and_the_attributes():
    raw = entry("naïve 日本", FILE, "alice", 1_700_000_100)
    name, raw = take_string(raw)
    line, raw = take_string(raw)
    assert name.decode() == "naïve 日本"
    expected = "-rw-r--r--   1 alice    alice           12345 Nov 14 22:13 naïve 日本"
    assert line.decode() == expected
    assert take_attrs(raw)[0].size == 12345


@pytest.mark.threat("L10")
def test_a_name_that_would_forge_a_line_is_escaped_in_the_line_alone():
    evil = "x\r\n-rw-r--r-- 1 root\x1b[2J\u202e"
    raw = entry(evil, FILE, "alice", 0)
    name, raw = take_string(raw)
    line, _ = take_string(raw)
    assert name.decode() == evil
    assert line.decode().isprintable()


def test_a_bare_entry_says_nothing_but_the_name():
    name, raw = take_string(bare_entry("/é"))
    line, raw = take_string(raw)
    assert name == line == "/é".encode()
    assert take_attrs(raw) == (None, b"")
