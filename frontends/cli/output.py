"""What commands tell people: exit codes, errors in three lines, and objects for programs.

Knows the codes of docs/running.rst; touches standard output and error. No message holds a
capability or password.
"""

import contextlib
import json
import sys
from collections.abc import Mapping
from enum import IntEnum

from truckee.core import errors as e
from truckee.frontends.node.creation import GridOptionError
from truckee.frontends.node.logs import escape, redact
from truckee.frontends.node.process import AlreadyRunningError


class Exit(IntEnum):
    """Exit codes."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    FORBIDDEN = 5
    UNREACHABLE = 6
    NOT_ENOUGH = 7
    PARTLY = 8
    INTERRUPTED = 130


class CommandError(Exception):
    """A command failed: what, why, and what may help."""

    def __init__(
        self, what: str, why: str = "", advice: str = "", code: Exit = Exit.FAILED
    ) -> None:
        """Take the three lines, of which the last two may be empty, and the exit code."""
        super().__init__(what)
        self.what = what
        self.why = why
        self.advice = advice
        self.code = code

    def text(self) -> str:
        """Return the lines as they are shown."""
        lines = [f"truckee: {self.what}"]
        if self.why:
            lines.append(f"  {self.why}")
        if self.advice:
            lines.append(f"  try: {self.advice}")
        return "\n".join(escape(redact(line)) for line in lines)


CODES: tuple[tuple[type[Exception], Exit], ...] = (
    (GridOptionError, Exit.USAGE),
    (AlreadyRunningError, Exit.CONFLICT),
    (e.NoSuchChildError, Exit.NOT_FOUND),
    (e.ExistingChildError, Exit.CONFLICT),
    (e.NotWriteableError, Exit.FORBIDDEN),
    (e.ServerGoneError, Exit.UNREACHABLE),
    (e.DownloadError, Exit.NOT_ENOUGH),
    (e.UploadError, Exit.NOT_ENOUGH),
    (e.TruckeeError, Exit.FAILED),
)


def code_for(error: Exception) -> Exit:
    """Return the exit code that belongs to an error."""
    return next((code for kind, code in CODES if isinstance(error, kind)), Exit.FAILED)


def say(text: str = "") -> None:
    """Print one line for people; a reader that went away is no error."""
    with contextlib.suppress(BrokenPipeError, ValueError):
        print(text, flush=True)


def say_object(fields: Mapping[str, object]) -> None:
    """Print one JSON object on a line, with the version of its shape."""
    say(json.dumps({"v": 1, **fields}, ensure_ascii=False, separators=(",", ":")))


def warn(text: str) -> None:
    """Print one line on standard error."""
    with contextlib.suppress(OSError, ValueError):
        print(f"truckee: {escape(redact(text))}", file=sys.stderr, flush=True)


def fail(error: CommandError) -> Exit:
    """Show an error; return its exit code."""
    with contextlib.suppress(OSError, ValueError):
        print(error.text(), file=sys.stderr, flush=True)
    return error.code
