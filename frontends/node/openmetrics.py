"""The OpenMetrics text format 1.0, the part of it that we write. Pure.

Knows families of samples: counters, gauges, and one of fixed facts. docs/decisions says why this is
not a library.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

CONTENT_TYPE = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_RESERVED = ("_total", "_created", "_info", "_count", "_sum", "_bucket")

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One number, under the values of its labels."""

    value: float
    labels: Labels = ()


@dataclass(frozen=True, slots=True)
class Family:
    """All samples of one name. A unit must be the end of the name."""

    name: str
    kind: Literal["counter", "gauge", "info"]
    help: str
    samples: tuple[Sample, ...]
    unit: str = ""

    def __post_init__(self) -> None:
        names = [self.name, *(label for sample in self.samples for label, _ in sample.labels)]
        if not all(map(_NAME.fullmatch, names)) or self.name.endswith(_RESERVED):
            raise ValueError("not a name of a metric or label")
        if self.unit and not self.name.endswith(f"_{self.unit}"):
            raise ValueError("the name must end with the unit")


def render(families: Iterable[Family]) -> str:
    """Return the text of a whole answer."""
    lines = [line for family in families for line in _lines(family)]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _lines(family: Family) -> Iterator[str]:
    yield f"# TYPE {family.name} {family.kind}"
    if family.unit:
        yield f"# UNIT {family.name} {family.unit}"
    yield f"# HELP {family.name} {_escaped(family.help)}"
    suffix = {"counter": "_total", "gauge": "", "info": "_info"}[family.kind]
    for sample in family.samples:
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels)
        braces = f"{{{labels}}}" if labels else ""
        yield f"{family.name}{suffix}{braces} {_number(sample.value)}"


def _escaped(text: str) -> str:
    """Return the text as it stands in a label or help; also without what is no printable line."""
    printable = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
    return printable.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
