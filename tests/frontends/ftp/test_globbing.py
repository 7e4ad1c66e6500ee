"""Patterns on names."""

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.frontends.ftp.globbing import Pattern, is_pattern

names = st.text("ab]-!c", max_size=12)
patterns = st.text("ab*?[]-!c", max_size=12)


@given(patterns, names)
def test_agrees_with_the_standard_library(pattern, name) -> None:
    assert Pattern(pattern).matches(name) == fnmatch.fnmatchcase(name, pattern)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*.txt", "a.txt", True),
        ("*.txt", "a.txt2", False),
        ("", "", True),
        ("*", "", True),
        ("?", "é", True),
        ("日*.[b-d]in", "日本.bin", True),
        ("[!a]*", "abc", False),
        ("[^a]*", "bbc", True),
        ("a[", "a[", True),
        ("[]]", "]", True),
    ],
)
def test_examples(pattern, name, fits) -> None:
    assert Pattern(pattern).matches(name) is fits


@pytest.mark.parametrize(
    "pattern", ["*a" * 127, "*?" * 127, "*" * 255, "*[a-z]" * 42, "?" * 254 + "b"]
)
@pytest.mark.threat("F9")
def test_a_pattern_full_of_stars_costs_no_more_than_another(pattern) -> None:
    name = "a" * 254 + "b"
    compiled = Pattern(pattern)
    compiled.matches(name)
    began = time.thread_time()
    compiled.matches(name)
    assert time.thread_time() - began < 0.010


def test_only_special_characters_make_a_pattern() -> None:
    assert is_pattern("a*")
    assert not is_pattern("a.b")
