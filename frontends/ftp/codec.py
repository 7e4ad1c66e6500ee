"""Command lines in, reply lines out. Knows bytes and text; touches nothing.

Everything here is total: hostile bytes give a value or the one error that is declared. Commands
arrive in pieces of any size, with Telnet control sequences between them (lftp and ftplib announce
ABOR with some), and are taken out one by one, so that a client that pipelines a million of them
costs one buffer.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from truckee.core.errors import FormatError
from truckee.core.formats.numbers import parse_decimal

MAX_LINE = 8192
MAX_OFFSET = 2**63 - 1

_IAC = 0xFF
_FIRST_COMMAND = 0xF0
_SUBNEGOTIATION = 0xFA
_SUBNEGOTIATION_END = 0xF0
_WITH_OPTION = frozenset({0xFB, 0xFC, 0xFD, 0xFE})  # WILL, WONT, DO, DONT


class LineTooLongError(ValueError):
    """A command line exceeds MAX_LINE."""


class TelnetFilter:
    """Removes Telnet control sequences, across any split of the input."""

    def __init__(self) -> None:
        self._state = "data"

    def feed(self, data: bytes) -> bytes:
        """Return `data` without its Telnet sequences; a doubled 0xFF is one byte 0xFF."""
        if self._state == "data" and _IAC not in data:
            return data
        out = bytearray()
        for byte in data:
            self._state = self._step(byte, out)
        return bytes(out)

    def _step(self, byte: int, out: bytearray) -> str:
        match self._state:
            case "data":
                if byte == _IAC:
                    return "command"
                out.append(byte)
                return "data"
            case "command":
                if byte == _IAC:
                    out.append(byte)
                    return "data"
                if byte < _FIRST_COMMAND:  # no Telnet: a name in Latin-1, to be refused as it is
                    out += bytes((_IAC, byte))
                    return "data"
                if byte in _WITH_OPTION:
                    return "option"
                return "inside" if byte == _SUBNEGOTIATION else "data"
            case "option":
                return "data"
            case "inside":
                return "inside-command" if byte == _IAC else "inside"
            case _:
                return "data" if byte == _SUBNEGOTIATION_END else "inside"


class LineBuffer:
    """Bytes of the control connection that are not yet commands."""

    def __init__(self) -> None:
        self._telnet = TelnetFilter()
        self._data = bytearray()
        self._scanned = 0

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """Add what the socket gave."""
        self._data += self._telnet.feed(data)

    def clear(self) -> None:
        """Forget everything that has not been taken out."""
        self._data.clear()
        self._scanned = 0

    def next_line(self) -> bytes | None:
        """Return the next line without its end (CR LF, or LF alone), or None if there is none yet.

        Raises LineTooLongError when the line is, or will be, over MAX_LINE.
        """
        end = self._data.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._data)
            if len(self._data) > MAX_LINE:
                raise LineTooLongError("a command line is too long")
            return None
        if end > MAX_LINE:
            raise LineTooLongError("a command line is too long")
        line = bytes(self._data[:end])
        del self._data[: end + 1]
        self._scanned = 0
        return line.removesuffix(b"\r")


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its word in capitals, and the rest of the line as it came."""

    word: str
    arg: bytes

    def __repr__(self) -> str:
        return f"<Command {self.word}>"  # the argument may be a password


_WORD = re.compile(rb"[A-Za-z]{1,12}")


def parse_command(line: bytes) -> Command:
    """Split a line into word and argument; FormatError when it does not begin with a word."""
    word, _, arg = line.lstrip(b" ").partition(b" ")
    if _WORD.fullmatch(word) is None:
        raise FormatError("not a command")
    return Command(word.decode("ascii").upper(), arg)


