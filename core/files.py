"""Small files of our own on the local disk: secrets, configuration, accounts.

Knows the rules under which they are made, replaced and read: created exclusively, never through a
symbolic link, 0600 in a directory 0700; replaced whole or not at all, also across a power cut; read
only when nobody else could have read or written them. Touches the local disk, blocking: the reactor
goes through a `Cpu` door. Errors are ConfigError with the file's own short name, and OSError.
"""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from truckee.core.errors import ConfigError

_TEMPORARY = ".truckee-tmp"


def make_private_directory(path: Path) -> None:
    """Make `path` a directory that only its owner may enter; what is missing above it, too.

    An existing one must be ours and closed to others, else ConfigError.
    """
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            path.chmod(0o700)
            sync_directory(path.parent)
    check_private_directory(path)


def check_private_directory(path: Path) -> None:
    """Raise ConfigError unless `path` is a directory of ours, or root's, with no rights for others.

    The path itself may be a symbolic link (the private folder may lie on another disk).
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise ConfigError(f"directory {path} is missing") from None
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{path.name} is not a directory")
    check_private_file(found, path.name)


def check_private_file(found: os.stat_result, name: str) -> None:
    """Raise ConfigError when others may open it, or when it is neither ours nor root's."""
    if found.st_uid not in {os.geteuid(), 0}:
        raise ConfigError(f"{name} belongs to user {found.st_uid}, not to the one running this")
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        wanted = "0700" if stat.S_ISDIR(found.st_mode) else "0600"
        raise ConfigError(f"{name} is open to others (mode {mode:04o}); it must be {wanted}")


def read(path: Path, limit: int, *, private: bool = True) -> bytes:
    """Return the contents of a regular file of at most `limit` bytes.

    With `private`, owner and mode are checked on the opened file. Raises ConfigError when it is a
    link, not a file, too large or open to others; OSError when it is missing or unreadable.
    """
    with opened(path) as fd:
        return read_opened(fd, path.name, limit, private=private)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open for reading without following a last symbolic link and without waiting on a pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise ConfigError(f"{path.name} is a symbolic link") from None
        raise error from None
    try:
        yield fd
    finally:
        os.close(fd)


def read_opened(fd: int, name: str, limit: int, *, private: bool = True) -> bytes:
    """Do the checks and the reading of `read` on an open descriptor."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{name} is not a regular file")
    if private:
        check_private_file(found, name)
    pieces, left = [], limit + 1
    while left and (piece := os.read(fd, min(left, 1 << 20))):
        pieces.append(piece)
        left -= len(piece)
    if not left:
        raise ConfigError(f"{name} is larger than {limit} bytes")
    return b"".join(pieces)


def create(path: Path, data: bytes) -> None:
    """Make a new file, complete from the moment it is seen; FileExistsError when there is one."""
    temporary = _write_temporary(path, data)
    try:
        os.link(temporary, path, follow_symlinks=False)
    finally:
        temporary.unlink()
        sync_directory(path.parent)


def replace(path: Path, data: bytes) -> None:
    """Make `path` hold `data`: readers see the old or the new contents, also after a power cut."""
    temporary = _write_temporary(path, data)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def create_or_read(path: Path, data: bytes, limit: int) -> bytes:
    """Return what the file holds; when there is none, make it with `data` first."""
    with suppress(FileExistsError):
        create(path, data)
    return read(path, limit)


def remove(path: Path) -> None:
    """Remove a file durably; harmless when there is none."""
    with suppress(FileNotFoundError):
        path.unlink()
        sync_directory(path.parent)


def _write_temporary(path: Path, data: bytes) -> Path:
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}{_TEMPORARY}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    except OSError:
        temporary.unlink()
        raise
    finally:
        os.close(fd)
    return temporary


def remove_temporaries(directory: Path) -> None:
    """Remove what writers killed half-way have left in `directory`."""
    for leftover in directory.glob(f".*{_TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def locked_directory(path: Path) -> Iterator[None]:
    """Hold the advisory lock of a directory, so that two writers of ours take turns."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
