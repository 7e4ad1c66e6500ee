"""Shell patterns on names, in time that grows with the name only. Knows text; touches nothing.

A pattern is a machine whose states are the bits of one integer: bit i says that the first i tokens
have matched. Each character of the name is one shift and two masks, so a pattern full of stars is
no dearer than another, and nothing from outside becomes a regular expression.
"""

from dataclasses import dataclass, field

MAX_TOKENS = 1024


def is_pattern(text: str) -> bool:
    """Return whether `text` holds a character that is special in a pattern."""
    return any(c in text for c in "*?[")


@dataclass(frozen=True, slots=True)
class _Class:
    """``[a-z]`` or ``[!a-z]``: ranges of characters."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def holds(self, c: str) -> bool:
        return any(low <= c <= high for low, high in self.ranges) != self.negated


_ANY = _Class((), negated=True)


@dataclass(slots=True)
class Pattern:
    """A compiled pattern: ``*`` any text, ``?`` any character, ``[a-z]`` ``[!a-z]`` classes."""

    text: str
    _tokens: list[str | _Class] = field(default_factory=list)
    _stars: int = 0  # bit i: state i stays where it is on any character
    _masks: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        i = 0
        while i < len(self.text) and len(self._tokens) < MAX_TOKENS:
            c = self.text[i]
            if c == "*":
                self._stars |= 1 << len(self._tokens)
                i += 1
                continue
            if c == "[" and (parsed := _parse_class(self.text, i)) is not None:
                token, i = parsed
                self._tokens.append(token)
                continue
            self._tokens.append(_ANY if c == "?" else c)
            i += 1

    def matches(self, name: str) -> bool:
        """Return whether the whole `name` fits."""
        states = 1
        for c in name:
            mask = self._masks.get(c)
            if mask is None:
                mask = self._masks[c] = self._mask(c)
            states = ((states & mask) << 1) | (states & self._stars)
            if not states:
                return False
        return bool(states >> len(self._tokens) & 1)

    def _mask(self, c: str) -> int:
        """Return a bit per token that takes `c`."""
        mask = 0
        for i, token in enumerate(self._tokens):
            if token == c if isinstance(token, str) else token.holds(c):
                mask |= 1 << i
        if len(self._masks) > 4096:
            self._masks.clear()
        return mask


def _parse_class(text: str, start: int) -> tuple[_Class, int] | None:
    """Return the class that begins at ``text[start]`` and where it ends; None if it never does."""
    i = start + 1
    negated = i < len(text) and text[i] in "!^"
    first = i = i + negated
    end = text.find("]", first + 1)
    if end < 0:
        return None
    ranges = []
    while i < end:
        if i + 2 < end and text[i + 1] == "-":
            ranges.append((text[i], text[i + 2]))
            i += 3
        else:
            ranges.append((text[i], text[i]))
            i += 1
    return _Class(tuple(ranges), negated), end + 1
