"""The log file of a node, and the last net that keeps secrets out of it.

Knows what secrets look like as text; touches ``logs/truckee.log`` in the node directory. Events are
made so that no secret is in them; what slips through all the same is cut out here. Control and
direction characters are escaped, so that a name cannot forge a line.
"""

import os
import re
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    formatTime,
    globalLogBeginner,
)
from twisted.python.logfile import LogFile
from zope.interface import implementer

from truckee.core import files

MAXIMUM_BYTES = 10 * 1024 * 1024
KEPT = 10
BURST = 10  # lines a second of one kind; beyond that they are counted
_LONGEST = 20_000

_SECRETS = re.compile(
    r"URI:[A-Za-z0-9-]+:[^\s'\"<>,)]*"
    r"|URI%3A[^\s'\"<>,)]*"
    r"|pb://[^\s'\"<>,)]*"
    r"|\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?i:(?<=authorization:)|(?<=authorization: )|(?<=passwd=)|(?<=password=)|(?<=once=)"
    r"|(?<=private-key=))[^\s&'\"]+",
    re.DOTALL,
)
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def redact(text: str) -> str:
    """Return the text with everything cut out that looks like a secret."""
    return _SECRETS.sub("[secret]", text)


def escape(text: str) -> str:
    """Return the text on one line, control and direction characters written as numbers."""
    if text.isprintable():
        return text
    return "".join(f"\\u{{{ord(c):x}}}" if unicodedata.category(c) in _ESCAPED else c for c in text)


@implementer(ILogObserver)
class RedactingObserver:
    """Writes events as lines: time, level, room, text; a traceback follows indented."""

    def __init__(
        self, write: Callable[[str], object], seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """Take where lines go."""
        self._write = write
        self._seconds = seconds
        self._kinds: dict[tuple[object, object], list[float]] = {}
        self.dropped = 0
        """How many lines were counted instead of written."""

    def __call__(self, event: LogEvent) -> None:
        """Write one event."""
        held_back = self._held_back(event)
        if held_back is None:
            return
        text = redact(eventAsText(event, includeTimestamp=False, includeSystem=False))[:_LONGEST]
        first, *rest = text.split("\n")
        level = event.get("log_level")
        name = level.name if level is not None else "-"
        room = str(event.get("log_namespace", "-")).removeprefix("truckee.")
        more = f" (and {held_back} more like it)" if held_back else ""
        lines = [f"{formatTime(event['log_time'])} {name} {room}: {escape(first)}{more}"]
        lines += [f"    {escape(line)}" for line in rest if line]
        self._write("\n".join(lines) + "\n")

    def _held_back(self, event: LogEvent) -> int | None:
        """Return how many of this kind were swallowed before this one; None to swallow it, too.

        What `truckee.frontends.gate.record` writes is paced there, for each source by itself.
        """
        if event.get("paced"):
            return 0
        now = self._seconds()
        kind = (event.get("log_namespace"), event.get("log_format"))
        if len(self._kinds) > 1000:
            self._kinds.clear()
        began, written, swallowed = self._kinds.setdefault(kind, [now, 0, 0])
        if now - began >= 1.0:
            self._kinds[kind] = [now, 1, 0]
            return int(swallowed)
        if written < BURST:
            self._kinds[kind][1] += 1
            return 0
        self._kinds[kind][2] += 1
        self.dropped += 1
        return None


_writers: list[RedactingObserver] = []


def lines_dropped() -> int:
    """Return how many lines the log of this process has counted instead of written."""
    return sum(writer.dropped for writer in _writers)


def begin(directory: Path, *, to_file: bool = True) -> None:
    """Send all events of this process to the log file of a node directory, and nowhere else."""
    write: Callable[[str], object]
    if to_file:
        folder = directory / "logs"
        files.make_private_directory(folder)
        write = _RotatingFile(folder)
    else:
        write = _to_standard_error
    levels = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)
    levels.setLogLevelForNamespace("log_legacy", LogLevel.warn)  # each port opened and closed
    writer = RedactingObserver(write)
    _writers.append(writer)
    observer = FilteringLogObserver(writer, [levels])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=False)


class _RotatingFile:
    """The log file, renamed and begun anew when it is full."""

    def __init__(self, folder: Path) -> None:
        make: Any = LogFile
        self._file: Any = make(
            "truckee.log",
            str(folder),
            rotateLength=MAXIMUM_BYTES,
            maxRotatedFiles=KEPT,
            defaultMode=0o600,
        )

    def __call__(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _to_standard_error(text: str) -> None:
    os.write(2, text.encode("utf-8", "backslashreplace"))
