"""Configuration text of sections and keys, as Tahoe-LAFS writes it, with the line of every value.

Knows the grammar that Python's own ``configparser`` reads (no interpolation, no inline comments);
touches nothing. Errors are ConfigError that name the line.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from truckee.core.errors import ConfigError

_SECTION = re.compile(r"\[([^\]]+)\]")
_PAIR = re.compile(r"([^=:\s][^=:]*?)\s*[=:]\s*(.*)")

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Value:
    """The text of a key and the line it began on."""

    text: str
    line: int


def parse(text: str, name: str) -> Mapping[Key, Value]:
    """Return the values by (section, key); keys in lower case. `name` stands in errors."""
    values: dict[Key, Value] = {}
    section: str | None = None
    last: Key | None = None
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = raw.strip()
        if "\0" in line:
            raise ConfigError(f"{name} line {number}: a NUL character")
        if not line or line.startswith(("#", ";")):
            continue
        if raw[0].isspace() and last is not None:
            old = values[last]
            values[last] = Value(f"{old.text}\n{line}".strip(), old.line)
            continue
        if found := _SECTION.fullmatch(line):
            section, last = found.group(1).strip(), None
            continue
        pair = _PAIR.fullmatch(line)
        if pair is None:
            raise ConfigError(f"{name} line {number}: neither [section] nor key = value")
        if section is None:
            raise ConfigError(f"{name} line {number}: a key before the first [section]")
        last = (section, pair.group(1).lower())
        if last in values:
            raise ConfigError(f"{name} line {number}: {last[1]} stands there twice")
        values[last] = Value(pair.group(2), number)
    return values
