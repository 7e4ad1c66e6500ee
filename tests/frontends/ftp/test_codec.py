"""Command lines and replies."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.core.errors import FormatError
from truckee.frontends.ftp import codec
from truckee.frontends.ftp.codec import LineBuffer, TelnetFilter, parse_command, reply

line = st.binary(max_size=60).map(
    lambda b: b.replace(b"\n", b"").replace(b"\xff", b"").rstrip(b"\r")
)
telnet = st.sampled_from(
    [
        b"",
        b"\xff\xf4",
        b"\xff\xf2",
        b"\xff\xfb\x06",
        b"\xff\xfd\xff",
        b"\xff\xfa\x01\xff\x02\xff\xf0",
    ]
)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    points = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(points)]


def lines_of(pieces: list[bytes]) -> list[bytes]:
    buffer, found = LineBuffer(), []
    for piece in pieces:
        buffer.feed(piece)
        while (one := buffer.next_line()) is not None:
            found.append(one)
    return found


@given(
    st.lists(st.tuples(telnet, line, st.sampled_from([b"\r\n", b"\n"]))), st.lists(st.integers(0))
)
def test_lines_come_out_the_same_however_they_arrive(parts, cuts) -> None:
    data = b"".join(noise + text + end for noise, text, end in parts)
    expected = [text for _, text, _ in parts]
    assert lines_of([data]) == expected
    assert lines_of(split(data, cuts)) == expected


@given(st.binary(max_size=200), st.lists(st.integers(0)))
def test_any_bytes_give_lines_without_an_error(data, cuts) -> None:
    assert lines_of(split(data, cuts)) == lines_of([data])


def test_the_interrupt_that_lftp_sends_before_abor_is_dropped() -> None:
    assert lines_of([b"\xff\xf4\xff", b"\xf2ABOR\r\n"]) == [b"ABOR"]


def test_a_doubled_iac_is_one_byte() -> None:
    assert TelnetFilter().feed(b"a\xff\xffb") == b"a\xffb"


@pytest.mark.parametrize("cut", range(7))
def test_a_byte_ff_that_begins_no_telnet_command_stays_and_spoils_the_name(cut):
    """Else ``DELE aÿb`` in Latin-1 would delete ``a``."""
    sent = b"DELE a\xffb\r\n"
    assert lines_of([sent[: 5 + cut], sent[5 + cut :]]) == [b"DELE a\xffb"]


def test_a_line_end_right_behind_a_byte_ff_ends_the_line():
    assert lines_of([b"MKD a\xff\r\nNOOP\r\n"]) == [b"MKD a\xff", b"NOOP"]
    assert lines_of([b"MKD a\xff\nNOOP\r\n"]) == [b"MKD a\xff", b"NOOP"]


@pytest.mark.parametrize("size", [8193, 8194, 100_000])
@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_a_line_over_the_limit_is_an_error_with_and_without_its_end(size, end) -> None:
    buffer = LineBuffer()
    buffer.feed(b"x" * size + end)
    with pytest.raises(codec.LineTooLongError):
        buffer.next_line()


def test_a_line_of_the_limit_passes() -> None:
    buffer = LineBuffer()
    buffer.feed(b"x" * (codec.MAX_LINE - 1) + b"\r\n")
    assert len(buffer.next_line() or b"") == codec.MAX_LINE - 1


def test_many_short_feeds_cost_no_rescans() -> None:
    buffer = LineBuffer()
    for _ in range(8000):
        buffer.feed(b"x")
        assert buffer.next_line() is None


@given(st.binary(max_size=40))
def test_a_line_is_a_command_or_a_format_error(data) -> None:
    try:
        command = parse_command(data)
    except FormatError:
        return
    assert command.word.isascii()
    assert command.word.isupper()
    assert data.endswith(command.arg)


def test_the_argument_keeps_its_blanks_and_the_repr_hides_it() -> None:
    command = parse_command(b"pass  two words ")
    assert (command.word, command.arg) == ("PASS", b" two words ")
    assert "two" not in repr(command)


@given(st.integers(200, 599), st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_a_reply_ends_with_its_only_line_of_that_form(code, lines) -> None:
    raw = reply(code, *lines).encode().decode()
    rows = raw.split("\r\n")
    assert rows.pop() == ""
    assert len(rows) == len(lines)
    assert rows[-1].startswith(f"{code} ")
    assert all(not row.startswith(f"{code} ") for row in rows[:-1])
    assert "\n" not in raw.replace("\r\n", "")


@given(st.text())
def test_a_quoted_path_reads_back(text) -> None:
    quoted = codec.quoted(text)
    assert quoted[0] == quoted[-1] == '"'
    assert quoted[1:-1].replace('""', '"') == text


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (b"", b""),
        (b"-la", b""),
        (b"-a -l dir name", b"dir name"),
        (b"dir -l", b"dir -l"),
        (b"./-x", b"./-x"),
        (b"-", b""),
    ],
)
def test_option_words_of_a_listing_are_dropped(given, path) -> None:
    assert codec.strip_options(given) == path


@pytest.mark.parametrize(
    "bad", [b"", b"+5", b"1_000", b" 7", b"7 ", b"-1", "٣".encode(), b"9" * 21]
)
def test_offsets_are_plain_digits(bad) -> None:
    with pytest.raises(FormatError):
        codec.parse_offset(bad)


def test_offsets_end_at_the_largest_signed_number() -> None:
    assert codec.parse_offset(b"9223372036854775807") == 2**63 - 1
    with pytest.raises(FormatError):
        codec.parse_offset(b"9223372036854775808")


@pytest.mark.parametrize(("arg", "size"), [(b"10", 10), (b"10 R 5", 10), (b"0", 0)])
def test_allo_gives_its_first_number(arg, size) -> None:
    assert codec.parse_allo(arg) == size


@given(st.integers(0, 253402300799))
def test_times_read_back(seconds) -> None:
    assert codec.parse_time(codec.format_time(seconds).encode()) == seconds


@given(st.integers(-(2**70), 2**70))
def test_any_time_can_be_shown(seconds) -> None:
    assert len(codec.format_time(seconds)) == 14


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"2026010100000",
        b"20261301000000",
        b"20260230000000",
        b"2026010100000x",
        b"19690101000000",
    ],
)
def test_bad_times_are_format_errors(bad) -> None:
    with pytest.raises(FormatError):
        codec.parse_time(bad)


def test_a_fraction_of_a_second_is_dropped() -> None:
    assert codec.parse_time(b"19700101000001.999") == 1


@pytest.mark.parametrize(
    ("arg", "expected"),
    [
        (b"20010203040506 a b", (981173106, b"a b")),
        (b"200102030405 a b", (981173100, b"a b")),
        (b"a b 20010203040507 20010203040506 20010203040508 UTC", (981173106, b"a b")),
        (b"20010203040506 x y UTC", (981173106, b"x y UTC")),
    ],
)
def test_both_forms_of_utime(arg, expected) -> None:
    assert codec.parse_utime(arg) == expected


def test_chmod_takes_octal_digits_and_drops_the_file_type() -> None:
    assert codec.parse_chmod(b"100644 a b") == (0o644, b"a b")
    for bad in (b"", b"644", b"8 a", b"rw a", b"644 "):
        with pytest.raises(FormatError):
            codec.parse_chmod(bad)


def test_a_browsers_first_line_is_known() -> None:
    assert codec.looks_like_http(b"POST / HTTP/1.1")
    assert codec.looks_like_http(b"get / http/1.0")
    assert not codec.looks_like_http(b"USER http")
