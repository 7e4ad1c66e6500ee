"""Decimal integers from outside. Knows ASCII digits; touches nothing.

`int` alone would take signs, underscores, spaces and the digits of other scripts.
"""

import re

from truckee.core.errors import FormatError

_DIGITS = re.compile(rb"[0-9]{1,20}")


def parse_decimal(raw: bytes, maximum: int) -> int:
    """Return the number that `raw` spells in at most 20 ASCII digits, leading zeros allowed.

    Raises FormatError for anything else, and for a number above `maximum`.
    """
    if _DIGITS.fullmatch(raw) is None:
        raise FormatError("not a decimal number")
    value = int(raw)
    if value > maximum:
        raise FormatError("a number is out of range")
    return value
