"""The list of threats in docs/security.rst and the marks on tests agree."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"^([A-Z][0-9]{1,2}) {1,3}(shown|partly|later) ", re.MULTILINE)
GROUPS = {"L": 10, "S": 16, "U": 9, "N": 15, "A": 12, "F": 9, "W": 14, "M": 8, "O": 9, "G": 9}
GROUPS |= {"D": 6, "X": 6}


@cache
def listed() -> dict[str, str]:
    rows = ROW.findall((ROOT / "docs" / "security.rst").read_text())
    assert len(dict(rows)) == len(rows), "an id is listed twice"
    return dict(rows)


@cache
def marked() -> dict[str, set[str]]:
    """Return the files in which each id is a mark on something that pytest runs."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr == "threat":
                for argument in node.args:
                    assert isinstance(argument, ast.Constant), path
                    found.setdefault(argument.value, set()).add(path.name)
    return found


def test_every_row_of_the_model_is_listed() -> None:
    wanted = {f"{letter}{i + 1}" for letter, count in GROUPS.items() for i in range(count)}
    assert wanted <= set(listed())


@pytest.mark.parametrize("threat", [id_ for id_, state in listed().items() if state != "later"])
def test_what_is_said_to_be_shown_is_shown_by_a_test(threat: str) -> None:
    assert threat in marked()


def test_no_test_shows_what_is_not_listed_or_said_to_come_later() -> None:
    states = listed()
    assert {id_: states.get(id_) for id_ in marked() if states.get(id_, "later") == "later"} == {}