def looks_like_http(line: bytes) -> bool:
    """Return whether a browser sent this line: it speaks to the wrong port."""
    return b"HTTP/" in line.upper()


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered: a code and one line of text or several."""

    code: int
    lines: tuple[str, ...]

    def encode(self) -> bytes:
        """Return the bytes to send; inner lines begin with a space, so none looks like the last."""
        lines = [_one_line(line) for line in self.lines]
        if len(lines) == 1:
            text = f"{self.code} {lines[0]}\r\n"
        else:
            inner = "".join(f" {line}\r\n" for line in lines[1:-1])
            text = f"{self.code}-{lines[0]}\r\n{inner}{self.code} {lines[-1]}\r\n"
        return text.encode("utf-8", "replace")


def reply(code: int, *lines: str) -> Reply:
    """Return a Reply; see there."""
    return Reply(code, lines)


def _one_line(text: str) -> str:
    """Return `text` with everything that could end the line, or a client's string, made visible."""
    return text.translate(_LINE_ENDS)


_LINE_ENDS = {0: "\\x00", 10: "\\x0a", 13: "\\x0d"}


def quoted(text: str) -> str:
    """Return a path in the form of a 257 reply: in double quotes, inner ones doubled."""
    return '"' + text.replace('"', '""') + '"'


# arguments


def strip_options(arg: bytes) -> bytes:
    """Return the path of a LIST or NLST argument: leading words like ``-la`` are dropped."""
    rest = arg
    while rest.startswith(b"-"):
        _, _, rest = rest.partition(b" ")
    return rest


def parse_offset(arg: bytes) -> int:
    """Return the number of a REST or ALLO argument, or raise FormatError."""
    return parse_decimal(arg, MAX_OFFSET)


_ALLO = re.compile(rb"([0-9]{1,20})(?: R [0-9]{1,20})?", re.IGNORECASE)


def parse_allo(arg: bytes) -> int:
    """Return the size announced by ALLO, or raise FormatError."""
    match = _ALLO.fullmatch(arg.strip(b" "))
    if match is None:
        raise FormatError("not a size")
    return parse_offset(match[1])


_TIME = re.compile(rb"([0-9]{14})(?:\.[0-9]{1,9})?")
_SHORT_TIME = re.compile(rb"[0-9]{12}")


def parse_time(text: bytes) -> int:
    """Return the seconds since 1970 that ``YYYYMMDDhhmmss[.fff]`` in UTC names.

    Raises FormatError for another form, a date that does not exist, or one before 1970.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise FormatError("not a time")
    digits = match[1].decode("ascii")
    fields = [digits[:4], *(digits[i : i + 2] for i in range(4, 14, 2))]
    try:
        when = datetime(*map(int, fields), tzinfo=UTC)  # type: ignore[arg-type,misc]
    except ValueError:
        raise FormatError("not a time") from None
    seconds = int(when.timestamp())
    if seconds < 0:
        raise FormatError("a time before 1970")
    return seconds


def format_time(seconds: int) -> str:
    """Return ``YYYYMMDDhhmmss`` in UTC; times outside 1970 to 9999 are clamped."""
    return datetime.fromtimestamp(min(max(seconds, 0), 253402300799), UTC).strftime("%Y%m%d%H%M%S")


def time_and_path(arg: bytes) -> tuple[int, bytes]:
    """Split ``time path`` as in MFMT; FormatError when either is missing or wrong."""
    when, space, path = arg.partition(b" ")
    if not space or not path:
        raise FormatError("a time and a path are expected")
    return parse_time(when), path


def parse_utime(arg: bytes) -> tuple[int, bytes]:
    """Return modification time and path of either form of SITE UTIME, or raise FormatError.

    ``YYYYMMDDhhmm[ss] path`` and ``path atime mtime ctime UTC``.
    """
    words = arg.split(b" ")
    if len(words) >= 5 and words[-1].upper() == b"UTC":
        try:
            times = [parse_time(word) for word in words[-4:-1]]
        except FormatError:
            pass
        else:
            return times[1], b" ".join(words[:-4])
    when, space, path = arg.partition(b" ")
    if not space or not path:
        raise FormatError("a time and a path are expected")
    if _SHORT_TIME.fullmatch(when):
        when += b"00"
    return parse_time(when), path


_MODE = re.compile(rb"[0-7]{1,6}")


def parse_chmod(arg: bytes) -> tuple[int, bytes]:
    """Return mode and path of SITE CHMOD, or raise FormatError."""
    mode, _, path = arg.partition(b" ")
    if _MODE.fullmatch(mode) is None or not path:
        raise FormatError("an octal mode and a path are expected")
    return int(mode, 8) & 0o7777, path
