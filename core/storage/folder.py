"""The folder of a disk store: its layout, whether it is there, and the share files in it.

Knows the layout of docs/formats/storage.rst; touches the disk through `Files`. Every method blocks
and runs in a worker thread. Errors are OSError or a StorageError.

A folder may be deleted, unmounted, or put back while the process runs: `check` notices, by looking
at the file that holds the store's identity.
"""

import errno
import itertools
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

from truckee.core.errors import (
    FormatError,
    NoSpaceError,
    ServerGoneError,
    ShareConflictError,
    StorageError,
)
from truckee.core.formats import base32, container
from truckee.core.formats.container import ImmutableHeader, MutableHeader
from truckee.core.storage.api import ShareKind
from truckee.core.storage.files import CREATE, READ, Files, read_all, write_all
from truckee.core.storage.sync import Turn, sync_folder

_FIRST_READ = 4096
_MAX_SHNUM = 255
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


def storage_error(error: OSError) -> StorageError:
    """Return what other rooms see of an error of the system; no path is in it."""
    name = errno.errorcode.get(error.errno or 0, "unknown error")
    if error.errno in _NO_SPACE:
        return NoSpaceError(f"the disk takes no more ({name})")
    return ServerGoneError(f"the disk failed ({name})")


@dataclass(slots=True)
class OpenShare:
    """A share file that is open: its descriptor, header, and the first bytes of the file."""

    fd: int
    header: ImmutableHeader | MutableHeader
    head: bytes
    size: int

    @property
    def kind(self) -> ShareKind:
        """What the file holds."""
        mutable = isinstance(self.header, MutableHeader)
        return ShareKind.MUTABLE if mutable else ShareKind.IMMUTABLE


