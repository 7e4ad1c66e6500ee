"""Path names as clients send them, and which names of children clients may see.

Knows text; touches nothing. A path is a tuple of components below the session's root; the empty
tuple is the root itself. Nothing outside this module splits or joins path text.
"""

import unicodedata

from truckee.core.errors import BadNameError

Path = tuple[str, ...]

ROOT: Path = ()

MAX_POINTS = 255
"""Most code points of one component; they are never more than 1020 bytes of UTF-8."""

_MAX_PATH_BYTES = 65536
_MAX_DEPTH = 256
_MAX_STEPS = 2048  # with those that lead nowhere, such as ``a/..``

_LINE_ENDS = frozenset("\r\n")
# what a terminal or a log reader could take for something else than text
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SEPARATORS = frozenset("\u0085\u2028\u2029")


def parse(raw: bytes | str, cwd: Path = ROOT, *, lines: bool = False) -> Path:
    """Return the path that `raw` names, seen from `cwd`.

    Bytes are UTF-8; every component is brought to NFC; empty ones and ``.`` vanish; ``..`` goes up
    and stays at the root. `lines` (FTP) refuses CR and LF, too. Raises BadNameError.
    """
    text = _decode(raw)
    if len(text) > _MAX_PATH_BYTES:
        raise BadNameError("the path is too long")
    if text.count("/") > _MAX_STEPS:
        raise BadNameError("the path has too many parts")
    parts: list[str] = [] if text.startswith("/") else list(cwd)
    for part in text.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            del parts[-1:]
            continue
        name = unicodedata.normalize("NFC", part)
        check_name(name, lines=lines)
        parts.append(name)
    if len(parts) > _MAX_DEPTH:
        raise BadNameError("the path has too many parts")
    return tuple(parts)


def _decode(raw: bytes | str) -> str:
    if isinstance(raw, str):
        try:
            raw.encode("utf-8")
        except UnicodeEncodeError:
            raise BadNameError("the path is not UTF-8") from None
        return raw
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadNameError("the path is not UTF-8") from None


def check_name(name: str, *, lines: bool = False) -> None:
    """Raise BadNameError unless `name` (already NFC) may be given to a child."""
    if is_hidden(name, lines=lines):
        raise BadNameError("the name holds a character that is not allowed")
    if len(name) > MAX_POINTS:
        raise BadNameError(f"the name is longer than {MAX_POINTS} characters")


def is_hidden(name: str, *, lines: bool = False) -> bool:
    """Return whether a child of this name is kept out of listings.

    Such names would lead a client that copies a whole tree out of its target folder. `lines` (FTP)
    hides names with CR or LF, too: they would forge lines.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        return True
    return lines and not _LINE_ENDS.isdisjoint(name)


def format_path(path: Path) -> str:
    """Return the absolute text of `path`, as PWD and REALPATH tell it."""
    return "/" + "/".join(path)


def printable(text: str) -> str:
    """Return `text` with control, direction and line separating characters written as escapes.

    For logs and messages to people, never for names that a client sends back.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if _is_deceptive(c) else c for c in text)


def _is_deceptive(c: str) -> bool:
    return unicodedata.category(c) in ("Cc", "Cs") or c in _BIDI or c in _SEPARATORS


def _escaped(c: str) -> str:
    return f"\\x{ord(c):02x}" if ord(c) < 0x100 else f"\\u{ord(c):04x}"


def is_below(path: Path, ancestor: Path) -> bool:
    """Return whether `path` lies strictly below `ancestor`."""
    return len(path) > len(ancestor) and path[: len(ancestor)] == ancestor
