"""The one door to files: everything a disk store does to a filesystem goes through `Files`.

Knows system calls; touches the disk. Tests put a simulated disk in its place. Calls block: they are
made in worker threads only. Errors are OSError, as the system gives them.
"""

# ruff: noqa: D102 - most methods are the system calls of their names

import ctypes
import os
import re
from typing import Protocol

Buffer = bytes | bytearray | memoryview

READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""Open what should be a regular file; neither follows a link nor waits for a pipe."""

CHANGE = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW

FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY

_WRITEBACK = 2  # SYNC_FILE_RANGE_WRITE: start, and do not wait
_COPY = 1 << 30


class Stat(Protocol):
    """What is looked at of a file's status."""

    @property
    def st_mode(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_nlink(self) -> int: ...
    @property
    def st_dev(self) -> int: ...
    @property
    def st_ino(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...


class Files(Protocol):
    """A filesystem. Descriptors are numbers; names are absolute paths."""

    can_syncfs: bool
    """Whether `syncfs` exists and reports errors."""

    def open(self, path: str, flags: int, mode: int = 0o600) -> int: ...
    def close(self, fd: int) -> None: ...
    def pread(self, fd: int, length: int, offset: int) -> bytes: ...
    def pwrite(self, fd: int, data: Buffer, offset: int) -> int: ...
    def copy(self, source: int, target: int, length: int) -> None: ...
    def fstat(self, fd: int) -> Stat: ...
    def stat(self, path: str) -> Stat: ...
    def fsync(self, fd: int) -> None: ...
    def syncfs(self, fd: int) -> None: ...
    def start_writeback(self, fd: int, offset: int, length: int) -> None: ...
    def mkdir(self, path: str, mode: int = 0o700) -> None: ...
    def rmdir(self, path: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def link(self, source: str, target: str) -> None: ...
    def rename(self, source: str, target: str) -> None: ...
    def listdir(self, path: str) -> list[str]: ...
    def free(self, path: str) -> int: ...


class OsFiles:
    """The real filesystem."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    fstat = staticmethod(os.fstat)
    stat = staticmethod(os.lstat)
    fsync = staticmethod(os.fsync)
    mkdir = staticmethod(os.mkdir)
    rmdir = staticmethod(os.rmdir)
    unlink = staticmethod(os.unlink)
    rename = staticmethod(os.rename)

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._syncfs = getattr(libc, "syncfs", None)
        self._sync_file_range = getattr(libc, "sync_file_range", None)
        self.can_syncfs = self._syncfs is not None and _kernel() >= (5, 8)

    def listdir(self, path: str) -> list[str]:
        """Return the names in a folder that is no link."""
        fd = os.open(path, FOLDER | os.O_NOFOLLOW)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name; fails when the name is taken."""
        os.link(source, target, follow_symlinks=False)

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` bytes of a file, sharing blocks where the filesystem can."""
        at = 0
        while at < length:
            try:
                done = os.copy_file_range(source, target, min(_COPY, length - at), at, at)
            except OSError:
                data = os.pread(source, min(1 << 20, length - at), at)
                done = os.pwrite(target, data, at)
            if not done:
                raise OSError("the file ended while it was copied")
            at += done

    def syncfs(self, fd: int) -> None:
        """Make everything on the filesystem of `fd` durable; reports errors since it was opened."""
        if self._syncfs is None or self._syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def start_writeback(self, fd: int, offset: int, length: int) -> None:
        """Begin to write a range to the medium without waiting; only a hint."""
        if self._sync_file_range is not None:
            self._sync_file_range(
                fd, ctypes.c_int64(offset), ctypes.c_int64(length), ctypes.c_uint(_WRITEBACK)
            )

    def free(self, path: str) -> int:
        """Return the bytes that are free to us."""
        status = os.statvfs(path)
        return status.f_frsize * status.f_bavail


def write_all(files: Files, fd: int, data: Buffer, offset: int) -> None:
    """Write all of `data`, however few bytes a call takes."""
    done = files.pwrite(fd, data, offset)
    if done == len(data):
        return
    view = memoryview(data).cast("B")
    while done < len(view):
        count = files.pwrite(fd, view[done:], offset + done)
        if not count:
            raise OSError("the disk takes no more bytes")
        done += count


def read_all(files: Files, fd: int, length: int, offset: int) -> bytes:
    """Read `length` bytes, fewer only at the end of the file."""
    data = files.pread(fd, length, offset)
    if len(data) == length or not data:
        return data
    pieces = [data]
    at = len(data)
    while at < length and (data := files.pread(fd, length - at, offset + at)):
        pieces.append(data)
        at += len(data)
    return b"".join(pieces)


def _kernel() -> tuple[int, ...]:
    """Return the kernel's version; before 5.8 syncfs kept quiet about errors."""
    if os.uname().sysname != "Linux":
        return (0,)
    return tuple(int(part) for part in re.findall("[0-9]+", os.uname().release)[:2])
