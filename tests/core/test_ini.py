import configparser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.core import ini
from truckee.core.errors import ConfigError


def test_values_carry_their_line():
    found = ini.parse("# note\n[a]\nx = 1\n\n; note\ny: two words\n  and more\n[b]\nX =\n", "f")
    assert found == {
        ("a", "x"): ini.Value("1", 3),
        ("a", "y"): ini.Value("two words\nand more", 6),
        ("b", "x"): ini.Value("", 9),
    }


@pytest.mark.parametrize(
    ("text", "line"), [("x = 1", 1), ("[a]\nhello", 2), ("[a]\nx=1\nX=2", 3), ("[a]\n= 3", 2)]
)
def test_an_error_names_the_line(text, line):
    with pytest.raises(ConfigError, match=f"f line {line}"):
        ini.parse(text, "f")


PIECES = st.sampled_from(["[a]", "[b c]", "k = v", "k2: w", "  more", "#x", "", "k3=", "q = = :"])


@given(st.lists(PIECES))
def test_what_pythons_own_parser_reads_is_read_the_same(lines):
    text = "\n".join(lines)
    theirs = configparser.ConfigParser(interpolation=None)
    try:
        theirs.read_string(text)
    except configparser.Error:
        return
    try:
        ours = ini.parse(text, "f")
    except ConfigError:
        assert "  more" in lines
        return
    for (section, key), value in ours.items():
        read = [line for line in theirs[section][key].split("\n") if line]
        assert [line for line in value.text.split("\n") if line] == read