class StoreFolder:
    """One store's folder."""

    def __init__(self, root: str, files: Files, nodeid: bytes | None) -> None:
        self.root = root
        self.files = files
        self.nodeid = nodeid
        self.shares = f"{root}/shares"
        self.incoming = f"{root}/shares/incoming"
        self.advisories = f"{root}/corruption-advisories"
        self.device = 0
        self.epoch = 0
        self.ready = False
        self.damaged: deque[str] = deque(maxlen=1000)
        self._opening = Lock()
        self._identity_path = f"{root}/nodeid"
        self._identity: tuple[int, int, int] | None = None
        self._numbers = itertools.count()

    # being there

    def open(self, create: bool, random: Callable[[int], bytes], fsync: bool) -> None:
        """Look at the folder, and make what is missing if `create`.

        The first time, remains of uploads are removed; later there may be uploads under way.
        """
        with self._opening:
            if create:
                self._create(random, fsync)
            self.check(set())
            if self.ready:
                return
            self._empty(self.incoming)
            if fsync:
                with suppress(OSError):  # the folder above may be closed to us
                    sync_folder(self.files, os.path.dirname(self.root) or "/")
                for folder in (self.root, self.shares):
                    sync_folder(self.files, folder)
            self.ready = True

    def check(self, turn: Turn) -> None:
        """Raise ServerGoneError unless the folder is there and has its identity."""
        if self in turn:
            return
        try:
            status = self.files.stat(self._identity_path)
            identity = (status.st_dev, status.st_ino, status.st_mtime_ns)
            if identity != self._identity:
                self._attach(identity)
        except OSError as error:
            raise ServerGoneError("the store's folder is not there") from error
        turn.add(self)

    def _attach(self, identity: tuple[int, int, int]) -> None:
        """Accept a folder that is new to this process, or was put back."""
        nodeid = self._read_nodeid()
        if self.nodeid is not None and nodeid != self.nodeid:
            raise ServerGoneError("another store's folder is in this place")
        self._make_layout()
        self.device = self.files.stat(self.incoming).st_dev
        self.nodeid = nodeid
        self.epoch += 1
        self._identity = identity

    def _make_layout(self) -> None:
        for path in (self.shares, self.incoming, self.advisories):
            with suppress(FileExistsError):
                self.files.mkdir(path, 0o700)

    def _read_nodeid(self) -> bytes:
        fd = self.files.open(self._identity_path, READ)
        try:
            raw = self.files.pread(fd, 100, 0)
        finally:
            self.files.close(fd)
        try:
            nodeid = base32.a2b(raw.decode("ascii").strip())
        except (UnicodeDecodeError, FormatError):
            nodeid = b""
        if len(nodeid) != 20:
            raise ServerGoneError("the store's nodeid file is damaged")
        return nodeid

    def _create(self, random: Callable[[int], bytes], fsync: bool) -> None:
        files = self.files
        with suppress(FileExistsError):
            files.mkdir(self.root, 0o700)
        try:
            files.stat(self._identity_path)
            return
        except FileNotFoundError:
            nodeid = self.nodeid or random(20)
        temporary = f"{self._identity_path}.{random(8).hex()}.tmp"
        fd = files.open(temporary, CREATE, 0o600)
        try:
            write_all(files, fd, base32.b2a(nodeid).encode() + b"\n", 0)
            if fsync:
                files.fsync(fd)
        finally:
            files.close(fd)
        files.rename(temporary, self._identity_path)

    def _empty(self, path: str) -> None:
        """Remove everything in a folder, following no link."""
        for name in self.files.listdir(path):
            each = f"{path}/{name}"
            if stat.S_ISDIR(self.files.stat(each).st_mode):
                self._empty(each)
                self.files.rmdir(each)
            else:
                self.files.unlink(each)

    # paths

    def slot_path(self, storage_index: bytes) -> str:
        """Return the folder of a storage index."""
        return f"{self.shares}/{_slot_name(storage_index)}"

    def temporary(self) -> str:
        """Return a new name below `incoming`, where nobody looks for shares."""
        return f"{self.incoming}/{next(self._numbers)}"

    def create(self, path: str) -> int:
        """Open a new file of our own; the folders above are made again if somebody removed them.

        The store's own folder never is: `check` found it a moment ago.
        """
        try:
            return self.files.open(path, CREATE, 0o600)
        except FileNotFoundError:
            self._make_layout()
            return self.files.open(path, CREATE, 0o600)

    def make_slot(self, slot: str) -> bool:
        """Create the folder of a storage index; tell whether it is new."""
        try:
            self.files.mkdir(slot, 0o700)
        except FileExistsError:
            return False
        except FileNotFoundError:
            with suppress(FileExistsError):
                self.files.mkdir(slot.rpartition("/")[0], 0o700)
            with suppress(FileExistsError):
                self.files.mkdir(slot, 0o700)
                return True
            return False
        return True

    def place(self, temporary: str, slot: str, shnum: int, replace: bool) -> bool:
        """Put a finished file in its place; False when a sound share was there and stays.

        With `replace` whatever is there is replaced.
        """
        for last in (False, False, True):
            new = self.make_slot(slot)
            try:
                if not new and not replace:
                    return self._link(temporary, f"{slot}/{shnum}")
                self.files.rename(temporary, f"{slot}/{shnum}")
            except FileNotFoundError:
                if last:  # else: the folder was removed just now as an empty one
                    raise
            else:
                return True
        return False

    def _link(self, temporary: str, final: str) -> bool:
        """Give a file its final name unless a sound share has it."""
        kept = False
        try:
            self.files.link(temporary, final)
        except (FileExistsError, PermissionError):  # the latter: a filesystem without links
            kept = self._is_sound(final)
            if not kept:
                self.files.rename(temporary, final)
                return True
        self.files.unlink(temporary)
        return not kept

    def _is_sound(self, path: str) -> bool:
        """Tell whether an immutable share is there; False only when that is certain.

        Raises ShareConflictError when a mutable one is, OSError when it cannot be read now.
        """
        try:
            fd = self.files.open(path, READ)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno == errno.ELOOP:  # a symbolic link
                return False
            raise
        try:
            share = self._inspect(fd)
        finally:
            self.files.close(fd)
        if share is not None and share.kind is not ShareKind.IMMUTABLE:
            raise ShareConflictError("a mutable share has this number")
        return share is not None

    def folders_of(self, slot: str) -> set[str]:
        """Return the folders whose entries must be durable for a share in `slot` to be found."""
        return {slot, slot.rpartition("/")[0], self.shares}

    # shares

    def numbers(self, slot: str) -> list[int]:
        """Return the share numbers that a slot's folder has files for; foreign names are ignored.

        A folder that is not there has none; the caller has checked the store.
        """
        try:
            names = self.files.listdir(slot)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(
            int(name)
            for name in names
            if name.isascii() and name.isdigit() and len(name) <= 3 and name == str(int(name))
            if int(name) <= _MAX_SHNUM
        )

    def open_share(self, slot: str, shnum: int, flags: int = READ) -> OpenShare | None:
        """Open a share file; None when there is none, or it is damaged (then it is noted)."""
        try:
            fd = self.files.open(f"{slot}/{shnum}", flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EACCES):
                raise
            self.damaged.append(f"{slot}/{shnum}")
            return None
        try:
            share = self._inspect(fd)
        except OSError:
            share = None  # a bad sector costs this share, not the others
        if share is None:
            self.files.close(fd)
            self.damaged.append(f"{slot}/{shnum}")
        return share

    def _inspect(self, fd: int) -> OpenShare | None:
        status = self.files.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        head = self.files.pread(fd, _FIRST_READ, 0)
        try:
            if container.is_mutable(head):
                mutable = MutableHeader.decode(head, status.st_size)
                return OpenShare(fd, mutable, head, status.st_size)
            immutable = ImmutableHeader.decode(head, status.st_size)
            return OpenShare(fd, immutable, head, status.st_size)
        except FormatError:
            return None

    def open_shares(self, slot: str) -> Iterator[tuple[int, OpenShare]]:
        """Open one readable share after another; the caller closes each."""
        for shnum in self.numbers(slot):
            share = self.open_share(slot, shnum)
            if share is not None:
                yield shnum, share

    def kinds(self, slot: str, turn: Turn) -> dict[int, ShareKind]:
        """Return the readable shares of a slot."""
        self.check(turn)
        kinds = {}
        for shnum, share in self.open_shares(slot):
            kinds[shnum] = share.kind
            self.files.close(share.fd)
        return kinds

    def prefixes(self, turn: Turn) -> list[str]:
        """Return the two-letter folders."""
        self.check(turn)
        return sorted(name for name in self.files.listdir(self.shares) if len(name) == 2)

    def walk(self, prefix: str, turn: Turn) -> list[tuple[bytes, int, int, ShareKind]]:
        """Return (storage index, share number, bytes on disk, kind) of all below a prefix."""
        self.check(turn)
        found = []
        names = []
        with suppress(FileNotFoundError, NotADirectoryError):
            names = sorted(self.files.listdir(f"{self.shares}/{prefix}"))
        for name in names:
            try:
                storage_index = base32.a2b(name)
            except FormatError:
                continue
            if len(storage_index) != 16 or not name.startswith(prefix):
                continue
            for shnum, share in self.open_shares(f"{self.shares}/{prefix}/{name}"):
                self.files.close(share.fd)
                found.append((storage_index, shnum, share.size, share.kind))
        return found

    def remove(self, slot: str, shnum: int, folders: set[str]) -> None:
        """Remove a share file, and the slot's folder when it is empty then."""
        with suppress(FileNotFoundError):
            self.files.unlink(f"{slot}/{shnum}")
            folders |= {slot, slot.rpartition("/")[0]}
        with suppress(OSError):  # not empty, or gone
            self.files.rmdir(slot)

    def discard(self, temporary: str) -> None:
        """Remove a temporary file; never raises."""
        with suppress(OSError):
            self.files.unlink(temporary)


@lru_cache(1024)  # all stores of a grid are asked for the same storage index at one time
def _slot_name(storage_index: bytes) -> str:
    name = base32.b2a(storage_index)
    return f"{name[:2]}/{name}"


def read_data(folder: StoreFolder, share: OpenShare, offset: int, length: int) -> bytes:
    """Read share data of an open share, cut at its end; from its head when it is all there."""
    header = share.header
    length = max(0, min(length, header.data_length - offset))
    if not length:
        return b""
    mutable = isinstance(header, MutableHeader)
    start = offset + (container.MUTABLE_HEADER_SIZE if mutable else container.IMMUTABLE_HEADER_SIZE)
    if start + length <= len(share.head):
        return share.head[start : start + length]
    return read_all(folder.files, share.fd, length, start)
