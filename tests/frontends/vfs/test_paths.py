"""Path names as hostile and as clumsy as clients send them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.core.errors import BadNameError
from truckee.frontends.vfs.paths import (
    format_path,
    is_below,
    is_hidden,
    parse,
    printable,
)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"", ("here",)),
        (b".", ("here",)),
        (b"/", ()),
        (b"//", ()),
        (b"a", ("here", "a")),
        (b"/a//b/./c/", ("a", "b", "c")),
        (b"..", ()),
        (b"../../../..", ()),
        (b"/../../etc/passwd", ("etc", "passwd")),
        (b"a/../../b", ("b",)),
        (b"...", ("here", "...")),
        (b"%2e%2e/x", ("here", "%2e%2e", "x")),
        (b" a ", ("here", " a ")),
        ("e\u0301".encode(), ("here", "\u00e9")),
        (b"a\\b", ("here", "a\\b")),
        (b"x\ny", ("here", "x\ny")),
    ],
)
def test_paths_are_seen_from_the_working_directory(raw, path):
    assert parse(raw, ("here",)) == path


@pytest.mark.threat("U6")
@pytest.mark.parametrize(
    "raw", [b"\xff", b"a\0b", b"x" * 256, "日".encode() * 341, b"/a/b\xc0\xaf", b"x" * 70_000,
            b"a/" * 300, "\ud800", "a\ud800"]
)  # fmt: skip
def test_bad_names_are_refused(raw):
    with pytest.raises(BadNameError):
        parse(raw)


def test_names_may_be_as_long_as_the_limits_say():
    assert parse("é" * 255) == ("é" * 255,)
    assert parse("\U00010000" * 255) == ("\U00010000" * 255,)
    with pytest.raises(BadNameError):
        parse("\U00010000" * 256)


def test_ftp_refuses_line_ends():
    for raw in (b"a\rb", b"a\nb"):
        with pytest.raises(BadNameError):
            parse(raw, lines=True)


@pytest.mark.threat("F1")
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60)), st.booleans())
def test_every_path_is_refused_or_made_of_names_that_may_be_shown(raw, lines):
    try:
        path = parse(raw, ("a", "b"), lines=lines)
    except BadNameError:
        return
    for name in path:
        assert not is_hidden(name, lines=lines)
        assert unicodedata.is_normalized("NFC", name)
        assert len(name) <= 255
    assert parse(format_path(path), lines=lines) == path


@pytest.mark.threat("U6")
def test_hidden_names():
    for name in ("", ".", "..", "a/b", "/", "../x", "n\0"):
        assert is_hidden(name)
    for name in ("a\nb", "a\rb"):
        assert is_hidden(name, lines=True)
        assert not is_hidden(name)
    assert not is_hidden("...")


@pytest.mark.threat("L10")
def test_printable_text_cannot_deceive():
    assert printable("plain é 日本") == "plain é 日本"
    assert printable("a\nb\x1b[0m\u202e\u2028") == "a\\x0ab\\x1b[0m\\u202e\\u2028"


@pytest.mark.threat("L10")
@given(st.text())
def test_printable_text_is_one_line(text):
    assert len(printable(text).splitlines()) <= 1


def test_below():
    assert is_below(("a", "b"), ("a",))
    assert is_below(("a",), ())
    assert not is_below(("a",), ("a",))
    assert not is_below(("ab",), ("a",))


@pytest.mark.parametrize("step", ["/", "a/../", "./"])
def test_a_path_of_steps_that_lead_nowhere_is_refused_before_they_are_taken(step):
    assert parse(step * 500 + "x")[-1] == "x"
    with pytest.raises(BadNameError, match="too many parts"):
        parse(step * 2049)
