import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.openmetrics import parse, value
from truckee.frontends.node.openmetrics import Family, Sample, render

NUMBERS = st.integers(0, 2**70) | st.floats(0, allow_nan=False)


@pytest.mark.threat("L10")
@given(st.text(), st.text(), NUMBERS)
def test_any_text_in_labels_and_help_stays_inside_its_line(label, text, number):
    family = Family("a_b", "gauge", text, (Sample(number, (("door", label),)),))
    found = parse(render([family]))["a_b"]
    ((labels, read),) = found.samples.items()
    assert read == float(number)
    if (label + text).isprintable():
        assert dict(labels)["door"] == label
        assert found.help == text


def test_counters_units_and_facts_are_written_as_the_format_wants():
    text = render(
        [
            Family("x", "counter", "So many.", (Sample(3),)),
            Family("x_bytes", "counter", "So much.", (Sample(4),), "bytes"),
            Family("truckee", "info", "What runs.", (Sample(1, (("version", "1.0"),)),)),
            Family("none", "gauge", "Nothing.", ()),
        ]
    )
    assert "x_total 3\n" in text
    assert "# UNIT x_bytes bytes\n" in text
    assert "x_bytes_total 4\n" in text
    assert 'truckee_info{version="1.0"} 1\n' in text
    found = parse(text)
    assert value(found, "x") == 3
    assert list(found) == ["x", "x_bytes", "truckee", "none"]


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan"), 1e300, 2.5e-10])
def test_odd_numbers_can_be_read(number):
    (read,) = parse(render([Family("a", "gauge", "", (Sample(number),))]))["a"].samples.values()
    assert repr(read) == repr(number)


@pytest.mark.parametrize("name", ["", "A", "a-b", "1a", "a_total", "a_info", "a b", "a\n"])
def test_names_that_the_format_refuses_cannot_be_made(name):
    with pytest.raises(ValueError):
        Family(name, "gauge", "", ())


def test_labels_and_units_are_checked():
    with pytest.raises(ValueError):
        Family("a", "gauge", "", (Sample(1, (("b-c", ""),)),))
    with pytest.raises(ValueError):
        Family("a", "gauge", "", (), "bytes")
