"""TYPE A."""

import re

from hypothesis import given
from hypothesis import strategies as st

from truckee.frontends.ftp.line_ends import FromNetwork, ToNetwork

pieces = st.lists(st.text("a\r\n", max_size=6).map(str.encode), max_size=8)


@given(pieces)
def test_going_out_every_line_feed_has_one_carriage_return(parts) -> None:
    ends = ToNetwork()
    out = b"".join(map(ends.feed, parts))
    assert out == re.sub(rb"(?<!\r)\n", b"\r\n", b"".join(parts))


@given(pieces)
def test_coming_in_every_pair_is_one_line_feed(parts) -> None:
    ends = FromNetwork()
    out = b"".join(map(ends.feed, parts)) + ends.finish()
    assert out == b"".join(parts).replace(b"\r\n", b"\n")


@given(pieces)
def test_a_unix_text_comes_back_as_it_went(parts) -> None:
    text = b"".join(parts).replace(b"\r", b"")
    assert FromNetwork().feed(ToNetwork().feed(text)) == text
