"""Reports of corrupt shares: one small text file each, a bounded number. Touches `Files`."""

from datetime import UTC, datetime

from truckee.core.formats import base32
from truckee.core.storage.api import ShareKind
from truckee.core.storage.files import CREATE, Files, write_all

MAX_REPORTS = 1000
MAX_REASON = 32765


def write_advisory(
    files: Files, folder: str, share: tuple[ShareKind, bytes, int], reason: str, now: float
) -> None:
    """Keep what a client said of a share; beyond MAX_REPORTS the oldest report goes.

    `now` is in seconds since 1970. Raises OSError.
    """
    kind, storage_index, shnum = share
    index = base32.b2a(storage_index)
    text = (
        f"report: Share Corruption\ntype: {kind.value}\nstorage_index: {index}\n"
        f"share_number: {shnum}\n\n"
    )
    body = reason.encode("utf-8", "backslashreplace")[:MAX_REASON]
    names = sorted(files.listdir(folder))
    for name in names[: max(0, len(names) - MAX_REPORTS + 1)]:
        files.unlink(f"{folder}/{name}")
    moment = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
    path = f"{folder}/{moment.isoformat().replace(':', '')}--{index}-{shnum}"
    try:
        fd = files.open(path, CREATE, 0o600)
    except FileExistsError:
        return  # reported in this very microsecond
    try:
        write_all(files, fd, text.encode() + body + b"\n\n", 0)
    finally:
        files.close(fd)
